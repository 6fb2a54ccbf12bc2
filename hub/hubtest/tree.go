package hubtest

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// oid is the name of a git object.
type oid [sha1.Size]byte

func (o oid) String() string { return hex.EncodeToString(o[:]) }

// gitObject returns the name that git gives an object.
func gitObject(kind string, content []byte) oid {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(content))
	h.Write(content)
	return oid(h.Sum(nil))
}

// blob is a file without its content, which nothing asks for.
type blob struct {
	oid   oid
	size  int64
	large *large // nil for a file that git itself stores
}

// large is a file of Git LFS: git stores a pointer to it.
type large struct {
	sha256  string
	pointer int // bytes of the pointer
}

func newBlob(f File) blob {
	if !f.LFS {
		return blob{oid: gitObject("blob", f.Content), size: int64(len(f.Content))}
	}
	sum := sha256.Sum256(f.Content)
	l := &large{sha256: hex.EncodeToString(sum[:])}
	pointer := fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", l.sha256, len(f.Content))
	l.pointer = len(pointer)
	return blob{oid: gitObject("blob", pointer), size: int64(len(f.Content)), large: l}
}

// tree is a directory. It never changes: commits share the directories in which they do not differ.
type tree struct {
	oid     oid
	entries []entry // in git's order
	all     int     // entries here and below
}

// entry is a file or a directory.
type entry struct {
	name string
	dir  *tree // nil for a file
	file blob
}

// compareEntries orders entries as git does: a directory's name counts as if it ended with a slash.
func compareEntries(a, b entry) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return cmp.Compare(a.after(n), b.after(n))
}

func (e entry) after(n int) byte {
	switch {
	case n < len(e.name):
		return e.name[n]
	case e.dir != nil:
		return '/'
	}
	return 0
}

func newTree(entries []entry) *tree {
	slices.SortFunc(entries, compareEntries)
	t := &tree{entries: entries, all: len(entries)}
	var b []byte
	for _, e := range entries {
		if e.dir != nil {
			t.all += e.dir.all
			b = append(append(append(b, "40000 "...), e.name...), 0)
			b = append(b, e.dir.oid[:]...)
		} else {
			b = append(append(append(b, "100644 "...), e.name...), 0)
			b = append(b, e.file.oid[:]...)
		}
	}
	t.oid = gitObject("tree", b)
	return t
}

// child returns the entry of that name.
func (t *tree) child(name string) (entry, bool) {
	for _, e := range []entry{{name: name}, {name: name, dir: t}} {
		if n, found := slices.BinarySearchFunc(t.entries, e, compareEntries); found {
			return t.entries[n], true
		}
	}
	return entry{}, false
}

// at returns what is at a path, the directory itself for an empty one.
func (t *tree) at(path string) (entry, bool) {
	e := entry{dir: t}
	if path == "" {
		return e, true
	}
	for name := range strings.SplitSeq(path, "/") {
		if e.dir == nil {
			return entry{}, false
		}
		var found bool
		if e, found = e.dir.child(name); !found {
			return entry{}, false
		}
	}
	return e, true
}

// change is what a commit does to one path.
type change struct {
	path string
	blob *blob // nil: the file or directory is deleted
}

// apply returns the tree after changes, which must be in the order of their paths.
func (t *tree) apply(changes []change) (*tree, error) {
	changed := make(map[string]*entry, len(changes)) // nil: deleted
	for len(changes) > 0 {
		name, _, inside := strings.Cut(changes[0].path, "/")
		if !inside {
			c := changes[0]
			changes = changes[1:]
			if c.blob != nil {
				changed[name] = &entry{name: name, file: *c.blob}
				continue
			}
			if _, found := t.child(name); !found {
				return nil, fmt.Errorf("delete %q: it is not there", c.path)
			}
			changed[name] = nil
			continue
		}
		n, prefix := 0, name+"/"
		var below []change
		for n < len(changes) && strings.HasPrefix(changes[n].path, prefix) {
			below = append(below, change{changes[n].path[len(prefix):], changes[n].blob})
			n++
		}
		changes = changes[n:]
		dir := emptyTree
		if e, found := t.child(name); found && e.dir != nil {
			dir = e.dir
		}
		dir, err := dir.apply(below)
		if err != nil {
			return nil, fmt.Errorf("in %q: %w", name, err)
		}
		changed[name] = nil
		if len(dir.entries) > 0 {
			changed[name] = &entry{name: name, dir: dir}
		}
	}
	entries := make([]entry, 0, len(t.entries)+len(changed))
	for _, e := range t.entries {
		if _, other := changed[e.name]; !other {
			entries = append(entries, e)
		}
	}
	for _, e := range changed {
		if e != nil {
			entries = append(entries, *e)
		}
	}
	return newTree(entries), nil
}

var emptyTree = newTree(nil)

// list calls visit for up to limit entries, after the first skip ones. With recursive it lists what is in directories too, right after them.
// It returns the number of entries that were visited.
func (t *tree) list(path string, recursive bool, skip, limit int, visit func(path string, e entry)) int {
	visited := 0
	for _, e := range t.entries {
		if visited == limit {
			break
		}
		below := 0
		if recursive && e.dir != nil {
			below = e.dir.all
		}
		if skip > below {
			skip -= 1 + below
			continue
		}
		at := path + e.name
		if skip == 0 {
			visit(at, e)
			visited++
		} else {
			skip--
		}
		if below > 0 {
			visited += e.dir.list(at+"/", true, skip, limit-visited, visit)
			skip = 0
		}
	}
	return visited
}
