// Command river stores deliveries as jobs of River on PostgreSQL and handles them. Its arguments are the host:port to listen on and the
// URL of an empty database.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/hubhook/hubhook/internal/tools/bench/rivals"
)

func main() { rivals.Main(open, 2) }

// delivery has the arguments of a job.
type delivery struct {
	Payload json.RawMessage `json:"payload"`
}

func (delivery) Kind() string { return "delivery" }

type worker struct {
	river.WorkerDefaults[delivery]
	tally *rivals.Tally
}

func (w *worker) Work(_ context.Context, job *river.Job[delivery]) error {
	return w.tally.Handle(job.Args.Payload)
}

type queue struct {
	pool        *pgxpool.Pool
	client      *river.Client[pgx.Tx]
	unsubscribe func()
	counting    sync.WaitGroup
	recorded    atomic.Int64
}

// open makes River's tables and starts a client, with the settings that were the fastest here. Everything else is River's default, LISTEN
// and NOTIFY and the removal of old jobs included.
func open(ctx context.Context, args []string, t *rivals.Tally) (_ rivals.Queue, err error) {
	if len(args) != 1 {
		return nil, errors.New("want one argument, the URL of a database")
	}
	config, err := pgxpool.ParseConfig(args[0])
	if err != nil {
		return nil, err
	}
	config.MaxConns = 8
	q := new(queue)
	if q.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			q.pool.Close()
		}
	}()
	driver := riverpgxv5.New(q.pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{tally: t})
	q.client, err = river.NewClient(driver, &river.Config{
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1000}},
		Workers:           workers,
		FetchCooldown:     10 * time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	// River drops events that do not fit into the channel.
	completed, unsubscribe := q.client.SubscribeConfig(&river.SubscribeConfig{ChanSize: 100_000, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	q.unsubscribe = unsubscribe
	q.counting.Go(func() {
		for range completed {
			q.recorded.Add(1)
		}
	})
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil {
		q.unsubscribe()
		q.counting.Wait()
		return nil, err
	}
	return q, nil
}

func (q *queue) Store(ctx context.Context, bodies ...[]byte) error {
	if len(bodies) == 1 {
		_, err := q.client.Insert(ctx, delivery{Payload: bodies[0]}, nil)
		return err
	}
	jobs := make([]river.InsertManyParams, len(bodies))
	for i, body := range bodies {
		jobs[i].Args = delivery{Payload: body}
	}
	_, err := q.client.InsertManyFast(ctx, jobs)
	return err
}

// Recorded counts the events that River sends once it has recorded a job as completed.
func (q *queue) Recorded(context.Context) (int64, error) { return q.recorded.Load(), nil }

func (q *queue) Close(ctx context.Context) error {
	err := q.client.Stop(ctx)
	q.unsubscribe()
	q.counting.Wait()
	q.pool.Close()
	return err
}
