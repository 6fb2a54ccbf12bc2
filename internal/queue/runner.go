package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// handedBackText is the error of an attempt that Drain ended before the handler did.
const handedBackText = "handed back: the process was shut down while it ran"

// maxError bounds the bytes of an attempt's error, and of its stack.
const maxError = 64 << 10

var errDiscarded = errors.New("the delivery was discarded")

// task is a delivery in memory: one that is being stored, that waits with its content at hand, or that runs.
type task struct {
	store.Stored
	value      any
	handlers   *handlers
	wait       *wait
	loaded     bool // header and body are at hand
	late       bool // it had to wait to be started
	kept       int  // bytes that the backlog counts for its content
	cancel     context.CancelCauseFunc
	ended      bool      // its outcome is known, and no longer changes
	hasHandler bool      // it has one of its endpoint's handlers
	readySince time.Time // since when it is among handlers.ready
	gone       bool      // discarded while it runs, or taken over by another process
	resumes    int       // those of its endpoint when it began
}

// abandon cancels the handler of a delivery that was discarded, or that another process has taken over, and tells those who wait for it.
func (t *task) abandon(report Report, cause error) {
	if t.gone { // taken over by another process before it was discarded here
		return
	}
	t.gone = true
	t.State, t.Reason = report.State, report.Reason
	if t.cancel != nil {
		t.cancel(cause)
	}
	t.wait.end(report)
}

// runner gives deliveries that start to the handlers of their endpoints, and judges how each attempt ends. Which deliveries
// start is decided by Queue.admit, for those that arrive, and by the source for those that wait.
type runner struct {
	q         *Queue
	endpoints map[string]*handlers
	running   map[ulid.ULID]*task // until the end of the attempt is stored
	active    int                 // deliveries that have begun to start and have not ended
	drained   chan struct{}       // made by Drain, closed when active is 0
	solo      solo
}

// mayStart reports whether a delivery that arrives now is stored as running. It is if a handler is free, or will be free so soon that
// storing the start in a second commit would take longer. If the process dies before the delivery has begun, that counts as an
// interruption, but only once: after that the backlog starts it only when a handler is free.
func (r *runner) mayStart(h *handlers, now time.Time) bool {
	return h.started < h.room() && !r.blocked(now) && !r.q.source.hasDue(h.Name, now)
}

// blocked reports whether no ordinary delivery may start now: work stops, nothing can be stored, or a suspect is to run alone.
func (r *runner) blocked(now time.Time) bool {
	return r.q.stopping || r.q.commits.outage || r.solo.blocks(now, r.q.source.suspectDue)
}

// dispatch starts what is due, as far as handlers are free. What it starts runs when its start is stored. Its caller sees to
// that.
func (r *runner) dispatch() {
	q := r.q
	if !q.started || q.stopping || q.commits.outage {
		return
	}
	now := q.now()
	for _, h := range r.endpoints {
		r.handBackReady(h, now.Add(-readyFor))
		if !h.pausedUntil.IsZero() && !now.Before(h.pausedUntil) {
			h.pausedUntil = time.Time{}
			q.source.resumed()
		}
	}
	q.source.startDue(now)
}

// take counts a delivery that starts.
func (r *runner) take(t *task) {
	t.handlers.started++
	r.active++
	r.running[t.ULID] = t
}

// begin runs a delivery whose start is stored, or makes it wait for the next free handler.
func (r *runner) begin(t *task) {
	h := t.handlers
	if h.running < h.Concurrency && !h.rests() {
		h.running++
		t.resumes = h.resumes
		t.hasHandler = true
		go r.run(t)
		return
	}
	t.readySince = r.q.now()
	h.ready = append(h.ready, t)
	if r.q.stopping || h.rests() {
		r.handBackReady(h, t.readySince)
		r.q.commits.setLinger()
	}
}

// change gives an endpoint new settings.
func (r *runner) change(h *handlers, e Endpoint) {
	h.Endpoint = e.withDefaults()
	h.pace = pace{} // the new handler has to show that it is quick
	r.beginReady(h)
}

// beginReady runs what is ready, as far as handlers are free.
func (r *runner) beginReady(h *handlers) {
	for len(h.ready) > 0 && h.running < h.Concurrency {
		r.begin(h.takeReady())
	}
}

// release gives back what a delivery took to run. Its handler goes to the next delivery that is ready.
func (r *runner) release(t *task) {
	h := t.handlers
	h.started--
	r.active--
	r.q.source.released(t)
	if t.hasHandler {
		t.hasHandler = false
		h.running--
		r.beginReady(h)
	}
	r.solo.end(t)
	if r.active == 0 && r.drained != nil {
		close(r.drained)
		r.drained = nil
	}
}

// handBackReady hands back the deliveries that are stored as running but have been ready without a handler since the given time or longer.
// They were not attempted. From then on the endpoint's handlers count as quick only after they have shown it again.
func (r *runner) handBackReady(h *handlers, since time.Time) {
	for len(h.ready) > 0 && !h.ready[0].readySince.After(since) {
		h.pace = pace{}
		r.handBack(h.takeReady())
	}
}

// handBack makes a delivery wait that is stored as running and was not attempted. It gets back its place among the waiting ones.
func (r *runner) handBack(t *task) {
	q := r.q
	t.ended = true
	t.Attempts--
	e := &pendingEnd{task: t}
	e.ID, e.Endpoint, e.Failures, e.Attempts, e.Token = t.ULID, t.Endpoint, t.Failures, t.Attempts, t.Token
	e.From, e.To, e.Reason = Discarded, Discarded, t.Reason
	if !t.gone {
		t.State, t.Reason, t.RunAt = Waiting, "", t.Received
		e.From, e.To, e.Reason, e.RunAt = Running, Waiting, "", t.RunAt
		e.returns = true
		t.handlers.returning++
		q.waiting++
		q.waits[t.ULID] = t.wait
		q.source.putBack(t)
	}
	q.commits.next.ends = append(q.commits.next.ends, e)
	r.release(t)
}

// putBack makes a delivery wait whose handler made no attempt. Its endpoint rests for as long, because later deliveries of the endpoint
// must not overtake it.
func (r *runner) putBack(t *task, back *PutBack, now time.Time) {
	h := t.handlers
	switch {
	case back.After > 0:
		if at := now.Add(back.After); at.After(h.pausedUntil) {
			h.pausedUntil = at
		}
	case h.resumes == t.resumes:
		h.paused = true
	}
	if h.rests() {
		r.handBackReady(h, now)
	}
	r.handBack(t)
	r.dispatch()
	r.q.commits.setAlarm()
}

// nextTurn returns when the first delivery that is ready has been so for too long, or when the first endpoint has rested long enough. It
// is zero if there is neither.
func (r *runner) nextTurn() time.Time {
	var next time.Time
	for _, h := range r.endpoints {
		if !r.q.commits.outage { // nothing starts until it is over
			next = earlier(next, h.pausedUntil)
		}
		if len(h.ready) > 0 {
			next = earlier(next, h.ready[0].readySince.Add(readyFor))
		}
	}
	return next
}

// run makes one attempt. Close does not wait for its goroutine, since Drain gives up on a handler that does not return.
func (r *runner) run(t *task) {
	ctx, cancel := context.WithCancelCause(r.q.life)
	defer cancel(nil)
	c, handler, err := r.claim(ctx, t, cancel)
	if err == nil && c == nil {
		return
	}
	var out Outcome
	// Deferred, because a handler can end its goroutine: nothing else of this function runs then.
	defer func() { r.finish(ctx, t, out) }()
	switch {
	case err != nil:
		out.Error = fmt.Sprintf("read the delivery back: %v", err)
	case handler == nil: // taken away since the delivery began
		out.PutBack = &PutBack{After: 1}
	default:
		handle(ctx, handler, c, &out)
	}
}

// claim prepares a delivery for the handler that its endpoint has now, and reads it back where its content is not at hand. It returns no
// Claim if Drain has given the delivery up.
func (r *runner) claim(ctx context.Context, t *task, cancel context.CancelCauseFunc) (*Claim, func(context.Context, *Claim) Outcome, error) {
	q := r.q
	var back *store.Stored
	if !t.loaded {
		var err error
		if back, err = q.eng.Load(ctx, t.ULID); err != nil {
			return nil, nil, err
		}
	}
	q.mu.Lock()
	if t.ended {
		q.mu.Unlock()
		return nil, nil, nil
	}
	t.cancel, t.Started = cancel, q.now()
	if t.gone {
		cancel(errDiscarded)
	}
	if back != nil {
		back.State, back.Reason = t.State, t.Reason // may have been discarded since
		t.Stored, t.loaded = *back, true
	}
	tell := t.late && q.feed.wanted()
	if tell {
		q.feed.note(Change{Delivery: t.Delivery, Attempt: &Attempt{N: t.Attempts, Started: t.Started}})
	}
	c := &Claim{Delivery: t.Delivery, Attempt: t.Attempts, Header: t.Header, Body: t.Body, Merged: t.Merged, Value: t.value}
	handler := t.handlers.Handle
	q.mu.Unlock()
	if tell {
		q.feed.tell()
	}
	return c, handler, nil
}

// handle calls a handler and sets its outcome, also where it does not return: a panic is a failed attempt, and so is the end of the goroutine.
func handle(ctx context.Context, h func(context.Context, *Claim) Outcome, c *Claim, out *Outcome) {
	returned := false
	defer func() {
		if returned {
			return
		}
		// A nil value here is runtime.Goexit, by a handler that calls a test's FailNow, say.
		v := recover()
		*out = Outcome{Error: fmt.Sprintf("panic: %v", v), Stack: string(debug.Stack())}
		if v == nil {
			out.Error = "the handler ended its goroutine without returning"
		}
	}()
	*out = h(ctx, c)
	returned = true
}

// finish records how an attempt ended, frees its handler and starts what waits for it.
func (r *runner) finish(ctx context.Context, t *task, out Outcome) {
	q := r.q
	now := q.now()
	q.mu.Lock()
	if t.ended { // given up by Drain
		q.mu.Unlock()
		return
	}
	if out.PutBack != nil && !t.gone {
		r.putBack(t, out.PutBack, now)
	} else {
		t.ended = true
		e := r.judge(t, out, now, errors.Is(context.Cause(ctx), ErrStopping))
		r.conclude(t, e, Report{State: t.State, Reason: t.Reason, Result: out.Result})
	}
	q.commits.ended()
}

// judge moves a task to the state that follows from the outcome of its attempt.
func (r *runner) judge(t *task, out Outcome, now time.Time, stopped bool) *pendingEnd {
	e := &pendingEnd{task: t}
	e.ID, e.Endpoint, e.From, e.Token = t.ULID, t.Endpoint, Running, t.Token
	e.Attempt = Attempt{
		N: t.Attempts, Started: t.Started, Ended: true, Duration: max(0, now.Sub(t.Started)),
		Error: store.Cut(out.Error, maxError), Stack: store.Cut(out.Stack, maxError), Output: out.Output, Result: out.Result,
	}
	t.Duration = e.Attempt.Duration
	switch {
	case t.gone:
		e.From = Discarded
	case out.Error == "" && out.Skip != "":
		t.State, t.Reason = Skipped, store.Cut(out.Skip, store.MaxName)
		t.Attempts--
		e.Attempt.N = 0
	case out.Error == "":
		t.State, t.Reason = Done, ""
	case stopped:
		t.State, t.Reason, t.RunAt = Waiting, "", t.Received
		e.Attempt.Error = handedBackText
	default:
		t.Failures++
		t.Reason = store.Cut(out.Error, store.MaxName)
		if out.Final || t.Failures >= t.handlers.Attempts {
			t.State = Dead
		} else {
			t.State, t.RunAt = Retrying, now.Add(r.backoff(t))
		}
	}
	e.To, e.Reason, e.Failures, e.Attempts, e.RunAt = t.State, t.Reason, t.Failures, t.Attempts, t.RunAt
	return e
}

// backoff returns how long a delivery waits after its last failure.
func (r *runner) backoff(t *task) time.Duration {
	h := t.handlers
	wait := float64(h.FirstWait) * math.Pow(2, float64(t.Failures-1))
	wait = min(wait, float64(h.MaxWait))
	return time.Duration(wait/2 + wait/2*r.q.cfg.Rand())
}

// conclude adds the end of an attempt to the next commit and gives back what the attempt took.
func (r *runner) conclude(t *task, e *pendingEnd, report Report) {
	q := r.q
	q.commits.next.ends = append(q.commits.next.ends, e)
	if e.Attempt.N > 0 {
		t.handlers.pace.note(e.Attempt.Duration)
	}
	if !t.gone {
		t.wait.end(report)
	}
	r.release(t)
	if t.State == Retrying && !q.stopping {
		q.source.putBack(t)
	}
	r.dispatch()
	q.commits.setAlarm()
}

// drain hands back the deliveries that are ready, and returns a channel that is closed when nothing runs any more.
func (r *runner) drain() <-chan struct{} {
	for _, h := range r.endpoints {
		r.handBackReady(h, r.q.now())
	}
	drained := r.drained
	if drained == nil {
		drained = make(chan struct{})
		r.drained = drained
	}
	if r.active == 0 {
		close(drained)
		r.drained = nil
	}
	return drained
}

// giveUp ends the attempts of handlers that did not return. Their deliveries run again after the next start.
func (r *runner) giveUp() error {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	var ids []string
	for id, t := range r.running {
		if t.ended {
			continue
		}
		t.ended = true
		ids = append(ids, id.String())
		e := r.judge(t, Outcome{Error: handedBackText}, now, true)
		r.conclude(t, e, Report{State: t.State, Reason: t.Reason})
	}
	if ids == nil {
		return nil
	}
	slices.Sort(ids)
	return fmt.Errorf("end the handlers: those of %s did not return after their context had ended; the deliveries will run again",
		strings.Join(ids, ", "))
}
