package hubtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/payload"
)

// shelf has the repos and buckets by where they are. Its methods are called with the Hub's lock held.
type shelf struct {
	repos   map[place]*Repo
	buckets map[string]*Bucket
	moved   map[place]place // where what was there is now
}

// place is where a repo or bucket is.
type place struct {
	kind payload.RepoType
	name string
}

// isFree returns an error for a name that a new repo can't have.
func (s *shelf) isFree(kind payload.RepoType, name string) error {
	if (Watched{string(kind), name}).check() != nil || strings.ContainsAny(name, "?#% ") {
		return fmt.Errorf("%q is not a name such as owner/name", name)
	}
	if s.repos[place{kind, name}] != nil || s.buckets[name] != nil && kind == payload.Bucket {
		return errors.New("there is one already")
	}
	return nil
}

// sorted returns the repos in the order of their types and names.
func (s *shelf) sorted() []*Repo {
	all := make([]*Repo, 0, len(s.repos))
	for _, r := range s.repos {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Repo) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	return all
}

// move notes that what was at one place is at another.
func (s *shelf) move(from, to place) {
	delete(s.moved, to)
	for old, now := range s.moved {
		if now == from {
			s.moved[old] = to
		}
	}
	s.moved[from] = to
}
