package action

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hubhook/hubhook/payload"
)

// bucketFiles is the most that the Hub lists in one payload.
const bucketFiles = 10_000

// A ProbeCase is something that the Hub sends, now or some day: one delivery, or several in order.
type ProbeCase struct {
	Name       string
	Deliveries []ProbeDelivery
	// Refuse is for deliveries that are not the Hub's: 401 or 403 is right, and 2xx is not.
	Refuse bool
}

// A ProbeDelivery is one POST of a case.
type ProbeDelivery struct {
	Body   []byte
	ID     string // the Webhook-Id
	Secret ProbeSecret
}

// ProbeSecret says which secret a delivery has.
type ProbeSecret int

const (
	RightSecret ProbeSecret = iota
	WrongSecret
	NoSecret
)

// ProbeCases returns everything that a program should survive.
func ProbeCases() ([]ProbeCase, error) {
	var b caseBuilder
	for _, event := range payload.Samples() {
		b.one(event.String(), b.sample(event.Scope, event.Action, nil))
	}
	bucket := map[string]any{"repo.type": payload.Bucket, "repo.name": "some-user/some-bucket"}
	for _, repoType := range []payload.RepoType{payload.Dataset, payload.Space} {
		b.one(fmt.Sprintf("repo.content/update of a %s", repoType), b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"repo.type": repoType}))
	}
	b.one("repo.content/update of a bucket", b.sample(payload.ScopeRepoContent, payload.Update, bucket))
	b.one("repo/create of a bucket", b.sample(payload.ScopeRepo, payload.Create, bucket))
	b.one("a bucket with 10,000 files", b.manyFiles(bucket))
	b.one("a kernel", b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"repo.type": "kernel"}))

	b.one("an unknown scope", b.sample(payload.ScopeRepo, payload.Update, map[string]any{"event.scope": "repo.unheard"}))
	b.one("an unknown action", b.sample(payload.ScopeRepo, payload.Update, map[string]any{"event.action": "unheard"}))
	b.one("an unknown repo type", b.sample(payload.ScopeRepo, payload.Update, map[string]any{"repo.type": "unheard"}))
	b.one("unknown fields", b.edit(b.sample(payload.ScopeRepoContent, payload.Update, nil), func(p map[string]any) {
		p["unheard"] = map[string]any{"of": []any{1, "two", nil}}
		object(p, "repo")["unheard"] = true
		object(p, "event")["unheard"] = "of"
	}))

	b.one("a new branch: oldSha is null", b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"updatedRefs.0.ref": "refs/heads/new", "updatedRefs.0.oldSha": nil}))
	b.one("a deleted branch: newSha is null", b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"updatedRefs.0.ref": "refs/heads/gone", "updatedRefs.0.newSha": nil}))
	b.one("a push to a pull request's ref", b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"updatedRefs.0.ref": "refs/pr/5"}))
	b.one("a push without updatedRefs", b.without(payload.ScopeRepoContent, payload.Update, "updatedRefs"))
	b.one("a repo without headSha", b.without(payload.ScopeRepoContent, payload.Update, "repo.headSha"))
	b.one("a repo without url.api", b.without(payload.ScopeRepoContent, payload.Update, "repo.url.api"))
	b.one("an empty updatedConfig", b.edit(b.sample(payload.ScopeRepoConfig, payload.Update, nil), func(p map[string]any) { p["updatedConfig"] = map[string]any{} }))
	b.one("a name without an owner", b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"repo.name": "gpt2"}))
	b.one("a discussion update without comment", b.without(payload.ScopeDiscussion, payload.Update, "comment"))
	b.one("a pull request", b.sample(payload.ScopeDiscussion, payload.Create, map[string]any{
		"discussion.isPullRequest": true, "discussion.changes.base": "refs/heads/main", "discussion.status": "draft",
	}))
	b.one("a hidden comment: it has no content", b.sample(payload.ScopeDiscussionComment, payload.Update, map[string]any{"comment.hidden": true}))

	again := b.delivery(b.sample(payload.ScopeRepoContent, payload.Update, nil))
	b.cases = append(b.cases, ProbeCase{Name: "the same Webhook-Id twice", Deliveries: []ProbeDelivery{again, again}})
	sha := func(c string) string { return strings.Repeat(c, 40) }
	b.cases = append(b.cases, ProbeCase{Name: "two pushes in the wrong order", Deliveries: []ProbeDelivery{
		b.delivery(b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"updatedRefs.0.oldSha": sha("b"), "updatedRefs.0.newSha": sha("c")})),
		b.delivery(b.sample(payload.ScopeRepoContent, payload.Update, map[string]any{"updatedRefs.0.oldSha": sha("a"), "updatedRefs.0.newSha": sha("b")})),
	}})
	for _, refused := range []struct {
		name   string
		secret ProbeSecret
	}{{"a wrong secret", WrongSecret}, {"no secret", NoSecret}} {
		d := b.delivery(b.sample(payload.ScopeRepoContent, payload.Update, nil))
		d.Secret = refused.secret
		b.cases = append(b.cases, ProbeCase{Name: refused.name, Deliveries: []ProbeDelivery{d}, Refuse: true})
	}
	return b.cases, b.err
}

// EventCases returns a case for each payload in dir: the files that end in .json, by name.
func EventCases(dir string) ([]ProbeCase, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("--events %s: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("--events %s: it has no files that end in .json", dir)
	}
	var b caseBuilder
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--events: %w", err)
		}
		// What the Hub would never send says nothing about the program.
		if _, err := payload.Parse(body); err != nil && !errors.Is(err, payload.ErrUnusable) {
			return nil, fmt.Errorf("--events: %s is no payload: %w", file, err)
		}
		b.one(filepath.Base(file), body)
	}
	return b.cases, nil
}

// SelectCases returns the cases whose name has the pattern in it, or matches it where it has a *, ? or [. Letter case is the same.
func SelectCases(cases []ProbeCase, pattern string) ([]ProbeCase, error) {
	lower := strings.ToLower(pattern)
	var selected []ProbeCase
	for _, c := range cases {
		name := strings.ToLower(c.Name)
		ok := strings.Contains(name, lower)
		if strings.ContainsAny(pattern, "*?[") {
			var err error
			// A slash is a letter like any other in a case's name.
			if ok, err = filepath.Match(strings.ReplaceAll(lower, "/", "\x00"), strings.ReplaceAll(name, "/", "\x00")); err != nil {
				return nil, fmt.Errorf("--only %s: %w", pattern, err)
			}
		}
		if ok {
			selected = append(selected, c)
		}
	}
	if len(selected) == 0 {
		names := make([]string, len(cases))
		for i, c := range cases {
			names[i] = c.Name
		}
		return nil, fmt.Errorf("--only %s: no case has that in its name; there are %s", pattern, strings.Join(names, "; "))
	}
	return selected, nil
}

// caseBuilder makes cases, and keeps the first error. Samples are ours, so that one is a mistake of ours.
type caseBuilder struct {
	cases []ProbeCase
	err   error
}

func (b *caseBuilder) one(name string, body []byte) {
	b.cases = append(b.cases, ProbeCase{Name: name, Deliveries: []ProbeDelivery{b.delivery(body)}})
}

func (b *caseBuilder) delivery(body []byte) ProbeDelivery {
	id := make([]byte, 12)
	rand.Read(id) // never fails
	return ProbeDelivery{Body: body, ID: hex.EncodeToString(id)}
}

func (b *caseBuilder) sample(scope payload.Scope, action payload.Action, set map[string]any) []byte {
	p, err := payload.Sample(scope, action, set)
	if err != nil {
		b.err = errors.Join(b.err, err)
		return nil
	}
	return p.Raw()
}

// edit changes what payload.Sample cannot: what the Hub does not document yet.
func (b *caseBuilder) edit(body []byte, change func(map[string]any)) []byte {
	var p map[string]any
	if err := json.Unmarshal(body, &p); err != nil {
		b.err = errors.Join(b.err, err)
		return nil
	}
	change(p)
	body, err := json.Marshal(p)
	b.err = errors.Join(b.err, err)
	return body
}

// without leaves a field out, by its path.
func (b *caseBuilder) without(scope payload.Scope, action payload.Action, path string) []byte {
	return b.edit(b.sample(scope, action, nil), func(p map[string]any) {
		names := strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			p = object(p, name)
		}
		delete(p, names[len(names)-1])
	})
}

// manyFiles is a push to a bucket of as many files as one payload lists, and more.
func (b *caseBuilder) manyFiles(bucket map[string]any) []byte {
	return b.edit(b.sample(payload.ScopeRepoContent, payload.Update, bucket), func(p map[string]any) {
		files := make([]any, bucketFiles)
		for i := range files {
			files[i] = map[string]any{
				"path": fmt.Sprintf("data/train-%05d-of-10000.parquet", i), "action": "add", "xetHash": fmt.Sprintf("%064x", i), "size": 1000 + i,
			}
		}
		p["updatedFiles"] = files
		p["updatedFilesTruncated"] = true
	})
}

// object returns the object that a field holds, an empty one where it holds none.
func object(p map[string]any, name string) map[string]any {
	inner, ok := p[name].(map[string]any)
	if !ok {
		inner = make(map[string]any)
		p[name] = inner
	}
	return inner
}

// documentedFields returns the fields that version 3 documents, as a tree: of an array, those of its elements. Nobody may change it.
var documentedFields = sync.OnceValues(func() (map[string]any, error) {
	var b caseBuilder
	bucket := map[string]any{"repo.type": payload.Bucket}
	bodies := [][]byte{b.sample(payload.ScopeRepoContent, payload.Update, bucket), b.manyFiles(bucket)}
	for _, event := range payload.Samples() {
		bodies = append(bodies, b.sample(event.Scope, event.Action, nil))
	}
	fields := make(map[string]any)
	for _, body := range bodies {
		b.edit(body, func(p map[string]any) { addFields(fields, p) })
	}
	return fields, b.err
})

func addFields(fields, p map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		v := p[name]
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		inner, ok := v.(map[string]any)
		if !ok {
			if fields[name] == nil {
				fields[name] = map[string]any{}
			}
			continue
		}
		addFields(object(fields, name), inner)
	}
}
