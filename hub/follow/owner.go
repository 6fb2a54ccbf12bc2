package follow

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

// mostOwned is up to how many repos of an owner each round looks at all. Of an owner with more, a round looks only at those that have changed by the
// listing: in the commit of main, the visibility or the time of the last change.
const mostOwned = 100

// ownerSeen is what was last seen of a user or an organization. Its repos have marks of their own.
type ownerSeen struct {
	Since time.Time `json:"since"` // a repo that has no mark was made after this time
}

// target is something to catch up with: a watched item, or a repo of a watched owner.
type target struct {
	CatchUpItem
	key   string      // of its mark
	now   string      // its name by the listing of its owner, "" if that is unknown
	owner CatchUpItem // zero for an item that is watched by its name
	// born is a time at which the owner did not have the repo yet. If that is unknown, born is zero, and the first look delivers nothing.
	born    time.Time
	listing string // what the owner's listing says of the repo
}

// listed is a repo in the listing of its owner.
type listed struct {
	id   hub.RepoID
	key  string // to tell it from a later repo of the same name
	says string // what changes with the repo
}

// list returns the repos of an owner that the token may see: all, or the buckets alone.
func (c *CatchUp) list(ctx context.Context, owner string, bucketsOnly bool) (all []listed, err error) {
	for b, err := range c.c.Hub.BucketsOf(ctx, owner) {
		if err != nil {
			return nil, err
		}
		all = append(all, listed{hub.RepoID{Type: payload.Bucket, Name: b.Name}, madeAt(b), fmt.Sprint(b.Private, b.UpdatedAt, b.Size, b.Files)})
	}
	if bucketsOnly {
		return all, nil
	}
	for _, kind := range []payload.RepoType{payload.Model, payload.Dataset, payload.Space} {
		for r, err := range c.c.Hub.ReposOf(ctx, owner, kind) {
			if err != nil {
				return nil, err
			}
			all = append(all, listed{hub.RepoID{Type: kind, Name: r.Name}, r.ID, fmt.Sprint(r.Private, r.SHA, r.LastModified)})
		}
	}
	return all, nil
}

// owned returns the repos of a watched owner to look at: those in its listing, and those that were there before.
func (c *CatchUp) owned(ctx context.Context, it CatchUpItem, bucketsOnly bool) ([]target, error) {
	bounded, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	began := time.Now()
	all, err := c.list(bounded, it.Name, bucketsOnly)
	if err != nil {
		return nil, err
	}
	n := c.ownerNote(it)
	if err := n.load(ctx, c.c.Store); err != nil {
		return nil, err
	}
	marks, err := c.c.Store.Marks(ctx, c.prefix(it.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("read what was seen: %w", err)
	}
	known := map[listed]target{}   // by the repo's name and its key
	taken := map[hub.RepoID]bool{} // the keys of marks whose repos are there
	for _, m := range marks {
		name, _, _ := strings.Cut(strings.TrimPrefix(m.Key, c.prefix(it.Endpoint)), " ")
		id, err := hub.ParseRepoID(name)
		var s caught
		if err != nil || !strings.HasPrefix(id.Name, it.Name+"/") || json.Unmarshal(m.Value, &s) != nil {
			continue
		}
		taken[id] = taken[id] || !s.Gone
		if !s.Gone && strings.HasPrefix(s.Name, it.Name+"/") && (id.Type == payload.Bucket || !bucketsOnly) {
			known[listed{id: hub.RepoID{Type: id.Type, Name: s.Name}, key: s.ID + s.Made}] = target{CatchUpItem: itemOf(it.Endpoint, id), key: m.Key, owner: it, listing: s.Listing}
		}
	}
	var targets []target
	add := func(t target, l listed) {
		changed := t.listing != l.says
		if t.now, t.listing = l.id.Name, l.says; changed || len(all) <= mostOwned {
			targets = append(targets, t)
		}
	}
	all = slices.DeleteFunc(all, func(l listed) bool {
		at := listed{id: l.id, key: l.key}
		t, same := known[at]
		if same {
			delete(known, at)
			add(t, l)
		}
		return same
	})
	for _, l := range all {
		t := c.target(itemOf(it.Endpoint, l.id))
		if t.owner = it; n.version != 0 {
			t.born = n.seen.Since
		}
		if taken[l.id] {
			t.key += " " + l.key // the mark with the plain key is that of a renamed repo, which had this name before
		}
		for at, moved := range known {
			if at.key == l.key && at.id.Type == l.id.Type {
				delete(known, at)
				t = moved
				break
			}
		}
		add(t, l)
	}
	for _, t := range known { // these are not listed any more
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.key, b.key) })
	if !bucketsOnly {
		c.owners[it] = began
	}
	return targets, nil
}

func (c *CatchUp) target(it CatchUpItem) target {
	return target{CatchUpItem: it, key: c.key(it.Endpoint, hub.RepoID{Type: payload.RepoType(it.Type), Name: it.Name})}
}

func itemOf(endpoint string, id hub.RepoID) CatchUpItem {
	return CatchUpItem{endpoint, hub.Watched{Type: string(id.Type), Name: id.Name}}
}

func (c *CatchUp) ownerNote(it CatchUpItem) *note[ownerSeen] {
	if c.ownerNotes[it] == nil {
		c.ownerNotes[it] = &note[ownerSeen]{key: fmt.Sprintf("%s/catch-up-owner %s %s", c.c.Task, it.Endpoint, it.Watched), endpoint: it.Endpoint}
	}
	return c.ownerNotes[it]
}
