package store

import (
	"math"
	"time"
)

// TimeSeriesQuery says what TimeSeries returns.
type TimeSeriesQuery struct {
	Endpoint string        // "" for all
	Step     time.Duration // how long each step is; they begin where time.Time.Truncate puts it
	Steps    int           // how many, from 1 to 1000
	Until    time.Time     // lies in the last step; default now, by the queue's clock
}

// TimeStep is what became of the deliveries that were received within one step of time.
type TimeStep struct {
	Start  time.Time
	States map[State]int64 // how many are in each state by now; zeros may be left out

	// The durations of the last attempts of finished deliveries. Skipped and merged deliveries, and some dead and discarded
	// ones, have no attempt that counts. P50 and P95 are by nearest rank, and at most 5 % or 1 µs too long. Max is exact.
	Handled       int64 // how many attempts these are; if 0, so are the durations
	P50, P95, Max time.Duration
}

// TimeSpan is the time of a series, in Unix nanoseconds: from the start of its first step to the end of its last step.
type TimeSpan struct{ From, To, Step int64 }

// Alike are deliveries that were received within the same step, are in the same state, and took about as long.
type Alike struct {
	Step    int64 // from 0
	State   int64
	N       int64
	Timed   int64         // those of them that have a duration
	Longest time.Duration // of these
}

// TimeSteps adds up the steps of a series.
type TimeSteps struct {
	// Span is the time whose deliveries are to be added.
	Span  TimeSpan
	steps []timeStep
}

type timeStep struct {
	states  [StateCount]int64
	classes []durationClass // by class; nil where nothing has a duration
	handled int64
}

// durationClass is durations that count as equal.
type durationClass struct {
	n       int64
	longest time.Duration
}

// NewTimeSteps returns the empty steps of a query.
func NewTimeSteps(tq TimeSeriesQuery) *TimeSteps {
	last := tq.Until.Truncate(tq.Step).UnixNano()
	step := int64(tq.Step)
	return &TimeSteps{
		Span:  TimeSpan{From: last - int64(tq.Steps-1)*step, To: last + step, Step: step},
		steps: make([]timeStep, tq.Steps),
	}
}

// Add counts deliveries.
func (ts *TimeSteps) Add(l Alike) {
	s := &ts.steps[l.Step]
	s.states[l.State] += l.N
	switch l.State {
	case StateDone, StateDead, StateDiscarded:
	default: // skipped and merged: the duration is not that of a handler
		return
	}
	if l.Timed == 0 {
		return
	}
	if s.classes == nil {
		s.classes = make([]durationClass, classOf(math.MaxInt64)+1)
	}
	c := &s.classes[classOf(l.Longest)]
	c.n += l.Timed
	c.longest = max(c.longest, l.Longest)
	s.handled += l.Timed
}

// Result returns the steps, oldest first.
func (ts *TimeSteps) Result() []TimeStep {
	all := make([]TimeStep, len(ts.steps))
	for i := range ts.steps {
		s := &ts.steps[i]
		all[i] = TimeStep{
			Start:   time.Unix(0, ts.Span.From+int64(i)*ts.Span.Step),
			States:  map[State]int64{},
			Handled: s.handled, P50: s.percentile(50), P95: s.percentile(95), Max: s.percentile(100),
		}
		for state, n := range s.states {
			if n != 0 {
				all[i].States[StateNames[state]] = n
			}
		}
	}
	return all
}

// percentile returns the duration that p of a hundred do not exceed, or a slightly longer one of the same class.
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

// FinestDuration bounds the first class: all durations below it count as equal.
const FinestDuration = 500 * time.Nanosecond

// ClassesPerE is how many classes there are from a duration to e times that duration. The bound of each class is 5 % above the
// bound of the one before.
var ClassesPerE = 1 / math.Log(1.05)

// classOf returns the class of a duration, from 0.
func classOf(d time.Duration) int {
	return int(math.Log(float64(max(d, FinestDuration))/float64(FinestDuration)) * ClassesPerE)
}
