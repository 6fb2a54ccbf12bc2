package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	defaultLease   = 10 * time.Second
	commitFor      = 4 * time.Second        // the limit for a commit, including new connections and tries
	connectFor     = 3 * time.Second        // the limit for one try to connect
	workFor        = 4 * time.Second        // the limit for a claim, a renewal, a notification or a sweep
	readFor        = 30 * time.Second       // the limit for a query
	farewellFor    = time.Second            // the limit for closing all connections in order
	reconnectFrom  = 100 * time.Millisecond // the pause after the first failed try to connect; it doubles with each
	reconnectTo    = 2 * time.Second        // the longest such pause
	maxSkew        = time.Second            // the difference of the clocks from which on Open warns
	collisionPause = 50 * time.Millisecond  // the longest pause before a commit that collided is tried again
)

// Config configures an Engine.
type Config struct {
	// Warn is called with each error of background work. It must neither block nor call the Engine.
	Warn func(error)
	// Now is the clock of this machine. Default time.Now.
	Now func() time.Time

	lease time.Duration // 0 for defaultLease
	tries time.Duration // the limit for a commit; 0 for commitFor
}

var (
	_ store.Engine  = (*Engine)(nil)
	_ store.Sharing = (*Engine)(nil)
)

// Engine keeps deliveries in a PostgreSQL database, which any number of processes may share.
//
// One connection of each process stores batches. A batch is one call of a function, so a commit takes one round trip. Only the connection
// that listens has state beyond a transaction. So everything else works through a pooler that gives each transaction another connection.
type Engine struct {
	*database
	*writers
	*claims
	*hints
	*reads
}

// Open connects to the database at url, migrates its schema and registers this process.
func Open(ctx context.Context, url string, cfg Config) (_ *Engine, err error) {
	if cfg.lease == 0 {
		cfg.lease = defaultLease
	}
	if cfg.tries == 0 {
		cfg.tries = commitFor
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	db := newDatabase(cfg)
	e := &Engine{database: db, writers: newWriters(db), reads: &reads{db: db}}
	e.hints = newHints(db, e.reads)
	e.claims = &claims{db: db, hints: e.hints}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if err := db.configure(url); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, db.conf)
	if err != nil {
		return nil, db.failed("connect to the database", err)
	}
	err = e.join(ctx, conn)
	if err = errors.Join(err, db.closeConn(conn)); err != nil {
		return nil, err
	}
	e.first.process, e.second.process = db.process, -db.process
	if e.first.writer, err = e.first.connectWriter(ctx); err != nil {
		return nil, db.failed("connect to the database", err)
	}
	e.second.seek <- struct{}{} // keepWriter connects it, so that a start does not wait for it
	e.good.Store(time.Now().UnixNano())
	e.renewed.Store(time.Now().UnixNano())
	db.tasks.Go(e.first.keepWriter)
	db.tasks.Go(e.second.keepWriter)
	db.tasks.Go(e.teller)
	db.tasks.Go(e.keepVacuumed)
	return e, nil
}

// join prepares the database and counts the other processes.
func (e *Engine) join(ctx context.Context, conn *pgx.Conn) error {
	if err := e.prepare(ctx, conn); err != nil {
		return err
	}
	var others int64
	if err := conn.QueryRow(ctx, query("others"), pgx.NamedArgs{"process": e.process}).Scan(&others); err != nil {
		return e.failed("look for other processes", err)
	}
	e.others.Store(others)
	return nil
}

// DiscardAll implements store.Engine.
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

// Close implements store.Engine.
func (e *Engine) Close() error {
	e.end()
	closed := make(chan struct{})
	var patience sync.WaitGroup
	patience.Go(func() {
		timer := time.NewTimer(farewellFor)
		defer timer.Stop()
		select {
		case <-closed:
		case <-timer.C:
			e.conns.cut()
		}
	})
	defer func() { close(closed); patience.Wait() }()
	e.tasks.Wait()
	var err error
	for _, cs := range []*commits{e.second, e.first} {
		err = errors.Join(err, cs.close(cs == e.first))
	}
	if e.readers != nil {
		e.readers.Close()
	}
	if e.workers != nil {
		e.workers.Close()
	}
	return err
}
