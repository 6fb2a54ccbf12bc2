// Package hubtest has a stand-in for the Hugging Face Hub, for tests of programs that receive its webhooks. So far it only delivers: a
// [Hub] posts events to webhooks as the real one does, and keeps a log of its attempts.
//
//	hub := hubtest.New(hubtest.Options{Retry: hubtest.Backoff(10*time.Millisecond, time.Second, 20)})
//	defer hub.Close()
//	id, err := hub.Create(hubtest.Webhook{URL: server.URL + "/webhooks/inbox", Secret: "s3cret"})
//	// ...
//	delivery, err := hub.Send(id, body)
//	// ...
//	state, err := delivery.Wait(ctx) // Delivered, or GivenUp
//
// It behaves as follows; the source of each rule about the real Hub is in parentheses:
//
//   - A delivery is a POST of JSON. The webhook's secret is sent as it is in X-Webhook-Secret; nothing is signed (the Hub's documentation).
//   - The header Webhook-Id is unique to a delivery and the same on its retries and its replays (the Hub's documentation).
//   - Any 2xx is a success. Everything else, a connection that fails included, is retried with backoff and counts towards the suspension
//     of the webhook (the Hub's documentation). The number of retries, their waits and the limit for suspension are unknown: [Options] set them.
//   - An attempt without an answer for 30 s fails (a member of the Hub's staff, in 2024; one of its courses says 10 s).
//   - A redirect is a failure: it is not followed. The real Hub's behaviour is unknown; this is the cautious choice.
//   - A replay goes to the webhook's current URL with its current secret (the Hub's documentation). A retry does too (an assumption).
//   - Deliveries have no order (the Hub's documentation).
//
// The documentation's limit of 1,000 triggers a day for each webhook is left out. The Hub's behaviour beyond the limit is unknown, and
// tests need load.
package hubtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Options say how a Hub delivers. The zero value is as close to the real Hub as its known behaviour allows.
type Options struct {
	// Client sends the requests. Its Timeout and CheckRedirect are ignored. Nil: a client of the Hub's own.
	Client *http.Client
	// Timeout is how long an attempt may take, from the connection to the end of the answer. 0: 30 s.
	Timeout time.Duration
	// Retry returns the wait after so many failures (from 1), and whether to try again at all.
	// Nil: Backoff(time.Second, 5*time.Minute, 10).
	Retry func(failures int) (wait time.Duration, again bool)
	// SuspendAfter is the number of failed attempts in a row that suspend a webhook. 0: never.
	SuspendAfter int
	// InFlight bounds the requests in flight; attempts beyond it wait. 0: 64.
	InFlight int
}

// Backoff returns a value for [Options].Retry: waits begin with first and double up to longest, for so many attempts in all.
func Backoff(first, longest time.Duration, attempts int) func(failures int) (time.Duration, bool) {
	return func(failures int) (time.Duration, bool) {
		if failures >= attempts {
			return 0, false
		}
		wait := first
		for range failures - 1 {
			if wait >= longest/2 {
				return longest, true
			}
			wait *= 2
		}
		return min(wait, longest), true
	}
}

// Webhook is a registration: the URL that events are posted to, and the secret.
type Webhook struct {
	// ID has 24 hexadecimal digits, as in the Hub's examples. If it is empty, [Hub.Create] makes one.
	ID string
	// URL is an http or https URL, used unchanged. Its query may hold the secret instead.
	URL string
	// Secret is sent in X-Webhook-Secret. It must be ASCII, as the Hub's documentation asks. Empty: the header is left out.
	Secret string
}

func (w Webhook) check() error {
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("its URL is none of http or https") // without the URL, which can have a secret in it
	}
	for _, c := range []byte(w.Secret) {
		if c < ' ' || c > '~' {
			return errors.New("its secret has a character that is not printable ASCII")
		}
	}
	return nil
}

// Hub is a stand-in for the Hub. All its methods may be called from any goroutine.
type Hub struct {
	options Options
	client  *http.Client
	own     *http.Transport // nil if Options has a client

	open    context.Context // until Close
	close   context.CancelFunc
	slots   chan struct{} // one for each request in flight
	sending sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	webhooks   map[string]*registration
	deliveries []*Delivery
	attempts   []Attempt
}

// registration is a webhook with the Hub's record of it.
type registration struct {
	Webhook
	failures  int           // since the last success
	suspended chan struct{} // closed when the webhook is suspended
}

func (r *registration) isSuspended() bool {
	select {
	case <-r.suspended:
		return true
	default:
		return false
	}
}

// New starts a Hub without webhooks. The caller has to close it.
func New(options Options) *Hub {
	h := &Hub{options: options, webhooks: make(map[string]*registration)}
	if h.options.Timeout <= 0 {
		h.options.Timeout = 30 * time.Second
	}
	if h.options.Retry == nil {
		h.options.Retry = Backoff(time.Second, 5*time.Minute, 10)
	}
	if h.options.InFlight <= 0 {
		h.options.InFlight = 64
	}
	client := http.Client{}
	if options.Client != nil {
		client = *options.Client
	} else {
		h.own = &http.Transport{MaxIdleConnsPerHost: h.options.InFlight, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
		client.Transport = h.own
	}
	client.Timeout = h.options.Timeout
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.client = &client
	h.slots = make(chan struct{}, h.options.InFlight)
	h.open, h.close = context.WithCancel(context.Background())
	return h
}

// Close cuts the requests in flight, gives up pending deliveries and waits until all of the Hub's goroutines have ended. The log stays.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.close()
	h.sending.Wait()
	if h.own != nil {
		h.own.CloseIdleConnections()
	}
}

// Create registers a webhook and returns its ID. It fails if the URL or the secret is invalid, or the ID is taken.
func (h *Hub) Create(w Webhook) (id string, err error) {
	if w.ID == "" {
		w.ID = objectID()
	}
	if err := w.check(); err != nil {
		return "", fmt.Errorf("create webhook %s: %w", w.ID, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.webhooks[w.ID] != nil {
		return "", fmt.Errorf("create webhook %s: there is one with this ID; use Update", w.ID)
	}
	h.webhooks[w.ID] = &registration{Webhook: w, suspended: make(chan struct{})}
	return w.ID, nil
}

// Update replaces the URL and the secret of the webhook with w's ID. Deliveries that wait for their next attempt use the new ones.
func (h *Hub) Update(w Webhook) error {
	if err := w.check(); err != nil {
		return fmt.Errorf("update webhook %s: %w", w.ID, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.lookUp(w.ID)
	if err != nil {
		return fmt.Errorf("update webhook: %w", err)
	}
	r.Webhook = w
	return nil
}

// Webhook returns a webhook as it is registered now.
func (h *Hub) Webhook(id string) (Webhook, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.lookUp(id)
	if err != nil {
		return Webhook{}, fmt.Errorf("get webhook: %w", err)
	}
	return r.Webhook, nil
}

// Suspended reports whether a webhook is suspended for its failures. Until [Hub.Enable] the Hub then sends nothing to it but replays.
func (h *Hub) Suspended(id string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.lookUp(id)
	if err != nil {
		return false, fmt.Errorf("get webhook: %w", err)
	}
	return r.isSuspended(), nil
}

// Enable ends a webhook's suspension and forgets its failures, as the button in the Hub's settings does. Deliveries that were given up
// stay so; only [Hub.Replay] sends them again.
func (h *Hub) Enable(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.lookUp(id)
	if err != nil {
		return fmt.Errorf("enable webhook: %w", err)
	}
	r.failures = 0
	if r.isSuspended() {
		r.suspended = make(chan struct{})
	}
	return nil
}

// lookUp is called with the lock held.
func (h *Hub) lookUp(id string) (*registration, error) {
	if r := h.webhooks[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("there is none with the ID %q", id)
}

// Attempts returns all ended attempts of the Hub, in the order of their ends.
func (h *Hub) Attempts() []Attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.attempts)
}

// Deliveries returns all deliveries, in the order of [Hub.Send].
func (h *Hub) Deliveries() []*Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.deliveries)
}

// Wait waits until every delivery so far is delivered or given up. It fails only if ctx ends first.
func (h *Hub) Wait(ctx context.Context) error {
	deliveries := h.Deliveries()
	for n, d := range deliveries {
		if _, err := d.Wait(ctx); err != nil {
			return fmt.Errorf("%d of %d deliveries may still be pending: %w", len(deliveries)-n, len(deliveries), err)
		}
	}
	return nil
}

// objectID makes an ID like those of webhooks in the Hub's examples.
func objectID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
