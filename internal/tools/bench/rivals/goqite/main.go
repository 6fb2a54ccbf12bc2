// Command goqite stores deliveries as jobs of goqite on SQLite and handles them. Its arguments are the host:port to listen on, the file of
// the database, which it makes, and a file with goqite's schema.
package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"maragu.dev/goqite"
	"maragu.dev/goqite/jobs"
	_ "modernc.org/sqlite"

	"github.com/hubhook/hubhook/internal/tools/bench/rivals"
)

func main() { rivals.Main(open, 1) }

const job = "delivery"

type queue struct {
	sends, runs *sql.DB
	jobs        *goqite.Queue
	stored      atomic.Int64
	end         func() // of the runner
	ended       chan struct{}
}

// open makes a database and starts goqite's runner, with the settings that were the fastest here. Sending has a connection whose commits
// are synced, and the runner has another one, whose commits are not: after a power cut a job may run again, as a delivery of hubhook may.
func open(ctx context.Context, args []string, t *rivals.Tally) (_ rivals.Queue, err error) {
	if len(args) != 2 {
		return nil, errors.New("want the files of the database and of the schema")
	}
	schema, err := os.ReadFile(args[1])
	if err != nil {
		return nil, err
	}
	q := &queue{ended: make(chan struct{})}
	if q.sends, err = connect(args[0], "full"); err != nil {
		return nil, err
	}
	if _, err := q.sends.ExecContext(ctx, string(schema)); err != nil {
		return nil, errors.Join(err, q.sends.Close())
	}
	if q.runs, err = connect(args[0], "normal"); err != nil {
		return nil, errors.Join(err, q.sends.Close())
	}
	const timeout = time.Minute // no delivery is run twice on a busy machine
	jobsOn := func(db *sql.DB) *goqite.Queue {
		return goqite.New(goqite.NewOpts{DB: db, Name: "deliveries", Timeout: timeout})
	}
	q.jobs = jobsOn(q.sends)
	runner := jobs.NewRunner(jobs.NewRunnerOpts{Queue: jobsOn(q.runs), Limit: 16, PollInterval: time.Millisecond, Extend: timeout})
	runner.Register(job, func(_ context.Context, body []byte) error { return t.Handle(body) })
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	q.end = end
	go func() {
		defer close(q.ended)
		runner.Start(running)
	}()
	return q, nil
}

// connect opens a database with one connection, as goqite's documentation has it.
func connect(file, synchronous string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous("+synchronous+")")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func (q *queue) Store(ctx context.Context, bodies ...[]byte) error {
	tx, err := q.sends.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		if _, err := jobs.CreateTx(ctx, tx, q.jobs, job, goqite.Message{Body: body}); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	q.stored.Add(int64(len(bodies)))
	return nil
}

// Recorded counts the jobs that are gone, since goqite removes a job once its handler has succeeded.
func (q *queue) Recorded(ctx context.Context) (int64, error) {
	stored, left := q.stored.Load(), int64(0)
	err := q.sends.QueryRowContext(ctx, "SELECT count(*) FROM goqite").Scan(&left)
	return stored - left, err
}

func (q *queue) Close(context.Context) error {
	q.end()
	<-q.ended
	return errors.Join(q.sends.Close(), q.runs.Close())
}
