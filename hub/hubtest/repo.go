package hubtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// mainRef is the ref of the branch that every repo has.
const mainRef = "refs/heads/main"

// Repo is a model, a dataset or a Space of a [Hub]. Its changes make deliveries to the webhooks that watch it or its owner.
type Repo struct {
	hub  *Hub
	id   string
	kind payload.RepoType

	// Under the Hub's lock.
	name        string // "" after Delete
	private     bool
	created     time.Time
	modified    time.Time
	refs        map[string]*commit // by full names, refs/heads/main among them
	commits     map[string]*commit // by IDs
	discussions []*Discussion      // with the numbers from 1
}

// RepoOptions say what a new repo or bucket is like.
type RepoOptions struct {
	// Private hides it from all but its owner, the members of the organization that owns it, and their webhooks.
	Private bool
	// ID has 24 hexadecimal digits. Empty: the Hub makes one.
	ID string
}

// commit is a commit. It never changes.
type commit struct {
	id             string
	parent         *commit // nil for the first
	tree           *tree
	title, message string
	date           time.Time
	authors        []string
}

// Commit is what [Repo.Push] pushes.
type Commit struct {
	// Ref is what it is pushed to: a branch's name, or a full name such as refs/convert/parquet or refs/pr/3. A ref that is not there is
	// made from main. Empty: main.
	Ref string
	// Title is the message's first line, Message the rest. Title is "Upload files" if it is empty.
	Title, Message string
	// Authors are names of users. Nil: [Options].User.
	Authors []string
	// Files are added, or replace the files of that path.
	Files []File
	// Delete has the paths of files and directories that are deleted.
	Delete []string
}

// File is a file of a repo or a bucket.
type File struct {
	// Path has slashes between its elements.
	Path string
	// Content is what it holds. A repo keeps its size and its hash alone.
	Content []byte
	// LFS makes it a file of Git LFS in a repo.
	LFS bool
}

// Ref is a ref with the ID of its commit.
type Ref struct {
	// Name is the full name, such as refs/heads/main, refs/tags/v1, refs/pr/5 or refs/convert/parquet.
	Name string
	// Commit has 40 hexadecimal digits.
	Commit string
}

// CreateRepo makes a repo with one commit, which has a .gitattributes, as the Hub does. The name is owner/name; old repos of the Hub have
// a name without a slash.
func (h *Hub) CreateRepo(kind payload.RepoType, name string, options RepoOptions) (*Repo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if kind != payload.Model && kind != payload.Dataset && kind != payload.Space {
		return nil, fmt.Errorf("create the %s %s: a repo is a model, a dataset or a space", kind, name)
	}
	if err := h.shelf.isFree(kind, name); err != nil {
		return nil, fmt.Errorf("create the %s %s: %w", kind, name, err)
	}
	now := h.options.Now()
	r := &Repo{
		hub: h, id: cmp.Or(options.ID, objectID()), kind: kind, name: name, private: options.Private, created: now,
		refs: make(map[string]*commit), commits: make(map[string]*commit),
	}
	h.Accounts.ensure(ownerOf(name))
	first := Commit{
		Title: "initial commit", Authors: []string{"system"},
		Files: []File{{Path: ".gitattributes", Content: []byte("*.bin filter=lfs diff=lfs merge=lfs -text\n")}},
	}
	t, err := first.applyTo(emptyTree)
	if err != nil {
		return nil, fmt.Errorf("create the %s %s: %w", kind, name, err)
	}
	r.commit(nil, t, first, mainRef)
	h.shelf.repos[place{kind, name}] = r
	delete(h.shelf.moved, place{kind, name})
	h.emit(r.event(payload.Create, payload.ScopeRepo))
	return r, nil
}

// ownerOf returns the name of a repo's owner.
func ownerOf(name string) string {
	owner, _, _ := strings.Cut(name, "/")
	return owner
}

// Repo returns a repo by its present name, nil if there is none.
func (h *Hub) Repo(kind payload.RepoType, name string) *Repo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shelf.repos[place{kind, name}]
}

// Repos returns all repos in the order of their types and names.
func (h *Hub) Repos() []*Repo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shelf.sorted()
}

// Type returns the kind of repo that it is.
func (r *Repo) Type() payload.RepoType { return r.kind }

// ID returns the repo's ID, which a move does not change.
func (r *Repo) ID() string { return r.id }

// Name returns the repo's present name, "" for a deleted one.
func (r *Repo) Name() string {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.name
}

// Private reports whether the repo is private.
func (r *Repo) Private() bool {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.private
}

// Head returns the ID of main's commit.
func (r *Repo) Head() string {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.refs[mainRef].id
}

// Refs returns the repo's refs, those of pull requests too, in the order of their names.
func (r *Repo) Refs() []Ref {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return sortedRefs(r.refs)
}

func sortedRefs(refs map[string]*commit) []Ref {
	all := make([]Ref, 0, len(refs))
	for name, c := range refs {
		all = append(all, Ref{name, c.id})
	}
	slices.SortFunc(all, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// RepoFile is a file in a [Repo].
type RepoFile struct {
	Path string
	// Size is in bytes, that of the content for a file of Git LFS.
	Size int64
	// OID is the name that git gives the file, in 40 hexadecimal digits. For a file of Git LFS it is that of the pointer.
	OID string
}

// Files returns the first files of a revision in git's order, at most limit of them: a branch, a tag, a full ref or a commit's ID. It
// returns none of a revision that is not there.
func (r *Repo) Files(revision string, limit int) []RepoFile {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	c := r.resolve(revision)
	if c == nil {
		return nil
	}
	var files []RepoFile
	c.tree.list("", true, 0, c.tree.all, func(path string, e entry) {
		if e.dir == nil && len(files) < limit {
			files = append(files, RepoFile{path, e.file.size, e.file.oid.String()})
		}
	})
	return files
}

// fullRef returns the full name of a ref.
func fullRef(name string) string {
	switch {
	case name == "":
		return mainRef
	case strings.HasPrefix(name, "refs/"):
		return name
	}
	return "refs/heads/" + name
}

// change runs a change of the repo with the Hub's lock held. It names the repo in the error.
func (r *Repo) change(what string, do func() error) error {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if r.name == "" {
		return fmt.Errorf("%s a %s: it was deleted", what, r.kind)
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s the %s %s: %w", what, r.kind, r.name, err)
	}
	return nil
}

// Push adds a commit to a ref and returns its ID. It fails if a path to delete is not there.
func (r *Repo) Push(c Commit) (id string, err error) {
	err = r.change("push to", func() error {
		ref := fullRef(c.Ref)
		old := r.refs[ref]
		parent := old
		if parent == nil {
			parent = r.refs[mainRef]
		}
		t, err := c.applyTo(parent.tree)
		if err != nil {
			return err
		}
		made := r.commit(parent, t, c, ref)
		id = made.id
		r.emitRefs(refChange{ref, old, made})
		return nil
	})
	return id, err
}

// applyTo returns a tree after the commit.
func (c Commit) applyTo(t *tree) (*tree, error) {
	changes := make([]change, 0, len(c.Files)+len(c.Delete))
	for _, path := range c.Delete {
		changes = append(changes, change{path, nil})
	}
	for _, f := range c.Files {
		b := newBlob(f)
		changes = append(changes, change{f.Path, &b})
	}
	for _, c := range changes {
		if !isPath(c.path) {
			return nil, fmt.Errorf("%q is not a path of a file", c.path)
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return strings.Compare(a.path, b.path) })
	return t.apply(changes)
}

// commit makes a commit of a tree and moves the ref to it.
func (r *Repo) commit(parent *commit, t *tree, c Commit, ref string) *commit {
	made := &commit{
		parent: parent, tree: t, title: cmp.Or(c.Title, "Upload files"), message: c.Message,
		date: r.hub.options.Now().UTC().Truncate(time.Second), authors: slices.Clone(c.Authors),
	}
	if made.authors == nil {
		made.authors = []string{r.hub.options.User}
	}
	for _, name := range made.authors {
		r.hub.Accounts.ensure(name)
	}
	var id string
	if parent != nil {
		id = parent.id
	}
	// The nonce is for equal commits within one second, in two repos or on two branches: they would have the same ID.
	text := fmt.Sprintf("tree %s\nparent %s\nauthor %q %d\nnonce %s\n\n%s\n\n%s", t.oid, id, made.authors, made.date.Unix(), objectID(),
		made.title, made.message)
	made.id = gitObject("commit", []byte(text)).String()
	r.refs[ref], r.commits[made.id], r.modified = made, made, r.hub.options.Now()
	return made
}

// isPath reports whether path is one of a file: elements with slashes between them.
func isPath(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

// SetRefs points refs to commits, in one event as a push of several refs makes it. A commit may be given by its ID or by another ref; an
// empty one deletes the ref. A ref that is there already moves, also to a commit that is not newer, as after a force push.
func (r *Repo) SetRefs(refs ...Ref) error {
	return r.change("set refs of", func() error {
		var changes []refChange
		for _, ref := range refs {
			name := fullRef(ref.Name)
			change := refChange{name, r.refs[name], nil}
			if ref.Commit != "" {
				if change.to = r.resolve(ref.Commit); change.to == nil {
					return fmt.Errorf("set %s: there is no commit or ref %q", name, ref.Commit)
				}
			} else if change.from == nil || name == mainRef {
				return fmt.Errorf("delete %s: it is main or not there", name)
			}
			changes = append(changes, change)
		}
		for _, c := range changes {
			if r.refs[c.ref] = c.to; c.to == nil {
				delete(r.refs, c.ref)
			}
		}
		r.modified = r.hub.options.Now()
		r.emitRefs(changes...)
		return nil
	})
}

// CreateBranch makes a branch at a commit or ref; main if from is empty.
func (r *Repo) CreateBranch(name, from string) error {
	return r.SetRefs(Ref{"refs/heads/" + name, cmp.Or(from, mainRef)})
}

// DeleteBranch deletes a branch other than main.
func (r *Repo) DeleteBranch(name string) error { return r.SetRefs(Ref{"refs/heads/" + name, ""}) }

// CreateTag makes a tag at a commit or ref; main if at is empty.
func (r *Repo) CreateTag(name, at string) error {
	return r.SetRefs(Ref{"refs/tags/" + name, cmp.Or(at, mainRef)})
}

// DeleteTag deletes a tag.
func (r *Repo) DeleteTag(name string) error { return r.SetRefs(Ref{"refs/tags/" + name, ""}) }

// resolve returns the commit of a revision, nil if there is none: a branch, a tag, a full ref or a commit's ID.
func (r *Repo) resolve(revision string) *commit {
	for _, name := range []string{"refs/heads/" + revision, "refs/tags/" + revision, revision} {
		if c := r.refs[name]; c != nil {
			return c
		}
	}
	return r.commits[revision]
}

// SetPrivate changes who may see the repo. Without a change there is no event.
func (r *Repo) SetPrivate(private bool) error {
	return r.change("configure", func() error {
		if r.private == private {
			return nil
		}
		// The owner's webhooks get the event in both directions. Those of others get it once the repo is public.
		r.private = private
		e := r.event(payload.Update, payload.ScopeRepoConfig)
		e.UpdatedConfig = map[string]any{"private": private}
		r.hub.emit(e)
		return nil
	})
}

// Configure makes the event of a setting that the Hub does not name in payloads, a Space's secret for example: updatedConfig is empty.
func (r *Repo) Configure() error {
	return r.change("configure", func() error {
		e := r.event(payload.Update, payload.ScopeRepoConfig)
		e.UpdatedConfig = map[string]any{}
		r.hub.emit(e)
		return nil
	})
}

// Move renames the repo or gives it to another owner. Requests for the old name are redirected to the new one until a repo takes the old
// name (an assumption). Webhooks that watch the old name get the event, and no later one (an assumption too).
func (r *Repo) Move(name string) error {
	return r.change("move", func() error {
		if err := r.hub.shelf.isFree(r.kind, name); err != nil {
			return fmt.Errorf("to %s: %w", name, err)
		}
		e := r.event(payload.Move, payload.ScopeRepo)
		e.MovedTo = &movedTo{name, idObject{r.hub.Accounts.ensure(ownerOf(name)).id}}
		old, next := place{r.kind, r.name}, place{r.kind, name}
		r.hub.shelf.move(old, next)
		delete(r.hub.shelf.repos, old)
		r.hub.shelf.repos[next] = r
		r.name = name
		r.hub.emit(e, name)
		return nil
	})
}

// Delete deletes the repo.
func (r *Repo) Delete() error {
	return r.change("delete", func() error {
		e := r.event(payload.Delete, payload.ScopeRepo)
		delete(r.hub.shelf.repos, place{r.kind, r.name})
		r.name = ""
		r.hub.emit(e)
		return nil
	})
}
