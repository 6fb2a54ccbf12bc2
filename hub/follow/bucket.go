package follow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
)

// fed is what was last seen of a bucket's files.
type fed struct {
	Resume hub.Resume `json:"resume"`
	// Recent are changes that a feed which resumes at an instant may tell once more: those told since Resume.Since.
	Recent []string `json:"recent,omitempty"`
	// Stats are those of the bucket while its feed was quiet. If they are the same after the feed was lost, nothing has changed.
	Stats *stats `json:"stats,omitempty"`
	Count int64  `json:"count"` // of deliveries so far
	// First says that the feed was not ready since the first look, at the instant Resume.Since. It may tell what was there by then.
	First bool `json:"first,omitempty"`
}

// stats are what the Hub says of all files of a bucket.
type stats struct {
	Updated string `json:"updated"`
	Size    int64  `json:"size"`
	Files   int64  `json:"files"`
}

func statsOf(b hub.Bucket) stats { return stats{b.UpdatedAt, b.Size, b.Files} }

// feeds are the live feeds of one bucket, one for each endpoint: each endpoint may have seen another point.
type feeds struct {
	list  map[string]*feed // by endpoint
	tasks sync.WaitGroup

	stats stats     // at the last look
	since time.Time // when a look found them first
}

// feed is the live feed of a bucket for one endpoint.
type feed struct {
	f  *Follower
	it *item

	mu    sync.Mutex // guards what follows, also while it is stored
	name  string     // the bucket's today
	seen  *seen      // of the bucket itself, for payloads
	note  note[fed]
	fresh bool // the first look was a moment ago, in this session of the feed
	live  bool
	quiet time.Time // since when the feed is live and has told nothing
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

// end waits until all feeds have ended, whose context has ended.
func (fs *feeds) end() { fs.tasks.Wait() }

// look takes up what a look at the bucket saw: its name, and its statistics since a time. If the feed stores something just now, the next
// look does.
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
		fd.live, fd.fresh = false, false
		fd.mu.Unlock()
		wait := min(fd.f.Every()<<min(failures, 8), longestWait)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrMoved):
			wait = retryMoved
		case errors.Is(err, hub.ErrNotFound): // the looks find that out too, and say it
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
		fd.live, fd.fresh = false, false
		if d := fd.f.c.Hub.Pause(); d > 0 { // the limit is used up, which is no failure of the item
			fd.f.tellLimited(d)
			return nil
		}
		_ = fd.f.fail(ctx, fd.it, e.Err)
		return nil
	}
	now := fd.note.seen
	var ev *event
	switch e.Kind {
	case hub.BucketChanges:
		changes := e.Changes
		if e.Overlap {
			changes = fd.unseen(changes)
		}
		if e.Resume.Since != now.Resume.Since {
			now.Recent = nil
		}
		now.Recent = slices.Clip(now.Recent)
		for _, c := range changes {
			now.Recent = append(now.Recent, digest(c))
		}
		now.Recent = now.Recent[max(0, len(now.Recent)-maxFiles):]
		if len(changes) > 0 {
			files, cut := filesChanged(changes)
			ev = fd.event(files, cut)
		}
	case hub.BucketReset:
		// Without a reason it is the first look, of which nothing is delivered.
		if e.Reason == "" || fd.note.version == 0 {
			now.First, fd.fresh = true, true
			break
		}
		var err error
		if ev, now.Recent, err = fd.gap(ctx); err != nil {
			return err
		}
	case hub.BucketReady:
		if !fd.live {
			fd.live, fd.quiet = true, time.Now()
		}
		fd.f.show(fd.it, func(v *api.Followed) {
			v.State, v.Error, v.Hint, v.Looked = Following, "", "", api.Time{Time: time.Now()}
		})
		if e.Resume == now.Resume && !now.First {
			return nil
		}
		now.First, fd.fresh = false, false
	}
	now.Resume = e.Resume
	if ev != nil {
		now.Count++
		now.Stats, fd.quiet = nil, time.Now()
	}
	return fd.store(ctx, now, ev)
}

// unseen returns the changes that were not seen already, of a feed that may have told them before.
func (fd *feed) unseen(changes []hub.BucketChange) (left []hub.BucketChange) {
	s := &fd.note.seen
	recent := map[string]bool{}
	for _, d := range s.Recent {
		recent[d] = true
	}
	since, err := time.Parse(time.RFC3339, s.Resume.Since)
	for _, c := range changes {
		old := recent[digest(c)]
		switch {
		case !s.First:
		case c.UploadedAt.IsZero(): // a deletion: only this session knows that it came before the first look
			old = old || fd.fresh
		case err == nil:
			old = old || !c.UploadedAt.After(since)
		}
		if !old {
			left = append(left, c)
		}
	}
	return left
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

func (fd *feed) event(files []updatedFile, cut bool) *event {
	e := newEvent(fd.f.c.Hub.Endpoint(), payload.Bucket, fd.seen, payload.Update, payload.ScopeRepoContent)
	e.UpdatedFiles, e.Truncated = &files, cut
	return e
}

// gap returns an event of what changed since the last point, where the feed can't tell it. A listing shows what was uploaded since, but not
// what was deleted. So the list of the event is said to be cut. If the bucket has not changed, there is no event.
func (fd *feed) gap(ctx context.Context) (*event, []string, error) {
	b, err := fd.f.c.Hub.Bucket(ctx, fd.name)
	if err != nil {
		return nil, nil, err
	}
	seen := &fd.note.seen
	if seen.Stats != nil && *seen.Stats == statsOf(b) {
		return nil, seen.Recent, nil
	}
	since, unknown := time.Parse(time.RFC3339, seen.Resume.Since)
	var changes []hub.BucketChange
	if unknown == nil {
		for file, err := range fd.f.c.Hub.BucketFiles(ctx, fd.name, "") {
			if err != nil {
				return nil, nil, fmt.Errorf("find out what changed while the feed was lost: %w", err)
			}
			if file.UploadedAt.After(since) {
				changes = append(changes, hub.BucketChange{
					Path: file.Path, Op: "add", Size: file.Size, XetHash: file.XetHash, UploadedAt: file.UploadedAt,
				})
			}
			if len(changes) == maxFiles {
				break
			}
		}
	}
	var recent []string
	for _, c := range changes {
		recent = append(recent, digest(c))
	}
	files, _ := filesChanged(changes)
	return fd.event(files, true), recent, nil
}

// digest stands for a change: two that are the same have the same digest. A file is uploaded once at a time, and deleted once between two
// uploads.
func digest(c hub.BucketChange) string {
	op := "add"
	if c.Op == "delete" {
		op = "delete"
	}
	at := ""
	if op == "add" {
		at = c.UploadedAt.UTC().Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", op, at, c.Path))
	return hex.EncodeToString(sum[:8])
}
