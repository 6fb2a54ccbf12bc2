package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// transact runs change in a transaction that also stores the summary, and waits for what level says. If it fails, the
// summary is as it was.
func (e *Engine) transact(level string, change func() error) error {
	return e.transaction(level, func() ([]byte, error) {
		if err := change(); err != nil {
			return nil, err
		}
		return e.sumUp(e.summary.Last + 1), nil
	})
}

// transaction is transact with the summary to store from change, nil for none.
func (e *Engine) transaction(level string, change func() (summary []byte, err error)) (err error) {
	before := e.summary
	before.Counts = make(map[int64]*[store.StateCount]int64, len(e.summary.Counts))
	for id, n := range e.summary.Counts {
		c := *n
		before.Counts[id] = &c
	}
	if err := e.w.setLevel(level); err != nil {
		return err
	}
	if err := e.w.begin.exec(); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		e.summary = before
		if codeOf(err) == sqlite3.SQLITE_IOERR_FSYNC {
			e.broken = err
		}
		if undo := e.w.undo(); undo != nil {
			e.broken = err
			err = errors.Join(err, undo)
		}
	}()
	sum, err := change()
	if err != nil {
		return err
	}
	if sum != nil {
		if err := e.w.summary.exec(sum); err != nil {
			return err
		}
	}
	if err := e.w.commit.exec(); err != nil {
		return err
	}
	e.publish()
	return nil
}

// Commit implements store.Engine. Arrivals are synced; starts and outcomes alone are not, since the death of the process loses
// no page that was written, and after a power cut they would merely happen again.
func (e *Engine) Commit(b *store.Batch) error {
	if b.Empty() {
		return nil
	}
	if p := e.damaged.Load(); p != nil {
		return *p
	}
	if err := e.reopen(); err != nil {
		return err
	}
	e.emptyLog()
	level := e.cfg.Synchronous
	if len(b.Arrivals)+len(b.Discards) == 0 {
		level = "NORMAL"
	}
	greatest := e.greatest
	err := e.transaction(level, func() ([]byte, error) { return e.apply(b) })
	e.webhooks.settle(err == nil)
	if err != nil {
		e.unmake(greatest)
		return e.commitError(err)
	}
	for _, k := range b.Ends {
		delete(e.direct, store.Key(k.ID))
	}
	for _, a := range b.Arrivals {
		if a.First == nil && a.Stored.State == store.Running {
			e.direct[store.Key(a.Stored.ULID)] = struct{}{}
		}
	}
	e.noteWritten(b)
	return nil
}

// Forget implements store.Engine. Only where a sync failed may the log hold a commit that was refused.
func (e *Engine) Forget(ids []ulid.ULID) {
	if e.broken != nil {
		e.forgotten = append(e.forgotten, ids...)
	}
}

// apply makes the changes of a batch, and returns the summary to be stored with them, nil for none.
func (e *Engine) apply(b *store.Batch) (sum []byte, err error) {
	for _, k := range b.Ends {
		if err := e.applyEnd(k); err != nil {
			return nil, err
		}
	}
	for _, d := range b.Discards {
		if err := e.applyDiscard(d); err != nil {
			return nil, err
		}
	}
	for _, s := range b.Starts {
		if err := e.applyStart(s); err != nil {
			return nil, err
		}
	}
	if e.commits++; e.commits >= 64 || len(e.direct) == 0 {
		e.commits = 0
		low := e.summary.Last + 1 // what arrives comes after it
		for key := range e.direct {
			low = min(low, key)
		}
		e.summary.Low = low
	}
	e.unsaid++
	whole := mergesOrRests(b)
	if !whole && (e.unsaid >= summaryEvery || e.changesCounted(b)) {
		// How what arrives ends changes nothing of it, so one after the other needs no other summary for a while.
		sum = e.sumUp(e.summary.Last + 1)
	}
	for _, a := range b.Arrivals {
		if err := e.applyArrival(a); err != nil {
			return nil, err
		}
	}
	if whole {
		sum = e.sumUp(e.summary.Last + 1)
	}
	return sum, nil
}

// mergesOrRests reports whether the summary of a batch has to have its arrivals too: they may change what came before them, or there are
// none, and so no sender waits for it.
func mergesOrRests(b *store.Batch) bool {
	return len(b.Arrivals) == 0 || slices.ContainsFunc(b.Arrivals, func(a *store.Arrival) bool { return a.Burst != nil })
}

// changesCounted reports whether a batch changes a delivery that the stored summary counts.
func (e *Engine) changesCounted(b *store.Batch) bool {
	return len(b.Starts)+len(b.Discards) > 0 || slices.ContainsFunc(b.Ends, func(k *store.End) bool { return store.Key(k.ID) < e.summary.Base })
}

func (e *Engine) applyArrival(a *store.Arrival) error {
	w, d, key := e.w, &a.Stored, store.Key(a.Stored.ULID)
	a.First = nil
	endpoint, err := e.endpoint(d.Endpoint)
	if err != nil {
		return err
	}
	if a.Dedupe {
		if dup, err := e.findFirst(a, endpoint); err != nil || dup {
			return err
		}
	}
	state := store.StateNumber(d.State)
	var started, runAt, replayOf, serial, debounce, burst any
	if a.Burst != nil {
		if err := e.mergeBurst(a, endpoint); err != nil {
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
		replayOf, text(d.Scope), text(d.Action), text(d.RepoType), text(d.RepoName), text(d.WebhookID), text(d.Reason),
		serial, debounce, burst); err != nil {
		return err
	}
	if err := w.content.exec(key, a.Header, a.Body, a.Encoding); err != nil {
		return err
	}
	if a.Stack != "" {
		if err := w.attempt.exec(key, int64(1), d.Received.UnixNano(), int64(0), text(d.Reason), a.Stack, nil, nil); err != nil {
			return err
		}
	}
	e.countsOf(endpoint)[state]++
	e.summary.Last = max(e.summary.Last, key)
	return nil
}

// mergeBurst merges the delivery that is held back for an arrival's burst, if there is one, into the arrival, and says when
// the arrival is due.
func (e *Engine) mergeBurst(a *store.Arrival, endpoint int64) error {
	key := store.Key(a.Stored.ULID)
	a.Merged, a.Stored.Burst, a.RunAt = nil, key, a.Stored.Received.Add(a.Burst.Wait)
	row, err := e.w.heldBack.queryRow(endpoint, a.Burst.Key)
	if err != nil || row == nil {
		return err
	}
	m := e.stored(row)
	m.State, m.MergedInto = store.Merged, a.Stored.ID
	a.Merged, a.Stored.Burst = m, m.Burst
	if last := store.FromKey(m.Burst).Timestamp().Add(a.Burst.MaxWait); a.Burst.MaxWait > 0 && a.RunAt.After(last) {
		a.RunAt = last
	}
	counts := e.countsOf(endpoint)
	counts[store.StateWaiting]--
	counts[store.StateMerged]++
	return e.w.merge.exec(key, store.Key(m.ULID))
}

func (e *Engine) applyStart(s *store.Start) error {
	s.Lost = false
	n, err := e.w.start.execCount(s.At.UnixNano(), store.Key(s.ID))
	if err != nil {
		return err
	}
	if n == 0 {
		s.Lost = true
		return nil
	}
	if s.Burst && s.From == store.Waiting {
		if err := e.w.burst.exec(store.Key(s.ID)); err != nil {
			return err
		}
	}
	endpoint, err := e.endpoint(s.Endpoint)
	if err != nil {
		return err
	}
	counts := e.countsOf(endpoint)
	counts[store.StateNumber(s.From)]--
	counts[store.StateRunning]++
	return nil
}

func (e *Engine) applyEnd(k *store.End) error {
	key := store.Key(k.ID)
	at := &k.Attempt
	var runAt, started any
	if !k.RunAt.IsZero() && !k.To.Finished() {
		runAt = k.RunAt.UnixNano()
	}
	if at.N > 0 {
		started = at.Started.UnixNano()
	}
	if err := e.w.finish.exec(store.StateNumber(k.To), text(k.Reason), int64(k.Failures), int64(k.Attempts), int64(at.Duration),
		runAt, started, key); err != nil {
		return err
	}
	if k.From != k.To {
		endpoint, err := e.endpoint(k.Endpoint)
		if err != nil {
			return err
		}
		counts := e.countsOf(endpoint)
		counts[store.StateNumber(k.From)]--
		counts[store.StateNumber(k.To)]++
	}
	plain := k.To == store.Done && at.N == k.Attempts && at.Error == "" && at.Stack == "" && at.Output == nil && at.Result == nil
	if at.N == 0 || plain { // the delivery's own row says all there is to say of a plain one
		return nil
	}
	return e.w.attempt.exec(key, int64(at.N), at.Started.UnixNano(), int64(at.Duration), text(at.Error), text(at.Stack),
		blob(at.Output), blob(at.Result))
}

func (e *Engine) applyDiscard(d *store.Discard) error {
	key := store.Key(d.ID)
	d.Before, d.After = "", nil
	if !store.HasKey(d.ID) {
		return nil
	}
	row, err := e.w.row.queryRow(key)
	if err != nil || row == nil {
		return err
	}
	del := e.stored(row)
	d.Before, d.After = del.State, del
	if del.State.Finished() {
		return nil
	}
	counts := e.countsOf(row[colEndpoint].(int64))
	counts[row[colState].(int64)]--
	counts[store.StateDiscarded]++
	del.State, del.Reason, del.RunAt = store.Discarded, d.Reason, time.Time{}
	return e.w.discard.exec(text(d.Reason), key)
}

// endpoint returns the number that stands for an endpoint, a new one if need be.
func (e *Engine) endpoint(name string) (int64, error) {
	e.mu.Lock()
	id, ok := e.endpoints[name]
	e.mu.Unlock()
	if ok {
		return id, nil
	}
	id = e.greatest + 1
	if err := e.w.exec("INSERT INTO endpoint (id, name) VALUES (?, ?)", id, name); err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endpoints[name], e.names[id], e.greatest = id, name, id
	return id, nil
}

// unmake takes back the endpoints that a failed transaction made, those beyond greatest, so that they are made again.
func (e *Engine) unmake(greatest int64) {
	if e.greatest == greatest {
		return
	}
	e.greatest = greatest
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, name := range e.names {
		if id > greatest {
			delete(e.names, id)
			delete(e.endpoints, name)
		}
	}
}

var discardAll = store.NumberStates("UPDATE delivery SET state = {discarded}, reason = ?, run_at = NULL, debounce = NULL WHERE run_at IS NOT NULL")

func (e *Engine) DiscardAll(reason string) (int, error) {
	n := 0
	err := e.transact(e.cfg.Synchronous, func() error {
		if err := e.w.exec(discardAll, text(reason)); err != nil {
			return err
		}
		for _, c := range e.summary.Counts {
			for _, s := range []int{store.StateWaiting, store.StateRetrying} {
				n += int(c[s])
				c[store.StateDiscarded] += c[s]
				c[s] = 0
			}
		}
		return nil
	})
	if err != nil {
		return 0, e.commitError(err)
	}
	return n, nil
}

// reopen opens the file anew after a failed sync: what the system still holds of it may not be what is on disk.
func (e *Engine) reopen() error {
	if e.broken == nil {
		return nil
	}
	e.ckpt.Lock()
	defer e.ckpt.Unlock()
	e.mu.Lock()
	readers := e.readers
	e.readers = nil
	e.mu.Unlock()
	if readers != nil {
		if err := readers.Close(); err != nil {
			return fmt.Errorf("reopen %s after a failed sync: %w", e.path, err)
		}
	}
	if e.w != nil {
		// An error of closing tells nothing new: the connection is given up because it failed.
		_ = e.w.close()
		e.w = nil
	}
	if err := e.connect(false); err != nil {
		if e.w != nil {
			err = errors.Join(err, e.w.close())
			e.w = nil
		}
		return fmt.Errorf("reopen %s after a failed sync: %w", e.path, err)
	}
	e.broken = nil
	if err := e.readSummary(); err != nil {
		e.broken = err
		return err
	}
	return e.transact(e.cfg.Synchronous, func() error {
		for _, id := range e.forgotten {
			key := store.Key(id)
			row, err := e.w.row.queryRow(key)
			if err != nil {
				return err
			}
			if row == nil {
				continue
			}
			e.countsOf(row[colEndpoint].(int64))[row[colState].(int64)]--
			if err := e.w.remove(key); err != nil {
				return err
			}
		}
		e.forgotten = nil
		return nil
	})
}
