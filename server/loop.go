package server

import (
	"container/list"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/ui"
)

const (
	loopWithin = 30 * time.Second // a delivery follows a handler that ended no longer ago
	loopLength = 5                // so many that follow in a row are a loop
	loopShown  = time.Hour        // how long a loop without a new delivery is shown, and the shortest time between two notices about it
	mostRows   = 1000             // remembered at a time; those longest without news are forgotten
	mostSeen   = 8                // deliveries that a row remembers, to know repeats of them
)

// loops notices handlers that change what they watch: a delivery, its handler, a delivery that comes soon after, its handler, and so on.
// It reads no clock: its times are those of the deliveries.
type loops struct {
	mu     sync.Mutex
	rows   map[rowKey]*list.Element
	newest list.List // of *row, those with the latest news in front
}

// rowKey names deliveries that can be one loop. The endpoint is part of it, so that two webhooks of one repo are not taken for a loop.
type rowKey struct{ endpoint, scope, repoType, repoName string }

type row struct {
	rowKey
	ended  time.Time // when a handler last ended
	open   bool      // no delivery has followed it yet
	length int       // deliveries that followed a handler, in a row
	began  time.Time // when the first of them came
	last   time.Time // when the last of them came
	told   time.Time // when the last notice was due; zero without one
	seen   []seen    // the latest deliveries, mostSeen at most
}

type seen struct{ id, webhookID string }

// byHand reports whether a person made the delivery here. Such deliveries don't count.
func byHand(d *queue.Delivery) bool { return d.Source() == string(api.Sample) || d.ReplayOf != "" }

// repeats reports whether d is an earlier delivery once more: the Hub's Replay button was pressed.
func (r *row) repeats(d *queue.Delivery) bool {
	return d.WebhookID != "" && slices.ContainsFunc(r.seen, func(s seen) bool { return s.webhookID == d.WebhookID && s.id != d.ID })
}

func (r *row) see(d *queue.Delivery) {
	this := seen{d.ID, d.WebhookID}
	if !slices.Contains(r.seen, this) {
		r.seen = append(r.seen[max(0, len(r.seen)+1-mostSeen):], this)
	}
}

// rowOf returns the row of d, nil where no handler of theirs has ended. The caller holds l.mu.
func (l *loops) rowOf(d *queue.Delivery) *row {
	if element := l.rows[keyOf(d)]; element != nil && !byHand(d) {
		return element.Value.(*row)
	}
	return nil
}

func keyOf(d *queue.Delivery) rowKey { return rowKey{d.Endpoint, d.Scope, d.RepoType, d.RepoName} }

// handled notes that an attempt to handle d has ended, however it ended: a handler that failed may have changed something before.
func (l *loops) handled(d *queue.Delivery, at time.Time) {
	if byHand(d) || d.RepoName == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rowOf(d)
	if r == nil {
		r = &row{rowKey: keyOf(d)}
		if l.rows == nil {
			l.rows = map[rowKey]*list.Element{}
		}
		l.rows[r.rowKey] = l.newest.PushFront(r)
		if l.newest.Len() > mostRows {
			oldest := l.newest.Remove(l.newest.Back()).(*row)
			delete(l.rows, oldest.rowKey)
		}
	}
	if r.repeats(d) {
		return
	}
	r.see(d)
	if at.After(r.ended) {
		r.ended = at
	}
	r.open = true
	l.newest.MoveToFront(l.rows[r.rowKey])
}

// arrived notes that d has come, and returns the loop that it completes, nil for none. One delivery counts after each handler. Others that
// come after the same handler neither lengthen the row nor end it.
func (l *loops) arrived(d *queue.Delivery) *api.Loop {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rowOf(d)
	if r == nil || r.repeats(d) {
		return nil
	}
	since := d.Received.Sub(r.ended)
	switch {
	case since > loopWithin:
		r.end()
		return nil
	case since < 0 || !r.open:
		return nil
	}
	if r.length == 0 {
		r.began = d.Received
	}
	r.open = false
	r.length++
	r.last = d.Received
	r.see(d)
	l.newest.MoveToFront(l.rows[r.rowKey])
	if r.length != loopLength || !r.told.IsZero() && d.Received.Sub(r.told) < loopShown {
		return nil
	}
	r.told = d.Received
	return new(r.view())
}

// declined notes that no handler ran for d. If the handler made d by what it changed, it ends there.
func (l *loops) declined(d *queue.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rowOf(d); r != nil {
		r.end()
	}
}

func (r *row) end() { r.open, r.length = false, 0 }

// current returns the loops that go on, or did a short while ago, the latest first.
func (l *loops) current(now time.Time) []api.Loop {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := []api.Loop{}
	for element := l.newest.Front(); element != nil; element = element.Next() {
		if r := element.Value.(*row); r.length >= loopLength && now.Sub(r.last) < loopShown {
			found = append(found, r.view())
		}
	}
	return found
}

func (r *row) view() api.Loop {
	return api.Loop{
		Endpoint:   r.endpoint,
		Scope:      r.scope,
		Repo:       api.Repo{Type: r.repoType, Name: r.repoName},
		Deliveries: r.length,
		Since:      api.Time{Time: r.began},
		Last:       api.Time{Time: r.last},
		Text: fmt.Sprintf("endpoint %s: %d deliveries of %s of %s %s in a row came within %.0f s after their handler had ended: does the handler change what it watches?",
			r.endpoint, r.length, r.scope, r.repoType, r.repoName, loopWithin.Seconds()),
		Hint: "have its own changes skipped, by if in hubhook.yaml or When in Go, or have it write to another repo or branch",
	}
}

// watchLoops passes a change to s.loops, and says what it finds.
func (s *Server) watchLoops(c *queue.Change) {
	d := &c.Delivery
	switch {
	case c.Duplicate:
	case c.New:
		if loop := s.loops.arrived(d); loop != nil {
			s.screen.Warn(ui.Notice{Text: loop.Text, Hint: loop.Hint})
		}
	case d.State == queue.Skipped:
		s.loops.declined(d)
	case c.Attempt != nil && c.Attempt.Ended:
		if e := s.endpointOf(d.Endpoint); e != nil && e.handler != nil {
			s.loops.handled(d, c.Attempt.Started.Add(c.Attempt.Duration))
		}
	}
}
