package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// mayStart reports whether a delivery that arrives now can run at once, or so soon that storing it as waiting and then its
// start, in a commit of its own, would take longer than the wait. If the process dies in between, one that has not begun
// counts as interrupted, but only once: after that it is started from the backlog, when a handler is free.
func (q *Queue) mayStart(l *line, now time.Time) bool {
	return l.busy < l.room() && !q.heldBack(now) && !q.mayBeDue(l, now)
}

// room is how many deliveries of an endpoint may be stored as running.
func (l *line) room() int {
	if l.pace.quick() {
		return l.Concurrency * readyFactor
	}
	return l.Concurrency
}

// refill is up to how many deliveries of an endpoint a backlog is started. With quick handlers, room is filled at once when a handler is
// free: a start for each handler that ends would be a commit for each, and a backlog of more than Concurrency would keep itself up.
func (l *line) refill() int {
	if l.busy < l.Concurrency {
		return l.room()
	}
	return l.Concurrency
}

// begin runs a task whose start is stored, or has it wait for the next free handler.
func (q *Queue) begin(t *task) {
	l := t.line
	if l.slots < l.Concurrency {
		l.slots++
		t.began = true
		go q.run(t)
		return
	}
	t.readySince = q.now()
	l.ready = append(l.ready, t)
	if q.stopping {
		q.handBackReady(l, t.readySince)
	}
}

// beginNext gives a handler that has become free to the delivery that is ready for it.
func (q *Queue) beginNext(l *line) {
	l.slots--
	if len(l.ready) > 0 {
		q.begin(l.takeReady())
	}
}

func (l *line) takeReady() *task {
	t := l.ready[0]
	l.ready[0] = nil
	l.ready = l.ready[1:]
	return t
}

// handBackReady has those deliveries wait that were stored as running, but for which no handler has become free since the
// given time. None of them was attempted. The endpoint's handlers are not quick any more until they have shown it again.
func (q *Queue) handBackReady(l *line, since time.Time) {
	for len(l.ready) > 0 && !l.ready[0].readySince.After(since) {
		t := l.takeReady()
		l.pace = pace{}
		t.ended = true
		t.Attempts--
		k := &pendingEnd{task: t}
		k.ID, k.Endpoint, k.Failures, k.Attempts, k.Token = t.ULID, t.Endpoint, t.Failures, t.Attempts, t.Token
		k.From, k.To, k.Reason = Discarded, Discarded, t.Reason
		if !t.gone {
			t.State, t.Reason, t.RunAt = Waiting, "", t.Received
			k.From, k.To, k.Reason, k.RunAt = Running, Waiting, "", t.RunAt
			q.waiting++
			q.waits[t.ULID] = t.wait
			if q.shared == nil {
				e := entry{Due: dueOf(t), line: l}
				e.Retrying = false
				next := &task{Stored: t.Stored, value: t.value, loaded: t.loaded}
				if q.hold(next) {
					e.task = next
				}
				l.push(e)
			}
		}
		q.next.ends = append(q.next.ends, k)
		q.freeSlot(t)
	}
}

// pace is how quickly an endpoint's handlers end.
type pace struct {
	mean  time.Duration // of the last few
	ended int
}

const (
	quickHandler = time.Millisecond
	quickAfter   = 16                    // handlers that must have ended before they count as quick
	readyFactor  = 8                     // with quick handlers, how many times Concurrency deliveries may be stored as running
	readyFor     = 20 * time.Millisecond // after that without a free handler, a delivery that is ready waits after all
)

func (p *pace) note(d time.Duration) {
	p.ended++
	p.mean += (d - p.mean) / time.Duration(min(p.ended, 8))
}

func (p *pace) quick() bool { return p.ended >= quickAfter && p.mean < quickHandler }

// heldBack reports whether nothing ordinary may start now: work stops, nothing can be stored, or one is to be alone.
func (q *Queue) heldBack(now time.Time) bool {
	if q.stopping || q.outage {
		return true
	}
	if q.alone != nil {
		if q.aloneTill.IsZero() || now.Before(q.aloneTill) {
			return true
		}
		q.alone = nil
	}
	return q.suspectDue(now) && (q.holdTill.IsZero() || now.Before(q.holdTill))
}

// dispatch starts what is due, as far as handlers are free. What it starts runs once its start is stored; the caller sees
// to that.
func (q *Queue) dispatch() {
	if !q.started || q.stopping || q.outage {
		return
	}
	now := q.now()
	for _, l := range q.lines {
		q.handBackReady(l, now.Add(-readyFor))
	}
	q.dispatchSuspect(now)
	if q.heldBack(now) {
		return
	}
	for _, l := range q.lines {
		room := l.refill()
		for l.busy < room {
			if l.busy >= l.Concurrency && len(l.due) > 0 && l.due[0].Interruptions > 0 {
				break // it is not to count as interrupted again without having begun
			}
			e, ok := l.pop(now.UnixNano())
			if !ok {
				break
			}
			q.startEntry(e, now)
		}
	}
}

// dispatchSuspect starts one that was interrupted so often that it may be what kills the process, if nothing else runs.
// Otherwise it keeps others from starting for a while; if that is not enough (a handler may run for hours), it gives way
// and tries later.
func (q *Queue) dispatchSuspect(now time.Time) {
	if len(q.suspects) == 0 || q.suspects[0].At > now.UnixNano() || q.alone != nil && now.Before(q.aloneTill) {
		return
	}
	switch {
	case q.active == 0:
		q.holdTill = time.Time{}
		e := q.suspects.pop()
		q.aloneTill = time.Time{}
		q.alone = q.startEntry(e, now)
	case q.holdTill.IsZero():
		q.holdTill = now.Add(aloneFor)
	case !now.Before(q.holdTill):
		q.holdTill = time.Time{}
		e := q.suspects.pop()
		e.At = now.Add(time.Minute).UnixNano()
		q.suspects.push(e)
	}
}

// startEntry takes a handler for an entry and asks for its start to be stored.
func (q *Queue) startEntry(e entry, now time.Time) *task {
	t := e.task
	if t == nil {
		t = &task{}
		t.ULID, t.ID, t.Endpoint = e.ID, e.ID.String(), e.line.Name
		t.Attempts, t.Failures, t.Interruptions = int(e.Attempts), int(e.Failures), int(e.Interruptions)
		t.Serial, t.Burst = e.Serial, e.Burst
	}
	q.letGo(t)
	if t.wait == nil {
		t.wait = newWait()
	}
	if w := q.waits[e.ID]; w != nil {
		w.passing = false
		t.wait = w
		delete(q.waits, e.ID)
	}
	from := Retrying
	if !e.Retrying {
		from = Waiting
		q.waiting--
	}
	t.line = e.line
	t.line.hold(t.Serial)
	t.State, t.Started, t.RunAt = Running, now, time.Time{}
	t.late = true
	t.Attempts++
	t.line.busy++
	q.active++
	q.running[t.ULID] = t
	q.next.starts = append(q.next.starts, &pendingStart{
		Start: store.Start{ID: t.ULID, Endpoint: t.Endpoint, From: from, At: now, Burst: t.Burst != 0}, entry: e, task: t,
	})
	return t
}

// setAlarm sets the time when dispatch is next to look for work.
func (q *Queue) setAlarm() {
	if !q.started || q.stopping {
		return
	}
	now := q.now()
	at := q.sweepAt
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	look := func(h dueHeap) {
		if len(h) > 0 && h[0].At > now.UnixNano() {
			earlier(time.Unix(0, h[0].At))
		}
	}
	for _, l := range q.lines {
		look(l.due)
		if len(l.ready) > 0 {
			earlier(l.ready[0].readySince.Add(readyFor))
		}
	}
	look(q.suspects)
	if q.alone != nil && !q.aloneTill.IsZero() {
		earlier(q.aloneTill)
	}
	if !q.holdTill.IsZero() {
		earlier(q.holdTill)
	}
	if q.outage {
		earlier(now.Add(outageRetry))
	}
	if q.alarmAt.IsZero() || at.Before(q.alarmAt) {
		q.alarmAt = at
		q.alarm.Reset(max(0, at.Sub(now)))
	}
}

// run makes one attempt. It is not among the goroutines that Close waits for: Drain gives up on a handler that does not
// return.
func (q *Queue) run(t *task) {
	ctx, cancel := context.WithCancelCause(q.life)
	defer cancel(nil)
	c, err := q.claim(ctx, t, cancel)
	if err == nil && c == nil {
		return
	}
	var out Outcome
	// Deferred, because a handler can end its goroutine: nothing else of this function runs then.
	defer func() { q.finish(ctx, t, out) }()
	switch {
	case err != nil:
		out.Error = fmt.Sprintf("read the delivery back: %v", err)
	case t.line.Handle != nil:
		handle(ctx, t.line.Handle, c, &out)
	}
}

// claim makes a task ready for its handler, and reads it back where its content is not at hand. It returns nil if Drain
// has given the task up.
func (q *Queue) claim(ctx context.Context, t *task, cancel context.CancelCauseFunc) (*Claim, error) {
	var back *store.Stored
	if !t.loaded {
		var err error
		if back, err = q.eng.Load(ctx, t.ULID); err != nil {
			return nil, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.ended {
		return nil, nil
	}
	t.cancel, t.Started = cancel, q.now()
	if t.gone {
		cancel(errDiscarded)
	}
	if back != nil {
		back.State, back.Reason = t.State, t.Reason // may have been discarded since
		t.Stored, t.loaded = *back, true
	}
	if t.late && q.watched() {
		q.announce(Change{Delivery: t.Delivery, Attempt: &Attempt{N: t.Attempts, Started: t.Started}})
	}
	return &Claim{Delivery: t.Delivery, Attempt: t.Attempts, Header: t.Header, Body: t.Body, Merged: t.Merged, Value: t.value}, nil
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
func (q *Queue) finish(ctx context.Context, t *task, out Outcome) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.ended { // given up by Drain
		return
	}
	t.ended = true
	k := q.judge(t, out, now, errors.Is(context.Cause(ctx), ErrStopping))
	q.conclude(t, k, Report{State: t.State, Reason: t.Reason, Result: out.Result})
	if q.next.urgent() && !q.committing {
		q.lead()
	} else if !q.committing {
		q.setLinger()
	}
}

// judge moves a task to the state that follows from the outcome of its attempt.
func (q *Queue) judge(t *task, out Outcome, now time.Time, stopped bool) *pendingEnd {
	k := &pendingEnd{task: t}
	k.ID, k.Endpoint, k.From, k.Token = t.ULID, t.Endpoint, Running, t.Token
	k.Attempt = Attempt{
		N: t.Attempts, Started: t.Started, Ended: true, Duration: max(0, now.Sub(t.Started)),
		Error: store.Cut(out.Error, maxError), Stack: store.Cut(out.Stack, maxError), Output: out.Output, Result: out.Result,
	}
	t.Duration = k.Attempt.Duration
	switch {
	case t.gone:
		k.From = Discarded
	case out.Error == "" && out.Skip != "":
		t.State, t.Reason = Skipped, store.Cut(out.Skip, store.MaxName)
		t.Attempts--
		k.Attempt.N = 0
	case out.Error == "":
		t.State, t.Reason = Done, ""
	case stopped:
		t.State, t.Reason, t.RunAt = Waiting, "", t.Received
		k.Attempt.Error = handedBackText
	default:
		t.Failures++
		t.Reason = store.Cut(out.Error, store.MaxName)
		if out.Final || t.Failures >= t.line.Attempts {
			t.State = Dead
		} else {
			t.State, t.RunAt = Retrying, now.Add(q.backoff(t))
		}
	}
	k.To, k.Reason, k.Failures, k.Attempts, k.RunAt = t.State, t.Reason, t.Failures, t.Attempts, t.RunAt
	return k
}

// backoff is how long a delivery waits after its last failure.
func (q *Queue) backoff(t *task) time.Duration {
	l := t.line
	wait := float64(l.FirstWait) * math.Pow(2, float64(t.Failures-1))
	wait = min(wait, float64(l.MaxWait))
	return time.Duration(wait/2 + wait/2*q.cfg.Rand())
}

// conclude puts the end of an attempt among what is to be stored and lets go of what the attempt held.
func (q *Queue) conclude(t *task, k *pendingEnd, r Report) {
	q.next.ends = append(q.next.ends, k)
	if k.Attempt.N > 0 {
		t.line.pace.note(k.Attempt.Duration)
	}
	if !t.gone {
		t.wait.end(r)
	}
	q.freeSlot(t)
	if t.State == Retrying && !q.stopping && q.shared == nil {
		e := entry{Due: dueOf(t), line: t.line}
		next := &task{Stored: t.Stored, value: t.value, loaded: t.loaded}
		if t.loaded && q.hold(next) {
			e.task = next
		}
		q.push(e)
	}
	q.dispatch()
	q.setAlarm()
}

// dueOf returns what is kept in memory of a retrying delivery whatever its size.
func dueOf(t *task) store.Due {
	return store.Due{
		At: t.RunAt.UnixNano(), ID: t.ULID, Retrying: true,
		Attempts: int32(t.Attempts), Failures: int32(t.Failures), Interruptions: int32(t.Interruptions),
		Serial: t.Serial, Burst: t.Burst,
	}
}

// sweepOnce removes some of what need not be kept. Its caller has the right to commit, and holds mu.
func (q *Queue) sweepOnce() {
	now := q.now()
	q.mu.Unlock()
	more, err := q.eng.Sweep(q.life, q.retention(now, sweepRows))
	q.mu.Lock()
	if err != nil {
		q.cfg.Warn(fmt.Errorf("remove deliveries that need not be kept: %w; it is tried again later", err))
		more = false
	}
	q.sweeping = false
	if more && !q.stopping {
		q.sweepAt = q.now().Add(sweepPause)
		q.setAlarm()
	}
}

func (q *Queue) retention(now time.Time, rows int) store.Retention {
	return store.Retention{Before: now.Add(-q.cfg.Keep), Count: q.cfg.KeepCount, Rows: rows}
}
