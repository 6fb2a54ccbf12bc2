package hubtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// maxAnswer bounds the part of an answer's body that an [Attempt] keeps, in bytes.
const maxAnswer = 16 << 10

// Delivery is one event on its way to a webhook.
type Delivery struct {
	// ID is the header Webhook-Id of all its attempts.
	ID string
	// WebhookID is the ID of its webhook.
	WebhookID string
	// Body is the posted body.
	Body []byte

	hub   *Hub
	of    *registration
	ended chan struct{} // closed when it is not pending any more

	// Under the Hub's lock.
	state    State
	attempts []Attempt
}

// State is how far a [Delivery] has come.
type State string

const (
	// Pending: the delivery is being posted, or waits for its next attempt.
	Pending State = "pending"
	// Delivered: the delivery was answered with a 2xx.
	Delivered State = "delivered"
	// GivenUp: the attempts were used up, the webhook was suspended, disabled or deleted, or the Hub was closed.
	GivenUp State = "given up"
	// OverLimit: the webhook already had all deliveries of its day, so the delivery was never posted. See [Options].PerDay.
	OverLimit State = "over the limit"
)

// Attempt is one POST of a delivery.
type Attempt struct {
	// DeliveryID is the header Webhook-Id.
	DeliveryID string
	// Number counts the attempts of the delivery from 1, replays included.
	Number int
	// Replay is true if [Hub.Replay] made the attempt.
	Replay bool
	// URL is the URL that was posted to.
	URL string
	// Started and Ended are the times just before the request and just after its answer.
	Started, Ended time.Time
	// Status is the answer's status, 0 without an answer.
	Status int
	// Header has the answer's headers.
	Header http.Header
	// Body is the beginning of the answer's body, 16 KiB at most.
	Body []byte
	// Err says why there was no complete answer. It never contains the URL.
	Err error
}

// Succeeded reports whether the answer was a 2xx. The Hub asks for nothing else.
func (a Attempt) Succeeded() bool { return a.Status/100 == 2 }

// String describes the attempt in a line.
func (a Attempt) String() string {
	text := fmt.Sprintf("attempt %d of %s, %v: ", a.Number, a.DeliveryID, a.Ended.Sub(a.Started).Round(time.Millisecond))
	if a.Status != 0 {
		text += fmt.Sprint(a.Status)
	}
	if a.Err != nil {
		text += " " + a.Err.Error()
	}
	return text
}

// Send begins a delivery of an event to a webhook: the Hub posts it at once, and again after each failure as [Options].Retry says.
// Send does not wait for that. If the webhook is suspended or disabled, the delivery is given up at once and never posted.
func (h *Hub) Send(webhookID string, body []byte) (*Delivery, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.webhooks.lookUp(webhookID)
	if err != nil {
		return nil, fmt.Errorf("send an event to a webhook: %w", err)
	}
	if h.closed {
		return nil, errors.New("send an event to a webhook: the Hub is closed")
	}
	return h.send(r, slices.Clone(body)), nil
}

// send is called with the lock held.
func (h *Hub) send(r *registration, body []byte) *Delivery {
	d := &Delivery{ID: rand.Text(), WebhookID: r.ID, Body: body, hub: h, of: r, ended: make(chan struct{}), state: Pending}
	h.deliveries = append(h.deliveries, d)
	h.byID[d.ID] = d
	if h.options.PerDay > 0 && !r.isStopped() {
		if _, allowed := r.day.take(h.options.Now(), 24*time.Hour, h.options.PerDay); !allowed {
			d.state = OverLimit
			close(d.ended)
			return d
		}
	}
	if r.Job != nil {
		d.state = Delivered
		close(d.ended)
		return d
	}
	stopped, wait := r.stopped, time.Duration(0)
	if h.shuffle != nil {
		wait = time.Duration(h.shuffle.Int64N(int64(h.options.Shuffle) + 1))
	}
	h.sending.Go(func() {
		if !d.pause(wait, stopped) {
			d.end(GivenUp)
			return
		}
		d.end(d.deliver(stopped))
	})
	return d
}

// pause waits, and returns false if the delivery has to be given up meanwhile.
func (d *Delivery) pause(wait time.Duration, stopped <-chan struct{}) bool {
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stopped:
		return false
	case <-d.hub.open.Done():
		return false
	}
}

// deliver posts the delivery until an attempt succeeds or the delivery is given up.
func (d *Delivery) deliver(stopped <-chan struct{}) State {
	for failures := 0; ; {
		select {
		case <-stopped: // also where there is a free slot
			return GivenUp
		default:
		}
		select {
		case d.hub.slots <- struct{}{}:
		case <-stopped:
			return GivenUp
		case <-d.hub.open.Done():
			return GivenUp
		}
		a := d.post(d.hub.open, false)
		<-d.hub.slots
		if a.Succeeded() {
			return Delivered
		}
		failures++
		wait, again := d.hub.options.Retry(failures)
		if !again {
			return GivenUp
		}
		if !d.pause(wait, stopped) {
			return GivenUp
		}
	}
}

func (d *Delivery) end(s State) {
	d.hub.mu.Lock()
	d.state = s
	d.hub.mu.Unlock()
	close(d.ended)
}

// Replay posts a delivery once more, whatever its state, as the Hub's Replay button does: with the same Webhook-Id, to the webhook's
// current URL. It waits for the answer. A replay is not retried, and its outcome does not count towards the webhook's suspension. How the
// real Hub handles these two is unknown.
func (h *Hub) Replay(ctx context.Context, d *Delivery) (Attempt, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return Attempt{}, fmt.Errorf("replay delivery %s: the Hub is closed", d.ID)
	}
	if h.webhooks.byID[d.WebhookID] != d.of {
		h.mu.Unlock()
		return Attempt{}, fmt.Errorf("replay delivery %s: its webhook %s was deleted", d.ID, d.WebhookID)
	}
	h.sending.Add(1)
	h.mu.Unlock()
	defer h.sending.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.open, cancel)()
	return d.post(ctx, true), nil
}

// post makes one attempt and writes it into the log.
func (d *Delivery) post(ctx context.Context, replay bool) Attempt {
	h := d.hub
	h.mu.Lock()
	w := d.of.Webhook
	h.mu.Unlock()
	a := Attempt{DeliveryID: d.ID, Replay: replay, URL: w.URL, Started: time.Now()}
	a.Err = d.request(ctx, w, &a)
	a.Ended = time.Now()

	h.mu.Lock()
	defer h.mu.Unlock()
	a.Number = len(d.attempts) + 1
	d.attempts = append(d.attempts, a)
	h.attempts = append(h.attempts, a)
	r := d.of
	switch {
	case replay || ctx.Err() != nil: // an attempt that Close has cut does not count for the webhook
	case a.Succeeded():
		r.failures = 0
	default:
		r.failures++
		if h.options.SuspendAfter > 0 && r.failures >= h.options.SuspendAfter && !r.isStopped() {
			r.suspend()
		}
	}
	return a
}

// request posts to w and puts the answer into a.
func (d *Delivery) request(ctx context.Context, w Webhook, a *Attempt) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(d.Body))
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Content-Type", d.hub.options.Payloads.ContentType)
	req.Header.Set("Webhook-Id", d.ID)
	if w.Secret != "" {
		req.Header.Set("X-Webhook-Secret", w.Secret)
	}
	resp, err := d.hub.client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	a.Status, a.Header = resp.StatusCode, resp.Header
	if a.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// withoutURL removes the URL from an error of net/http, because the URL's query may hold a secret.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return fmt.Errorf("post the delivery: %w", of.Err)
	}
	return fmt.Errorf("post the delivery: %w", err)
}

// State returns the delivery's state.
func (d *Delivery) State() State {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	return d.state
}

// Attempts returns the delivery's ended attempts, oldest first.
func (d *Delivery) Attempts() []Attempt {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	return slices.Clone(d.attempts)
}

// Wait waits until the delivery is not [Pending] any more, and returns its state. It fails only if ctx ends first.
func (d *Delivery) Wait(ctx context.Context) (State, error) {
	select {
	case <-d.ended:
		return d.State(), nil
	case <-ctx.Done():
		return Pending, fmt.Errorf("wait for delivery %s: %w", d.ID, ctx.Err())
	}
}
