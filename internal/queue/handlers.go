package queue

import "time"

// handlers are the handlers of one endpoint.
type handlers struct {
	Endpoint
	started int     // deliveries that are stored as running, or about to be
	running int     // handlers that run; at most Concurrency
	ready   []*task // stored as running, without a handler: the next free handler takes the first
	pace    pace

	returning   int       // deliveries that were handed back, and are not stored as waiting yet
	gone        bool      // no longer served: nothing is accepted or starts until Serve
	paused      bool      // nothing starts until Resume
	pausedUntil time.Time // nothing starts until then, after a delivery was put back; zero for no such time
	resumes     int       // calls of Resume
}

// rests reports whether nothing of the endpoint may start. Without a handler nothing may: a delivery that waits was accepted for one.
func (h *handlers) rests() bool {
	return h.Handle == nil || h.gone || h.paused || !h.pausedUntil.IsZero()
}

// room is how many deliveries of the endpoint may be stored as running.
func (h *handlers) room() int {
	if h.rests() {
		return 0
	}
	if h.pace.quick() {
		return h.Concurrency * readyFactor
	}
	return h.Concurrency
}

// refill is how many deliveries may be stored as running when the backlog starts more. While a handler is free it is all of room. Otherwise
// it is Concurrency, so nothing more starts. So one commit starts many deliveries for quick handlers. If each handler that ends started the
// next delivery, each start would take a commit of its own, and a backlog of more than Concurrency would never get shorter.
func (h *handlers) refill() int {
	if h.started < h.Concurrency || h.rests() {
		return h.room()
	}
	return h.Concurrency
}

// takeReady removes the first delivery that is ready.
func (h *handlers) takeReady() *task {
	t := h.ready[0]
	h.ready[0] = nil
	h.ready = h.ready[1:]
	return t
}

// pace is how quickly an endpoint's handlers end. Deliveries for quick handlers are stored as running although no handler is
// free yet: the wait for one is shorter than a second commit. docs/benchmarks.md says what that brings.
type pace struct {
	mean  time.Duration // of the last few
	ended int
}

const (
	quickHandler = time.Millisecond
	quickAfter   = 16                    // handlers that must have ended before they count as quick
	readyFactor  = 8                     // with quick handlers, how many times Concurrency deliveries may be stored as running
	readyFor     = 20 * time.Millisecond // how long a delivery may be ready without a handler; then it waits after all
)

func (p *pace) note(d time.Duration) {
	p.ended++
	p.mean += (d - p.mean) / time.Duration(min(p.ended, 8))
}

func (p *pace) quick() bool { return p.ended >= quickAfter && p.mean < quickHandler }
