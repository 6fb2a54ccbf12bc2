package queue

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// maxSteps is how many steps one time series can have.
const maxSteps = 1000

// TimeSeries returns what became of the deliveries of some time, in steps, oldest first. Steps in which nothing was received are
// included. It reads every delivery of that time, about two million a second. It returns an error for a query with too many
// steps or none, and when the deliveries can't be read.
func (q *Queue) TimeSeries(ctx context.Context, tq TimeSeriesQuery) ([]TimeStep, error) {
	if tq.Steps < 1 || tq.Steps > maxSteps || tq.Step <= 0 || tq.Step > math.MaxInt64/maxSteps {
		return nil, fmt.Errorf("a time series of %d steps of %v is not possible; ask for 1 to %d steps of at most %v",
			tq.Steps, tq.Step, maxSteps, time.Duration(math.MaxInt64/maxSteps).Truncate(time.Hour))
	}
	if tq.Until.IsZero() {
		tq.Until = q.now()
	}
	if err := q.commits.flush(ctx); err != nil {
		return nil, err
	}
	steps := store.NewTimeSteps(tq)
	if err := q.eng.TimeSeries(ctx, steps.Span, tq.Endpoint, steps.Add); err != nil {
		return nil, err
	}
	return steps.Result(), nil
}
