package queue

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// line is the queue of one endpoint.
type line struct {
	Endpoint
	busy  int     // deliveries in state running
	slots int     // handlers that run; at most Concurrency
	ready []*task // running as far as the disk knows: the next free handler takes the first
	pace  pace

	// due holds what waits, and, for each serial key that nobody holds, a ticket in place of the first that waits for it.
	// So a key with many that wait is one entry among the others.
	due    dueHeap
	series map[int64]*series
	spots  map[ulid.ULID]*int // where those are that a later one of their burst takes out again
}

// series is what waits for one serial key.
type series struct {
	held   bool // one of them runs, or is about to
	due    dueHeap
	ticket *int // its place in line.due; nil if it has none
}

// notLater is when a delivery that an earlier process left is due, at the latest from now on: the clock may have been set
// back since.
func (l *line) notLater(d store.Due, now time.Time) int64 {
	switch {
	case d.Retrying:
		return min(d.At, now.Add(l.MaxWait).UnixNano())
	case d.Burst == 0:
		return min(d.At, now.UnixNano())
	}
	return d.At
}

// push adds a delivery that waits, and reports whether others of its series come first.
func (l *line) push(e entry) (held bool) {
	if e.Burst != 0 {
		if l.spots == nil {
			l.spots = map[ulid.ULID]*int{}
		}
		e.spot = new(int)
		l.spots[e.ID] = e.spot
	}
	if e.Serial == 0 {
		l.due.push(e)
		return false
	}
	s := l.seriesOf(e.Serial)
	s.due.push(e)
	l.setTicket(s)
	return s.held || s.due[0].ID != e.ID
}

// pop takes out what is due first at now, in Unix nanoseconds, and may start. Its series is held from then on.
func (l *line) pop(now int64) (entry, bool) {
	if len(l.due) == 0 || l.due[0].At > now {
		return entry{}, false
	}
	e := l.due.pop()
	if e.ticket {
		s := l.series[e.Serial]
		s.ticket = nil
		e = s.due.pop()
		s.held = true
	}
	delete(l.spots, e.ID)
	return e, true
}

// take takes a delivery out that is to start no more.
func (l *line) take(id ulid.ULID, serial int64) (entry, bool) {
	heap := &l.due
	s := l.series[serial]
	if serial != 0 {
		if s == nil {
			return entry{}, false
		}
		heap = &s.due
	}
	i := -1
	if spot := l.spots[id]; spot != nil {
		i = *spot
		delete(l.spots, id)
	} else {
		i = heap.find(id)
	}
	if i < 0 {
		return entry{}, false
	}
	e := heap.remove(i)
	if serial != 0 {
		l.setTicket(s)
		l.forgetSeries(serial)
	}
	return e, true
}

func (l *line) seriesOf(serial int64) *series {
	s := l.series[serial]
	if s == nil {
		if l.series == nil {
			l.series = map[int64]*series{}
		}
		s = &series{}
		l.series[serial] = s
	}
	return s
}

// hold keeps others of a series from starting.
func (l *line) hold(serial int64) {
	if serial != 0 {
		s := l.seriesOf(serial)
		s.held = true
		l.setTicket(s)
	}
}

// release lets the next of a series start.
func (l *line) release(serial int64) {
	if s := l.series[serial]; s != nil {
		s.held = false
		l.setTicket(s)
		l.forgetSeries(serial)
	}
}

// setTicket makes the ticket of a series stand for the one that is due first.
func (l *line) setTicket(s *series) {
	if s.ticket != nil {
		l.due.remove(*s.ticket)
		s.ticket = nil
	}
	if !s.held && len(s.due) > 0 {
		s.ticket = new(int)
		l.due.push(entry{Due: s.due[0].Due, line: l, ticket: true, spot: s.ticket})
	}
}

func (l *line) forgetSeries(serial int64) {
	if s := l.series[serial]; !s.held && len(s.due) == 0 {
		delete(l.series, serial)
	}
}
