package postgres

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

var (
	connectQuery  = query("connect")
	findEndsQuery = query("find_ends")
	resultsQuery  = query("results")
)

// writer is the connection that stores.
type writer struct {
	conn   *pgx.Conn
	epoch  int64 // tells its commits from those of earlier connections
	stored int64 // number of the last batch that an earlier connection has stored
	// warned is set when the server warned of something. It does so where a commit did not wait for its standby to the end:
	// the commit is done and can be seen, but would be lost with the server.
	warned bool
}

// connectWriter makes a connection that stores. What an earlier one may still be storing is waited for or refused, so that
// from then on it is known what became of it.
func (e *Engine) connectWriter(ctx context.Context) (_ *writer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectFor)
	defer cancel()
	w := &writer{}
	conf := e.conf.Copy()
	conf.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			w.warned = true
		}
	}
	if w.conn, err = pgx.ConnectConfig(ctx, conf); err != nil {
		return nil, err
	}
	if err := e.fence(ctx, w); err != nil {
		return nil, errors.Join(err, e.closeConn(w.conn))
	}
	return w, nil
}

// fence keeps earlier connections of this process from storing, and takes back arrivals that were answered with an error.
// When it returns, all that can be seen on the server is where a commit must be.
func (e *Engine) fence(ctx context.Context, w *writer) error {
	e.mu.Lock()
	forgotten := maps.Clone(e.forgotten)
	e.mu.Unlock()
	var ids []pgtype.UUID
	var tokens []int64
	for _, id := range slices.SortedFunc(maps.Keys(forgotten), ulid.ULID.Compare) {
		ids, tokens = append(ids, uuidOf(id)), append(tokens, forgotten[id])
	}
	for w.warned = true; w.warned; {
		w.warned = false
		var stored int64
		err := w.conn.QueryRow(ctx, connectQuery, pgx.NamedArgs{"sync": e.sync, "process": e.process, "ids": ids, "tokens": tokens}).Scan(&w.epoch, &stored)
		if err != nil {
			return err
		}
		w.stored = max(w.stored, stored)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range forgotten {
		delete(e.forgotten, id)
	}
	return nil
}

// keepWriter connects again whenever the connection that stores is lost.
func (e *Engine) keepWriter() {
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for {
		select {
		case <-e.life.Done():
			return
		case <-e.seek:
		}
		for wait := reconnectFrom; ; wait = min(2*wait, reconnectTo) {
			w, err := e.connectWriter(e.life)
			if err == nil {
				e.readers.Reset() // they may still be at a server that was left
				e.workers.Reset()
				e.mu.Lock()
				e.writer, e.down = w, nil
				close(e.found)
				e.mu.Unlock()
				break
			}
			if e.life.Err() != nil {
				return
			}
			e.mu.Lock()
			e.down = e.failed("connect to the database", err)
			e.mu.Unlock()
			pause.Reset(wait)
			select {
			case <-e.life.Done():
				return
			case <-pause.C:
			}
		}
	}
}

// giveUp lets go of a connection because of err, and has a new one made.
func (e *Engine) giveUp(w *writer, err error) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.conn.Close(ended) // without a farewell, for which the server may keep us waiting
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.writer != w {
		return
	}
	e.writer, e.down = nil, err
	e.found = make(chan struct{})
	e.seek <- struct{}{} // has room: keepWriter has taken the last one before it set e.writer
}

// takeWriter returns the connection that stores, or at once why there is none.
func (e *Engine) takeWriter() (*writer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.writer, e.down
}

// awaitWriter waits for a new connection that stores.
func (e *Engine) awaitWriter(ctx context.Context) (*writer, error) {
	e.mu.Lock()
	found := e.found
	e.mu.Unlock()
	select {
	case <-found:
		return e.takeWriter()
	case <-ctx.Done():
		_, err := e.takeWriter()
		return nil, err
	}
}

// Commit implements store.Engine. A commit whose answer was lost is looked up on the next connection, and made again if it is not
// there; the number of its batch tells.
func (e *Engine) Commit(b *store.Batch) error {
	if b.Empty() {
		return nil
	}
	if len(b.Starts) > 0 {
		return errors.New("start deliveries: where they are shared, claim does that")
	}
	ctx, cancel := context.WithTimeout(e.life, e.cfg.tries)
	defer cancel()
	w, err := e.takeWriter()
	if err != nil {
		return err
	}
	e.mu.Lock()
	late := len(e.forgotten) > 0
	e.batch++
	c := e.encode(b, e.batch)
	e.mu.Unlock()
	if late {
		if err := e.fence(ctx, w); err != nil {
			err = e.failed("store deliveries in the database", err)
			e.giveUp(w, err)
			return err
		}
	}
	for tries := 1; ; tries++ {
		rows, err := e.try(ctx, w, c)
		if err == nil {
			e.apply(b, c, rows)
			e.findEnds(ctx, w, b.Ends)
			return nil
		}
		var pg *pgconn.PgError
		isSQL := errors.As(err, &pg) && !w.conn.IsClosed()
		if isSQL && isCollision(pg.Code) && e.pauseAfter(ctx, tries) {
			continue
		}
		err = e.failed("store deliveries in the database", err)
		if isSQL && pg.Code != "25006" && pg.Code != "HH001" {
			return err
		}
		e.giveUp(w, err)
		w, _ = e.awaitWriter(ctx)
		if w == nil {
			e.mu.Lock()
			for _, a := range b.Arrivals {
				e.unsure[a.Stored.ULID] = a.Stored.Token
			}
			e.mu.Unlock()
			return err
		}
		if w.stored == c.number {
			if rows, err = e.results(ctx, w); err == nil {
				e.apply(b, c, rows)
				return nil
			}
		}
	}
}

// isCollision reports whether a commit failed because another process's had what it wanted: 55P03 where it did not wait for
// that, 40P01 where both waited.
func isCollision(code string) bool { return code == "55P03" || code == "40P01" || code == "40001" }

// pauseAfter lets the commit go first that this process's one has collided with. It is false when there is no time left.
func (e *Engine) pauseAfter(ctx context.Context, tries int) bool {
	most := min(time.Millisecond<<min(tries, 6), collisionPause)
	pause := time.NewTimer(time.Millisecond + rand.N(most))
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-pause.C:
		return true
	}
}

// try makes a commit, and sees to it that it is where a commit must be.
func (e *Engine) try(ctx context.Context, w *writer, c *commitCall) ([]row, error) {
	w.warned = false
	c.epoch = w.epoch
	rows, err := queryRows(ctx, w.conn, commitQuery, c.args()...)
	if err == nil && w.warned {
		err = e.fence(ctx, w)
	}
	return rows, err
}

// findEnds looks for outcomes whose claims are gone because a commit that was given up has stored them after all: a server that
// stands still does so when it goes on.
func (e *Engine) findEnds(ctx context.Context, w *writer, ends []*store.End) {
	var lost []*store.End
	for _, k := range ends {
		if k.Lost && k.Attempt.N > 0 {
			lost = append(lost, k)
		}
	}
	if lost == nil {
		return
	}
	rows, err := w.conn.Query(ctx, findEndsQuery, pgx.NamedArgs{
		"ids":       column(lost, func(k *store.End) pgtype.UUID { return uuidOf(k.ID) }),
		"numbers":   column(lost, func(k *store.End) int64 { return int64(k.Attempt.N) }),
		"started":   column(lost, func(k *store.End) int64 { return nanos(k.Attempt.Started) }),
		"durations": column(lost, func(k *store.End) int64 { return int64(k.Attempt.Duration) }),
	})
	var places []int64
	if err == nil {
		places, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		e.cfg.Warn(e.failed("look in the database for outcomes that may be stored", err))
		return
	}
	for _, place := range places {
		lost[place-1].Lost = false
	}
}

// results returns what the last commit returned.
func (e *Engine) results(ctx context.Context, w *writer) ([]row, error) {
	return queryRows(ctx, w.conn, resultsQuery, pgx.NamedArgs{"process": e.process})
}

// Forget implements store.Engine. Only what a commit without an answer took along may be stored all the same.
func (e *Engine) Forget(ids []ulid.ULID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		if token, ok := e.unsure[id]; ok {
			e.forgotten[id] = token
		}
	}
	clear(e.unsure)
}
