package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/internal/text"
)

// Summaries and the texts of links show no more than this of one name, ref, title or value (in characters), and of one list (in entries).
const (
	maxSummaryName  = 120
	maxSummaryRef   = 80
	maxSummaryTitle = 120
	maxSummaryValue = 60
	maxSummaryList  = 5
)

// Summary says in one line of words what happened, without a full stop:
//
//	me/data: main moved, ce9a467 → 575db8b
//	me/data: pull request #5 opened: Fix the card
//
// It says no more than the payload proves. A payload does not have the number of
// commits of a push, nor who pushed. Of an updated discussion it has the state, not
// what changed: Summary says "is merged", not "was merged just now". A file of a
// bucket that was overwritten counts as added.
//
// An event of an unknown scope or action is told as what it counts as (see
// [Event.Documented]). Its own scope and action stand behind that.
//
// Long names and titles are cut. Characters that a terminal could obey or that could
// fool a reader are quoted: escape sequences, for example, and marks that turn the
// direction of writing. The summary is plain text, not HTML. It is "" for a payload
// without a usable event.action, event.scope, repo.type and repo.name.
func (p *Payload) Summary() string {
	if p.Event.Scope == "" || p.Event.Action == "" || p.Repo.Type == "" || p.Repo.Name == "" {
		return ""
	}
	event, known := p.Event.Documented()
	var what string
	switch {
	case !known:
	case event.Scope == ScopeRepo:
		what = p.repoSummary(event.Action)
	case event.Scope == ScopeRepoContent && (p.Repo.Type == Bucket || p.UpdatedFiles != nil):
		what = p.filesSummary()
	case event.Scope == ScopeRepoContent:
		what = p.refsSummary()
	case event.Scope == ScopeRepoConfig:
		what = p.configSummary()
	case event.Scope == ScopeDiscussion:
		what = p.discussionSummary(event.Action)
	case event.Scope == ScopeDiscussionComment:
		what = p.commentSummary(event.Action)
	}
	own := text.OneLine(p.Event.String(), maxSummaryName)
	switch {
	case what == "":
		what = own
	case !slices.Contains(Samples(), p.Event):
		what += " (" + own + ")"
	}
	return text.OneLine(p.Repo.Name, maxSummaryName) + ": " + what
}

// verb returns the words for what a documented action did, "" for another action.
func (a Action) verb() string {
	switch a {
	case Create:
		return " created"
	case Delete:
		return " deleted"
	case Update:
		return " updated"
	case Move:
		return " moved"
	}
	return ""
}

func (p *Payload) repoSummary(action Action) string {
	kind := text.OneLine(string(p.Repo.Type), maxSummaryName)
	switch {
	case action == Create && p.Repo.Private:
		return kind + " created (private)"
	case action == Move && p.MovedTo != nil && p.MovedTo.Name != "":
		return kind + " moved to " + text.OneLine(p.MovedTo.Name, maxSummaryName)
	}
	return kind + action.verb()
}

// refsSummary tells of a push. A single ref is said to have moved. In a list the arrows say so.
func (p *Payload) refsSummary() string {
	switch len(p.UpdatedRefs) {
	case 0:
		if p.Repo.HeadSHA != "" {
			return "content changed, main is at " + shortSHA(p.Repo.HeadSHA)
		}
		return "content changed"
	case 1:
		return p.UpdatedRefs[0].summary(" moved, ")
	}
	return list(p.UpdatedRefs, "refs", func(r Ref) string { return r.summary(" ") })
}

// summary tells how one ref changed. Of a ref that moved, between stands before its commits.
func (r Ref) summary(between string) string {
	name, before, after := r.title(), shortSHA(r.OldSHA.Hex), shortSHA(r.NewSHA.Hex)
	switch {
	case r.Created() && after != "":
		return name + " created at " + after
	case r.Deleted() && before != "":
		return name + " deleted, was at " + before
	case before != "" && after != "":
		return name + between + before + " → " + after
	case after != "":
		return name + " is at " + after
	case before != "":
		return name + " changed, was at " + before
	}
	return name + " changed"
}

// title names the ref as people do.
func (r Ref) title() string {
	if name, ok := r.Branch(); ok {
		if name == "main" {
			return name
		}
		return "branch " + text.OneLine(name, maxSummaryRef)
	}
	if name, ok := r.Tag(); ok {
		return "tag " + text.OneLine(name, maxSummaryRef)
	}
	if num, ok := r.PullRequest(); ok {
		return fmt.Sprintf("ref of pull request #%d", num)
	}
	return text.OneLine(r.Ref, maxSummaryRef)
}

// filesSummary tells what changed in a bucket.
func (p *Payload) filesSummary() string {
	var added, deleted, others int
	for _, f := range p.UpdatedFiles {
		switch f.Action {
		case FileAdd:
			added++
		case FileDelete:
			deleted++
		default:
			others++
		}
	}
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{added, "added"}, {deleted, "deleted"}, {others, "changed"}} {
		switch {
		case part.n == 0:
		case len(parts) > 0:
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		case part.n == 1:
			parts = append(parts, "1 file "+part.what)
		default:
			parts = append(parts, fmt.Sprintf("%d files %s", part.n, part.what))
		}
	}
	switch {
	case len(parts) == 0:
		return "files changed"
	case len(p.UpdatedFiles) == 1 && !p.UpdatedFilesTruncated:
		return parts[0] + ": " + text.OneLine(p.UpdatedFiles[0].Path, maxSummaryRef)
	case p.UpdatedFilesTruncated:
		parts = append(parts, "and more than the payload lists")
	}
	return strings.Join(parts, ", ")
}

func (p *Payload) configSummary() string {
	switch {
	case p.UpdatedConfig == nil:
		return "settings changed"
	case len(p.UpdatedConfig) == 0:
		return "a setting changed that the Hub does not name"
	}
	return "settings changed: " + list(slices.Sorted(maps.Keys(p.UpdatedConfig)), "settings", func(name string) string {
		return text.OneLine(name, maxSummaryRef) + " = " + text.OneLine(compact(p.UpdatedConfig[name]), maxSummaryValue)
	})
}

// title names the discussion as people do. For nil it returns "discussion".
func (d *Discussion) title() string {
	if d == nil {
		return "discussion"
	}
	title := "discussion"
	if d.IsPullRequest {
		title = "pull request"
	}
	if d.Num != 0 {
		title += " #" + strconv.FormatInt(d.Num, 10)
	}
	return title
}

func (p *Payload) discussionSummary(action Action) string {
	d := p.Discussion
	what := d.title()
	if d == nil {
		return what + action.verb()
	}
	if d.Status == StatusDraft {
		what = "draft " + what
	}
	if d.Pinned {
		what = "pinned " + what
	}
	switch {
	case action == Create:
		what += " opened"
	case action == Update && d.Status == StatusMerged && shortSHA(d.mergeCommit()) != "":
		what += " is merged as " + shortSHA(d.mergeCommit())
	case action == Update && d.Status != "" && d.Status != StatusOpen && d.Status != StatusDraft:
		what += " is " + text.OneLine(string(d.Status), maxSummaryName)
	default:
		what += action.verb()
	}
	return what + quoted(d.Title)
}

// mergeCommit returns the commit by which a pull request was merged, "" if the payload does not have it.
func (d *Discussion) mergeCommit() string {
	if d == nil || d.Changes == nil {
		return ""
	}
	return d.Changes.MergeCommitID.Hex
}

func (p *Payload) commentSummary(action Action) string {
	what := "comment on " + p.Discussion.title()
	switch {
	case p.Comment != nil && p.Comment.Hidden && action == Update:
		return what + " is hidden"
	case p.Comment != nil && p.Comment.Hidden:
		what = "hidden " + what
	}
	if action != Create {
		what += action.verb()
	}
	if p.Comment == nil {
		return what
	}
	return what + quoted(p.Comment.Content)
}

// quoted returns a title or comment as the end of a summary, with a colon before it.
func quoted(words string) string {
	if words = text.OneLine(words, maxSummaryTitle); words == "" {
		return ""
	}
	return ": " + words
}

// list calls say for the first few of many and joins the results. It counts the others, under their name.
func list[T any](many []T, name string, say func(T) string) string {
	parts := make([]string, 0, maxSummaryList+1)
	for _, one := range many[:min(len(many), maxSummaryList)] {
		parts = append(parts, say(one))
	}
	if more := len(many) - maxSummaryList; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more %s", more, name))
	}
	return strings.Join(parts, ", ")
}

// shortSHA shortens a commit id as people do, to seven digits. It returns "" for anything else.
func shortSHA(sha string) string {
	if !isSHA(sha) {
		return ""
	}
	return sha[:7]
}

// isSHA reports whether text is a commit id: 40 hexadecimal digits, or the 64 of git's longer hash.
func isSHA(text string) bool {
	if len(text) != 40 && len(text) != 64 {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// compact returns JSON without the space between tokens.
func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	return b.String()
}
