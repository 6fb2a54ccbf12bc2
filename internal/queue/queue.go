// Package queue keeps deliveries until they have been handled. A delivery is on disk, synced, before Accept returns, and
// it is handled at least once: after a crash it runs again.
//
// Open takes a data directory, Start begins to run the handlers of the endpoints, Accept stores a delivery. Drain and Close
// end the work.
package queue

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/postgres"
	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/datadir"
)

// Config is the settings of a Queue.
type Config struct {
	// Dir is the data directory. It has hubhook.db and hubhook.lock in it, and is made, for this user alone, if it is missing.
	Dir string
	// Database is the URL of a PostgreSQL database, postgres://..., in which any number of processes keep their deliveries
	// together. Default: hubhook.db in Dir, which this process has for itself.
	Database string
	// Keep is how long finished deliveries are kept, from when they were received. Default 168 hours.
	Keep time.Duration
	// KeepCount is how many finished deliveries are kept, dead ones not counted; the oldest go first. Default 100,000.
	KeepCount int
	// MaxWaiting is how many deliveries may wait to be started; more are refused with ErrFull. Default 100,000.
	MaxWaiting int
	// Now is the clock. If it is set back, the queue's own clock goes on from where it was. Default time.Now.
	Now func() time.Time
	// Rand returns a number in [0,1) for the jitter of retries. Default that of math/rand/v2. It must be safe for concurrent use.
	Rand func() float64

	// The callbacks run while the queue is not locked, on goroutines that do its work. They may read what is in memory
	// (Receipt.Now, Oldest) and begin or end a Watcher. They must not call other methods of the queue: most return only after
	// a callback that runs now has returned. A slow callback delays answers to deliveries and the start of those that waited,
	// but neither handlers that run nor other commits.

	// Warn is told what went wrong in the background, where no caller is left to be told: outcomes that can't be stored yet,
	// deliveries that can't be removed. The engine calls it too, from several goroutines. Default: a warning of log/slog's
	// default logger.
	Warn func(error)
	// Changed is told every change of this process, each once it is stored, one at a time and in order. Unlike a Watcher it
	// misses none. Accept and Discard return after it was told. Default: nobody is told.
	Changed func(Change)
	// Committed is told of every commit that succeeded: how many deliveries it stored, duplicates not counted, how many
	// changes of deliveries it made durable in all, and how long it took. Changed is told of these changes afterwards.
	// With PostgreSQL, two calls may run at once. Default: nobody is told.
	Committed func(stored, changes int, took time.Duration)
}

// Endpoint is a served endpoint, as far as the queue needs to know it.
type Endpoint struct {
	// Name is what Arrival.Endpoint refers to.
	Name string
	// Handle makes one attempt. Its context ends when the delivery is discarded or the queue is drained. A panic is a
	// failed attempt. Without Handle, a delivery is stored as done at once, and what an earlier Handle left waits for the next one.
	Handle func(ctx context.Context, c *Claim) Outcome
	// Concurrency is how many handlers may run at once. Default 16.
	Concurrency int
	// Attempts is how many attempts are made, the first one counted, before the delivery is dead. Default 1.
	Attempts int
	// FirstWait is the time before the second attempt; it doubles with each further one, up to MaxWait. Each wait is drawn
	// from the upper half of that time. Default 1 s.
	FirstWait time.Duration
	// MaxWait bounds the time between two attempts. Default 5 minutes.
	MaxWait time.Duration
	// DedupeWindow is how long after its arrival a finished delivery makes another one with its Webhook-Id a duplicate. Dead
	// and discarded deliveries never do, unfinished ones always do. Default 0.
	DedupeWindow time.Duration
}

// Queue is a durable queue of deliveries. Its methods are safe for concurrent use.
//
// Its parts: the committer stores changes, the source finds what is due, the runner runs it, waits tells those who wait for
// an end, and the feed tells those who watch.
type Queue struct {
	cfg     Config
	eng     store.Engine
	lock    *flock.Flock
	now     func() time.Time // the time by the store's clock
	life    context.Context  // parent of all handlers' contexts
	endLife context.CancelCauseFunc
	tasks   sync.WaitGroup // the goroutines that the queue owns, handlers excepted

	// mu guards what follows, with all that the parts keep, unless a field says something else. It is not held while the engine
	// stores anything or a callback runs.
	mu       sync.Mutex
	ids      store.IDSource
	started  bool
	stopping bool
	closed   bool
	waiting  int // deliveries in state waiting, those about to be stored included

	commits committer
	source  source
	runner  runner
	waits   waits
	feed    feed
}

// Open takes the data directory and opens the queue in it, a new one if there is none. Deliveries that were running when
// an earlier process died are ready to run again when it returns. If another process has the directory, the error is a
// *LockedError.
//
// With Config.Database it opens the queue there, and joins the processes that share it. No error repeats the URL. It takes the
// directory too, unless none is given.
func Open(ctx context.Context, c Config) (*Queue, error) {
	c = c.withDefaults()
	var lock *flock.Flock
	if c.Dir != "" || c.Database == "" {
		var err error
		if lock, err = datadir.Lock(c.Dir); err != nil {
			return nil, err
		}
	}
	eng, err := c.openEngine(ctx)
	if err != nil {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		return nil, err
	}
	return newQueue(c, eng, lock), nil
}

func (c Config) openEngine(ctx context.Context) (store.Engine, error) {
	if c.Database != "" {
		return postgres.Open(ctx, c.Database, postgres.Config{Warn: c.Warn, Now: c.Now})
	}
	return sqlite.Open(ctx, filepath.Join(c.Dir, sqlite.DatabaseName), sqlite.Config{Warn: c.Warn})
}

func (c Config) withDefaults() Config {
	if c.Keep <= 0 {
		c.Keep = 168 * time.Hour
	}
	if c.KeepCount <= 0 {
		c.KeepCount = 100_000
	}
	if c.MaxWaiting <= 0 {
		c.MaxWaiting = 100_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Now = (&steadyClock{machine: c.Now}).now
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	if c.Warn == nil {
		c.Warn = func(err error) { slog.Warn(err.Error()) }
	}
	return c
}

func (e Endpoint) withDefaults() Endpoint {
	if e.Concurrency <= 0 {
		e.Concurrency = 16
	}
	if e.Attempts <= 0 {
		e.Attempts = 1
	}
	if e.FirstWait <= 0 {
		e.FirstWait = time.Second
	}
	if e.MaxWait <= 0 {
		e.MaxWait = 5 * time.Minute
	}
	return e
}

func newQueue(c Config, eng store.Engine, lock *flock.Flock) *Queue {
	q := &Queue{
		cfg:   c,
		eng:   eng,
		lock:  lock,
		now:   c.Now,
		ids:   store.IDSource{Last: eng.Last()},
		waits: waits{},
		feed:  feed{changed: c.Changed, warn: c.Warn},
	}
	q.commits.init(q)
	q.runner = runner{q: q, running: map[ulid.ULID]*task{}}
	if s, ok := eng.(store.Sharing); ok {
		q.source = newClaims(q, s)
		q.now = func() time.Time { return c.Now().Add(s.Skew()) }
		q.ids.Random = ulid.Monotonic(crand.Reader, 0)
	} else {
		q.source = newBacklog(q)
	}
	q.life, q.endLife = context.WithCancelCause(context.Background())
	q.commits.start()
	return q
}

// Unfinished returns up to limit of the deliveries that an earlier run left unfinished, oldest first, and how many there are
// in all. It is meant for the time before Start.
func (q *Queue) Unfinished(ctx context.Context, limit int) ([]Delivery, int, error) {
	if err := q.commits.flush(ctx); err != nil {
		return nil, 0, err
	}
	return q.eng.Unfinished(ctx, limit)
}

// DiscardUnfinished discards all unfinished deliveries and returns how many there were. It is an error after Start.
func (q *Queue) DiscardUnfinished(ctx context.Context, reason string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started {
		return 0, errors.New("discard all unfinished deliveries: the queue is started already")
	}
	if q.stopping {
		return 0, ErrStopping
	}
	n, err := q.eng.DiscardAll(store.Cut(reason, store.MaxName))
	if err != nil {
		return 0, fmt.Errorf("discard all unfinished deliveries: %w", err)
	}
	return n, nil
}

// Start begins to run the endpoints' handlers, on the deliveries of an earlier run first. Deliveries of other endpoints stay as
// they are.
func (q *Queue) Start(endpoints []Endpoint) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopping:
		return ErrStopping
	case q.started:
		return errors.New("start the queue: it is started already")
	}
	all := make(map[string]*handlers, len(endpoints))
	for _, e := range endpoints {
		if e.Name == "" {
			return errors.New("start the queue: an endpoint has no name")
		}
		if all[e.Name] != nil {
			return fmt.Errorf("start the queue: endpoint %s is there twice", e.Name)
		}
		all[e.Name] = &handlers{Endpoint: e.withDefaults()}
	}
	if err := q.source.start(all); err != nil {
		return err
	}
	q.runner.endpoints, q.started = all, true
	q.startDue()
	return nil
}

// Serve begins to accept and to hand out deliveries of one more endpoint, after Start, those that wait for it first. Where it
// is paused, none starts before Resume.
func (q *Queue) Serve(e Endpoint, paused bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopping:
		return ErrStopping
	case !q.started:
		return fmt.Errorf("serve endpoint %s: the queue is not started", e.Name)
	case e.Name == "":
		return errors.New("serve an endpoint: it has no name")
	}
	h := q.runner.endpoints[e.Name]
	switch {
	case h == nil:
		h = &handlers{Endpoint: e.withDefaults(), paused: paused}
		q.runner.endpoints[e.Name] = h
		if err := q.source.serve(h); err != nil {
			delete(q.runner.endpoints, e.Name)
			return err
		}
	case !h.gone:
		return fmt.Errorf("serve endpoint %s: it is served already", e.Name)
	default:
		h.gone, h.paused, h.pausedUntil = false, paused, time.Time{}
		q.runner.change(h, e)
		q.source.resumed()
	}
	q.startDue()
	return nil
}

// Change gives a served endpoint the settings of e. Attempts that run end with the handler that they have. The new settings decide what
// becomes of a failed attempt.
func (q *Queue) Change(e Endpoint) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.runner.endpoints[e.Name]
	switch {
	case q.stopping:
		return ErrStopping
	case h == nil || h.gone:
		return fmt.Errorf("change endpoint %s: %w", e.Name, ErrNotServed)
	}
	q.runner.change(h, e)
	q.source.resumed()
	q.startDue()
	return nil
}

// Unserve ends [Queue.Serve]. Handlers that run go on. Deliveries that wait, for a first or another attempt, stay as they are until the
// endpoint is served again.
func (q *Queue) Unserve(endpoint string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.runner.endpoints[endpoint]
	switch {
	case q.stopping:
		return ErrStopping
	case h == nil || h.gone:
		return fmt.Errorf("end endpoint %s: %w", endpoint, ErrNotServed)
	}
	// Its line stays in memory, because its deliveries that are being stored right now can't be read back yet.
	h.gone = true
	q.runner.handBackReady(h, q.now())
	q.commits.setLinger()
	return nil
}

// Pause stops the start of deliveries of an endpoint in this process until Resume. They are accepted and stored meanwhile. Handlers that
// run go on.
func (q *Queue) Pause(endpoint string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h := q.runner.endpoints[endpoint]; h != nil && !q.stopping {
		h.paused = true
		q.runner.handBackReady(h, q.now())
		q.commits.setLinger()
	}
}

// Resume ends Pause, and the rest that an endpoint takes because a delivery was put back.
func (q *Queue) Resume(endpoint string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h := q.runner.endpoints[endpoint]; h != nil && !q.stopping {
		h.paused, h.pausedUntil = false, time.Time{}
		h.resumes++
		q.source.resumed()
		q.startDue()
	}
}

// startDue starts what is due. Its caller does not wait for it.
func (q *Queue) startDue() {
	q.runner.dispatch()
	q.commits.setAlarm()
	q.commits.kick()
}
