package queue

import (
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// A source knows which deliveries are due and starts them when handlers are free. There are two. A backlog keeps in memory
// what is due, where this process alone has the deliveries. Claims asks the store, where several processes share them.
//
// Queue.mu is held when a method is called, except for stop.
type source interface {
	// start begins to start deliveries of these endpoints. It is called once, by Start.
	start(endpoints map[string]*handlers) error
	// serve begins to start deliveries of one more endpoint, after start.
	serve(h *handlers) error
	// stop returns when the source starts nothing any more. It is called once, by Drain, and only after start.
	stop()

	// startDue starts what is due, as far as handlers are free.
	startDue(now time.Time)
	// nextDue returns when startDue is to be called again, zero for never.
	nextDue(now time.Time) time.Time
	// hasDue reports whether deliveries of an endpoint are due. They go before those that arrive.
	hasDue(endpoint string, now time.Time) bool
	// suspectDue reports whether a delivery is due that must be started alone.
	suspectDue(now time.Time) bool
	// oldest returns, by endpoint, when the oldest delivery that waits was received.
	oldest() map[string]time.Time

	// add takes an arrival that was stored as waiting, and reports whether its burst or another delivery with its serial
	// key keeps it from starting.
	add(a *pendingArrival) (postponed bool)
	// putBack takes a delivery that was running here and is now waiting or retrying.
	putBack(t *task)
	// remove takes out a delivery that is not to start any more.
	remove(s *store.Stored)
	// resumed hears that an endpoint no longer rests.
	resumed()
	// released hears that a delivery has given back its handler and its serial key.
	released(t *task)
	// committed hears what a commit changed.
	committed(c *commit)

	// token returns the token of an arrival that runs at once, 0 where no other process can claim it.
	token() int64
	// recheck returns how often to ask the store for the end of a delivery, 0 where this process sees each end.
	recheck() time.Duration
	// runsAgain says when a delivery runs again whose outcome could not be stored.
	runsAgain() string
}
