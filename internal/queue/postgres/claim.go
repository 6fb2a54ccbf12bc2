package postgres

import (
	"context"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Why claim_1 and renew_1 return a row.
const (
	rowClaimed  = 10
	rowEndpoint = 11
	rowPending  = 12
	rowTaken    = 13
	rowSuspects = 14
	rowOldest   = 15
	rowGone     = 20
	rowProcess  = 21
)

func (e *Engine) Claim(ctx context.Context, wants []store.Want) ([]*store.Stored, store.Remaining, error) {
	left := store.Remaining{Due: map[string]bool{}, Suspects: map[string]bool{}, Oldest: map[string]time.Time{}}
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	names := map[int64]string{}
	for _, w := range wants {
		names[store.Hash(w.Endpoint)] = w.Endpoint
	}
	e.mu.Lock()
	maps.Copy(e.served, names)
	e.mu.Unlock()
	// What a server that stands still has been sent it does when it goes on, before the owners have renewed: too late to take over.
	lastly := e.cfg.Now().Add(e.Skew() + e.cfg.lease/4).UnixNano()
	rows, err := queryRows(ctx, e.workers, "SELECT * FROM hubhook.claim_1($1, $2 AND hubhook.now_1() < $12, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		e.process, e.mayTakeOver(), store.AloneAfter, store.DeadAfter, store.DiedReason, store.InterruptedText,
		column(wants, func(w store.Want) int64 { return store.Hash(w.Endpoint) }),
		column(wants, func(w store.Want) int64 { return int64(w.N) }),
		column(wants, func(w store.Want) bool { return w.Suspects }),
		store.NewToken(), int64(e.cfg.lease), lastly)
	if err != nil {
		return nil, left, e.failed("claim deliveries from the database", err)
	}
	var claimed []*store.Stored
	var taken []ulid.ULID
	for i := range rows {
		r := &rows[i]
		switch r.kind {
		case rowClaimed:
			s, err := e.stored(r)
			if err != nil {
				// Its lease ends, and it is interrupted, until it is dead: nobody can read it.
				e.cfg.Warn(e.failed("read delivery "+ulid.ULID(r.id).String(), err))
				continue
			}
			claimed = append(claimed, s)
		case rowEndpoint:
			if r.place != 0 {
				left.Due[names[int64(r.endpoint)]] = true
			}
		case rowSuspects:
			left.Suspects[e.endpointName(int64(r.endpoint))] = true
		case rowOldest:
			if id := ulid.ULID(r.id); id != (ulid.ULID{}) {
				left.Oldest[e.endpointName(int64(r.endpoint))] = ulid.Time(id.Time())
			}
		case rowPending:
			left.Waiting = int(r.place)
			if r.at != 0 {
				left.Next = time.Unix(0, int64(r.at))
			}
		case rowTaken:
			taken = append(taken, ulid.ULID(r.id))
		}
	}
	if taken != nil {
		e.tellAll(taken)
	}
	return claimed, left, nil
}

// mayTakeOver reports whether claims that were not renewed are given up for lost: only once this process could have renewed
// its own for a whole lease, up to now. After the server, or all machines, stood still, the owners first get the time to
// renew theirs.
func (e *Engine) mayTakeOver() bool {
	since, last := time.Unix(0, e.good.Load()), time.Unix(0, e.renewed.Load())
	return time.Since(last) < e.cfg.lease && last.Sub(since) > e.cfg.lease
}

// narrow makes a stored delivery of a row without content.
func (e *Engine) narrow(r *row) *store.Stored {
	s := &store.Stored{
		Delivery: e.delivery(r), ULID: ulid.ULID(r.id), Failures: int(r.failures), Interruptions: int(r.interruptions),
		Serial: int64(r.serial), Burst: store.Key(ulid.ULID(r.burst)), Token: int64(r.token),
	}
	if r.started != 0 {
		s.Started = time.Unix(0, int64(r.started))
	}
	for _, m := range r.merged {
		s.Merged = append(s.Merged, ulid.ULID(m.Bytes).String())
	}
	return s
}

// stored makes a stored delivery of a row with content.
func (e *Engine) stored(r *row) (_ *store.Stored, err error) {
	s := e.narrow(r)
	if s.Header, err = store.UnpackHeader(r.header); err != nil {
		return nil, err
	}
	s.Body, err = store.UnpackBody(r.body, int64(r.encoding))
	return s, err
}

func (e *Engine) Renew(ctx context.Context, claims []store.Lease) ([]store.LostLease, error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	sent, began := e.cfg.Now(), time.Now()
	rows, err := queryRows(ctx, e.workers, "SELECT * FROM hubhook.renew_1($1, $2, $3, $4)", e.process,
		column(claims, func(h store.Lease) pgtype.UUID { return uuidOf(h.ID) }),
		column(claims, func(h store.Lease) int64 { return h.Token }), int64(e.cfg.lease))
	if err != nil {
		e.renewed.Store(0)
		return nil, e.failed("renew the claims in the database", err)
	}
	now := time.Now().Round(0) // without the monotonic clock, which may stand still when a machine does
	if now.Sub(time.Unix(0, e.renewed.Swap(now.UnixNano()))) > e.cfg.lease {
		e.good.Store(now.UnixNano())
	}
	var gone []store.LostLease
	for i := range rows {
		r := &rows[i]
		switch r.kind {
		case rowGone:
			l := store.LostLease{ID: ulid.ULID(r.id), Discarded: r.received != 0 && store.StateNames[r.state] == store.Discarded}
			if l.Discarded {
				l.Reason = unescapeText(string(r.reason))
			}
			gone = append(gone, l)
		case rowProcess:
			e.others.Store(int64(r.place))
			e.noteClock(sent, time.Since(began), int64(r.at))
		}
	}
	return gone, nil
}

// Sweep implements store.Engine. Of processes that do so at the same time, one does it.
func (e *Engine) Sweep(ctx context.Context, r store.Retention) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	var before ulid.ULID
	if err := before.SetTime(uint64(max(0, r.Before.UnixMilli()))); err != nil {
		return false, err
	}
	var n int64
	err = e.workers.QueryRow(ctx, "SELECT hubhook.sweep_1($1, $2, $3, $4)", e.process,
		pgtype.UUID{Bytes: before, Valid: true}, int64(r.Count), int64(r.Rows)).Scan(&n)
	if err != nil {
		return false, e.failed("remove deliveries from the database", err)
	}
	return n == int64(r.Rows), nil
}

func (e *Engine) DiscardAll(reason string) (n int, err error) {
	for {
		ctx, cancel := context.WithTimeout(e.life, workFor)
		rows, err := e.workers.Query(ctx, "SELECT id FROM hubhook.unfinished WHERE state <> 1 ORDER BY id LIMIT 500")
		if err != nil {
			cancel()
			return n, e.failed("look for unfinished deliveries in the database", err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[pgtype.UUID])
		cancel()
		if err != nil || len(ids) == 0 {
			return n, e.failed("look for unfinished deliveries in the database", err)
		}
		b := &store.Batch{}
		for _, id := range ids {
			b.Discards = append(b.Discards, &store.Discard{ID: id.Bytes, Reason: reason})
		}
		if err := e.Commit(b); err != nil {
			return n, err
		}
		for _, d := range b.Discards {
			if d.After != nil && !d.Before.Finished() {
				n++
			}
		}
	}
}
