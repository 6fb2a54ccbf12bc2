package queue

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// timeSeriesOf is what the engine under test has of a query.
func timeSeriesOf(b *bench, tq TimeSeriesQuery) []TimeStep {
	b.Helper()
	steps := newTimeSteps(tq)
	b.must(b.timeSeries(b.Context(), steps.span, tq.Endpoint, steps.add))
	return steps.result()
}

func conformTimeSeries(t *testing.T, b *bench) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(received time.Time, change func(*arrival)) *arrival {
		b.now = received.Add(-time.Second)
		return b.store(change)
	}
	ended := func(a *arrival, to State, took time.Duration) {
		k := b.end(a, to, "")
		k.attempt.Duration = took
		if to == Skipped {
			k.attempt.N, k.attempts = 0, 0
		}
		b.must(b.commit(&batch{ends: []*ending{k}}))
	}
	elsewhere := func(a *arrival) { a.d.Endpoint, a.d.State = "elsewhere", Running }
	burst := func(a *arrival) { a.burst = &burst{key: 1, wait: time.Minute} }

	at(noon.Add(-time.Nanosecond), nil)
	ended(at(noon, in(Running)), Done, 3*time.Millisecond)
	ended(at(noon.Add(59*time.Second), in(Running)), Skipped, time.Second)
	ended(at(noon.Add(time.Minute-time.Nanosecond), elsewhere), Done, 100*time.Millisecond)
	// Nothing in the second minute; in the third, all that has no attempt that counts.
	third := noon.Add(2 * time.Minute)
	at(third, nil)
	at(third, in(Running))
	ended(at(third, in(Running)), Retrying, time.Second)
	at(third, func(a *arrival) { a.d.State, a.d.Reason, a.stack = Dead, "unreadable", "stack" })
	at(third, burst)
	at(third, burst)
	b.must(b.commit(&batch{discards: []*discarding{{id: at(third, nil).d.id, reason: "by hand"}}}))
	// The clock was set back: its id is ahead of when it was received.
	ended(at(noon.Add(30*time.Second), in(Running)), Dead, 7*time.Millisecond)
	at(noon.Add(3*time.Minute), nil)

	minute := func(i int, s TimeStep) TimeStep {
		s.Start = noon.Add(time.Duration(i) * time.Minute)
		if s.States == nil {
			s.States = map[State]int64{}
		}
		return s
	}
	ms := time.Millisecond
	for name, c := range map[string]struct {
		tq   TimeSeriesQuery
		want []TimeStep
	}{
		"all": {TimeSeriesQuery{Steps: 3, Until: third.Add(time.Minute - 1)}, []TimeStep{
			minute(0, TimeStep{States: map[State]int64{Done: 2, Skipped: 1, Dead: 1}, Handled: 3, P50: 7 * ms, P95: 100 * ms, Max: 100 * ms}),
			minute(1, TimeStep{}),
			minute(2, TimeStep{States: map[State]int64{Waiting: 2, Running: 1, Retrying: 1, Dead: 1, Merged: 1, Discarded: 1}}),
		}},
		"endpoint": {TimeSeriesQuery{Endpoint: "elsewhere", Steps: 2, Until: noon}, []TimeStep{
			minute(-1, TimeStep{}),
			minute(0, TimeStep{States: map[State]int64{Done: 1}, Handled: 1, P50: 100 * ms, P95: 100 * ms, Max: 100 * ms}),
		}},
		"unknown endpoint": {TimeSeriesQuery{Endpoint: "nobody", Steps: 2, Until: noon}, []TimeStep{minute(-1, TimeStep{}), minute(0, TimeStep{})}},
		"before the first": {TimeSeriesQuery{Steps: 1, Until: noon.Add(-time.Hour)}, []TimeStep{minute(-60, TimeStep{})}},
		"after the last":   {TimeSeriesQuery{Steps: 2, Until: noon.Add(time.Hour)}, []TimeStep{minute(59, TimeStep{}), minute(60, TimeStep{})}},
	} {
		c.tq.Step = time.Minute
		if diff := cmp.Diff(c.want, timeSeriesOf(b, c.tq), cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// From before time began, so to speak.
	all := timeSeriesOf(b, TimeSeriesQuery{Step: 100 * 365 * 24 * time.Hour, Steps: 2, Until: noon})
	if n := all[0].States[Done] + all[1].States[Done]; n != 2 {
		t.Errorf("of all time, %d are done: %+v", n, all)
	}
}

func conformPercentiles(t *testing.T, b *bench) {
	durations := []time.Duration{0, time.Nanosecond, 1000 * time.Hour, math.MaxInt64}
	for i := range time.Duration(150) {
		durations = append(durations, i*i*i*i*time.Microsecond/7) // up to a minute
	}
	until := b.now.Truncate(time.Hour).Add(24 * time.Hour)
	for _, some := range [][]time.Duration{durations[:1], durations[:2], {0, 100, 1400, 1500}, durations[20:39], durations[20:40], durations[20:41], durations} {
		n := len(some)
		stored, ends := &batch{}, &batch{}
		b.now, until = until, until.Add(time.Hour)
		for _, took := range some {
			a := b.arrive(in(Running))
			k := b.end(a, Done, "")
			k.attempt.Duration = took
			stored.arrivals, ends.ends = append(stored.arrivals, a), append(ends.ends, k)
		}
		b.must(b.commit(stored))
		b.must(b.commit(ends))
		got := timeSeriesOf(b, TimeSeriesQuery{Step: time.Hour, Steps: 1, Until: until.Add(-1)})[0]
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

// What is read in parts has each delivery once.
func TestTimeSeriesInParts(t *testing.T) {
	b := &bench{T: t, dir: t.TempDir(), open: engines["sqlite"], now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.engine = b.open(t, b.dir)
	arrivals := &batch{}
	for i := range 12 {
		b.now = b.now.Add(-time.Second) // all at the same time, so that their keys follow each other
		arrivals.arrivals = append(arrivals.arrivals, b.arrive(func(a *arrival) { a.d.Endpoint = []string{"a", "b"}[i/2%2] }))
	}
	b.must(b.commit(arrivals))
	for _, rows := range []int{1, 2, 5, 6, 11, 12, 13} {
		b.engine.(*sqliteEngine).cfg.partRows = rows
		for endpoint, want := range map[string]int64{"": 12, "a": 6} {
			got := timeSeriesOf(b, TimeSeriesQuery{Endpoint: endpoint, Step: time.Hour, Steps: 1, Until: b.now})
			if n := got[0].States[Waiting]; n != want {
				t.Errorf("in parts of %d, %d wait for endpoint %q, want %d", rows, n, endpoint, want)
			}
		}
	}
	b.must(b.close())
}

func TestTimeSeriesEndsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{}, Endpoint{Handle: func(context.Context, *Claim) Outcome {
			time.Sleep(20 * time.Second)
			return Outcome{}
		}})
		start := time.Now().Truncate(time.Minute)
		time.Sleep(time.Until(start.Add(50 * time.Second)))
		r := f.accept(Arrival{})
		<-r.Done()
		// What has just ended is in it, in the step in which it was received.
		got, err := f.TimeSeries(t.Context(), TimeSeriesQuery{Step: time.Minute, Steps: 2})
		if err != nil {
			t.Fatal(err)
		}
		want := []TimeStep{
			{Start: start, States: map[State]int64{Done: 1}, Handled: 1, P50: 20 * time.Second, P95: 20 * time.Second, Max: 20 * time.Second},
			{Start: start.Add(time.Minute), States: map[State]int64{}},
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
		f.end()
		if _, err := f.TimeSeries(t.Context(), TimeSeriesQuery{Step: time.Minute, Steps: 2}); !errors.Is(err, errClosed) {
			t.Errorf("a closed queue answers %v", err)
		}
	})
}

func TestTimeSeriesRefuses(t *testing.T) {
	f := begin(t, Config{}, Endpoint{})
	for _, tq := range []TimeSeriesQuery{
		{},
		{Step: time.Minute},
		{Steps: 5},
		{Step: -time.Minute, Steps: 5},
		{Step: time.Minute, Steps: -1},
		{Step: time.Minute, Steps: 1001},
		{Step: math.MaxInt64, Steps: 1000},
	} {
		if got, err := f.TimeSeries(t.Context(), tq); err == nil || !strings.Contains(err.Error(), "1 to 1000 steps") {
			t.Errorf("%+v: %v, %v", tq, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.TimeSeries(ctx, TimeSeriesQuery{Step: time.Minute, Steps: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	f.end()
}
