package queue

import "time"

const (
	// aloneFor is how long a suspect must live before others start beside it.
	aloneFor = 5 * time.Second
	// giveWayFor is how long a suspect waits after the others have run for too long.
	giveWayFor = time.Minute
)

// solo is the rule for suspects. A suspect is a delivery that was interrupted so often (store.AloneAfter) that it may be what
// kills the process. It starts when nothing else runs, and nothing starts beside it until it has ended or lived for aloneFor.
// While it waits for the others to end, no other starts either. But a handler may run for hours, so after aloneFor the
// suspect gives way and tries again later.
type solo struct {
	task  *task     // the suspect beside which nothing may start, nil for none
	until time.Time // when others may start beside it; zero until its start is stored
	quiet time.Time // until when nothing starts because a suspect waits for the others to end; zero if none does
}

// turn is what a suspect that is due may do.
type turn int

const (
	waitOn turn = iota
	startAlone
	giveWay
)

// turn returns what the suspect that is due may do while a number of deliveries run.
func (s *solo) turn(now time.Time, active int) turn {
	if s.task != nil && now.Before(s.until) {
		return waitOn
	}
	switch {
	case active == 0:
		s.quiet = time.Time{}
		return startAlone
	case s.quiet.IsZero():
		s.quiet = now.Add(aloneFor)
	case !now.Before(s.quiet):
		s.quiet = time.Time{}
		return giveWay
	}
	return waitOn
}

// begin notes that a suspect starts. Its time begins with lives.
func (s *solo) begin(t *task) { s.task, s.until = t, time.Time{} }

// lives notes that a task runs from now on.
func (s *solo) lives(t *task, now time.Time) {
	if s.task == t {
		s.until = now.Add(aloneFor)
	}
}

// end notes that a task ended.
func (s *solo) end(t *task) {
	if s.task == t {
		s.task = nil
	}
}

// blocks reports whether nothing may start now but a suspect. due says whether one is.
func (s *solo) blocks(now time.Time, due func(now time.Time) bool) bool {
	if s.task != nil {
		if s.until.IsZero() || now.Before(s.until) {
			return true
		}
		s.task = nil
	}
	return due(now) && (s.quiet.IsZero() || now.Before(s.quiet))
}

// next returns when the rule allows something new, zero if time alone changes nothing.
func (s *solo) next() time.Time {
	if s.task == nil {
		return s.quiet
	}
	return earlier(s.until, s.quiet)
}

// earlier returns the earlier one of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
