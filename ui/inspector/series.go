package inspector

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

const (
	// seriesAge is the greatest age of a cached time series. With the cache many open pages cost no more than one.
	seriesAge = time.Second
	// maxRecentSeries is how many time series are cached.
	maxRecentSeries = 64
)

// fromTimeSteps returns the view of a time series.
func fromTimeSteps(step time.Duration, steps []queue.TimeStep) api.Series {
	s := api.Series{StepMS: step.Milliseconds(), Times: make([]int64, len(steps)), States: map[string][]int64{}}
	for _, state := range queue.States() {
		s.States[string(state)] = make([]int64, len(steps))
	}
	durations := func(of func(queue.TimeStep) time.Duration) []*float64 {
		all := make([]*float64, len(steps))
		for i, step := range steps {
			if step.Handled > 0 {
				ms := math.Round(float64(of(step))/float64(time.Microsecond)) / 1000
				all[i] = &ms
			}
		}
		return all
	}
	for i, step := range steps {
		s.Times[i] = step.Start.Unix()
		for state, n := range step.States {
			s.States[string(state)][i] = n
		}
	}
	s.DurationMS = api.SeriesDurations{
		P50: durations(func(s queue.TimeStep) time.Duration { return s.P50 }),
		P95: durations(func(s queue.TimeStep) time.Duration { return s.P95 }),
		Max: durations(func(s queue.TimeStep) time.Duration { return s.Max }),
	}
	return s
}

// parseSeries reads the query of GET /api/series.
func parseSeries(query url.Values) (queue.TimeSeriesQuery, error) {
	if err := onlyParameters(query, "last", "endpoint"); err != nil {
		return queue.TimeSeriesQuery{}, err
	}
	tq := queue.TimeSeriesQuery{Endpoint: query.Get("endpoint")}
	switch text := query.Get("last"); text {
	case "1h", "":
		tq.Step, tq.Steps = time.Minute, 60
	case "24h":
		tq.Step, tq.Steps = 15*time.Minute, 96
	default:
		return queue.TimeSeriesQuery{}, fmt.Errorf("last: want 1h or 24h, have %q", text)
	}
	return tq, nil
}

func (in *Inspector) series(w http.ResponseWriter, r *http.Request) {
	tq, err := parseSeries(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	series, err := in.recentSeries.get(r.Context(), in.config.Queue, tq)
	if err != nil {
		fail(w, "reading the time series", err)
		return
	}
	writeJSON(w, http.StatusOK, series)
}

// recentSeries reads and caches time series. It reads one at a time, because each takes one of the store's few reading connections, which
// lists need too.
type recentSeries struct {
	turn  chan struct{} // has one element while nobody reads
	known map[queue.TimeSeriesQuery]readSeries
}

type readSeries struct {
	api.Series
	read time.Time
}

func newRecentSeries() *recentSeries {
	rs := &recentSeries{turn: make(chan struct{}, 1), known: map[queue.TimeSeriesQuery]readSeries{}}
	rs.turn <- struct{}{}
	return rs
}

func (rs *recentSeries) get(ctx context.Context, q Queue, tq queue.TimeSeriesQuery) (api.Series, error) {
	select {
	case <-rs.turn:
		defer func() { rs.turn <- struct{}{} }()
	case <-ctx.Done():
		return api.Series{}, ctx.Err()
	}
	now := time.Now()
	maps.DeleteFunc(rs.known, func(_ queue.TimeSeriesQuery, s readSeries) bool { return now.Sub(s.read) >= seriesAge })
	if s, ok := rs.known[tq]; ok {
		return s.Series, nil
	}
	steps, err := q.TimeSeries(ctx, tq)
	if err != nil {
		return api.Series{}, err
	}
	series := fromTimeSteps(tq.Step, steps)
	if len(rs.known) < maxRecentSeries {
		rs.known[tq] = readSeries{series, time.Now()} // its age begins after the read, so that callers who waited for a slow read can use it
	}
	return series, nil
}
