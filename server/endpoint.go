package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

// Handler works on one delivery. Its result is kept, and is the answer's body, as JSON, if the sender still waits; nil is {}. An error, or a
// panic, is a failed attempt. The context is not the request's: it ends at the endpoint's [Timeout], when the delivery is discarded, or
// when the server shuts down and has waited long enough.
type Handler func(ctx context.Context, p *payload.Payload) (any, error)

// Option says how one endpoint handles its deliveries. A wrong one makes Handle and Add panic.
type Option func(*endpoint) error

type endpoint struct {
	name        string
	handler     Handler   // nil: deliveries are stored, shown and answered {}
	when        condition // nil: all are kept
	attempts    int       // 0: 1 in development, 5 in production
	firstWait   time.Duration
	timeout     time.Duration
	concurrency int
	serialBy    func(*payload.Payload) string // nil: any may run beside any other
	debounce    *debounce                     // nil: nothing is held back
	watched     []hub.Watched                 // beside those of the settings
	followed    []hub.RepoID                  // likewise
	borrowed    []string                      // IDs of webhooks, beside those of the settings
}

// handles reports whether deliveries of e are more than stored, shown and answered {}.
func (e *endpoint) handles() bool { return e.handler != nil || e.when != nil || e.debounce != nil }

// condition says whether a delivery is handled, and if not, why. An error is a failed attempt.
type condition func(context.Context, *payload.Payload) (keep bool, why string, err error)

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
	name, err := EndpointName(name)
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

// When runs the handler only where keep returns true. Other deliveries are skipped: they are stored, and can be seen and replayed. A panic in
// keep is a failed attempt; a skipped delivery has used none.
func When(keep func(*payload.Payload) bool) Option {
	return func(e *endpoint) error {
		if keep == nil {
			return fmt.Errorf("When: the function is nil")
		}
		e.when = func(_ context.Context, p *payload.Payload) (bool, string, error) { return keep(p), "", nil }
		return nil
	}
}

// WhenBecause is [When] with a reason. Where keep is false, why is shown with the skipped delivery: in the answer to the sender, on the
// screen, in the inspector, and by `hubhook deliveries`. A good reason says what was seen and what was wanted: "the branch is dev, want
// main". 512 bytes of it are kept. Of When, WhenBecause and [WhenChecked] an endpoint has one, the last that it was given.
func WhenBecause(keep func(*payload.Payload) (keep bool, why string)) Option {
	return func(e *endpoint) error {
		if keep == nil {
			return fmt.Errorf("WhenBecause: the function is nil")
		}
		e.when = func(_ context.Context, p *payload.Payload) (bool, string, error) {
			kept, why := keep(p)
			return kept, why, nil
		}
		return nil
	}
}

// WhenChecked is [WhenBecause] for a condition that may have to ask somebody, and so may fail. An error is a failed attempt: the condition
// is checked again with the next one. ctx is the handler's, and its time counts towards the endpoint's [Timeout]. What check prints to
// [Output] is kept like the handler's.
func WhenChecked(check func(ctx context.Context, p *payload.Payload) (keep bool, why string, err error)) Option {
	return func(e *endpoint) error {
		if check == nil {
			return fmt.Errorf("WhenChecked: the function is nil")
		}
		e.when = check
		return nil
	}
}

// Retry sets how many attempts a delivery has, the first included, and how long to wait before the second. Later waits double, up to 5
// minutes, with jitter. The default is 1 attempt in development, and in production 5 attempts and a first wait of 1 s.
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

// Timeout ends the handler's context after d. The default is 1 h.
func Timeout(d time.Duration) Option {
	return func(e *endpoint) error {
		if d <= 0 {
			return fmt.Errorf("Timeout: want more than 0, have %v", d)
		}
		e.timeout = d
		return nil
	}
}

// SerialBy runs deliveries with the same key one at a time, in all processes together. Deliveries with different keys, or with an empty key,
// run side by side, as [Concurrency] says. Of the deliveries that wait for a key the oldest due one runs next. A failed delivery that waits
// for its next attempt holds up no other.
//
// key is called before the delivery is stored and answered, so it must be quick. If it panics, the delivery is stored as dead, with the
// stack. Where processes share a database, a process that has lost its connection may still run a delivery while another process has taken
// it over. A handler that must never run twice at a time needs a check of its own.
func SerialBy(key func(*payload.Payload) string) Option {
	return func(e *endpoint) error {
		if key == nil {
			return fmt.Errorf("SerialBy: the function is nil")
		}
		e.serialBy = key
		return nil
	}
}

// Debounce runs the last delivery of a burst for all of it. A delivery waits until no other with the same key has come for as long as wait;
// the earlier ones are merged into it, and [DeliveryFrom] lists them. While more keep coming, the burst ends maxWait after its first
// delivery; a maxWait of 0 sets no such bound. A delivery that waits for its burst is answered 202 at once.
//
// Without a key function, deliveries belong together if they have the same repo type and name, event scope and updated refs. A delivery
// with an empty key does not wait, nor does a replay made by hubhook. key is called before the delivery is stored and answered, so it must
// be quick. If it panics, the delivery is stored as dead, with the stack.
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

// Concurrency sets how many attempts of the endpoint may run at a time, in each process. The default is 16.
func Concurrency(n int) Option {
	return func(e *endpoint) error {
		if n < 1 {
			return fmt.Errorf("Concurrency: want at least 1, have %d", n)
		}
		e.concurrency = n
		return nil
	}
}
