package storetest

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// TimeSeriesOf is what the engine under test has of a query.
func TimeSeriesOf(b *Bench, tq store.TimeSeriesQuery) []store.TimeStep {
	b.Helper()
	steps := store.NewTimeSteps(tq)
	b.Must(b.TimeSeries(b.Context(), steps.Span, tq.Endpoint, steps.Add))
	return steps.Result()
}

func conformTimeSeries(t *testing.T, b *Bench) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(received time.Time, change func(*store.Arrival)) *store.Arrival {
		b.Now = received.Add(-time.Second)
		return b.Store(change)
	}
	ended := func(a *store.Arrival, to store.State, took time.Duration) {
		k := b.End(a, to, "")
		k.Attempt.Duration = took
		if to == store.Skipped {
			k.Attempt.N, k.Attempts = 0, 0
		}
		b.Must(b.Commit(&store.Batch{Ends: []*store.End{k}}))
	}
	elsewhere := func(a *store.Arrival) { a.Stored.Endpoint, a.Stored.State = "elsewhere", store.Running }
	burst := func(a *store.Arrival) { a.Burst = &store.Burst{Key: 1, Wait: time.Minute} }

	at(noon.Add(-time.Nanosecond), nil)
	ended(at(noon, In(store.Running)), store.Done, 3*time.Millisecond)
	ended(at(noon.Add(59*time.Second), In(store.Running)), store.Skipped, time.Second)
	ended(at(noon.Add(time.Minute-time.Nanosecond), elsewhere), store.Done, 100*time.Millisecond)
	// Nothing in the second minute; in the third, all that has no attempt that counts.
	third := noon.Add(2 * time.Minute)
	at(third, nil)
	at(third, In(store.Running))
	ended(at(third, In(store.Running)), store.Retrying, time.Second)
	at(third, func(a *store.Arrival) { a.Stored.State, a.Stored.Reason, a.Stack = store.Dead, "unreadable", "stack" })
	at(third, burst)
	at(third, burst)
	b.Must(b.Commit(&store.Batch{Discards: []*store.Discard{{ID: at(third, nil).Stored.ULID, Reason: "by hand"}}}))
	// The clock was set back: its id is ahead of when it was received.
	ended(at(noon.Add(30*time.Second), In(store.Running)), store.Dead, 7*time.Millisecond)
	at(noon.Add(3*time.Minute), nil)

	minute := func(i int, s store.TimeStep) store.TimeStep {
		s.Start = noon.Add(time.Duration(i) * time.Minute)
		if s.States == nil {
			s.States = map[store.State]int64{}
		}
		return s
	}
	ms := time.Millisecond
	for name, c := range map[string]struct {
		tq   store.TimeSeriesQuery
		want []store.TimeStep
	}{
		"all": {store.TimeSeriesQuery{Steps: 3, Until: third.Add(time.Minute - 1)}, []store.TimeStep{
			minute(0, store.TimeStep{States: map[store.State]int64{store.Done: 2, store.Skipped: 1, store.Dead: 1}, Handled: 3, P50: 7 * ms, P95: 100 * ms, Max: 100 * ms}),
			minute(1, store.TimeStep{}),
			minute(2, store.TimeStep{States: map[store.State]int64{store.Waiting: 2, store.Running: 1, store.Retrying: 1, store.Dead: 1, store.Merged: 1, store.Discarded: 1}}),
		}},
		"endpoint": {store.TimeSeriesQuery{Endpoint: "elsewhere", Steps: 2, Until: noon}, []store.TimeStep{
			minute(-1, store.TimeStep{}),
			minute(0, store.TimeStep{States: map[store.State]int64{store.Done: 1}, Handled: 1, P50: 100 * ms, P95: 100 * ms, Max: 100 * ms}),
		}},
		"unknown endpoint": {store.TimeSeriesQuery{Endpoint: "nobody", Steps: 2, Until: noon}, []store.TimeStep{minute(-1, store.TimeStep{}), minute(0, store.TimeStep{})}},
		"before the first": {store.TimeSeriesQuery{Steps: 1, Until: noon.Add(-time.Hour)}, []store.TimeStep{minute(-60, store.TimeStep{})}},
		"after the last":   {store.TimeSeriesQuery{Steps: 2, Until: noon.Add(time.Hour)}, []store.TimeStep{minute(59, store.TimeStep{}), minute(60, store.TimeStep{})}},
	} {
		c.tq.Step = time.Minute
		if diff := cmp.Diff(c.want, TimeSeriesOf(b, c.tq), cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// From before time began, so to speak.
	all := TimeSeriesOf(b, store.TimeSeriesQuery{Step: 100 * 365 * 24 * time.Hour, Steps: 2, Until: noon})
	if n := all[0].States[store.Done] + all[1].States[store.Done]; n != 2 {
		t.Errorf("of all time, %d are done: %+v", n, all)
	}
}

func conformPercentiles(t *testing.T, b *Bench) {
	durations := []time.Duration{0, time.Nanosecond, 1000 * time.Hour, math.MaxInt64}
	for i := range time.Duration(150) {
		durations = append(durations, i*i*i*i*time.Microsecond/7) // up to a minute
	}
	until := b.Now.Truncate(time.Hour).Add(24 * time.Hour)
	for _, some := range [][]time.Duration{durations[:1], durations[:2], {0, 100, 1400, 1500}, durations[20:39], durations[20:40], durations[20:41], durations} {
		n := len(some)
		stored, ends := &store.Batch{}, &store.Batch{}
		b.Now, until = until, until.Add(time.Hour)
		for _, took := range some {
			a := b.Arrive(In(store.Running))
			k := b.End(a, store.Done, "")
			k.Attempt.Duration = took
			stored.Arrivals, ends.Ends = append(stored.Arrivals, a), append(ends.Ends, k)
		}
		b.Must(b.Commit(stored))
		b.Must(b.Commit(ends))
		got := TimeSeriesOf(b, store.TimeSeriesQuery{Step: time.Hour, Steps: 1, Until: until.Add(-1)})[0]
		sorted := slices.Sorted(slices.Values(some))
		for what, c := range map[string]struct {
			got  time.Duration
			rank float64 // of the shortest, 0, to the longest, 1
		}{"p50": {got.P50, 0.5}, "p95": {got.P95, 0.95}, "max": {got.Max, 1}} {
			want := sorted[int(math.Ceil(c.rank*float64(n)))-1]
			if most := float64(want)*1.05 + 1000; c.got < want || float64(c.got) > most || c.rank == 1 && c.got != want {
				t.Errorf("of %d, %s is %v, want %v or a little more", n, what, c.got, want)
			}
		}
		if got.Handled != int64(n) {
			t.Errorf("of %d, %d are handled", n, got.Handled)
		}
	}
}
