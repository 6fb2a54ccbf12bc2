package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

// Delivery is what a handler can learn about its delivery beside the payload.
type Delivery struct {
	ID        string      // of the answer's header Hubhook-Delivery
	Endpoint  string      // the name under /webhooks/
	WebhookID string      // the header Webhook-Id, the same on the Hub's retries and replays; "" without it
	Attempt   int         // which attempt this is, from 1
	Header    http.Header // of the request, with the secret replaced
	Received  time.Time
	Merged    []string // IDs of the deliveries of a burst that were merged into this one, by Debounce
	ReplayOf  string   // ID of the delivery that this one repeats; "" if none
	Synthetic bool     // a sample event, not the Hub's
}

// DeliveryFrom returns the delivery that a handler works on, by the handler's context. It reports false for any other context.
func DeliveryFrom(ctx context.Context) (Delivery, bool) {
	w := workOf(ctx)
	if w == nil {
		return Delivery{}, false
	}
	c := w.claim
	return Delivery{
		ID: c.ID, Endpoint: c.Endpoint, WebhookID: c.WebhookID, Attempt: c.Attempt, Header: c.Header,
		Received: c.Received, Merged: c.Merged, ReplayOf: c.ReplayOf, Synthetic: c.Synthetic,
	}, true
}

// attempt runs e's handler once.
func (s *Server) attempt(ctx context.Context, e *endpoint, c *queue.Claim) (outcome queue.Outcome) {
	var p *payload.Payload
	if a, ok := c.Value.(*arrival); ok {
		p = a.payload
	} else {
		var err error
		if p, err = payload.Parse(c.Body); err != nil {
			return queue.Outcome{Error: err.Error(), Final: true}
		}
	}
	w := &work{Context: ctx, server: s, claim: c}
	defer func() { outcome.Output = w.closeOutput() }()
	ctx, cancel := context.WithTimeoutCause(w, e.timeout, errTimeout)
	defer cancel()
	outcome = runHandler(ctx, e, p)
	outcome.Skip = s.secrets.hide.Redact(outcome.Skip)
	if outcome.Error != "" {
		if errors.Is(context.Cause(ctx), errTimeout) {
			outcome.Error = fmt.Sprintf("timed out after %v: %s", e.timeout, outcome.Error)
		}
		outcome.Error = s.secrets.hide.Redact(outcome.Error)
		outcome.Stack = s.secrets.hide.Redact(outcome.Stack)
	}
	return outcome
}

var errTimeout = errors.New("the endpoint's timeout has passed")

// runHandler calls e's handler and turns whatever happens, a panic included, into an outcome. If the handler ends its goroutine, the queue
// makes the outcome.
func runHandler(ctx context.Context, e *endpoint, p *payload.Payload) (outcome queue.Outcome) {
	defer func() {
		if v := recover(); v != nil {
			outcome = queue.Outcome{Error: fmt.Sprintf("panic: %v", v), Stack: string(debug.Stack())}
		}
	}()
	return callHandler(ctx, e, p)
}

func callHandler(ctx context.Context, e *endpoint, p *payload.Payload) queue.Outcome {
	if e.when != nil {
		keep, why, err := e.when(ctx, p)
		if err != nil {
			return queue.Outcome{Error: err.Error()}
		}
		if !keep {
			return queue.Outcome{Skip: cmp.Or(why, "the endpoint's condition (When) said no")}
		}
	}
	if e.handler == nil {
		return queue.Outcome{}
	}
	result, err := e.handler(ctx, p)
	if err != nil {
		return failure(err)
	}
	if result == nil {
		return queue.Outcome{}
	}
	b, err := json.Marshal(result)
	if err != nil {
		return queue.Outcome{Final: true, Error: "the handler is done, but what it returned can't be written as JSON: " + err.Error()}
	}
	return queue.Outcome{Result: b}
}

// failure is the outcome of a handler's error. An error with the method PutBack says that no attempt was made, and when to try again.
func failure(err error) queue.Outcome {
	var notYet interface{ PutBack() (after time.Duration) }
	if errors.As(err, &notYet) {
		return queue.Outcome{PutBack: &queue.PutBack{After: notYet.PutBack()}}
	}
	what := err.Error()
	if hint := text.Hint(err); hint != "" {
		what += "; " + hint
	}
	return queue.Outcome{Error: what}
}

// changed shows what became of a delivery. The queue calls it on the goroutine that does the work, so everything here is quick.
func (s *Server) changed(c queue.Change) {
	d := &c.Delivery
	switch {
	case c.Duplicate: // shown with the request
	case c.Attempt == nil && c.New:
		id := d.ID
		s.newest.Store(&id)
		if !d.Synthetic && d.ReplayOf == "" {
			s.prober.delivered(d.Received)
		}
		s.screen.Delivery(inspector.ViewDelivery(d))
		if d.State == queue.Waiting && s.joined != nil {
			s.joined.program.Waits()
		}
		if d.State.Finished() {
			s.metrics.ended(d.Endpoint, string(d.State))
		}
		if d.State == queue.Done { // an endpoint without a handler
			s.showOutcome(&c)
		}
	case c.Attempt != nil && c.Attempt.Ended:
		s.metrics.attempted(d.Endpoint, c.Attempt.Duration, d.State == queue.Retrying || d.State == queue.Dead)
		if d.State != queue.Discarded { // that was told when it was discarded
			s.metrics.ended(d.Endpoint, string(d.State))
			s.showOutcome(&c)
		}
		if d.State == queue.Retrying && !s.handles(d.Endpoint) { // it went while the attempt ran, and could not be counted then
			s.warnOfUnserved(d.Endpoint, map[queue.State]int64{d.State: 1})
		}
	case c.Attempt == nil && (d.State == queue.Skipped || d.State == queue.Discarded || d.State == queue.Merged):
		s.metrics.ended(d.Endpoint, string(d.State))
		s.showOutcome(&c)
	}
	s.watchLoops(&c)
}

func (s *Server) viewOutcome(c *queue.Change) ui.Outcome {
	v := ui.Outcome{AttemptEvent: inspector.ViewAttempt(c)}
	if e := s.endpointOf(c.Delivery.Endpoint); e != nil {
		v.Attempts = s.attempts(e)
	}
	if c.Attempt != nil {
		v.Duration = c.Attempt.Duration
	}
	return v
}
