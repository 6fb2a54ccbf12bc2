package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// storedSpan is how far back stored deliveries were received. It is shorter than retention.
const storedSpan = 100 * time.Hour

// measureStored measures what stored deliveries cost: time at the start, memory, and speed for new deliveries.
func (w *workshop) measureStored(ctx context.Context) ([]figure, error) {
	full, err := w.data("stored")
	if err != nil {
		return nil, err
	}
	if err := w.fill(ctx, full, w.lengths.stored); err != nil {
		return nil, fmt.Errorf("store %d deliveries: %w", w.lengths.stored, err)
	}
	figures, err := w.measureStoredAtRest(ctx, full)
	if err != nil {
		return nil, err
	}
	underLoad, err := w.measureStoredUnderLoad(ctx, full)
	return append(figures, underLoad...), err
}

// keepAll raises retention, so that hubhook removes none of the stored deliveries.
func (w *workshop) keepAll() int { return w.lengths.stored + 10_000_000 }

// fill stores n handled deliveries. It uses the queue directly, which takes a fraction of the time of HTTP.
func (w *workshop) fill(ctx context.Context, dir string, n int) (err error) {
	p, err := payload.Parse(w.payload)
	if err != nil {
		return fmt.Errorf("read the payload: %w", err)
	}
	senders := max(1, min(1024, n/20)) // at most twice a commit's batch, and few enough to keep the deliveries evenly spread
	first, step := time.Now().Add(-storedSpan), storedSpan/time.Duration(n)
	var sent atomic.Int64
	q, err := queue.Open(ctx, queue.Config{Dir: dir, KeepCount: w.keepAll(), MaxWaiting: 2 * senders,
		Now: func() time.Time { return first.Add(time.Duration(min(sent.Load(), int64(n))) * step) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	handle := func(context.Context, *queue.Claim) queue.Outcome { return queue.Outcome{} }
	if err := q.Start([]queue.Endpoint{{Name: "inbox", Handle: handle, Concurrency: senders, DedupeWindow: time.Hour}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for {
				i := sent.Add(1)
				if i > int64(n) {
					return
				}
				if i%int64(n/500+1) == 0 {
					w.progress("storing %d deliveries: %d", n, i)
				}
				id := fmt.Sprintf("%0*x", idDigits, 1<<62+i) // differs from every Webhook-Id of a load
				arrival := queue.Arrival{
					Endpoint: "inbox", WebhookID: id, Body: w.payload,
					Header: http.Header{"Content-Type": {"application/json"}, "X-Webhook-Secret": {"[secret]"}, "Webhook-Id": {id}},
					Scope:  string(p.Event.Scope), Action: string(p.Event.Action), RepoType: string(p.Repo.Type), RepoName: p.Repo.Name,
				}
				r, err := q.Accept(ctx, arrival)
				for errors.Is(err, queue.ErrFull) { // on a busy machine the handlers may lag behind
					select {
					case <-ctx.Done():
					case <-time.After(time.Millisecond):
					}
					r, err = q.Accept(ctx, arrival)
				}
				if err != nil {
					cancel(err)
					return
				}
				select { // what still waits at the end would not be started
				case <-r.Done():
				case <-ctx.Done():
				}
			}
		})
	}
	sending.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return q.Drain(ctx)
}

// measureStoredAtRest starts the binary with the full database, after it was stopped and after it was killed.
func (w *workshop) measureStoredAtRest(ctx context.Context, full string) ([]figure, error) {
	binary, err := w.build(ctx, "")
	if err != nil {
		return nil, err
	}
	empty, err := w.data("empty")
	if err != nil {
		return nil, err
	}
	start := func(data string) func() (*process, error) {
		return func() (*process, error) {
			return launchHubhook(ctx, binary, data, "HUBHOOK_KEEP_COUNT="+strconv.Itoa(w.keepAll()))
		}
	}
	var stopped, killed []float64
	for n := range w.slow {
		w.progress("starting with %d deliveries stored: %d of %d", w.lengths.stored, n+1, w.slow)
		for _, end := range []struct {
			of   func(*process) error
			took *[]float64 // time of the next start
		}{{(*process).stop, &stopped}, {(*process).kill, &killed}} {
			p, err := start(full)()
			if err != nil {
				return nil, err
			}
			_, err = p.ready(ctx)
			if err := errors.Join(err, end.of(p)); err != nil {
				return nil, err
			}
			took, err := timeStart(ctx, start(full))
			if err != nil {
				return nil, err
			}
			*end.took = append(*end.took, took)
		}
	}
	w.progress("memory with %d deliveries stored", w.lengths.stored)
	held, err := w.residentAtRest(ctx, start(full))
	if err != nil {
		return nil, err
	}
	heldEmpty, err := w.residentAtRest(ctx, start(empty))
	if err != nil {
		return nil, err
	}
	with := fmt.Sprintf("with %d stored", w.lengths.stored)
	underASecond := target{atMost: true, bound: 1000, unit: " ms"}
	started := func(what string, took []float64) figure {
		ms := median(took) / float64(time.Millisecond)
		return figure{what: what, hubhook: milliseconds(time.Duration(median(took))), target: underASecond.String(), short: underASecond.missed(ms)}
	}
	return []figure{
		started("start "+with, stopped),
		started("start "+with+", after kill -9", killed),
		{what: "memory after the start " + with, hubhook: mebibytes(held), against: "empty " + mebibytes(heldEmpty)},
		{what: "memory for each 100000 stored", hubhook: mebibytes((held - heldEmpty) * 100_000 / int64(w.lengths.stored))},
	}, nil
}

// measureStoredUnderLoad compares a hubhook with the full database with one whose database is empty when the rounds begin.
func (w *workshop) measureStoredUnderLoad(ctx context.Context, data string) (figures []figure, err error) {
	full, err := w.startHubhook(ctx, store{data: data, keepCount: w.keepAll()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, full.stop()) }()
	most := 0.0
	for _, t := range deliveryTargets {
		if t.connections > mostConnections {
			continue
		}
		rate, compared, err := w.compareStored(ctx, full, t.connections)
		if err != nil {
			return nil, err
		}
		most = max(most, rate)
		figures = append(figures, compared)
		if err := w.profiledRate(ctx, full, "stored", t.connections); err != nil {
			return nil, err
		}
	}
	empty, err := w.startHubhook(ctx, store{keepCount: w.keepAll()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, empty.stop()) }()
	half := fmt.Sprintf("with %d stored at %s, half of its most", w.lengths.stored, perSecond(most/2))
	latency, err := w.compareLatency(ctx, half, most/2, full, empty, "empty", target{})
	return append(figures, latency...), err
}

// compareStored also returns the deliveries a second of the hubhook with the full database.
func (w *workshop) compareStored(ctx context.Context, full *contender, connections int) (_ float64, _ figure, err error) {
	empty, err := w.startHubhook(ctx, store{keepCount: w.keepAll()})
	if err != nil {
		return 0, figure{}, err
	}
	defer func() { err = errors.Join(err, empty.stop()) }()
	what := fmt.Sprintf("with %d stored, %s", w.lengths.stored, counting(connections, "connection"))
	measured, err := w.takeTurns(what, full.gauge(ctx, connections), empty.gauge(ctx, connections))
	if err != nil {
		return 0, figure{}, err
	}
	return median(measured[0]), rounds{measured[0], measured[1]}.figure(what, "empty", atLeast(0.85), perSecond), nil
}
