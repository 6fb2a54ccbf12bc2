package postgres

import (
	"context"
	"sync/atomic"
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

// Claim implements store.Sharing.
func (c *claims) Claim(ctx context.Context, wants []store.Want) ([]*store.Stored, store.Remaining, error) {
	left := store.Remaining{Due: map[string]bool{}, Suspects: map[string]bool{}, Oldest: map[string]time.Time{}}
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	names := map[int64]string{}
	for _, w := range wants {
		names[store.Hash(w.Endpoint)] = w.Endpoint
	}
	c.db.names.noteServed(names)
	rows, err := queryRows(ctx, c.db.workers, claimQuery, pgx.NamedArgs{
		"process": c.db.process, "lease": int64(c.db.cfg.lease), "first_token": store.NewToken(),
		"take_over": c.mayTakeOver(), "take_over_until": c.db.cfg.Now().Add(c.db.Skew() + c.db.cfg.lease/4).UnixNano(),
		"alone_after": store.AloneAfter, "dead_after": store.DeadAfter, "died": store.DiedReason, "interrupted": store.InterruptedText,
		"endpoints": column(wants, func(w store.Want) int64 { return store.Hash(w.Endpoint) }),
		"numbers":   column(wants, func(w store.Want) int64 { return int64(w.N) }),
		"suspects":  column(wants, func(w store.Want) bool { return w.Suspects }),
	})
	if err != nil {
		return nil, left, c.db.failed("claim deliveries from the database", err)
	}
	var claimed []*store.Stored
	var taken []ulid.ULID
	for i := range rows {
		r := &rows[i]
		switch r.kind {
		case rowClaimed:
			s, err := c.db.stored(r)
			if err != nil {
				// No process can read this delivery. Its lease ends, which counts as an interruption, and after enough of these it is dead.
				c.db.cfg.Warn(c.db.failed("read delivery "+ulid.ULID(r.id).String(), err))
				continue
			}
			claimed = append(claimed, s)
		case rowEndpoint:
			if r.place != 0 {
				left.Due[names[int64(r.endpoint)]] = true
			}
		case rowSuspects:
			left.Suspects[c.db.endpointName(int64(r.endpoint))] = true
		case rowOldest:
			if id := ulid.ULID(r.id); id != (ulid.ULID{}) {
				left.Oldest[c.db.endpointName(int64(r.endpoint))] = ulid.Time(id.Time())
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
		c.hints.tellAll(taken)
	}
	return claimed, left, nil
}

// claims starts deliveries in this process, and renews the leases of those that run here.
type claims struct {
	db      *database
	hints   *hints
	renewed atomic.Int64 // when leases were last renewed, in Unix nanoseconds; 0 if the last try failed
	good    atomic.Int64 // since when no gap between renewals was longer than a lease, in Unix nanoseconds
	swept   swept        // only Sweep uses it
}

// swept is how far a sweep has come: the last delivery that was removed, and the end of the dedupe window of the last Webhook-Id. Both are
// NULL at its start.
type swept struct {
	delivery pgtype.UUID
	keep     pgtype.Int8
	began    time.Time
}

// sweepFor is how long a sweep goes on from where the step before has stopped. Then it begins anew, and finds the deliveries that were locked
// or unfinished when it passed them.
const sweepFor = time.Minute

// mayTakeOver reports whether this process may take over claims whose lease has ended. It may once its own renewals have succeeded for a
// whole lease, up to now. After the server or all machines stalled, the owners thus get time to renew their leases first.
func (c *claims) mayTakeOver() bool {
	since, last := time.Unix(0, c.good.Load()), time.Unix(0, c.renewed.Load())
	return time.Since(last) < c.db.cfg.lease && last.Sub(since) > c.db.cfg.lease
}

// Renew implements store.Sharing.
func (c *claims) Renew(ctx context.Context, claims []store.Lease) ([]store.LostLease, error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	sent, began := c.db.cfg.Now(), time.Now()
	rows, err := queryRows(ctx, c.db.workers, renewQuery, pgx.NamedArgs{
		"process": c.db.process, "lease": int64(c.db.cfg.lease),
		"ids":    column(claims, func(h store.Lease) pgtype.UUID { return uuidOf(h.ID) }),
		"tokens": column(claims, func(h store.Lease) int64 { return h.Token }),
	})
	if err != nil {
		c.renewed.Store(0)
		return nil, c.db.failed("renew the claims in the database", err)
	}
	now := time.Now().Round(0) // without the monotonic clock, which may stop while a machine is suspended
	if now.Sub(time.Unix(0, c.renewed.Swap(now.UnixNano()))) > c.db.cfg.lease {
		c.good.Store(now.UnixNano())
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
			c.hints.others.Store(int64(r.place))
			c.db.clock.note(sent, time.Since(began), int64(r.at))
		}
	}
	return gone, nil
}

// Sweep implements store.Engine. If several processes sweep at the same time, one of them does the work.
func (c *claims) Sweep(ctx context.Context, r store.Retention) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	var before ulid.ULID
	if err := before.SetTime(uint64(max(0, r.Before.UnixMilli()))); err != nil {
		return false, err
	}
	from := c.swept
	c.swept = swept{}
	if time.Since(from.began) > sweepFor {
		from = swept{began: time.Now()}
	}
	var n int64
	to := swept{began: from.began}
	err = c.db.workers.QueryRow(ctx, sweepQuery, pgx.NamedArgs{
		"process": c.db.process, "before": pgtype.UUID{Bytes: before, Valid: true}, "keep_count": int64(r.Count), "rows": int64(r.Rows),
		"after": from.delivery, "kept": from.keep,
	}).Scan(&n, &to.delivery, &to.keep)
	if err != nil {
		return false, c.db.failed("remove deliveries from the database", err)
	}
	if more = n == int64(r.Rows); more {
		c.swept = to
	}
	return more, nil
}
