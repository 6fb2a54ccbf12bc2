package queue

import (
	"sync/atomic"
	"time"
)

// Watcher receives the changes of a queue's deliveries.
type Watcher struct {
	C      <-chan Change // closed by Close
	c      chan Change
	missed atomic.Int64
	q      *Queue
}

// Watch returns a watcher that sees all changes from now on, each once it is stored. It holds up to buffer changes (at
// least one) for a reader that is slow; more are dropped and counted, so that no watcher slows the work.
func (q *Queue) Watch(buffer int) *Watcher {
	w := &Watcher{c: make(chan Change, max(1, buffer)), q: q}
	w.C = w.c
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		close(w.c)
		return w
	}
	q.watchers[w] = struct{}{}
	return w
}

// Missed returns how many changes were dropped since it was last called.
func (w *Watcher) Missed() int { return int(w.missed.Swap(0)) }

// Close ends the watching. It may be called more than once.
func (w *Watcher) Close() {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	w.q.unwatch(w)
}

func (q *Queue) unwatch(w *Watcher) {
	if _, ok := q.watchers[w]; ok {
		delete(q.watchers, w)
		close(w.c)
	}
}

func (q *Queue) watched() bool { return len(q.watchers) > 0 || q.cfg.Changed != nil }

// announce tells the watchers. It is called with mu held, which keeps the changes in order.
func (q *Queue) announce(c Change) {
	if q.cfg.Changed != nil {
		q.cfg.Changed(c)
	}
	q.tellWatchers(c)
}

func (q *Queue) tellWatchers(c Change) {
	for w := range q.watchers {
		select {
		case w.c <- c:
		default:
			w.missed.Add(1)
		}
	}
}

// announceEnd tells the watchers of the end of an attempt.
func (q *Queue) announceEnd(k *pendingEnd) {
	if !q.watched() {
		return
	}
	d := k.task.Delivery
	d.State, d.Reason, d.Attempts, d.RunAt = k.To, k.Reason, k.Attempts, time.Time{}
	if k.To == Retrying {
		d.RunAt = k.RunAt
	}
	c := Change{Delivery: d, Value: k.task.value, Sender: k.task.wait.sender}
	if k.Attempt.N > 0 {
		a := k.Attempt
		c.Attempt = &a
	}
	q.announce(c)
}
