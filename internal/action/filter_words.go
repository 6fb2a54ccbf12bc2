package action

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/hubhook/hubhook/payload"
)

// words are the functions of filters, over one payload.
type words struct{ p *payload.Payload }

// wordsName is where an environment keeps its words. No expression can name it.
const wordsName = " words"

// all returns the functions by name.
func (w *words) all() map[string]any {
	return map[string]any{
		"scope": w.scope, "action": w.action, "branch": w.branch, "tag": w.tag, "pr": w.pr, "convert": w.convert, "files": w.files,
	}
}

// wordNames are the names of all.
var wordNames = func() map[string]bool {
	names := make(map[string]bool)
	for name := range new(words).all() {
		names[name] = true
	}
	return names
}()

// globWords are those whose arguments are patterns.
var globWords = map[string]bool{"tag": true, "files": true}

// scope reports whether the event is of that scope, or of a narrower one.
func (w *words) scope(s string) bool { return w.p.In(payload.Scope(s)) }

// action reports whether that is the event's action. Any action on a scope that is not documented counts as an update of the nearest
// broader one that is.
func (w *words) action(a string) bool {
	documented, _ := w.p.Event.Documented()
	return w.p.Event.Action == payload.Action(a) || documented.Action == payload.Action(a)
}

// branch reports whether the event created, moved or deleted the branch.
func (w *words) branch(name string) bool { return w.p.TouchesBranch(name) }

// tag reports whether the event created, moved or deleted a tag that matches.
func (w *words) tag(glob string) (bool, error) {
	for _, r := range w.p.UpdatedRefs {
		if name, ok := r.Tag(); ok {
			if matches, err := doublestar.Match(glob, name); matches || err != nil {
				return matches, err
			}
		}
	}
	return false, nil
}

// pr reports whether the event is about a pull request: the request itself, a comment of it, or its commits.
func (w *words) pr() bool {
	for _, r := range w.p.UpdatedRefs {
		if _, ok := r.PullRequest(); ok {
			return true
		}
	}
	return w.p.Discussion != nil && w.p.Discussion.IsPullRequest
}

// convert reports whether the event changed nothing but what the Hub's bots make of a dataset.
func (w *words) convert() bool { return w.p.IsConvert() }

// files reports whether a changed file matches one of globs. Where the Hub has cut the list, one of those left out may match.
func (w *words) files(glob string, more ...string) (bool, error) {
	if w.p.Repo.Type != payload.Bucket && w.p.In(payload.ScopeRepoContent) {
		return false, fmt.Errorf("which files a push to a %s changed is not known: so far hubhook knows the files of buckets alone", w.p.Repo.Type)
	}
	for _, glob := range append([]string{glob}, more...) {
		for _, f := range w.p.UpdatedFiles {
			if matches, err := doublestar.Match(glob, f.Path); matches || err != nil {
				return matches, err
			}
		}
	}
	return w.p.UpdatedFilesTruncated, nil
}

// saw says what a function looked at.
func (w *words) saw(name string) string {
	p := w.p
	switch name {
	case "scope":
		return string(p.Event.Scope)
	case "action":
		return string(p.Event.Action)
	case "files":
		if len(p.UpdatedFiles) == 0 {
			return "no changed file in " + p.Event.String()
		}
		paths := make([]string, 0, maxListed+1)
		for _, f := range p.UpdatedFiles[:min(maxListed+1, len(p.UpdatedFiles))] {
			paths = append(paths, f.Path)
		}
		if p.UpdatedFilesTruncated {
			return fmt.Sprintf("the first %d files, the rest was left out by the Hub", len(p.UpdatedFiles))
		}
		return list(paths, len(p.UpdatedFiles))
	}
	if len(p.UpdatedRefs) > 0 {
		refs := make([]string, 0, len(p.UpdatedRefs))
		for _, r := range p.UpdatedRefs {
			refs = append(refs, r.Ref)
		}
		return list(refs, len(refs))
	}
	if d := p.Discussion; d != nil && name == "pr" {
		kind := "discussion"
		if d.IsPullRequest {
			kind = "pull request"
		}
		return fmt.Sprintf("%s %d", kind, d.Num)
	}
	return "no ref in " + p.Event.String()
}

// maxListed is how many names a reason lists.
const maxListed = 3

// list names the first of total things.
func list(names []string, total int) string {
	if total <= maxListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), total-maxListed)
}
