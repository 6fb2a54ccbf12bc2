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

func main() { rivals.Main(open) }

const job = "delivery"

type queue struct {
	db     *sql.DB
	jobs   *goqite.Queue
	stored atomic.Int64
	end    func() // of the runner
	ended  chan struct{}
}

// open makes a database and starts goqite's runner, with the settings that were the fastest here. One connection, as goqite's
// documentation has it, is faster than several that wait for each other's locks.
func open(ctx context.Context, args []string, t *rivals.Tally) (_ rivals.Queue, err error) {
	if len(args) != 2 {
		return nil, errors.New("want two arguments, the files of the database and of the schema")
	}
	schema, err := os.ReadFile(args[1])
	if err != nil {
		return nil, err
	}
	q := &queue{ended: make(chan struct{})}
	q.db, err = sql.Open("sqlite", "file:"+args[0]+"?_txlock=immediate&_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, err
	}
	q.db.SetMaxOpenConns(1)
	if _, err := q.db.ExecContext(ctx, string(schema)); err != nil {
		return nil, errors.Join(err, q.db.Close())
	}
	const timeout = time.Minute // no delivery is run twice on a busy machine
	q.jobs = goqite.New(goqite.NewOpts{DB: q.db, Name: "deliveries", Timeout: timeout})
	runner := jobs.NewRunner(jobs.NewRunnerOpts{Queue: q.jobs, Limit: 16, PollInterval: time.Millisecond, Extend: timeout})
	runner.Register(job, func(_ context.Context, body []byte) error { return t.Handle(body) })
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	q.end = end
	go func() {
		defer close(q.ended)
		runner.Start(running)
	}()
	return q, nil
}

func (q *queue) Store(ctx context.Context, body []byte) error {
	if _, err := jobs.Create(ctx, q.jobs, job, goqite.Message{Body: body}); err != nil {
		return err
	}
	q.stored.Add(1)
	return nil
}

// Recorded counts the jobs that are gone, since goqite removes a job once its handler has succeeded.
func (q *queue) Recorded(ctx context.Context) (int64, error) {
	stored, left := q.stored.Load(), int64(0)
	err := q.db.QueryRowContext(ctx, "SELECT count(*) FROM goqite").Scan(&left)
	return stored - left, err
}

func (q *queue) Close(context.Context) error {
	q.end()
	<-q.ended
	return q.db.Close()
}
