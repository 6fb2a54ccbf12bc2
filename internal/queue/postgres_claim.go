package queue

import (
	"context"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"
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

func (e *postgresEngine) claim(ctx context.Context, wants []want) ([]*stored, pending, error) {
	left := pending{due: map[string]bool{}, suspects: map[string]bool{}, oldest: map[string]time.Time{}}
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	names := map[int64]string{}
	for _, w := range wants {
		names[keyHash(w.endpoint)] = w.endpoint
	}
	e.mu.Lock()
	maps.Copy(e.served, names)
	e.mu.Unlock()
	// What a server that stands still has been sent it does when it goes on, before the owners have renewed: too late to take over.
	lastly := e.cfg.now().Add(e.skew() + e.cfg.lease/4).UnixNano()
	rows, err := queryRows(ctx, e.workers, "SELECT * FROM hubhook.claim_1($1, $2 AND hubhook.now_1() < $12, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		e.process, e.mayTakeOver(), aloneAfter, deadAfter, diedReason, interruptedText,
		column(wants, func(w want) int64 { return keyHash(w.endpoint) }),
		column(wants, func(w want) int64 { return int64(w.n) }),
		column(wants, func(w want) bool { return w.suspects }),
		newToken(), int64(e.cfg.lease), lastly)
	if err != nil {
		return nil, left, e.failed("claim deliveries from the database", err)
	}
	var claimed []*stored
	var taken []ulid.ULID
	for i := range rows {
		r := &rows[i]
		switch r.kind {
		case rowClaimed:
			s, err := e.stored(r)
			if err != nil {
				// Its lease ends, and it is interrupted, until it is dead: nobody can read it.
				e.cfg.warn(e.failed("read delivery "+ulid.ULID(r.id).String(), err))
				continue
			}
			claimed = append(claimed, s)
		case rowEndpoint:
			if r.place != 0 {
				left.due[names[int64(r.endpoint)]] = true
			}
		case rowSuspects:
			left.suspects[e.endpointName(int64(r.endpoint))] = true
		case rowOldest:
			if id := ulid.ULID(r.id); id != (ulid.ULID{}) {
				left.oldest[e.endpointName(int64(r.endpoint))] = ulid.Time(id.Time())
			}
		case rowPending:
			left.waiting = int(r.place)
			if r.at != 0 {
				left.next = time.Unix(0, int64(r.at))
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
func (e *postgresEngine) mayTakeOver() bool {
	since, last := time.Unix(0, e.good.Load()), time.Unix(0, e.renewed.Load())
	return time.Since(last) < e.cfg.lease && last.Sub(since) > e.cfg.lease
}

// narrow makes a stored delivery of a row without content.
func (e *postgresEngine) narrow(r *postgresRow) *stored {
	s := &stored{
		Delivery: e.delivery(r), id: ulid.ULID(r.id), failures: int(r.failures), interruptions: int(r.interruptions),
		serial: int64(r.serial), burst: idKey(ulid.ULID(r.burst)), token: int64(r.token),
	}
	if r.started != 0 {
		s.started = time.Unix(0, int64(r.started))
	}
	for _, m := range r.merged {
		s.merged = append(s.merged, ulid.ULID(m.Bytes).String())
	}
	return s
}

// stored makes a stored delivery of a row with content.
func (e *postgresEngine) stored(r *postgresRow) (_ *stored, err error) {
	s := e.narrow(r)
	if s.header, err = unpackHeader(r.header); err != nil {
		return nil, err
	}
	s.body, err = unpackBody(r.body, int64(r.encoding))
	return s, err
}

func (e *postgresEngine) renew(ctx context.Context, claims []held) ([]lost, error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	sent, began := e.cfg.now(), time.Now()
	rows, err := queryRows(ctx, e.workers, "SELECT * FROM hubhook.renew_1($1, $2, $3, $4)", e.process,
		column(claims, func(h held) pgtype.UUID { return uuidOf(h.id) }),
		column(claims, func(h held) int64 { return h.token }), int64(e.cfg.lease))
	if err != nil {
		e.renewed.Store(0)
		return nil, e.failed("renew the claims in the database", err)
	}
	now := time.Now().Round(0) // without the monotonic clock, which may stand still when a machine does
	if now.Sub(time.Unix(0, e.renewed.Swap(now.UnixNano()))) > e.cfg.lease {
		e.good.Store(now.UnixNano())
	}
	var gone []lost
	for i := range rows {
		r := &rows[i]
		switch r.kind {
		case rowGone:
			l := lost{id: ulid.ULID(r.id), discarded: r.received != 0 && stateNames[r.state] == Discarded}
			if l.discarded {
				l.reason = unescapeText(string(r.reason))
			}
			gone = append(gone, l)
		case rowProcess:
			e.others.Store(int64(r.place))
			e.noteClock(sent, time.Since(began), int64(r.at))
		}
	}
	return gone, nil
}

// sweep implements engine. Of processes that do so at the same time, one does it.
func (e *postgresEngine) sweep(ctx context.Context, r retention) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	var before ulid.ULID
	if err := before.SetTime(uint64(max(0, r.before.UnixMilli()))); err != nil {
		return false, err
	}
	var n int64
	err = e.workers.QueryRow(ctx, "SELECT hubhook.sweep_1($1, $2, $3, $4)", e.process,
		pgtype.UUID{Bytes: before, Valid: true}, int64(r.count), int64(r.rows)).Scan(&n)
	if err != nil {
		return false, e.failed("remove deliveries from the database", err)
	}
	return n == int64(r.rows), nil
}

func (e *postgresEngine) discardAll(reason string) (n int, err error) {
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
		b := &batch{}
		for _, id := range ids {
			b.discards = append(b.discards, &discarding{id: id.Bytes, reason: reason})
		}
		if err := e.commit(b); err != nil {
			return n, err
		}
		for _, d := range b.discards {
			if d.d != nil && !d.from.Finished() {
				n++
			}
		}
	}
}
