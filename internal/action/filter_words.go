package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

// Hub says what a payload does not: which files a push changed, and who made its commits. A *hub.Client is one.
type Hub interface {
	ChangedFiles(ctx context.Context, p *payload.Payload) (hub.Changes, error)
	NewCommits(ctx context.Context, p *payload.Payload) (commits []hub.Commit, truncated bool, err error)
}

// words are the functions of filters, over one payload. They are used by one goroutine.
type words struct {
	p   *payload.Payload
	ctx context.Context     // of the attempt; the functions of an expression have no other way to it
	hub func() (Hub, error) // nil where nobody can be asked

	// What the Hub has said, once it was asked.
	changes *hub.Changes
	commits *newCommits
}

// newCommits are those of one payload.
type newCommits struct {
	list      []hub.Commit
	truncated bool // there are more, or nobody knows
}

// wordsName is where an environment keeps its words. No expression can name it.
const wordsName = " words"

// all returns the functions by name.
func (w *words) all() map[string]any {
	return map[string]any{
		"scope": w.scope, "action": w.action, "branch": w.branch, "tag": w.tag, "pr": w.pr, "convert": w.convert, "files": w.files, "by": w.by,
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

// askingWords are those that may ask the Hub.
var askingWords = map[string]bool{"files": true, "by": true}

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

// files reports whether a changed file matches one of globs. Where not all changed files are known, one of the others may match.
func (w *words) files(glob string, more ...string) (bool, error) {
	changes, err := w.changed()
	if err != nil {
		return false, err
	}
	for _, glob := range append([]string{glob}, more...) {
		for _, f := range changes.Files {
			if matches, err := doublestar.Match(glob, f.Path); matches || err != nil {
				return matches, err
			}
		}
	}
	return changes.Truncated, nil
}

func (w *words) ask() (Hub, error) {
	if w.hub == nil {
		return nil, errors.New("there is no Hub to ask here")
	}
	return w.hub()
}

func (w *words) changed() (*hub.Changes, error) {
	if w.changes == nil {
		asked, err := w.ask()
		if err != nil {
			return nil, err
		}
		changes, err := asked.ChangedFiles(w.ctx, w.p)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(changes.Files, func(a, b hub.FileChange) int { return strings.Compare(a.Path, b.Path) }) // for the reasons
		w.changes = &changes
	}
	return w.changes, nil
}

// by reports whether the event brought commits and each of them has one of users among its authors.
func (w *words) by(user string, more ...string) (bool, error) {
	if w.commits == nil {
		asked, err := w.ask()
		if err != nil {
			return false, err
		}
		list, truncated, err := asked.NewCommits(w.ctx, w.p)
		if err != nil {
			return false, err
		}
		w.commits = &newCommits{list, truncated}
	}
	users := append([]string{user}, more...)
	for _, c := range w.commits.list {
		if !slices.ContainsFunc(c.Authors, func(author string) bool { return slices.Contains(users, author) }) {
			return false, nil
		}
	}
	if w.commits.truncated {
		return false, errors.New("not all of the new commits are known, so neither are their authors; after a force push the old ones can be gone from the Hub")
	}
	return len(w.commits.list) > 0, nil
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
		return w.sawFiles()
	case "by":
		return w.sawAuthors()
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

// sawFiles is saw for an answer of files.
func (w *words) sawFiles() string {
	c := w.changes
	switch {
	case c == nil:
		return "the Hub was not asked"
	case w.p.UpdatedFilesTruncated:
		return fmt.Sprintf("the first %d files, the rest was left out by the Hub", len(c.Files))
	case c.Truncated:
		return fmt.Sprintf("%d files, and others that are not known", len(c.Files))
	case len(c.Files) == 0:
		return "no changed file in " + w.p.Event.String()
	}
	paths := make([]string, 0, maxListed+1)
	for _, f := range c.Files[:min(maxListed+1, len(c.Files))] {
		paths = append(paths, f.Path)
	}
	return list(paths, len(c.Files))
}

// sawAuthors is saw for an answer of by.
func (w *words) sawAuthors() string {
	if w.commits == nil {
		return "the Hub was not asked"
	}
	var authors []string
	for _, c := range w.commits.list {
		by := strings.Join(c.Authors, " and ")
		if by == "" {
			by = "nobody of the Hub"
		}
		if !slices.Contains(authors, by) {
			authors = append(authors, by)
		}
	}
	if len(authors) == 0 {
		return "no new commit in " + w.p.Event.String()
	}
	return list(authors, len(authors))
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
