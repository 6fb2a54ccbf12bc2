package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
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

// writer is the connection that stores batches.
type writer struct {
	conn   *pgx.Conn
	epoch  int64 // tells its commits from those of earlier connections
	stored int64 // number of the last batch that an earlier connection stored
	// warned is set by a warning of the server. The server warns when a commit was interrupted while it waited for its standby. Such a
	// commit is visible, but would be lost with the server.
	warned bool

	// For store.
	statement      string // the name of its statement; "" if the session has none
	statements     int    // how many names it has used; the session may still have a statement that seems lost
	ends, arrivals rows   // parameters of the call under way
}

// commits stores batches one after the other, and keeps a connection for that.
type commits struct {
	db      *database
	process int32         // the number of this process, negative for its second connection: each has rows of its own on the server
	turn    chan struct{} // has an item while nobody uses the connection

	mu        sync.Mutex
	writer    *writer             // nil while there is no connection
	down      error               // why there is none
	found     chan struct{}       // closed when there is one again
	seek      chan struct{}       // asks keepWriter for one
	batch     int64               // number of the last batch; not guarded, since only commit uses it
	wary      int                 // so many commits use commit_4 without trying store_4 first; not guarded either
	unsure    map[ulid.ULID]int64 // tokens of arrivals that may be stored: their commit had no answer
	forgotten map[ulid.ULID]int64 // those of them that fence has to remove
}

func newCommits(db *database) *commits {
	cs := &commits{
		db: db, turn: make(chan struct{}, 1), found: make(chan struct{}), seek: make(chan struct{}, 1),
		unsure: map[ulid.ULID]int64{}, forgotten: map[ulid.ULID]int64{},
	}
	cs.turn <- struct{}{}
	return cs
}

// connectWriter opens a connection that stores. The server waits for a commit of an earlier connection, or refuses it. From then on its
// outcome is known.
func (cs *commits) connectWriter(ctx context.Context) (_ *writer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectFor)
	defer cancel()
	w := &writer{}
	conf := cs.db.conf.Copy()
	conf.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			w.warned = true
		}
	}
	if w.conn, err = pgx.ConnectConfig(ctx, conf); err != nil {
		return nil, err
	}
	if err := cs.fence(ctx, w); err != nil {
		return nil, errors.Join(err, cs.db.closeConn(w.conn))
	}
	return w, nil
}

// fence keeps earlier connections of this process from storing, and removes arrivals whose senders got an error. When it returns, all that is
// visible on the server is also as safe as a commit must be: on disk, and on a standby if the server has one to wait for.
func (cs *commits) fence(ctx context.Context, w *writer) error {
	cs.mu.Lock()
	forgotten := maps.Clone(cs.forgotten)
	cs.mu.Unlock()
	var ids []pgtype.UUID
	var tokens []int64
	for _, id := range slices.SortedFunc(maps.Keys(forgotten), ulid.ULID.Compare) {
		ids, tokens = append(ids, uuidOf(id)), append(tokens, forgotten[id])
	}
	for w.warned = true; w.warned; {
		w.warned = false
		var stored int64
		err := w.conn.QueryRow(ctx, connectQuery, pgx.NamedArgs{"sync": cs.db.sync, "process": cs.process, "ids": ids, "tokens": tokens}).Scan(&w.epoch, &stored, &w.ends.oid, &w.arrivals.oid)
		if err != nil {
			return err
		}
		w.stored = max(w.stored, stored)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for id := range forgotten {
		delete(cs.forgotten, id)
	}
	return nil
}

// keepWriter connects again whenever the connection that stores is lost.
func (cs *commits) keepWriter() {
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for {
		select {
		case <-cs.db.life.Done():
			return
		case <-cs.seek:
		}
		for wait := reconnectFrom; ; wait = min(2*wait, reconnectTo) {
			w, err := cs.connectWriter(cs.db.life)
			if err == nil {
				cs.db.readers.Reset() // their connections may lead to the previous server
				cs.db.workers.Reset()
				cs.mu.Lock()
				cs.writer, cs.down = w, nil
				close(cs.found)
				cs.mu.Unlock()
				break
			}
			if cs.db.life.Err() != nil {
				return
			}
			cs.mu.Lock()
			cs.down = cs.db.failed("connect to the database", err)
			cs.mu.Unlock()
			pause.Reset(wait)
			select {
			case <-cs.db.life.Done():
				return
			case <-pause.C:
			}
		}
	}
}

// giveUp closes a connection because of err, and asks for a new one.
func (cs *commits) giveUp(w *writer, err error) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.conn.Close(ended) // at once: a stalled server would not answer a farewell
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.writer != w {
		return
	}
	cs.writer, cs.down = nil, err
	cs.found = make(chan struct{})
	cs.seek <- struct{}{} // has room: keepWriter has taken the last one before it set cs.writer
}

// takeWriter returns the connection that stores, or the reason why there is none. It does not wait.
func (cs *commits) takeWriter() (*writer, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.writer, cs.down
}

// awaitWriter waits for a new connection that stores.
func (cs *commits) awaitWriter(ctx context.Context) (*writer, error) {
	cs.mu.Lock()
	found := cs.found
	cs.mu.Unlock()
	select {
	case <-found:
		return cs.takeWriter()
	case <-ctx.Done():
		_, err := cs.takeWriter()
		return nil, err
	}
}

// settle removes the arrivals that are forgotten. Its caller has the turn.
func (cs *commits) settle(ctx context.Context) error {
	if !cs.isLate() {
		return nil
	}
	w, err := cs.takeWriter()
	if err != nil {
		return err
	}
	if err := cs.fence(ctx, w); err != nil {
		err = cs.db.failed("store deliveries in the database", err)
		cs.giveUp(w, err)
		return err
	}
	return nil
}

// isLate reports whether there are forgotten arrivals to remove.
func (cs *commits) isLate() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.forgotten) > 0
}

// commit stores a batch. If the answer is lost, it asks the next connection for the number of the last batch, and commits again if that is
// an earlier one. Its caller has the turn.
func (cs *commits) commit(ctx context.Context, b *store.Batch) error {
	w, err := cs.takeWriter()
	if err != nil {
		return err
	}
	cs.batch++
	c := cs.encode(b, cs.batch)
	if cs.wary > 0 {
		cs.wary--
		c.plain = false
	}
	for tries := 1; ; tries++ {
		rows, err := cs.try(ctx, w, c)
		if err == nil {
			cs.apply(b, c, rows)
			cs.findEnds(ctx, w, b.Ends)
			return nil
		}
		var pg *pgconn.PgError
		isSQL := errors.As(err, &pg) && !w.conn.IsClosed()
		if isSQL && c.named && isStatementLost(pg.Code) {
			cs.db.sessions.Store(false) // until the next trial
			c.named, w.statement = false, ""
			continue
		}
		if isSQL && pg.Code == "HH003" {
			if c.plain && !c.lone {
				cs.wary = waryFor
			}
			c.lone, c.plain = false, false
			continue
		}
		if isSQL && isCollision(pg.Code) && cs.pauseAfter(ctx, tries) {
			continue
		}
		if isSQL && pg.Code == "HH002" {
			return fmt.Errorf("store deliveries in the database: %s: %w", pg.Message, store.ErrMarkMoved)
		}
		err = cs.db.failed("store deliveries in the database", err)
		if isSQL && pg.Code != "25006" && pg.Code != "HH001" {
			return err
		}
		cs.giveUp(w, err)
		w, _ = cs.awaitWriter(ctx)
		if w == nil {
			cs.mu.Lock()
			for _, a := range b.Arrivals {
				// One with a mark stays if it is stored: its mark says so. Its maker sees that when it tries again.
				if a.Mark == nil {
					cs.unsure[a.Stored.ULID] = a.Stored.Token
				}
			}
			cs.mu.Unlock()
			return err
		}
		if w.stored == c.number {
			if rows, err = cs.results(ctx, w); err == nil {
				cs.apply(b, c, rows)
				return nil
			}
		}
	}
}

// isCollision reports whether a commit failed because another process had locked a row that it needs. The codes are 55P03 (it did not wait
// for the lock), 40P01 (deadlock) and 40001 (serialization failure).
func isCollision(code string) bool { return code == "55P03" || code == "40P01" || code == "40001" }

// isStatementLost reports whether a commit failed because its connection has lost a named statement. The pooler behind the URL may
// be another one by now. The codes are 26000 (no such statement), 42P05 (another one has its name) and 0A000 (its result has another type).
func isStatementLost(code string) bool { return code == "26000" || code == "42P05" || code == "0A000" }

// pauseAfter waits, so that the other process's commit can end first. It returns false if ctx ended before.
func (cs *commits) pauseAfter(ctx context.Context, tries int) bool {
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

// try commits once. After a warning it also fences, which makes sure that the commit is safe.
func (cs *commits) try(ctx context.Context, w *writer, c *commitCall) ([]row, error) {
	w.warned = false
	c.epoch = w.epoch
	call := w.call
	switch {
	case c.lone:
		call = w.arrive
	case c.plain:
		call = w.store
	case len(c.marks) > 0:
		call = w.callWithMarks
	}
	rows, err := call(ctx, c)
	if err == nil && w.warned {
		err = cs.fence(ctx, w)
	}
	return rows, err
}

func (w *writer) call(ctx context.Context, c *commitCall) ([]row, error) {
	return queryRows(ctx, w.conn, commitQuery, c.inMode(c.args())...)
}

// arrive stores the only arrival of a commit.
func (w *writer) arrive(ctx context.Context, c *commitCall) ([]row, error) {
	_, err := w.conn.Exec(ctx, arriveQuery, c.inMode(c.arrival())...)
	return nil, err
}

// findEnds looks for outcomes that an earlier commit of this process has stored, though it had no answer: a stalled server runs such a commit
// when it resumes. Their claims are gone, but the outcomes are not lost.
func (cs *commits) findEnds(ctx context.Context, w *writer, ends []*store.End) {
	var lost []*store.End
	for _, end := range ends {
		if end.Lost && end.Attempt.N > 0 {
			lost = append(lost, end)
		}
	}
	if lost == nil {
		return
	}
	rows, err := w.conn.Query(ctx, findEndsQuery, pgx.NamedArgs{
		"ids":       column(lost, func(end *store.End) pgtype.UUID { return uuidOf(end.ID) }),
		"numbers":   column(lost, func(end *store.End) int64 { return int64(end.Attempt.N) }),
		"started":   column(lost, func(end *store.End) int64 { return nanos(end.Attempt.Started) }),
		"durations": column(lost, func(end *store.End) int64 { return int64(end.Attempt.Duration) }),
	})
	var places []int64
	if err == nil {
		places, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		cs.db.cfg.Warn(cs.db.failed("look in the database for outcomes that may be stored", err))
		return
	}
	for _, place := range places {
		lost[place-1].Lost = false
	}
}

// results returns the results of this process's last commit, which the server keeps.
func (cs *commits) results(ctx context.Context, w *writer) ([]row, error) {
	return queryRows(ctx, w.conn, resultsQuery, pgx.NamedArgs{"process": cs.process})
}

// forget makes settle remove those of the given arrivals that may be stored.
func (cs *commits) forget(ids []ulid.ULID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, id := range ids {
		if token, ok := cs.unsure[id]; ok {
			cs.forgotten[id] = token
			delete(cs.unsure, id)
		}
	}
}

// close ends the connection. If it is the last one, it tells the server first that this process is gone.
func (cs *commits) close(last bool) error {
	cs.mu.Lock()
	w := cs.writer
	cs.writer, cs.down = nil, store.ErrClosed
	cs.mu.Unlock()
	if w == nil {
		return nil
	}
	if last {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// Other processes then no longer count this one. Should this fail, they stop counting it after 30 s.
		_, _ = w.conn.Exec(ctx, query("deregister"), pgx.NamedArgs{"process": cs.process})
	}
	return cs.db.closeConn(w.conn)
}
