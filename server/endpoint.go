package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// Handler works on one delivery. What it returns is the answer's body, as JSON, if the sender still waits; nil answers {}.
// An error, or a panic, is a failed attempt. The context ends at the endpoint's Timeout, when the delivery is discarded, or when the
// server has waited long enough for it while shutting down; it has nothing to do with the request's.
type Handler func(ctx context.Context, p *payload.Payload) (any, error)

// Option changes how one endpoint handles its deliveries.
type Option func(*endpoint) error

type endpoint struct {
	name        string
	handler     Handler                                        // nil: deliveries are stored, shown and answered {}
	when        func(*payload.Payload) (keep bool, why string) // nil: all are kept
	attempts    int                                            // 0: 1 in development, 5 in production
	firstWait   time.Duration
	timeout     time.Duration
	concurrency int
	serialBy    func(*payload.Payload) string // nil: any may run beside any other
	debounce    *debounce                     // nil: nothing is held back
}

// debounce says how an endpoint's deliveries are held back.
type debounce struct {
	wait, maxWait time.Duration
	key           func(*payload.Payload) string
}

const (
	defaultTimeout     = time.Hour
	defaultConcurrency = 16
	defaultFirstWait   = time.Second
)

func newEndpoint(name string, h Handler, opts []Option) (*endpoint, error) {
	name, err := endpointName(name)
	if err != nil {
		return nil, err
	}
	e := &endpoint{name: name, handler: h, firstWait: defaultFirstWait, timeout: defaultTimeout, concurrency: defaultConcurrency}
	for _, o := range opts {
		if err := o(e); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", name, err)
		}
	}
	return e, nil
}

// When runs the handler only for payloads that keep says yes to; the others are skipped. It is asked after the delivery is stored, so
// what it declined can be seen and replayed. A panic in it is a failed attempt, a no uses none.
func When(keep func(*payload.Payload) bool) Option {
	return func(e *endpoint) error {
		if keep == nil {
			return fmt.Errorf("When: the function is nil")
		}
		e.when = func(p *payload.Payload) (bool, string) { return keep(p), "" }
		return nil
	}
}

// WhenBecause is When for a function that also says why it declines a payload: "the branch is dev, want main". The reason, of which 512
// bytes are kept, stands wherever the delivery is shown as skipped: in the answer to the sender, on the screen, in the inspector and in
// `hubhook deliveries`. Without one, or with a yes, it is as with When. Of both options the last one counts.
func WhenBecause(keep func(*payload.Payload) (keep bool, why string)) Option {
	return func(e *endpoint) error {
		if keep == nil {
			return fmt.Errorf("WhenBecause: the function is nil")
		}
		e.when = keep
		return nil
	}
}

// Retry sets how often a delivery is tried, the first attempt included, and how long the first wait is. Waits double up to 5 minutes,
// with jitter. Without it a delivery is tried once in development and 5 times in production, first after 1 s.
func Retry(attempts int, firstWait time.Duration) Option {
	return func(e *endpoint) error {
		if attempts < 1 {
			return fmt.Errorf("Retry: want at least 1 attempt, have %d", attempts)
		}
		if firstWait <= 0 {
			return fmt.Errorf("Retry: want a first wait above 0, have %v", firstWait)
		}
		e.attempts, e.firstWait = attempts, firstWait
		return nil
	}
}

// Timeout bounds one attempt; its context ends then. The default is 1 h.
func Timeout(d time.Duration) Option {
	return func(e *endpoint) error {
		if d <= 0 {
			return fmt.Errorf("Timeout: want more than 0, have %v", d)
		}
		e.timeout = d
		return nil
	}
}

// SerialBy runs deliveries with the same key one at a time, whatever process runs them; those with different keys, and those whose key
// is empty, run side by side as Concurrency says. Of those that wait for a key the oldest due runs next; one that failed and waits to be
// tried again holds up no other.
//
// The function is asked before the delivery is stored and answered, so it must be quick. If it panics, the delivery is stored as dead,
// with the stack. Where processes share a database, one that is cut off from it may still run a delivery while another one has taken
// over: a handler that must never run twice at a time needs a check of its own.
func SerialBy(key func(*payload.Payload) string) Option {
	return func(e *endpoint) error {
		if key == nil {
			return fmt.Errorf("SerialBy: the function is nil")
		}
		e.serialBy = key
		return nil
	}
}

// Debounce holds a delivery back until none with the same key has come for as long as wait, and then runs the last one only. The others
// are merged into it: DeliveryFrom lists them. However many keep coming, it runs at the latest maxWait after the first one; a maxWait of
// 0 sets no such bound. A delivery that is held back is answered 202 at once.
//
// A nil key is that of the repo's type and name, the event's scope and the updated refs. One whose key is empty is not held back, and
// neither is a replay made here. The function is asked before the delivery is stored and answered, so it must be quick. If it panics,
// the delivery is stored as dead, with the stack.
func Debounce(wait, maxWait time.Duration, key func(*payload.Payload) string) Option {
	return func(e *endpoint) error {
		if wait <= 0 {
			return fmt.Errorf("Debounce: want a wait above 0, have %v", wait)
		}
		if maxWait != 0 && maxWait < wait {
			return fmt.Errorf("Debounce: want a longest wait of 0 or at least %v, have %v", wait, maxWait)
		}
		if key == nil {
			key = burstKey
		}
		e.debounce = &debounce{wait: wait, maxWait: maxWait, key: key}
		return nil
	}
}

// burstKey is the key of Debounce where none is given.
func burstKey(p *payload.Payload) string {
	parts := []string{string(p.Repo.Type), p.Repo.Name, string(p.Event.Scope)}
	for _, r := range p.UpdatedRefs {
		parts = append(parts, r.Ref)
	}
	slices.Sort(parts[3:])          // the same refs in another order are the same burst
	return fmt.Sprintf("%q", parts) // quoted, so that no name runs into the next
}

// Concurrency sets how many attempts of this endpoint run at once in this process. The default is 16.
func Concurrency(n int) Option {
	return func(e *endpoint) error {
		if n < 1 {
			return fmt.Errorf("Concurrency: want at least 1, have %d", n)
		}
		e.concurrency = n
		return nil
	}
}
