package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// List returns deliveries, newest first, and a cursor for what comes after them, "" if nothing does. The errors are ErrCursor, and what
// kept them from being read.
func (q *Queue) List(ctx context.Context, f Filter) (ds []Delivery, next string, err error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 1000)
	if f.Before != "" {
		if _, ok := store.ParseID(f.Before); !ok {
			return nil, "", fmt.Errorf("list deliveries before %q: %w", f.Before, ErrCursor)
		}
	}
	if err := q.flush(ctx); err != nil {
		return nil, "", err
	}
	return q.eng.List(ctx, f)
}

// Get returns one delivery with all that is kept of it. The error is ErrNotFound if there is none.
func (q *Queue) Get(ctx context.Context, id string) (*Record, error) {
	key, ok := store.ParseID(id)
	if !ok {
		return nil, ErrNotFound
	}
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.eng.Get(ctx, key)
}

// Counts returns how many deliveries are stored, by endpoint and state. Counts of zero may be left out.
func (q *Queue) Counts(ctx context.Context) (Counts, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.eng.Counts(ctx)
}

// Oldest returns, for each endpoint for which deliveries wait to be started here, when the oldest of them was received.
func (q *Queue) Oldest(ctx context.Context) (map[string]time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, store.ErrClosed
	}
	if q.shared != nil {
		return maps.Clone(q.shared.left.Oldest), nil
	}
	first := map[string]ulid.ULID{}
	look := func(h dueHeap) {
		for i := range h {
			e := &h[i]
			if e.Retrying {
				continue
			}
			if id, ok := first[e.line.Name]; !ok || e.ID.Compare(id) < 0 {
				first[e.line.Name] = e.ID
			}
		}
	}
	look(q.suspects)
	for _, l := range q.lines {
		look(l.due)
		for _, s := range l.series {
			look(s.due)
		}
	}
	oldest := make(map[string]time.Time, len(first))
	for endpoint, id := range first {
		oldest[endpoint] = id.Timestamp()
	}
	return oldest, nil
}

// Outcome waits until a delivery is finished and says how. For one that was merged into another, that is how the other one
// ended. The errors are ErrNotFound, ctx's, and what kept it from being read.
func (q *Queue) Outcome(ctx context.Context, id string) (report Report, err error) {
	for id != "" {
		if report, id, err = q.nextOutcome(ctx, id); err != nil {
			return Report{}, err
		}
	}
	return report, nil
}

// nextOutcome waits for the end of one attempt. It returns the ID of the delivery whose outcome is still to be waited for, "" once the
// report is that of the end.
func (q *Queue) nextOutcome(ctx context.Context, id string) (report Report, next string, err error) {
	key, ok := store.ParseID(id)
	if !ok {
		return Report{}, "", ErrNotFound
	}
	w := q.nextEnd(key) // before the reading, so that no end is missed
	defer q.leave(key, w)
	r, err := q.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		q.endElsewhere(key, Report{})
		return Report{}, "", err
	case err != nil: // others may wait for the same end
		return Report{}, "", err
	case r.State.Finished():
		report := reportOf(r)
		q.endElsewhere(key, report)
		if r.State == Merged {
			return report, r.MergedInto, nil
		}
		return report, "", nil
	}
	var elsewhere <-chan time.Time
	if q.shared != nil {
		elsewhere = time.After(500 * time.Millisecond)
	}
	select {
	case <-w.done:
	case <-elsewhere:
		return Report{}, id, nil
	case <-ctx.Done():
		return Report{}, "", ctx.Err()
	}
	if !w.report.State.Finished() || w.report.State == Merged {
		return Report{}, id, nil
	}
	return w.report, "", nil // also where the end can't be stored yet
}

// nextEnd returns what tells the end of the attempt that runs, or of the next one. Who no longer waits for it calls leave.
func (q *Queue) nextEnd(id ulid.ULID) *wait {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.running[id]; t != nil && (!t.ended || t.State.Finished()) {
		t.wait.asking++
		return t.wait
	}
	w := q.waits[id]
	if w == nil {
		w = newWait()
		w.passing = true
		q.waits[id] = w
	}
	w.asking++
	return w
}

// leave forgets what nextEnd made, once nobody waits for it: where the delivery does not end here, nothing else would.
func (q *Queue) leave(id ulid.ULID, w *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.asking--; w.passing && w.asking == 0 && q.waits[id] == w {
		delete(q.waits, id)
	}
}

// endElsewhere tells those who wait here for a delivery what the store has of its end.
func (q *Queue) endElsewhere(id ulid.ULID, report Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.waits[id]; w != nil {
		delete(q.waits, id)
		w.end(report)
	}
}

// reportOf says how a finished delivery ended.
func reportOf(r *Record) Report {
	report := Report{State: r.State, Reason: r.Reason}
	if n := len(r.AttemptList); n > 0 && r.State == Done {
		report = Report{State: Done, Result: r.AttemptList[n-1].Result}
	}
	return report
}

// Discard makes an unfinished delivery a discarded one and returns once that is stored. The context of a running handler
// is cancelled, and its outcome no longer changes the state. The errors are ErrNotFound, ErrFinished, and what kept it from
// being stored.
func (q *Queue) Discard(ctx context.Context, id, reason string) error {
	key, ok := store.ParseID(id)
	if !ok {
		return ErrNotFound
	}
	d := &pendingDiscard{Discard: store.Discard{ID: key, Reason: store.Cut(reason, store.MaxName)}, ready: make(chan struct{})}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return store.ErrClosed
	}
	q.next.discards = append(q.next.discards, d)
	if !q.committing {
		q.lead()
		q.mu.Unlock()
		return d.err
	}
	q.mu.Unlock()
	select {
	case <-d.ready:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
