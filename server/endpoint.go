package server

import (
	"context"
	"fmt"
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
	handler     Handler // nil: deliveries are stored, shown and answered {}
	when        func(*payload.Payload) bool
	attempts    int // 0: 1 in development, 5 in production
	firstWait   time.Duration
	timeout     time.Duration
	concurrency int
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
