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

var (
	claimQuery = query("claim")
	renewQuery = query("renew")
	sweepQuery = query("sweep")
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
	rows, err := queryRows(ctx, e.workers, claimQuery, pgx.NamedArgs{
		"process": e.process, "lease": int64(e.cfg.lease), "first_token": store.NewToken(),
		"take_over": e.mayTakeOver(), "take_over_until": e.cfg.Now().Add(e.Skew() + e.cfg.lease/4).UnixNano(),
		"alone_after": store.AloneAfter, "dead_after": store.DeadAfter, "died": store.DiedReason, "interrupted": store.InterruptedText,
		"endpoints": column(wants, func(w store.Want) int64 { return store.Hash(w.Endpoint) }),
		"numbers":   column(wants, func(w store.Want) int64 { return int64(w.N) }),
		"suspects":  column(wants, func(w store.Want) bool { return w.Suspects }),
	})
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
		case rowRemaining:
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

func (e *Engine) Renew(ctx context.Context, claims []store.Lease) ([]store.LostLease, error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	sent, began := e.cfg.Now(), time.Now()
	rows, err := queryRows(ctx, e.workers, renewQuery, pgx.NamedArgs{
		"process": e.process, "lease": int64(e.cfg.lease),
		"ids":    column(claims, func(h store.Lease) pgtype.UUID { return uuidOf(h.ID) }),
		"tokens": column(claims, func(h store.Lease) int64 { return h.Token }),
	})
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
	err = e.workers.QueryRow(ctx, sweepQuery, pgx.NamedArgs{
		"process": e.process, "before": pgtype.UUID{Bytes: before, Valid: true}, "keep_count": int64(r.Count), "rows": int64(r.Rows),
	}).Scan(&n)
	if err != nil {
		return false, e.failed("remove deliveries from the database", err)
	}
	return n == int64(r.Rows), nil
}

func (e *Engine) DiscardAll(reason string) (n int, err error) {
	for {
		ctx, cancel := context.WithTimeout(e.life, workFor)
		rows, err := e.workers.Query(ctx, query("unfinished_ids"))
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
