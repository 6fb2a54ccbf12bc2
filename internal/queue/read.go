package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// List returns deliveries, newest first, and a cursor for those that come after them, "" for none. The errors are ErrCursor, and
// what kept the deliveries from being read.
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
	if err := q.commits.flush(ctx); err != nil {
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
	if err := q.commits.flush(ctx); err != nil {
		return nil, err
	}
	return q.eng.Get(ctx, key)
}

// Counts returns how many deliveries are stored, by endpoint and state. Counts of zero may be left out.
func (q *Queue) Counts(ctx context.Context) (Counts, error) {
	if err := q.commits.flush(ctx); err != nil {
		return nil, err
	}
	return q.eng.Counts(ctx)
}

// Oldest returns, by endpoint, when the oldest delivery was received that waits to be started. Endpoints without one are left out.
func (q *Queue) Oldest(ctx context.Context) (map[string]time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, store.ErrClosed
	}
	return q.source.oldest(), nil
}

// Outcome waits until a delivery is finished and says how it ended. If it was merged into another delivery, Outcome says how that
// one ended. The errors are ErrNotFound, ctx's, and what kept the delivery from being read.
func (q *Queue) Outcome(ctx context.Context, id string) (report Report, err error) {
	for id != "" {
		if report, id, err = q.nextOutcome(ctx, id); err != nil {
			return Report{}, err
		}
	}
	return report, nil
}

// nextOutcome waits for the end of one attempt. It returns "" for next when the report is final, and otherwise the ID of the
// delivery that must be waited for.
func (q *Queue) nextOutcome(ctx context.Context, id string) (report Report, next string, err error) {
	key, ok := store.ParseID(id)
	if !ok {
		return Report{}, "", ErrNotFound
	}
	w := q.askFor(key) // before the reading, so that no end is missed
	defer q.leave(key, w)
	r, err := q.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		q.endWait(key, Report{})
		return Report{}, "", err
	case err != nil: // others may wait for the same end
		return Report{}, "", err
	case r.State.Finished():
		report := reportOf(r)
		q.endWait(key, report)
		if r.State == Merged {
			return report, r.MergedInto, nil
		}
		return report, "", nil
	}
	var recheck <-chan time.Time
	if d := q.source.recheck(); d > 0 {
		recheck = time.After(d)
	}
	select {
	case <-w.done:
	case <-recheck:
		return Report{}, id, nil
	case <-ctx.Done():
		return Report{}, "", ctx.Err()
	}
	if !w.report.State.Finished() || w.report.State == Merged {
		return Report{}, id, nil
	}
	return w.report, "", nil // also where the end can't be stored yet
}

// askFor returns the wait for the end of the attempt that runs, or of the next one. A caller that no longer waits calls leave.
func (q *Queue) askFor(id ulid.ULID) *wait {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.runner.running[id]; t != nil && (!t.ended || t.State.Finished()) {
		t.wait.asking++
		return t.wait
	}
	return q.waits.ask(id)
}

func (q *Queue) leave(id ulid.ULID, w *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waits.leave(id, w)
}

// endWait tells those who wait here for a delivery how it ended, as the store has it.
func (q *Queue) endWait(id ulid.ULID, report Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waits.end(id, report)
}

// reportOf says how a finished delivery ended.
func reportOf(r *Record) Report {
	report := Report{State: r.State, Reason: r.Reason}
	if n := len(r.AttemptList); n > 0 && r.State == Done {
		report = Report{State: Done, Result: r.AttemptList[n-1].Result}
	}
	return report
}

// resultTime bounds the reading of a result for an answer that waits.
const resultTime = time.Second

// resultOf reads what the handler of a delivery returned in another process. It returns nil if that can't be read in time: the
// delivery is done all the same.
func (q *Queue) resultOf(id string) []byte {
	key, ok := store.ParseID(id)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.life, resultTime)
	defer cancel()
	r, err := q.eng.Get(ctx, key)
	if err != nil {
		q.feed.noteWarning(fmt.Errorf("read what the handler of delivery %s returned in another process: %w; it is answered without", id, err))
		q.feed.tell()
		return nil
	}
	return reportOf(r).Result
}

// Discard discards an unfinished delivery and returns when that is stored. The context of a running handler is cancelled, and its
// outcome does not change the state any more. The errors are ErrNotFound, ErrFinished, ctx's, and what kept the change from being
// stored.
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
	q.commits.next.discards = append(q.commits.next.discards, d)
	if err := q.commits.await(ctx, d.ready); err != nil {
		return err
	}
	return d.err
}
