package hub

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/payload"
)

// Changes are the files that an event changed.
type Changes struct {
	// Files has 100,000 entries at most, in no order.
	Files []FileChange
	// Truncated says that other files may have changed too: the Hub's list was cut, the event does not say what changed, a commit is gone,
	// or there were too many files.
	Truncated bool
}

// FileChange is a file that an event changed.
type FileChange struct {
	// Ref is the ref that the change is on. It is empty for a bucket.
	Ref  string
	Path string
	// Action is payload.FileAdd, FileUpdate or payload.FileDelete. An event of a bucket calls an overwritten file added.
	Action payload.FileAction
}

// FileUpdate is the action of a file whose content changed.
const FileUpdate payload.FileAction = "update"

// Bounds of a comparison.
const (
	maxChanges  = 100_000 // files
	maxRequests = 1_000   // the quota of a free user is 1,000 in 5 minutes
	// maxFlat bounds the pages of a folder with all below it that are read at once, a thousand entries each: maxChanges files and their
	// folders, in about 30 MB.
	maxFlat = 150
	// flatFrom is the number of changed folders from which one recursive listing may be cheaper than a listing of each.
	flatFrom = 5
)

// errSpent says that a listing needs more requests than it may make.
var errSpent = errors.New("too many requests")

// ChangedFiles returns the files that an event changed. An event of a bucket says it itself. For a repo, the files of the old and new
// commit of each updated ref are compared on the Hub; a private repo needs a token.
//
//   - A new ref is compared with main's commit in the payload, so the changes are those against main. All files of a new main are added.
//   - A ref that was deleted changes no file.
//   - An event without refs and files, such as one of a discussion, changes none, unless its scope is repo.content.
//
// Folders with the same id are the same, so only folders that differ are listed. Listings are kept, within bounds: the new commit of one
// push is the old one of the next.
func (c *Client) ChangedFiles(ctx context.Context, p *payload.Payload) (Changes, error) {
	var all Changes
	if p.Repo.Type == payload.Bucket || p.UpdatedFiles != nil {
		for _, f := range p.UpdatedFiles {
			all.Files = append(all.Files, FileChange{Path: f.Path, Action: f.Action})
		}
		all.Truncated = p.UpdatedFilesTruncated || p.UpdatedFiles == nil && p.In(payload.ScopeRepoContent)
		return all, nil
	}
	if len(p.UpdatedRefs) == 0 {
		all.Truncated = p.In(payload.ScopeRepoContent)
		return all, nil
	}
	for _, ref := range p.UpdatedRefs {
		if ref.Deleted() {
			continue
		}
		old, known := oldCommit(p, ref)
		if !known || ref.NewSHA.Hex == "" {
			all.Truncated = true
			continue
		}
		m := comparison{client: c, id: RepoID{p.Repo.Type, p.Repo.Name}, ref: ref.Ref, old: old, new: ref.NewSHA.Hex, changes: &all, left: maxRequests}
		if err := m.folder(ctx, "", "", ""); err != nil && !all.unknowable(err) {
			return Changes{}, err
		}
	}
	return all, nil
}

// unknowable reports whether err means that the Hub can't tell what changed, however often it is asked. It marks the changes as truncated then.
func (c *Changes) unknowable(err error) bool {
	var e *Error
	gone := errors.As(err, &e) && e.Code == "RevisionNotFound" // after a force push, for example
	if gone || errors.Is(err, errSpent) {
		c.Truncated = true
		return true
	}
	return false
}

// add appends a change. It returns errSpent once there are too many.
func (c *Changes) add(ref, path string, action payload.FileAction) error {
	if len(c.Files) >= maxChanges {
		return errSpent
	}
	c.Files = append(c.Files, FileChange{ref, path, action})
	return nil
}

// oldCommit returns the commit that a ref is compared with, "" for none. known is false where the event does not tell.
func oldCommit(p *payload.Payload, ref payload.Ref) (sha string, known bool) {
	switch {
	case ref.OldSHA.Hex != "":
		return ref.OldSHA.Hex, true
	case !ref.OldSHA.Null:
		return "", false
	case ref.Ref == "refs/heads/main":
		return "", true
	}
	return p.Repo.HeadSHA, true
}

// comparison finds the files that differ between two commits.
type comparison struct {
	client   *Client
	id       RepoID
	ref      string
	old, new string // commits; old is "" where everything is new
	changes  *Changes
	left     int // requests
}

// folder compares a folder in both commits, given its ids where they are known.
func (m *comparison) folder(ctx context.Context, path, oldOID, newOID string) error {
	if m.old == m.new {
		return nil
	}
	before := make(map[string]Entry)
	if m.old != "" {
		entries, err := m.list(ctx, m.old, path, oldOID)
		if err != nil {
			return err
		}
		for _, e := range entries {
			before[e.Path] = e
		}
	}
	after, err := m.list(ctx, m.new, path, newOID)
	if err != nil {
		return err
	}
	var deeper [][2]Entry // folders of both that differ
	var one []Entry       // entries of one commit alone
	var actions []payload.FileAction
	for _, e := range after {
		was, ok := before[e.Path]
		delete(before, e.Path)
		switch {
		case ok && was.Type == e.Type && was.OID == e.OID && e.OID != "":
		case ok && was.IsFolder() && e.IsFolder():
			deeper = append(deeper, [2]Entry{was, e})
		case ok && !was.IsFolder() && !e.IsFolder():
			one, actions = append(one, e), append(actions, FileUpdate)
		default:
			if ok { // a file became a folder, or a folder a file
				one, actions = append(one, was), append(actions, payload.FileDelete)
			}
			one, actions = append(one, e), append(actions, payload.FileAdd)
		}
	}
	for _, was := range before {
		one, actions = append(one, was), append(actions, payload.FileDelete)
	}
	if len(deeper) >= flatFrom {
		done, err := m.flat(ctx, path, len(deeper))
		if done || err != nil {
			return err
		}
	}
	for i, e := range one {
		if err := m.whole(ctx, e, actions[i]); err != nil {
			return err
		}
	}
	for _, pair := range deeper {
		if err := m.folder(ctx, pair[1].Path, pair[0].OID, pair[1].OID); err != nil {
			return err
		}
	}
	return nil
}

// whole takes a file, or all files of a folder, as changed.
func (m *comparison) whole(ctx context.Context, e Entry, action payload.FileAction) error {
	if !e.IsFolder() {
		return m.changes.add(m.ref, e.Path, action)
	}
	commit := m.new
	if action == payload.FileDelete {
		commit = m.old
	}
	for inner, err := range m.entries(ctx, commit, e.Path, true, &m.left) {
		if err == nil && !inner.IsFolder() {
			err = m.changes.add(m.ref, inner.Path, action)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flat compares a folder and all below it with one recursive listing of each commit. It gives up, and reports no change, once that takes as many
// requests as the number of changed folders, which is the least that single listings take. So it can't double the number of requests.
func (m *comparison) flat(ctx context.Context, path string, folders int) (done bool, err error) {
	spent := func(err error, budget int) (bool, error) {
		if errors.Is(err, errSpent) && budget <= 0 && m.left > 0 {
			return false, nil
		}
		return false, err
	}
	before := make(map[string]string)
	budget := min(folders, maxFlat)
	if m.old != "" {
		for e, err := range m.entries(ctx, m.old, path, true, &budget) {
			if err != nil {
				return spent(err, budget)
			}
			if !e.IsFolder() {
				before[e.Path] = e.OID
			}
		}
	}
	budget = min(folders, maxFlat)
	var found []FileChange
	for e, err := range m.entries(ctx, m.new, path, true, &budget) {
		if err != nil {
			return spent(err, budget)
		}
		if e.IsFolder() {
			continue
		}
		oid, ok := before[e.Path]
		delete(before, e.Path)
		switch {
		case !ok:
			found = append(found, FileChange{m.ref, e.Path, payload.FileAdd})
		case oid != e.OID || oid == "":
			found = append(found, FileChange{m.ref, e.Path, FileUpdate})
		}
	}
	for _, f := range found {
		if err := m.changes.add(f.Ref, f.Path, f.Action); err != nil {
			return false, err
		}
	}
	for path := range before {
		if err := m.changes.add(m.ref, path, payload.FileDelete); err != nil {
			return false, err
		}
	}
	return true, nil
}

// list returns the entries of one folder. oid is its id, "" where that is unknown.
func (m *comparison) list(ctx context.Context, commit, path, oid string) ([]Entry, error) {
	key := treeKey{m.id, path, cmp.Or(oid, commit)}
	if entries, ok := m.client.trees.get(key); ok {
		return entries, nil
	}
	var entries []Entry
	for e, err := range m.entries(ctx, commit, path, false, &m.left) {
		if err != nil {
			return nil, err
		}
		if len(entries) >= maxTree {
			return nil, errSpent
		}
		entries = append(entries, e)
	}
	m.client.trees.put(key, entries)
	return entries, nil
}

// entries yields what is below a folder. Each page takes one request of budget and of m.left; when none is left, the last error is errSpent. An
// entry outside the folder is left out: following it could go in circles.
func (m *comparison) entries(ctx context.Context, commit, folder string, recursive bool, budget *int) iter.Seq2[Entry, error] {
	count := func() error {
		if budget != &m.left {
			*budget--
		}
		m.left--
		if *budget < 0 || m.left < 0 {
			return errSpent
		}
		return nil
	}
	return func(yield func(Entry, error) bool) {
		for e, err := range m.client.tree(ctx, m.id, commit, folder, recursive, count) {
			if err == nil && (e.Path == "" || folder != "" && !strings.HasPrefix(e.Path, folder+"/")) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// maxNewCommits bounds NewCommits.
const maxNewCommits = 1000

// NewCommits returns the commits that an event brought to its refs, newest first for each ref: those of the new commit's history down to the
// old commit, or down to main's where the ref is new. After a force push they are the commits that are not in the old commit's history.
// truncated says that there are more than 1,000, or that the event or the Hub doesn't tell.
func (c *Client) NewCommits(ctx context.Context, p *payload.Payload) (commits []Commit, truncated bool, err error) {
	if p.Repo.Type == payload.Bucket {
		return nil, false, nil
	}
	id := RepoID{p.Repo.Type, p.Repo.Name}
	for _, ref := range p.UpdatedRefs {
		if ref.Deleted() {
			continue
		}
		old, known := oldCommit(p, ref)
		if !known || ref.NewSHA.Hex == "" {
			truncated = true
			continue
		}
		fresh, cut, err := c.newCommits(ctx, id, old, ref.NewSHA.Hex)
		var e *Error
		if errors.As(err, &e) && e.Code == "RevisionNotFound" {
			truncated = true
			continue
		}
		if err != nil {
			return nil, false, err
		}
		truncated = truncated || cut
		for _, commit := range fresh {
			if !slices.ContainsFunc(commits, func(other Commit) bool { return other.ID == commit.ID }) {
				commits = append(commits, commit)
			}
		}
	}
	return commits, truncated || len(p.UpdatedRefs) == 0 && p.In(payload.ScopeRepoContent), nil
}

func (c *Client) newCommits(ctx context.Context, id RepoID, old, new string) (fresh []Commit, cut bool, err error) {
	if old == new {
		return nil, false, nil
	}
	found := false
	for commit, err := range c.Commits(ctx, id, new) {
		if err != nil {
			return nil, false, err
		}
		if commit.ID == old {
			found = true
			break
		}
		if len(fresh) == maxNewCommits {
			cut = true
			break
		}
		fresh = append(fresh, commit)
	}
	if found || old == "" {
		return fresh, cut, nil
	}
	// The old commit is not in the new one's history: after a force push, or on a branch that is behind main.
	place := make(map[string]int, len(fresh))
	for i, commit := range fresh {
		place[commit.ID] = i
	}
	seen := 0
	for commit, err := range c.Commits(ctx, id, old) {
		if err != nil {
			return nil, false, err
		}
		if i, ok := place[commit.ID]; ok {
			return fresh[:i], false, nil
		}
		if seen++; seen > maxNewCommits {
			return fresh, true, nil
		}
	}
	return fresh, cut, nil
}
