// Package hubtest has a stand-in for the Hugging Face Hub, for tests of whatever receives its webhooks. So far it has the half that
// delivers: a [Hub] posts events to webhooks as the real one does, and keeps a log of how that went.
//
//	hub := hubtest.New(hubtest.Options{Retry: hubtest.Backoff(10*time.Millisecond, time.Second, 20)})
//	defer hub.Close()
//	id, err := hub.Create(hubtest.Webhook{URL: server.URL + "/webhooks/inbox", Secret: "s3cret"})
//	// ...
//	delivery, err := hub.Send(id, body)
//	// ...
//	state, err := delivery.Wait(ctx) // Delivered, or GivenUp
//
// What it does, and how that is known of the real Hub:
//
//   - A delivery is a POST of JSON. The webhook's secret is sent as it is in X-Webhook-Secret; nothing is signed (the Hub's documentation).
//   - The header Webhook-Id is unique to a delivery and the same on its retries and its replays (the Hub's documentation).
//   - Any 2xx is a success. Everything else, a connection that fails included, is retried with backoff and counts towards the suspension
//     of the webhook (the Hub's documentation). How often, after which waits and when it suspends is unknown: [Options] set it.
//   - An answer is waited for for 30 s (a member of the Hub's staff, in 2024; one of its courses says 10 s).
//   - Redirects are not followed, so that one is a failure. Unknown of the Hub; the cautious reading.
//   - A replay goes to the webhook's current URL with its current secret (the Hub's documentation). That a retry does too is assumed.
//   - Nothing holds deliveries in order (the Hub's documentation).
//
// The documentation's limit of 1,000 triggers a day for each webhook is left out: what the Hub does beyond it is unknown, and tests want
// load.
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

// Options say how a Hub delivers. The zero value is as close to the real one as is known.
type Options struct {
	// Client sends the requests. Its Timeout and CheckRedirect do not count. Nil: a client of the Hub's own.
	Client *http.Client
	// Timeout is how long an attempt may take, from the connection to the end of the answer. 0: 30 s.
	Timeout time.Duration
	// Retry says how long a delivery waits that has failed so many times (from 1), and whether it is tried again at all.
	// Nil: Backoff(time.Second, 5*time.Minute, 10).
	Retry func(failures int) (wait time.Duration, again bool)
	// SuspendAfter is after how many failed attempts without a success in between a webhook is suspended. 0: never.
	SuspendAfter int
	// InFlight bounds the requests under way; what is due beyond it waits. 0: 64.
	InFlight int
}

// Backoff is a value for [Options].Retry: waits that begin with first and double up to longest, and so many attempts in all.
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

// Webhook is a registration: where events are posted to, and with which secret.
type Webhook struct {
	// ID is 24 hexadecimal digits, as in the Hub's examples. [Hub.Create] makes one up where it is empty.
	ID string
	// URL is called as it stands, with http or https; a secret may be in its query instead.
	URL string
	// Secret is sent in X-Webhook-Secret; ASCII only, as the Hub's documentation asks for. Empty: the header is left out.
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
	own     *http.Transport // nil where the client was given

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

// registration is a webhook with what the Hub knows of it.
type registration struct {
	Webhook
	failures  int           // since the last success
	suspended chan struct{} // closed when it is
}

func (r *registration) isSuspended() bool {
	select {
	case <-r.suspended:
		return true
	default:
		return false
	}
}

// New starts a Hub without webhooks. It has to be closed.
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

// Close cuts the requests in flight, gives up what was not delivered and waits until nothing of the Hub runs any more. What was logged
// stays.
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

// Create registers a webhook and returns its ID. It fails where the URL, the secret or an ID that is taken is no good.
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

// Update replaces URL and secret of the webhook with w's ID. Deliveries that wait for their next attempt use the new ones.
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

// Suspended reports whether a webhook was suspended for its failures. The Hub then sends nothing to it, whatever happens, until
// [Hub.Enable].
func (h *Hub) Suspended(id string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.lookUp(id)
	if err != nil {
		return false, fmt.Errorf("get webhook: %w", err)
	}
	return r.isSuspended(), nil
}

// Enable ends a webhook's suspension and forgets its failures, as the button in the Hub's settings does. What was given up meanwhile
// is not sent any more but by [Hub.Replay].
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

// lookUp needs the lock.
func (h *Hub) lookUp(id string) (*registration, error) {
	if r := h.webhooks[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("there is none with the ID %q", id)
}

// Attempts are all attempts of the Hub that have ended, in the order in which they did.
func (h *Hub) Attempts() []Attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.attempts)
}

// Deliveries are all that were sent, in the order of [Hub.Send].
func (h *Hub) Deliveries() []*Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.deliveries)
}

// Wait waits until every delivery that was sent before is delivered or given up. Its error is the context's.
func (h *Hub) Wait(ctx context.Context) error {
	deliveries := h.Deliveries()
	for n, d := range deliveries {
		if _, err := d.Wait(ctx); err != nil {
			return fmt.Errorf("%d of %d deliveries may still be pending: %w", len(deliveries)-n, len(deliveries), err)
		}
	}
	return nil
}

// objectID makes an ID like those that the Hub's examples have for webhooks.
func objectID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
