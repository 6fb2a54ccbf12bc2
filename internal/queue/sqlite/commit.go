package sqlite

import (
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// changes applies batches in the ledger's transactions.
type changes struct {
	file   *file
	known  *known
	ledger *ledger

	direct     map[int64]struct{} // keys of running deliveries that never waited, so that no index has them
	commits    int                // since summary.Low was last updated
	forgotten  []ulid.ULID        // arrivals that reopen has to remove
	marks      marks
	webhooks   webhooks
	preloading *preloading // nil if none was begun, and after it was waited for
}

// Forget implements store.Engine. Only after a failed sync may the log have a commit that was reported as failed.
func (ch *changes) Forget(ids []ulid.ULID) {
	if ch.ledger.broken != nil {
		ch.forgotten = append(ch.forgotten, ids...)
	}
}

// apply makes the changes of a batch. It returns the encoded summary to store with them, nil for none.
func (ch *changes) apply(b *store.Batch) (sum []byte, err error) {
	for _, m := range b.Marks() {
		if err := ch.marks.apply(ch.ledger.w, m); err != nil {
			return nil, err
		}
	}
	for _, end := range b.Ends {
		if err := ch.applyEnd(end); err != nil {
			return nil, err
		}
	}
	for _, d := range b.Discards {
		if err := ch.applyDiscard(d); err != nil {
			return nil, err
		}
	}
	for _, s := range b.Starts {
		if err := ch.applyStart(s); err != nil {
			return nil, err
		}
	}
	if ch.commits++; ch.commits >= 64 || len(ch.direct) == 0 {
		ch.commits = 0
		low := ch.ledger.summary.Last + 1 // arrivals get greater keys
		for key := range ch.direct {
			low = min(low, key)
		}
		ch.ledger.summary.Low = low
	}
	ch.ledger.sinceSummary++
	countArrivals := mergesOrIdles(b)
	if !countArrivals && (ch.ledger.sinceSummary >= summaryEvery || ch.changesCounted(b)) {
		// The stored summary leaves out these arrivals. So their outcomes do not change it, and the next commits can go without one.
		sum = ch.ledger.encodeSummary()
	}
	for _, a := range b.Arrivals {
		if err := ch.applyArrival(a); err != nil {
			return nil, err
		}
	}
	if countArrivals {
		sum = ch.ledger.encodeSummary()
	}
	return sum, nil
}

// mergesOrIdles reports whether the summary of a batch has to be made after its arrivals. An arrival of a burst may change a delivery that
// the summary counts already. A batch without arrivals makes no sender wait, so it can store the summary as well.
func mergesOrIdles(b *store.Batch) bool {
	return len(b.Arrivals) == 0 || slices.ContainsFunc(b.Arrivals, func(a *store.Arrival) bool { return a.Burst != nil })
}

// changesCounted reports whether a batch changes a delivery that the stored summary counts.
func (ch *changes) changesCounted(b *store.Batch) bool {
	return len(b.Starts)+len(b.Discards) > 0 || slices.ContainsFunc(b.Ends, func(end *store.End) bool { return store.Key(end.ID) < ch.ledger.summary.Base })
}

func (ch *changes) applyArrival(a *store.Arrival) error {
	w, d, key := ch.ledger.w, &a.Stored, store.Key(a.Stored.ULID)
	a.First = nil
	endpoint, err := ch.ledger.endpoint(d.Endpoint)
	if err != nil {
		return err
	}
	if a.Dedupe {
		if dup, err := ch.findFirst(a, endpoint); err != nil || dup {
			return err
		}
	}
	state := store.StateNumber(d.State)
	var started, runAt, replayOf, serial, debounce, burst any
	if a.Burst != nil {
		if err := ch.mergeBurst(a, endpoint); err != nil {
			return err
		}
		debounce, burst = a.Burst.Key, d.Burst
	}
	if d.Serial != 0 {
		serial = d.Serial
	}
	switch d.State {
	case store.Running:
		started = d.Started.UnixNano()
	case store.Waiting:
		runAt = d.Received.UnixNano()
		if a.Burst != nil {
			runAt = a.RunAt.UnixNano()
		}
	}
	if a.ReplayOf != (ulid.ULID{}) {
		replayOf = store.Key(a.ReplayOf)
		if err := w.replays.exec(replayOf); err != nil {
			return err
		}
	}
	if err := w.insert.exec(key, endpoint, state, d.Received.UnixNano(), int64(d.Attempts), d.Synthetic, started, runAt,
		replayOf, textOrNull(d.Scope), textOrNull(d.Action), textOrNull(d.RepoType), textOrNull(d.RepoName), textOrNull(d.WebhookID), textOrNull(d.Reason),
		serial, debounce, burst); err != nil {
		return err
	}
	if err := w.content.exec(key, a.Header, a.Body, a.Encoding); err != nil {
		return err
	}
	if a.Stack != "" {
		if err := w.attempt.exec(key, int64(1), d.Received.UnixNano(), int64(0), textOrNull(d.Reason), a.Stack, nil, nil); err != nil {
			return err
		}
	}
	ch.ledger.countsOf(endpoint)[state]++
	ch.ledger.summary.Last = max(ch.ledger.summary.Last, key)
	return nil
}

// mergeBurst looks for the delivery that waits for the end of an arrival's burst, and merges it into the arrival. It also sets when the
// arrival is due.
func (ch *changes) mergeBurst(a *store.Arrival, endpoint int64) error {
	key := store.Key(a.Stored.ULID)
	a.Merged, a.Stored.Burst, a.RunAt = nil, key, a.Stored.Received.Add(a.Burst.Wait)
	row, err := ch.ledger.w.debounced.queryRow(endpoint, a.Burst.Key)
	if err != nil || row == nil {
		return err
	}
	m := ch.known.stored(row)
	m.State, m.MergedInto = store.Merged, a.Stored.ID
	a.Merged, a.Stored.Burst = m, m.Burst
	if last := store.FromKey(m.Burst).Timestamp().Add(a.Burst.MaxWait); a.Burst.MaxWait > 0 && a.RunAt.After(last) {
		a.RunAt = last
	}
	counts := ch.ledger.countsOf(endpoint)
	counts[store.StateWaiting]--
	counts[store.StateMerged]++
	return ch.ledger.w.merge.exec(key, store.Key(m.ULID))
}

func (ch *changes) applyStart(s *store.Start) error {
	s.Lost = false
	n, err := ch.ledger.w.start.execCount(s.At.UnixNano(), store.Key(s.ID))
	if err != nil {
		return err
	}
	if n == 0 {
		s.Lost = true
		return nil
	}
	if s.Burst && s.From == store.Waiting {
		if err := ch.ledger.w.burst.exec(store.Key(s.ID)); err != nil {
			return err
		}
	}
	endpoint, err := ch.ledger.endpoint(s.Endpoint)
	if err != nil {
		return err
	}
	counts := ch.ledger.countsOf(endpoint)
	counts[store.StateNumber(s.From)]--
	counts[store.StateRunning]++
	return nil
}

func (ch *changes) applyEnd(end *store.End) error {
	key := store.Key(end.ID)
	at := &end.Attempt
	var runAt, started any
	if !end.RunAt.IsZero() && !end.To.Finished() {
		runAt = end.RunAt.UnixNano()
	}
	if at.N > 0 {
		started = at.Started.UnixNano()
	}
	if err := ch.ledger.w.finish.exec(store.StateNumber(end.To), textOrNull(end.Reason), int64(end.Failures), int64(end.Attempts), int64(at.Duration),
		runAt, started, key); err != nil {
		return err
	}
	if end.From != end.To {
		endpoint, err := ch.ledger.endpoint(end.Endpoint)
		if err != nil {
			return err
		}
		counts := ch.ledger.countsOf(endpoint)
		counts[store.StateNumber(end.From)]--
		counts[store.StateNumber(end.To)]++
	}
	plain := end.To == store.Done && at.N == end.Attempts && at.Error == "" && at.Stack == "" && at.Output == nil && at.Result == nil
	if at.N == 0 || plain { // the delivery's own row has all that a plain attempt would
		return nil
	}
	return ch.ledger.w.attempt.exec(key, int64(at.N), at.Started.UnixNano(), int64(at.Duration), textOrNull(at.Error), textOrNull(at.Stack),
		blob(at.Output), blob(at.Result))
}

func (ch *changes) applyDiscard(d *store.Discard) error {
	key := store.Key(d.ID)
	d.Before, d.After = "", nil
	if !store.HasKey(d.ID) {
		return nil
	}
	row, err := ch.ledger.w.row.queryRow(key)
	if err != nil || row == nil {
		return err
	}
	del := ch.known.stored(row)
	d.Before, d.After = del.State, del
	if del.State.Finished() {
		return nil
	}
	counts := ch.ledger.countsOf(row[colEndpoint].(int64))
	counts[row[colState].(int64)]--
	counts[store.StateDiscarded]++
	del.State, del.Reason, del.RunAt = store.Discarded, d.Reason, time.Time{}
	return ch.ledger.w.discard.exec(textOrNull(d.Reason), key)
}

var discardAll = store.NumberStates("UPDATE delivery SET state = {discarded}, reason = ?, run_at = NULL, debounce = NULL WHERE run_at IS NOT NULL")

// DiscardAll implements store.Engine.
func (ch *changes) DiscardAll(reason string) (int, error) {
	n := 0
	err := ch.ledger.transact(ch.file.cfg.Synchronous, func() error {
		if err := ch.ledger.w.exec(discardAll, textOrNull(reason)); err != nil {
			return err
		}
		for _, c := range ch.ledger.summary.Counts {
			for _, s := range []int{store.StateWaiting, store.StateRetrying} {
				n += int(c[s])
				c[store.StateDiscarded] += c[s]
				c[s] = 0
			}
		}
		return nil
	})
	if err != nil {
		return 0, ch.file.commitError(err)
	}
	return n, nil
}
