package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

const (
	defaultKeepCount = 100_000 // of --keep-count
	// smallKeepCount is reached within seconds, so that hubhook soon has to remove as many deliveries as it accepts.
	smallKeepCount = 10_000
	// restTime is how long a hubhook may remove old deliveries after its turn, before the next one is loaded.
	restTime = time.Minute
)

// A keeper is a hubhook that keeps a number of finished deliveries.
type keeper struct {
	*contender
	keep  int // 0 for all
	rates []float64
	left  int // the most that were stored at the end of a turn
}

// measureRetention compares hubhooks that remove old deliveries with one that keeps all, on each engine.
func (w *workshop) measureRetention(ctx context.Context) ([]figure, error) {
	figures, err := w.compareKeepers(ctx, "SQLite", 0.9, func(*stack) (store, error) { return store{}, nil })
	if err != nil {
		return nil, err
	}
	if _, err := pgserver.Programs(); errors.Is(err, pgserver.ErrNotInstalled) {
		w.skip(fmt.Sprintf("retention on PostgreSQL is skipped: %v", err))
		return figures, nil
	}
	more, err := w.compareKeepers(ctx, "PostgreSQL", 0, func(stops *stack) (store, error) {
		server, err := w.startPrimary(ctx, stops)
		if err != nil {
			return store{}, err
		}
		return store{database: server.URL(databaseName)}, nil
	})
	return append(figures, more...), err
}

// compareKeepers loads the hubhooks of one engine in turns: over all connections, then at half of the rate that the one that keeps the
// fewest has reached. Each has a store of its own.
func (w *workshop) compareKeepers(ctx context.Context, engine string, least float64, newStore func(*stack) (store, error)) (_ []figure, err error) {
	var stops stack
	defer func() { err = errors.Join(err, stops.unwind()) }()
	all, usual, few := &keeper{}, &keeper{keep: defaultKeepCount}, &keeper{keep: smallKeepCount}
	keepers := []*keeper{all, usual, few}
	for _, k := range keepers {
		s, err := newStore(&stops)
		if err != nil {
			return nil, err
		}
		s.keepCount = cmp.Or(k.keep, w.keepAll())
		if k.contender, err = w.startHubhook(ctx, s); err != nil {
			return nil, err
		}
		stops.push(k.stop)
	}
	for round := range w.retentionTurns {
		for _, i := range turn(round, len(keepers)) {
			w.progress("retention, %s: %s, turn %d of %d", engine, keepers[i], round+1, w.retentionTurns)
			if err := w.loadKeeper(ctx, keepers[i]); err != nil {
				return nil, err
			}
		}
	}
	if err := w.profiledRate(ctx, few.contender, "retention-"+strings.ToLower(engine), mostConnections); err != nil {
		return nil, err
	}
	var figures []figure
	for _, k := range []*keeper{usual, few} {
		figures = append(figures,
			rounds{k.rates, all.rates}.figure(fmt.Sprintf("%s, %d connections, %s", engine, mostConnections, k), all.String(), atLeast(least), perSecond),
			figure{what: "stored at the end of a turn", hubhook: strconv.Itoa(k.left), against: fmt.Sprintf("--keep-count %d", k.keep)})
	}
	latency, err := w.compareLatencyOfKeepers(ctx, engine, median(few.rates)/2, few, all)
	return append(figures, latency...), err
}

func (k *keeper) String() string {
	if k.keep == 0 {
		return "keeps all"
	}
	return fmt.Sprintf("keeps %d", k.keep)
}

// untilRemoval loads k until it removes old deliveries, which it looks for every 10 seconds. One that keeps all is loaded until it has as
// many as the others keep.
func (k *keeper) untilRemoval(ctx context.Context, load func() error) error {
	stored, err := k.stored(ctx)
	if err != nil {
		return err
	}
	for removed := k.answered - stored; ; {
		if err := load(); err != nil {
			return err
		}
		if stored, err = k.stored(ctx); err != nil {
			return err
		}
		if k.keep == 0 && stored >= defaultKeepCount || k.answered-stored > removed {
			return nil
		}
	}
}

// loadKeeper measures one turn of k under full load, with removal at work.
func (w *workshop) loadKeeper(ctx context.Context, k *keeper) error {
	if err := k.untilRemoval(ctx, func() error {
		_, err := k.rate(ctx, mostConnections, time.Second)
		return err
	}); err != nil {
		return err
	}
	answered, elapsed, err := k.load.closedLoop(ctx, mostConnections, w.retentionTurn)
	if err != nil {
		return err
	}
	k.answered += answered
	left, err := k.stored(ctx)
	if err != nil {
		return err
	}
	waited, err := k.finish(ctx)
	if err != nil {
		return err
	}
	k.rates = append(k.rates, float64(answered)/(elapsed+waited).Seconds())
	k.left = max(k.left, left)
	return w.awaitRemoval(ctx, k)
}

// awaitRemoval waits until k has removed what it does not keep, so that this does not slow the next one.
func (w *workshop) awaitRemoval(ctx context.Context, k *keeper) error {
	if k.keep == 0 {
		return nil
	}
	w.progress("retention: %s, waiting for the end of its removal", k)
	for begin := time.Now(); ; {
		stored, err := k.stored(ctx)
		if err != nil || stored <= k.keep {
			return err
		}
		if time.Since(begin) > restTime {
			w.say("a hubhook that %s has %d stored %v after its load has ended; its removal slows the next turn", k, stored, restTime)
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stored returns how many deliveries are in k's store.
func (k *keeper) stored(ctx context.Context) (int, error) {
	if k.answered == 0 {
		return 0, nil // and the metric does not exist yet
	}
	byState, err := counted(ctx, k.inspector, "hubhook_stored_deliveries")
	sum := 0
	for _, n := range byState {
		sum += n
	}
	return sum, err
}

// compareLatencyOfKeepers sends both the same rate, one after the other, while the disk's probe runs beside them. The target is for the
// p99 of the one that keeps few, in the median second.
func (w *workshop) compareLatencyOfKeepers(ctx context.Context, engine string, rate float64, few, all *keeper) ([]figure, error) {
	type measured struct{ taken, probed []time.Duration }
	var of [2]measured
	for i, k := range []*keeper{few, all} {
		w.progress("latency, %s: %s", engine, k)
		if err := k.untilRemoval(ctx, func() error {
			_, err := k.latencies(ctx, rate, time.Second)
			return err
		}); err != nil {
			return nil, err
		}
		probe, err := w.startProbe()
		if err != nil {
			return nil, err
		}
		taken, err := k.latencies(ctx, rate, w.retentionTurn)
		probed, probeErr := probe.stop()
		if err := errors.Join(err, probeErr); err != nil {
			return nil, err
		}
		of[i] = measured{taken, probed}
		if err := w.awaitRemoval(ctx, k); err != nil {
			return nil, err
		}
	}
	w.progress("the disk's probe, alone")
	probe, err := w.startProbe()
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(w.retentionTurn / 2):
	}
	alone, err := probe.stop()
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, err
	}
	second := func(times []time.Duration) float64 { return float64(medianSecond(times, w.retentionTurn)) }
	what := fmt.Sprintf("%s at %s, half of the most, %s", engine, perSecond(rate), few)
	p := func(share float64) figure {
		return figure{hubhook: milliseconds(percentile(of[0].taken, share)), against: all.String() + " " + milliseconds(percentile(of[1].taken, share))}
	}
	p50, p99 := p(0.5), p(0.99)
	p50.what, p99.what = "p50 "+what, "p99"
	typical := rounds{[]float64{second(of[0].taken)}, []float64{second(of[0].probed)}}
	ratio, _, _ := typical.ratio()
	bound := target{atMost: true, bound: 2, unit: " times"}
	inMilliseconds := func(ns float64) string { return milliseconds(time.Duration(ns)) }
	return []figure{
		p50, p99,
		{what: "p99 of the median second", hubhook: inMilliseconds(typical.hubhook[0]), against: all.String() + " " + inMilliseconds(second(of[1].taken))},
		{what: "p99 of the median second", hubhook: inMilliseconds(typical.hubhook[0]), against: "a write and sync beside it " + inMilliseconds(typical.against[0]),
			value: ratioText(ratio), target: bound.String(), short: bound.missed(ratio)},
		{what: "p99 of the median second", hubhook: inMilliseconds(typical.hubhook[0]), against: "a write and sync alone " + inMilliseconds(second(alone))},
	}, nil
}
