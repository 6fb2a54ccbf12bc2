package payload

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// samples has a file for each documented scope and action, named SCOPE.ACTION.json,
// and bucketContent, which takes the place of repo.content.update.json for buckets.
//
//go:embed samples/*.json
var samples embed.FS

const bucketContent = "samples/repo.content.update.bucket.json"

// documented lists each scope with its actions. The first action is the one that
// Sample takes by default.
var documented = []struct {
	scope   Scope
	actions []Action
}{
	{ScopeRepo, []Action{Create, Update, Move, Delete}},
	{ScopeRepoContent, []Action{Update}},
	{ScopeRepoConfig, []Action{Update}},
	{ScopeDiscussion, []Action{Create, Update, Delete}},
	{ScopeDiscussionComment, []Action{Create, Update}},
}

// Samples lists the events that Sample can make: all that the Hub documents. Events
// of a scope stand together, the scope's default action first.
func Samples() []Event {
	var events []Event
	for _, d := range documented {
		for _, action := range d.actions {
			events = append(events, Event{Action: action, Scope: d.scope})
		}
	}
	return events
}

// Sample makes a payload as the Hub would send it for that scope and action. An
// empty action is the scope's default: Update for ScopeRepoContent and
// ScopeRepoConfig, Create for the others.
//
// set has values for fields, by paths as in [Payload.Lookup]:
//
//	payload.Sample(payload.ScopeRepoContent, "", map[string]any{
//		"repo.name":         "me/data",
//		"repo.type":         payload.Dataset,
//		"updatedRefs.0.ref": "refs/heads/dev",
//	})
//
// A path names a documented field, which the sample need not have, or anything under
// updatedConfig. The index after the last of an array appends an element.
//
// A value may be anything that encoding/json can write as the field's type. A string
// is taken as it is if the field is a string. For any other field it is read as
// JSON: "true" will do for repo.private, and "null" for updatedRefs.0.oldSha. Under
// updatedConfig, a string that is not JSON is taken as it is.
//
// Some fields follow from others unless set has them too. The URLs follow repo.type,
// repo.name, discussion.num and comment.id. A Space's subdomain follows its name.
// headSha follows the new commit of refs/heads/main. A bucket has no headSha, and has
// updatedFiles instead of updatedRefs. A discussion that is no pull request has no
// changes. A hidden comment has no content.
//
// With event.scope and event.action in set, Sample makes events that the Hub does not
// send yet. An error says what is wrong with the arguments and names valid ones.
func Sample(scope Scope, action Action, set map[string]any) (*Payload, error) {
	event, err := sampleEvent(scope, action)
	if err != nil {
		return nil, err
	}
	bucket := false
	if t, ok := set["repo.type"]; ok {
		v, _ := newValue(aString, "repo.type", t) // override says what is wrong with it
		bucket = v == string(Bucket)
	}
	file := fmt.Sprintf("samples/%s.%s.json", event.Scope, event.Action)
	if bucket && scope.In(ScopeDiscussion) {
		return nil, fmt.Errorf("sample of %s: a bucket has no discussions; choose a scope that begins with repo", event)
	}
	if bucket && scope == ScopeRepoContent {
		file = bucketContent
	}
	b, err := samples.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("sample of %s: %w", event, err)
	}
	v, err := decodeValue(b)
	if err != nil {
		return nil, fmt.Errorf("sample of %s: read %s: %w", event, file, err)
	}
	root := v.(map[string]any)
	paths := make([]string, 0, len(set))
	for path := range set {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, comparePaths)
	for _, path := range paths {
		if err := override(root, path, set[path]); err != nil {
			return nil, fmt.Errorf("sample of %s: %w", event, err)
		}
	}
	follow(root, func(path string) bool {
		for p := range set {
			if p == path || strings.HasPrefix(path, p+".") {
				return true
			}
		}
		return false
	})
	b, err = appendValue(nil, root, payloadShape)
	if err != nil {
		return nil, fmt.Errorf("sample of %s: write it as JSON: %w", event, err)
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("sample of %s: %w", event, err)
	}
	return p, nil
}

// sampleEvent returns the event for scope and action, with the default action if it
// is empty. The error for an unknown one names those that there are.
func sampleEvent(scope Scope, action Action) (Event, error) {
	var scopes []string
	for _, d := range documented {
		if d.scope != scope {
			scopes = append(scopes, string(d.scope))
			continue
		}
		if action == "" {
			return Event{Action: d.actions[0], Scope: scope}, nil
		}
		if slices.Contains(d.actions, action) {
			return Event{Action: action, Scope: scope}, nil
		}
		var actions []string
		for _, a := range d.actions {
			actions = append(actions, string(a))
		}
		return Event{}, fmt.Errorf("no sample of %s with action %q; %s", scope, action, suggest("", string(action), actions))
	}
	return Event{}, fmt.Errorf("no sample of scope %q; %s", scope, suggest("", string(scope), scopes))
}

// comparePaths orders paths: an object before its members, index 2 before index 10.
func comparePaths(a, b string) int {
	return slices.CompareFunc(splitPath(a), splitPath(b), func(a, b string) int {
		m, errA := strconv.Atoi(a)
		n, errB := strconv.Atoi(b)
		if errA == nil && errB == nil {
			return m - n
		}
		return strings.Compare(a, b)
	})
}

// override sets one field of root. It makes objects and arrays above the field that
// are missing.
func override(root map[string]any, path string, value any) error {
	names := splitPath(path)
	if len(names) == 0 {
		return errors.New("want the path of a field, have an empty one")
	}
	_, err := replace(root, payloadShape, "", names, value)
	return err
}

// replace sets what is below v at names to value, and returns v. v has the shape s
// and stands at the path at.
func replace(v any, s *shape, at string, names []string, value any) (any, error) {
	if len(names) == 0 {
		return newValue(s, at, value)
	}
	name, below := names[0], names[0]
	if at != "" {
		below = at + "." + name
	}
	if s.kind == isArray {
		elements, _ := v.([]any)
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i > len(elements) {
			return nil, fmt.Errorf("%s: want an index from 0 to %d, the first free one", below, len(elements))
		}
		if i == len(elements) {
			elements = append(elements, nil)
		}
		elements[i], err = replace(elements[i], s.element, below, names[1:], value)
		return elements, err
	}
	inner, ok := s.child(name)
	if !ok {
		return nil, s.unknown(at, name)
	}
	members, ok := v.(map[string]any)
	if !ok {
		members = map[string]any{}
	}
	var err error
	members[name], err = replace(members[name], inner, below, names[1:], value)
	return members, err
}

// newValue converts a value given to Sample to what decodeValue returns for it, and
// checks its shape.
func newValue(s *shape, path string, value any) (any, error) {
	v, ok := value.(string)
	if ok {
		value = s.fromText(v)
	} else {
		b, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("%s: write the value as JSON: %w", path, err)
		}
		if value, err = decodeValue(b); err != nil {
			return nil, fmt.Errorf("%s: read the value as JSON: %w", path, err)
		}
	}
	return value, s.check(path, value)
}

// hub is the address that the samples' URLs begin with.
const hub = "https://huggingface.co/"

// follow changes the fields that follow from others, as Sample documents it. It
// leaves alone those for which isSet returns true.
func follow(root map[string]any, isSet func(path string) bool) {
	put := func(object map[string]any, path, name string, value any) {
		if object != nil && !isSet(path+"."+name) {
			object[name] = value
		}
	}
	drop := func(object map[string]any, path, name string) {
		if object != nil && !isSet(path+"."+name) {
			delete(object, name)
		}
	}

	repo := member(root, "repo")
	repoType, repoName := RepoType(stringOf(repo, "type")), stringOf(repo, "name")
	web, api := repoURLs(repoType, repoName)
	url := member(repo, "url")
	put(url, "repo.url", "web", web)
	put(url, "repo.url", "api", api)
	if url != nil {
		web, api = stringOf(url, "web"), stringOf(url, "api")
	}
	refs, isContent := root["updatedRefs"].([]any)
	for _, r := range refs {
		if r, _ := r.(map[string]any); r["ref"] == "refs/heads/main" && r["newSha"] != nil {
			put(repo, "repo", "headSha", r["newSha"])
		}
	}
	switch {
	case repoType == Bucket:
		drop(repo, "repo", "headSha")
	case repoType == Space && isContent:
		put(repo, "repo", "subdomain", subdomain(repoName))
	}

	discussion := member(root, "discussion")
	num := fmt.Sprint(discussion["num"])
	web, api = web+"/discussions/"+num, api+"/discussions/"+num
	url = member(discussion, "url")
	put(url, "discussion.url", "web", web)
	put(url, "discussion.url", "api", api)
	if url != nil {
		web = stringOf(url, "web")
	}
	if discussion["isPullRequest"] == false {
		drop(discussion, "discussion", "changes")
	} else if discussion["isPullRequest"] == true && discussion["changes"] == nil {
		put(discussion, "discussion", "changes", map[string]any{"base": "refs/heads/main"})
	}

	comment := member(root, "comment")
	put(member(comment, "url"), "comment.url", "web", web+"#"+stringOf(comment, "id"))
	if comment["hidden"] == true {
		drop(comment, "comment", "content")
	}
}

// member returns an object's member if that is an object, nil otherwise.
func member(object map[string]any, name string) map[string]any {
	m, _ := object[name].(map[string]any)
	return m
}

// stringOf returns an object's member if that is a string, "" otherwise.
func stringOf(object map[string]any, name string) string {
	s, _ := object[name].(string)
	return s
}

// repoURLs returns a repo's addresses on the Hub. The page of a model has no prefix.
func repoURLs(t RepoType, name string) (web, api string) {
	prefix := string(t) + "s/"
	api = hub + "api/" + prefix + name
	if t == Model {
		prefix = ""
	}
	return hub + prefix + name, api
}

// subdomain makes a Space's host label out of its name.
func subdomain(name string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' || 'a' <= r && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}
