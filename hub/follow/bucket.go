package follow

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
)

// feeds are the live feeds of one bucket, one for each endpoint, because each endpoint may have seen the feed up to another point.
type feeds struct {
	list  map[string]*feed // by endpoint
	tasks sync.WaitGroup

	stats stats     // at the last look
	since time.Time // of the first look that found stats as they are
}

// feed is the live feed of a bucket for one endpoint.
type feed struct {
	f  *Follower
	it *item

	mu    sync.Mutex // guards what follows, also while it is stored
	name  string     // the bucket's today
	seen  *seen      // of the bucket itself, for payloads
	note  note[fed]
	live  bool
	quiet time.Time // the feed has been live since then, and has told nothing
}

// begin follows the feeds of a bucket for all endpoints that have none yet. It is called after each look that succeeded, with what the
// look saw of the files.
func (fs *feeds) begin(ctx context.Context, f *Follower, it *item, is stats) {
	if fs.list == nil {
		fs.list = map[string]*feed{}
	}
	now := time.Now()
	if is != fs.stats {
		fs.stats, fs.since = is, now
	}
	for _, endpoint := range f.endpoints(it) {
		about := it.notes[endpoint].seen
		fd := fs.list[endpoint]
		if fd == nil {
			fd = &feed{f: f, it: it, name: about.Name, seen: &about}
			fd.note = note[fed]{key: f.key(it, endpoint) + " files", endpoint: endpoint}
			fs.list[endpoint] = fd
			fs.tasks.Go(func() { fd.run(ctx) })
			continue
		}
		fd.look(ctx, about, is, fs.since)
	}
}

// end waits until all feeds have ended. Their context must have ended.
func (fs *feeds) end() { fs.tasks.Wait() }

// look takes up what a look at the bucket saw: its name, and the statistics that it has had since a time. If the feed is storing something, look
// leaves that to the next look.
func (fd *feed) look(ctx context.Context, about seen, is stats, since time.Time) {
	if !fd.mu.TryLock() {
		return
	}
	defer fd.mu.Unlock()
	fd.name, fd.seen = about.Name, &about
	// The feed has told all that led to these statistics if it has been live and quiet since before a look that found the same.
	settled := fd.live && fd.quiet.Before(since) && since.Before(time.Now().Add(-LeastEvery/2))
	if fd.live {
		fd.f.show(fd.it, func(v *api.Followed) { v.State, v.Error, v.Hint = Following, "", "" })
	}
	if fd.note.version == 0 || !settled || fd.note.seen.Stats != nil && *fd.note.seen.Stats == is {
		return
	}
	now := fd.note.seen
	now.Stats = &is
	// After an error the next look tries again.
	_ = fd.note.store(ctx, fd.f.c.Store, now, nil, fd.f.prefix, now.Count)
}

// run follows the feed until ctx ends.
func (fd *feed) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		fd.mu.Lock()
		err := fd.note.load(ctx, fd.f.c.Store)
		name, from := fd.name, fd.note.seen.Resume
		fd.mu.Unlock()
		if err == nil {
			err = fd.f.c.Hub.FollowBucket(ctx, name, from, func(e hub.BucketEvent) error {
				err := fd.take(ctx, e)
				if err == nil && e.Kind == hub.BucketReady {
					failures = 0
				}
				return err
			})
		}
		fd.mu.Lock()
		fd.live, fd.note.seen.fresh = false, false
		fd.mu.Unlock()
		wait := min(fd.f.Every()<<min(failures, 8), longestWait)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrMoved):
			wait = retryMoved
		case errors.Is(err, hub.ErrNotFound): // the next look at the bucket finds that out too, and shows it
		default:
			_ = fd.f.fail(ctx, fd.it, err)
		}
		sleep(ctx, wait)
	}
}

// take handles one event of the feed.
func (fd *feed) take(ctx context.Context, e hub.BucketEvent) error {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if e.Kind == hub.BucketLost {
		fd.live, fd.note.seen.fresh = false, false
		if d := fd.f.c.Hub.Pause(); d > 0 { // a rate limit that is used up is no failure of the item
			fd.f.tellLimited(d)
			return nil
		}
		_ = fd.f.fail(ctx, fd.it, e.Err)
		return nil
	}
	if e.Kind == hub.BucketReady {
		if !fd.live {
			fd.live, fd.quiet = true, time.Now()
		}
		fd.f.show(fd.it, func(v *api.Followed) {
			v.State, v.Error, v.Hint, v.Looked = Following, "", "", api.Time{Time: time.Now()}
		})
		if e.Resume == fd.note.seen.Resume && !fd.note.seen.First {
			return nil
		}
	}
	now, changes, err := fd.note.seen.next(ctx, fd.f.c.Hub, fd.name, fd.note.version == 0, e)
	if err != nil {
		return err
	}
	var ev *event
	if len(changes.list) > 0 || changes.cut {
		ev = filesEvent(fd.f.c.Hub.Endpoint(), fd.seen, changes)
		now.Count++
		now.Stats, fd.quiet = nil, time.Now()
	}
	return fd.store(ctx, now, ev)
}

// store stores what was seen, until it succeeds or ctx ends. Meanwhile the feed waits.
func (fd *feed) store(ctx context.Context, now fed, ev *event) error {
	for wait := retryStore; ; wait = min(2*wait, time.Minute) {
		err := fd.note.store(ctx, fd.f.c.Store, now, ev, fd.f.prefix, now.Count)
		switch {
		case err == nil:
			fd.f.told(fd.it, ev)
			return nil
		case errors.Is(err, ErrMoved) || ctx.Err() != nil:
			return err
		}
		_ = fd.f.fail(ctx, fd.it, err)
		sleep(ctx, wait)
	}
}
