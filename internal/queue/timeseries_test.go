package queue

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/store"
)

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
		if _, err := f.TimeSeries(t.Context(), TimeSeriesQuery{Step: time.Minute, Steps: 2}); !errors.Is(err, store.ErrClosed) {
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
