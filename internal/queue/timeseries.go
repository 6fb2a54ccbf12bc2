package queue

import (
	"context"
	"fmt"
	"math"
	"time"
)

// maxSteps is how many steps one time series can have.
const maxSteps = 1000

// TimeSeriesQuery says of what TimeSeries is asked for.
type TimeSeriesQuery struct {
	Endpoint string        // "" for all
	Step     time.Duration // how long each step is; they begin where time.Time.Truncate puts it
	Steps    int           // how many, from 1 to 1000
	Until    time.Time     // the last step is the one it lies in; default now, by the clock that deliveries are received by
}

// TimeStep is what is known of the deliveries that were received within one step of time.
type TimeStep struct {
	Start  time.Time
	States map[State]int64 // how many are in which state by now; zeros may be left out

	// Of the last attempts that ended of those that are finished. Skipped and merged ones had none that counts, nor had some
	// of the dead and discarded. P50 and P95 are by nearest rank, and at most 5 % or 1 µs too long; Max is exact.
	Handled       int64 // how many these are; the following are 0 where it is 0
	P50, P95, Max time.Duration
}

// TimeSeries returns what has become of the deliveries of some time, in steps, oldest first. Steps in which nothing was received
// are there too. Every delivery of that time is read, about two million a second. The errors are those of a query that makes no
// sense, and what kept the deliveries from being read.
func (q *Queue) TimeSeries(ctx context.Context, tq TimeSeriesQuery) ([]TimeStep, error) {
	if tq.Steps < 1 || tq.Steps > maxSteps || tq.Step <= 0 || tq.Step > math.MaxInt64/maxSteps {
		return nil, fmt.Errorf("a time series of %d steps of %v is not possible; ask for 1 to %d steps of at most %v",
			tq.Steps, tq.Step, maxSteps, time.Duration(math.MaxInt64/maxSteps).Truncate(time.Hour))
	}
	if tq.Until.IsZero() {
		tq.Until = q.now()
	}
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	steps := newTimeSteps(tq)
	if err := q.eng.timeSeries(ctx, steps.span, tq.Endpoint, steps.add); err != nil {
		return nil, err
	}
	return steps.result(), nil
}

// timeSpan is the time of a series, in Unix nanoseconds: from its first step on, up to the end of its last one.
type timeSpan struct{ from, to, step int64 }

// likes are deliveries that were received within the same step, are in the same state, and took about as long.
type likes struct {
	step    int64 // from 0
	state   int64
	n       int64
	timed   int64         // those of them that have a duration
	longest time.Duration // of these
}

// timeSteps adds up the steps of a series.
type timeSteps struct {
	span  timeSpan
	steps []timeStep
}

type timeStep struct {
	states  [stateCount]int64
	classes []durationClass // by class; nil where nothing has a duration
	handled int64
}

// durationClass is durations that are taken for equal.
type durationClass struct {
	n       int64
	longest time.Duration
}

func newTimeSteps(tq TimeSeriesQuery) *timeSteps {
	last := tq.Until.Truncate(tq.Step).UnixNano()
	step := int64(tq.Step)
	return &timeSteps{
		span:  timeSpan{from: last - int64(tq.Steps-1)*step, to: last + step, step: step},
		steps: make([]timeStep, tq.Steps),
	}
}

func (ts *timeSteps) add(l likes) {
	s := &ts.steps[l.step]
	s.states[l.state] += l.n
	switch l.state {
	case stateDone, stateDead, stateDiscarded:
	default: // a condition's no has a duration too
		return
	}
	if l.timed == 0 {
		return
	}
	if s.classes == nil {
		s.classes = make([]durationClass, classOf(math.MaxInt64)+1)
	}
	c := &s.classes[classOf(l.longest)]
	c.n += l.timed
	c.longest = max(c.longest, l.longest)
	s.handled += l.timed
}

func (ts *timeSteps) result() []TimeStep {
	all := make([]TimeStep, len(ts.steps))
	for i := range ts.steps {
		s := &ts.steps[i]
		all[i] = TimeStep{
			Start:   time.Unix(0, ts.span.from+int64(i)*ts.span.step),
			States:  map[State]int64{},
			Handled: s.handled, P50: s.percentile(50), P95: s.percentile(95), Max: s.percentile(100),
		}
		for state, n := range s.states {
			if n != 0 {
				all[i].States[stateNames[state]] = n
			}
		}
	}
	return all
}

// percentile returns the duration that p of a hundred do not exceed, or one of the same class that is a little longer.
func (s *timeStep) percentile(p int64) time.Duration {
	rank := (s.handled*p + 99) / 100
	for i := range s.classes {
		if c := &s.classes[i]; c.n > 0 {
			if rank -= c.n; rank <= 0 {
				return c.longest
			}
		}
	}
	return 0
}

// finest is below which all durations are of one class.
const finest = 500 * time.Nanosecond

// classesPerE is how many classes there are of durations up to e times as long as each other: each reaches 5 % farther than
// the one before.
var classesPerE = 1 / math.Log(1.05)

// classOf returns the class of a duration, from 0.
func classOf(d time.Duration) int {
	return int(math.Log(float64(max(d, finest))/float64(finest)) * classesPerE)
}
