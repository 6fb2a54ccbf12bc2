package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Receipt says what became of an arrival.
type Receipt struct {
	ID        string // for a duplicate, the ID of the first delivery
	State     State  // when it was stored; for a duplicate, the state of the first delivery
	Duplicate bool
	Postponed bool // it does not run yet because of its Burst, because another delivery with its SerialKey comes first, or because its endpoint is paused
	Value     any  // Arrival.Value
	wait      *wait
	q         *Queue
	task      *task // nil for a duplicate
}

// Done is closed when the first attempt has ended, or when the delivery has ended without an attempt. For a duplicate, it is
// closed when an attempt of the first delivery ends, or at once if that is finished.
func (r *Receipt) Done() <-chan struct{} { return r.wait.done }

// Now returns the state of the delivery by now. For a duplicate, it returns Receipt.State.
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

// Accept stores a delivery and returns when it is on disk, or, for a duplicate, when the first delivery is. A handler starts at once if one
// is free. The errors are [ErrStopping], [ErrFull], [ErrNotServed], [ErrMarkMoved], ctx's, and what kept the delivery from being stored.
// After ctx's error the delivery may still be stored; after another error it is not. A delivery with a mark may be stored after any error.
// Accepting it again then returns [ErrMarkMoved].
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
		Mark:     a.Mark,
	}
	if a.ReplayOf == "" {
		ar.Dedupe = a.WebhookID != ""
	} else {
		var ok bool
		if ar.ReplayOf, ok = store.ParseID(a.ReplayOf); !ok {
			return nil, fmt.Errorf("replay %s: %w", a.ReplayOf, ErrNotFound)
		}
	}
	pending := &pendingArrival{Arrival: ar, ready: make(chan struct{})}
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
	pending.task = t

	q.mu.Lock()
	if err := q.admit(pending, a.Dead, a.SameFor); err != nil {
		q.mu.Unlock()
		return nil, err
	}
	q.commits.next.add(pending)
	if err := q.commits.await(ctx, pending.ready); err != nil {
		return nil, err
	}
	if pending.err != nil {
		return nil, pending.err
	}
	pending.receipt.Value = a.Value
	return &pending.receipt, nil
}

// admit decides in which state an arrival is stored, and takes what it needs for that: an id, and a free handler or a place
// among the waiting deliveries.
func (q *Queue) admit(a *pendingArrival, dead string, sameFor time.Duration) error {
	t := a.task
	switch {
	case q.stopping:
		return ErrStopping
	case !q.started:
		return errors.New("accept a delivery: the queue is not started")
	}
	h := q.runner.endpoints[t.Endpoint]
	if h == nil || h.gone {
		return fmt.Errorf("accept a delivery for endpoint %q: %w", t.Endpoint, ErrNotServed)
	}
	t.handlers = h
	now := q.now()
	if window := max(h.DedupeWindow, sameFor); a.Dedupe && window > 0 {
		a.Since = now.Add(-window)
	}
	switch {
	case dead != "":
		t.State, t.Reason = Dead, store.Cut(dead, store.MaxName)
		t.Serial, a.Burst = 0, nil
	case h.Handle == nil:
		t.State = Done
		t.Serial, a.Burst = 0, nil
	case t.Serial == 0 && a.Burst == nil && q.runner.mayStart(h, now):
		t.State, t.Attempts, t.Started = Running, 1, now
		t.Token = q.source.token()
	default:
		if q.waiting >= q.cfg.MaxWaiting {
			return ErrFull
		}
		t.State = Waiting
		q.waiting++
	}
	t.ULID = q.ids.Next(now)
	t.ID, t.Received = t.ULID.String(), now
	switch t.State {
	case Running:
		q.runner.take(t)
	case Waiting: // a claim may start it before the queue hears that it is stored
		t.wait.passing = true
		q.waits[t.ULID] = t.wait
	}
	a.Stored = t.Stored
	return nil
}
