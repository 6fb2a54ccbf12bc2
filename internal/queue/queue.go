// Package queue keeps deliveries until they have been handled. A delivery is on disk, synced, before Accept returns, and
// it is handled at least once: after a crash it runs again.
//
// Open takes a data directory, Start begins to hand deliveries to the handlers of the endpoints, Accept stores one. Drain
// and Close end it.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"

	"github.com/hubhook/hubhook/internal/queue/store/datadir"

	"github.com/hubhook/hubhook/internal/queue/postgres"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
)

// handedBackText is the error of an attempt that Drain ended before the handler did.
const handedBackText = "handed back: the process was shut down while it ran"

// aloneFor is how long one that is started alone must live before others start beside it.
const aloneFor = 5 * time.Second

const (
	lingerFor   = 2 * time.Millisecond   // how long outcomes may wait for the company of a commit
	outageRetry = 250 * time.Millisecond // between tries to write while nothing can be stored
	sweepEvery  = 10 * time.Second
	sweepRows   = 64                   // removed between two commits
	sweepPause  = 5 * time.Millisecond // after that: without it, removing leaves the disk little time for what arrives
	batchRows   = 512                  // changes in one commit
	batchBytes  = 8 << 20              // headers and bodies in one commit
	holdBytes   = 8 << 20              // bodies of waiting deliveries kept in memory
	drainGrace  = 2 * time.Second      // what a cancelled handler has to return
	maxError    = 64 << 10             // bytes of an attempt's error and of its stack
)

// Config says how a Queue is to be.
type Config struct {
	// Dir is the data directory. It holds hubhook.db and hubhook.lock and is made, for this user alone, if it is missing.
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
	// Now is the clock. Where it is set back, the queue's goes on from where it was. Default time.Now.
	Now func() time.Time
	// Rand returns a number in [0,1) for the jitter of retries. Default that of math/rand/v2. It must be safe for concurrent use.
	Rand func() float64
	// Warn is told what went wrong in the background, where no caller is left to be told: outcomes that can't be written
	// yet, deliveries that can't be removed. It must neither block nor call the Queue. Default: a warning of log/slog's default logger.
	Warn func(error)
	// Changed is told every change, each once it is stored, in order. It is called with the queue locked, so it must be quick
	// and must not call the queue. Unlike a Watcher it misses none. Default: nobody is told.
	Changed func(Change)
	// Committed is told of every commit that succeeded: how many deliveries it stored, duplicates not counted, how many
	// changes of deliveries it made durable in all, and how long it took. It must be quick and must not call the queue.
	// Default: nobody is told.
	Committed func(stored, changes int, took time.Duration)
}

// Endpoint is what a queue must know of a served endpoint.
type Endpoint struct {
	// Name is that of Arrival.Endpoint.
	Name string
	// Handle makes one attempt. Its context ends when the delivery is discarded or the queue is drained. A panic is a
	// failed attempt. Without Handle, a delivery is stored as done at once.
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
	// DedupeWindow is how long after its arrival a finished delivery, unless it is dead or discarded, still makes another
	// one with its Webhook-Id a duplicate. An unfinished one always does. Default 0.
	DedupeWindow time.Duration
}

// Queue is a durable queue of deliveries. Its methods are safe for concurrent use.
type Queue struct {
	cfg     Config
	eng     store.Engine
	lock    *flock.Flock
	life    context.Context // parent of all handlers' contexts
	endLife context.CancelCauseFunc
	tasks   sync.WaitGroup // the goroutines that the queue owns, handlers excepted
	quit    chan struct{}  // closed by Close: the committer ends
	wake    chan struct{}  // hands the right to commit to the committer
	linger  *time.Timer    // outcomes have waited long enough
	alarm   *time.Timer    // the next retry is due, or another reason to look for work

	mu         sync.Mutex
	ids        store.IDSource
	started    bool
	stopping   bool
	closed     bool
	lines      map[string]*line
	running    map[ulid.ULID]*task // until the end of the attempt is stored
	waits      map[ulid.ULID]*wait // of deliveries that wait for their first attempt, or whose duplicates do
	waiting    int                 // deliveries in state waiting, those about to be stored included
	held       int                 // bytes of bodies kept for waiting deliveries
	next       *commit             // what the next commit takes along
	committing bool                // someone has the right to use the engine's Commit and Sweep
	free       *sync.Cond          // committing has become false
	lingering  bool                // linger runs
	alarmAt    time.Time           // zero when alarm does not run
	outage     bool                // nothing can be stored; nothing starts
	outageSaid bool
	sweepAt    time.Time // when to look for what need not be kept
	sweeping   bool
	active     int           // handlers that run or are about to
	drained    chan struct{} // made by Drain, closed when active is 0
	suspects   dueHeap       // those to be started alone
	alone      *task         // the suspect beside which nothing may start yet
	aloneTill  time.Time
	holdTill   time.Time // a suspect waits until then for the others to end, and they for it
	watchers   map[*Watcher]struct{}

	shared *shared // nil where this process alone has the deliveries
}

// task is a delivery in memory: one that is being stored, that waits with its content at hand, or that runs.
type task struct {
	store.Stored
	value      any
	line       *line
	wait       *wait
	loaded     bool // header and body are at hand
	late       bool // it had to wait to be started
	size       int  // of the body, where it counts in Queue.held
	cancel     context.CancelCauseFunc
	ended      bool      // its outcome is known, and no longer changes
	began      bool      // it has one of its endpoint's handlers
	readySince time.Time // since when it is among line.ready
	gone       bool      // discarded while it runs, or taken over by another process
}

// wait is the end of a delivery's first attempt, as those see it who wait for it.
type wait struct {
	done      chan struct{}
	report    Report // set before done is closed
	elsewhere bool   // another process handled it, which told no result; set before done is closed
	sender    any    // Arrival.Sender

	// Guarded by Queue.mu.
	asking  int  // calls of Outcome that wait for it
	passing bool // made by one of them, for none but them
}

func newWait() *wait { return &wait{done: make(chan struct{})} }

func (w *wait) end(r Report) {
	w.report = r
	close(w.done)
}

// Receipt says what became of an arrival.
type Receipt struct {
	ID        string // that of the first one for a duplicate
	State     State  // when it was stored; for a duplicate that of the first one
	Duplicate bool
	Held      bool // it does not run yet because of its Burst, or because another one with its SerialKey comes first
	Value     any  // Arrival.Value
	wait      *wait
	q         *Queue
	task      *task // nil for a duplicate
}

// Done is closed when the first attempt has ended, or when the delivery has ended without one. For the duplicate of an
// unfinished delivery, it is closed when an attempt of that one ends.
func (r *Receipt) Done() <-chan struct{} { return r.wait.done }

// Now returns the state in which the delivery is by now; for a duplicate, that in which the first one was.
func (r *Receipt) Now() State {
	if r.task == nil {
		return r.State
	}
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.task.State
}

// Report says how the attempt ended. It must be called only after Done is closed.
func (r *Receipt) Report() Report {
	<-r.wait.done
	report := r.wait.report
	if r.wait.elsewhere && report.State == Done {
		report.Result = r.q.resultOf(r.ID)
	}
	return report
}

// Open takes the data directory and opens the queue in it, a new one if there is none. Deliveries that were running when
// an earlier process died are ready to run again when it returns. If another process has the directory, the error is a
// *LockedError.
//
// With Config.Database it opens that queue, and joins the processes that share it. No error repeats the URL. The directory
// is taken too, unless none is given.
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
		cfg:      c,
		eng:      eng,
		lock:     lock,
		quit:     make(chan struct{}),
		wake:     make(chan struct{}, 1),
		linger:   time.NewTimer(time.Hour),
		alarm:    time.NewTimer(time.Hour),
		ids:      store.IDSource{Last: eng.Last()},
		lines:    map[string]*line{},
		running:  map[ulid.ULID]*task{},
		waits:    map[ulid.ULID]*wait{},
		next:     &commit{},
		watchers: map[*Watcher]struct{}{},
	}
	if s, ok := eng.(store.Sharing); ok {
		q.share(s)
	}
	q.linger.Stop()
	q.alarm.Stop()
	q.free = sync.NewCond(&q.mu)
	q.life, q.endLife = context.WithCancelCause(context.Background())
	q.tasks.Go(q.committer)
	return q
}

// Unfinished returns up to limit of the deliveries that an earlier run left unfinished, oldest first, and how many they
// are in all. It is meant for the time before Start.
func (q *Queue) Unfinished(ctx context.Context, limit int) ([]Delivery, int, error) {
	if err := q.flush(ctx); err != nil {
		return nil, 0, err
	}
	return q.eng.Unfinished(ctx, limit)
}

// DiscardUnfinished discards all unfinished deliveries and returns how many they were. It is an error after Start.
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

// Start begins to hand deliveries to the endpoints' handlers, those of an earlier run first. Deliveries of endpoints that
// are not among them stay as they are.
func (q *Queue) Start(endpoints []Endpoint) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopping:
		return ErrStopping
	case q.started:
		return errors.New("start the queue: it is started already")
	}
	lines := make(map[string]*line, len(endpoints))
	var suspects dueHeap
	own, _ := q.eng.(store.Owning)
	for _, e := range endpoints {
		if e.Name == "" {
			return errors.New("start the queue: an endpoint has no name")
		}
		if lines[e.Name] != nil {
			return fmt.Errorf("start the queue: endpoint %s is there twice", e.Name)
		}
		l := &line{Endpoint: e.withDefaults()}
		lines[e.Name] = l
		if own == nil {
			continue
		}
		left, err := own.Backlog(q.life, e.Name)
		if err != nil {
			return fmt.Errorf("read the deliveries left to endpoint %s: %w", e.Name, err)
		}
		for _, d := range left {
			d.At = l.notLater(d, q.now())
			if d.Interruptions >= store.AloneAfter {
				suspects.push(entry{Due: d, line: l})
			} else {
				l.push(entry{Due: d, line: l})
			}
		}
	}
	if own != nil { // otherwise each claim tells how many wait
		counts, err := q.eng.Counts(q.life)
		if err != nil {
			return fmt.Errorf("start the queue: %w", err)
		}
		for _, states := range counts {
			q.waiting += int(states[Waiting])
		}
	}
	if own != nil {
		window := time.Duration(0)
		for _, l := range lines {
			window = max(window, l.DedupeWindow)
		}
		if window > 0 {
			own.Preload(q.now().Add(-window))
		}
	}
	q.lines, q.suspects, q.started = lines, suspects, true
	q.sweepAt = q.now().Add(sweepEvery)
	q.dispatch()
	q.setAlarm()
	q.kick()
	if q.shared != nil {
		q.startSharing()
	}
	return nil
}

// Accept stores a delivery and returns once it is on disk, or, for a duplicate, once the first one is. Its handler starts
// at once if one is free. The errors are ErrStopping, ErrFull, ctx's, and what kept the delivery from being stored; only
// after ctx's error may it have been stored all the same.
func (q *Queue) Accept(ctx context.Context, a Arrival) (*Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	body, encoding := store.PackBody(a.Body)
	ar := &store.Arrival{
		Header:   store.PackHeader(a.Header),
		Body:     body,
		Encoding: encoding,
		Stack:    store.Cut(a.Stack, maxError),
	}
	if a.ReplayOf == "" {
		ar.Dedupe = a.WebhookID != ""
	} else {
		var ok bool
		if ar.ReplayOf, ok = store.ParseID(a.ReplayOf); !ok {
			return nil, fmt.Errorf("replay %s: %w", a.ReplayOf, ErrNotFound)
		}
	}
	j := &pendingArrival{Arrival: ar, ready: make(chan struct{})}
	t := &task{value: a.Value, loaded: true, wait: newWait()}
	t.wait.sender = a.Sender
	if a.SerialKey != "" {
		t.Serial = store.Hash(a.SerialKey)
	}
	if a.Burst != nil {
		ar.Burst = &store.Burst{Key: store.Hash(a.Burst.Key), Wait: a.Burst.Wait, MaxWait: a.Burst.MaxWait}
	}
	t.Header, t.Body = a.Header, a.Body
	t.Delivery = Delivery{
		Endpoint: a.Endpoint, WebhookID: store.StoredWebhookID(a.WebhookID), ReplayOf: a.ReplayOf, Synthetic: a.Synthetic,
		Scope: store.Cut(a.Scope, store.MaxName), Action: store.Cut(a.Action, store.MaxName),
		RepoType: store.Cut(a.RepoType, store.MaxName), RepoName: store.Cut(a.RepoName, store.MaxName),
	}
	j.task = t

	q.mu.Lock()
	if err := q.admit(j, a.Dead); err != nil {
		q.mu.Unlock()
		return nil, err
	}
	q.next.add(j)
	if q.committing {
		q.mu.Unlock()
		select {
		case <-j.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	} else {
		q.lead()
		q.mu.Unlock()
	}
	if j.err != nil {
		return nil, j.err
	}
	j.receipt.Value = a.Value
	return &j.receipt, nil
}

// admit decides how an arrival is to be stored and takes what it needs: an id, and a free handler or a place among the
// waiting ones.
func (q *Queue) admit(j *pendingArrival, dead string) error {
	t := j.task
	switch {
	case q.stopping:
		return ErrStopping
	case !q.started:
		return errors.New("accept a delivery: the queue is not started")
	}
	t.line = q.lines[t.Endpoint]
	if t.line == nil {
		return fmt.Errorf("accept a delivery: endpoint %q is not served", t.Endpoint)
	}
	now := q.now()
	if j.Dedupe && t.line.DedupeWindow > 0 {
		j.Since = now.Add(-t.line.DedupeWindow)
	}
	switch {
	case dead != "":
		t.State, t.Reason = Dead, store.Cut(dead, store.MaxName)
		t.Serial, j.Burst = 0, nil
	case t.line.Handle == nil:
		t.State = Done
		t.Serial, j.Burst = 0, nil
	case t.Serial == 0 && j.Burst == nil && q.mayStart(t.line, now):
		t.State, t.Attempts, t.Started = Running, 1, now
		t.line.busy++
		q.active++
	default:
		if q.waiting >= q.cfg.MaxWaiting {
			return ErrFull
		}
		t.State = Waiting
		q.waiting++
	}
	t.ULID = q.ids.Next(now)
	t.ID, t.Received = t.ULID.String(), now
	if t.State == Running {
		q.running[t.ULID] = t
		if q.shared != nil {
			t.Token = store.NewToken()
		}
	}
	j.Stored = t.Stored
	return nil
}
