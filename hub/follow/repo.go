package follow

import (
	"context"
	"errors"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

// missesForGone is after how many looks in a row that found nothing a repo counts as deleted.
const missesForGone = 2

// lookAt reads a repo with all its refs, or a bucket with the statistics of its files.
func lookAt(ctx context.Context, h Hub, id hub.RepoID) (now seen, files stats, err error) {
	if id.Type == payload.Bucket {
		b, err := h.Bucket(ctx, id.Name)
		return seen{Name: b.Name, Private: b.Private, Made: madeAt(b)}, statsOf(b), err
	}
	r, err := h.Repo(ctx, id)
	if err != nil {
		return now, files, err
	}
	refs, err := h.Refs(ctx, hub.RepoID{Type: id.Type, Name: r.Name}, true)
	if err != nil {
		return now, files, err
	}
	now = seen{ID: r.ID, Name: r.Name, Subdomain: r.Subdomain, Private: r.Private, Refs: map[string]string{}}
	for _, ref := range refs {
		now.Refs[ref.Ref] = ref.Commit
	}
	return now, files, nil
}

// madeAt returns what tells a bucket from a later bucket of the same name.
func madeAt(b hub.Bucket) string { return b.CreatedAt.UTC().Format(time.RFC3339Nano) }

// step is one change that was seen: the event to deliver, and what has been seen once the event is delivered.
type step struct {
	event *event
	after seen
}

// compare returns the steps from what was seen to what is now, in an order in which the Hub could have told them. now is nil for a repo
// that is gone.
func compare(base string, kind payload.RepoType, old seen, now *seen) (steps []step) {
	at := old
	add := func(about seen, action payload.Action, scope payload.Scope, change func(e *event)) {
		e := newEvent(base, kind, &about, action, scope)
		change(e)
		at.Count++
		steps = append(steps, step{e, at})
	}
	nothing := func(*event) {}
	if now == nil {
		if !old.Gone {
			at.Gone = true
			add(old, payload.Delete, payload.ScopeRepo, nothing)
		}
		return steps
	}
	if old.ID != now.ID || old.Made != now.Made {
		if !old.Gone {
			at.Gone = true
			add(old, payload.Delete, payload.ScopeRepo, nothing)
		}
		count := at.Count
		at = *now
		at.Count = count
		add(*now, payload.Create, payload.ScopeRepo, nothing)
		return steps
	}
	at.Gone, at.Subdomain = false, now.Subdomain
	if old.Name != now.Name {
		at.Name = now.Name
		add(old, payload.Move, payload.ScopeRepo, func(e *event) { e.MovedTo = &movedTo{Name: now.Name} })
	}
	if old.Private != now.Private {
		at.Private = now.Private
		add(at, payload.Update, payload.ScopeRepoConfig, func(e *event) { e.UpdatedConfig = map[string]bool{"private": now.Private} })
	}
	if changes := refsChanged(old.Refs, now.Refs); len(changes) > 0 {
		at.Refs = now.Refs
		add(at, payload.Update, payload.ScopeRepoContent, func(e *event) { e.UpdatedRefs = changes })
	}
	if len(steps) == 0 && (old.Gone != at.Gone || old.Subdomain != at.Subdomain) {
		steps = append(steps, step{nil, at})
	}
	return steps
}

// take compares what is now with what an endpoint has seen, and delivers what changed. The first look delivers nothing.
func (f *Follower) take(ctx context.Context, it *item, n *note[seen], now *seen) error {
	for {
		if err := n.load(ctx, f.c.Store); err != nil {
			return err
		}
		var err error
		if n.version == 0 {
			if now == nil {
				return nil
			}
			err = n.store(ctx, f.c.Store, *now, nil, f.prefix, 0)
		}
		if n.version != 0 {
			for _, s := range compare(f.c.Hub.Endpoint(), it.Repo.Type, n.seen, now) {
				if err = n.store(ctx, f.c.Store, s.after, s.event, f.prefix, s.after.Count); err != nil {
					break
				}
				f.told(it, s.event)
			}
		}
		if !errors.Is(err, ErrMoved) || ctx.Err() != nil {
			return err
		}
		// An earlier try was stored after all, or another process follows by now. In the second case ctx ends soon.
		sleep(ctx, retryMoved)
	}
}
