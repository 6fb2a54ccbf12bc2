package queue

import "github.com/oklog/ulid/v2"

// line is what waits to be started of one endpoint.
type line struct {
	handlers *handlers

	// due has what waits. For each serial key that no delivery holds, it has a ticket in place of the first one that waits
	// for the key. So a key for which many wait is one entry among the others.
	due     dueHeap
	series  map[int64]*series
	indexes map[ulid.ULID]*int // indexes in a heap of the deliveries that a later one of their burst takes out again
}

// series is what waits for one serial key.
type series struct {
	held   bool // a delivery with the key runs, or is about to
	due    dueHeap
	ticket *int // index of its ticket in line.due, nil if it has none
}

// push adds a delivery, and reports whether others of its series come first.
func (l *line) push(e entry) (behind bool) {
	if e.Burst != 0 {
		if l.indexes == nil {
			l.indexes = map[ulid.ULID]*int{}
		}
		e.index = new(int)
		l.indexes[e.ID] = e.index
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

// pop takes out the first delivery that is due at now, in Unix nanoseconds, and may start. It holds its serial key from then on.
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
	delete(l.indexes, e.ID)
	return e, true
}

// take takes out a delivery that is not to start any more.
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
	if index := l.indexes[id]; index != nil {
		i = *index
		delete(l.indexes, id)
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

// hold keeps other deliveries with a serial key, 0 for none, from starting.
func (l *line) hold(serial int64) {
	if serial != 0 {
		s := l.seriesOf(serial)
		s.held = true
		l.setTicket(s)
	}
}

// release lets the next delivery with a serial key start.
func (l *line) release(serial int64) {
	if s := l.series[serial]; s != nil {
		s.held = false
		l.setTicket(s)
		l.forgetSeries(serial)
	}
}

// setTicket makes the ticket of a series stand for the delivery that is due first.
func (l *line) setTicket(s *series) {
	if s.ticket != nil {
		l.due.remove(*s.ticket)
		s.ticket = nil
	}
	if !s.held && len(s.due) > 0 {
		s.ticket = new(int)
		l.due.push(entry{Due: s.due[0].Due, line: l, ticket: true, index: s.ticket})
	}
}

func (l *line) forgetSeries(serial int64) {
	if s := l.series[serial]; !s.held && len(s.due) == 0 {
		delete(l.series, serial)
	}
}
