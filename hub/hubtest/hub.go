// Package hubtest has a stand-in for the Hugging Face Hub, for tests of programs that receive its webhooks or call its API.
//
// A [Hub] is a [net/http.Handler] with the API, and posts deliveries to the webhooks that it has. A [Server] is a Hub that listens:
//
//	hub := hubtest.NewServer(hubtest.Options{Retry: hubtest.Backoff(10*time.Millisecond, time.Second, 20)})
//	defer hub.Close()
//	t.Setenv("HF_ENDPOINT", hub.URL)
//	t.Setenv("HF_TOKEN", hub.Accounts.AddToken(hubtest.Token{}))
//
// # Deliveries
//
// They behave as follows; the source of each rule about the real Hub is in parentheses:
//
//   - A delivery is a POST of JSON. The webhook's secret is sent as it is in X-Webhook-Secret; nothing is signed (the Hub's documentation).
//   - The header Webhook-Id is unique to a delivery and the same on its retries and its replays (the Hub's documentation).
//   - Any 2xx is a success. Everything else, a connection that fails included, is retried with backoff and counts towards the suspension
//     of the webhook (the Hub's documentation). The number of retries, their waits and the limit for suspension are unknown: [Options] set them.
//   - An attempt without an answer for 30 s fails (a member of the Hub's staff, in 2024; one of its courses says 10 s).
//   - A redirect is a failure: it is not followed. The real Hub's behaviour is unknown; this is the cautious choice.
//   - A replay goes to the webhook's current URL with its current secret (the Hub's documentation). A retry does too (an assumption).
//   - Deliveries have no order (the Hub's documentation). [Options].Shuffle makes them overtake each other.
//
// The documentation's limit of 1,000 triggers a day for each webhook is off unless [Options].PerDay sets it. The Hub's behaviour beyond the
// limit is unknown, and tests need load.
//
// # Changes
//
// [Hub.CreateRepo] and [Hub.CreateBucket] make what webhooks can watch. A change of a [Repo], a [Discussion] or a [Bucket] makes one event, and
// a delivery of it to each webhook that watches the repo or its owner, in the domain of the event:
//
//   - The bodies are those of version 3 in the Hub's documentation. [Payloads] chooses where it leaves something open.
//   - A webhook that is disabled or suspended gets no delivery, then or later.
//   - Events of a private repo go to the webhooks of its owner, and of the members of the organization that owns it (an assumption: others can't
//     see it).
//   - A new pull request makes a second event, for its ref (the Hub's documentation). So does a merge, for main (an assumption).
//   - One change of a bucket is one event, which lists 10,000 files at most (the Hub's documentation).
//   - A move makes an event with the old name and movedTo (huggingface_hub; the documentation does not describe it).
//
// # API
//
// These paths are served. Their shapes are those of huggingface_hub 2.4.0 and of the Hub's OpenAPI description; [API] chooses where the two
// differ. Each answer has an X-Request-Id; errors have X-Error-Message.
//
//   - /api/whoami-v2: GET
//   - /api/users/NAME/overview, /api/organizations/NAME/overview: GET
//   - /api/settings/webhooks: GET, POST
//   - /api/settings/webhooks/ID: GET, POST, DELETE
//   - /api/settings/webhooks/ID/enable, /disable, /replay/DELIVERY: POST
//   - /api/KIND: GET, with author and search; KIND is models, datasets or spaces
//   - /api/KIND/OWNER/NAME, /api/KIND/OWNER/NAME/revision/REVISION: GET, with expand to choose fields
//   - /api/KIND/OWNER/NAME/refs: GET, with include_prs
//   - /api/KIND/OWNER/NAME/tree/REVISION/PATH: GET, with recursive, in pages
//   - /api/KIND/OWNER/NAME/commits/REVISION: GET, in pages
//   - /api/KIND/OWNER/NAME/discussions: POST
//   - /api/KIND/OWNER/NAME/discussions/NUM: GET, with its comments
//   - /api/KIND/OWNER/NAME/discussions/NUM/comment: POST
//   - /api/jobs/OWNER: GET, with label, in pages; POST. A Job is kept, and nothing runs
//   - /api/buckets/OWNER: GET; me stands for the token's user
//   - /api/buckets/OWNER/NAME: GET, POST, DELETE
//   - /api/buckets/OWNER/NAME/settings: PUT
//   - /api/buckets/OWNER/NAME/tree/PREFIX: GET, with recursive, in pages
//   - /api/buckets/OWNER/NAME/paths-info: POST
//   - /api/buckets/OWNER/NAME/events: GET, the live feed, with cursor or since
//   - /api/repos/move: POST, for repos and buckets
//
// A revision is one element of the path: refs%2Fpr%2F3. The API takes no uploads to a bucket; use [Bucket.Upload]. Pages are linked by the header Link
// with rel="next". A request for the old name of a repo that moved is answered 307.
package hubtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
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
	// PerDay is the number of deliveries that a webhook gets in 24 hours; the real Hub's documentation says 1,000. What is over it gets the
	// state [OverLimit] and is never posted; what the real Hub does is unknown. 0: no limit.
	PerDay int
	// Shuffle makes the first attempt of each delivery wait for a random time up to this one, so that deliveries overtake each other more
	// than they do by themselves. 0: none waits.
	Shuffle time.Duration
	// ShuffleSeed makes the random times of Shuffle the same in each run.
	ShuffleSeed uint64

	// Payloads says what bodies have where the real Hub's behaviour is unknown.
	Payloads Payloads
	// URL begins the addresses in payloads. Empty: https://huggingface.co.
	URL string
	// User is the name of the user that owns webhooks and tokens for which no owner is given. Empty: me.
	User string
	// API says how the API answers.
	API API
	// ReplayWindow is how long the feed of a bucket can replay its changes. 0: 15 min.
	ReplayWindow time.Duration
	// KeepAlive is the time between the comment lines in the feed of a bucket. 0: 30 s.
	KeepAlive time.Duration
	// PageSize is the number of files or commits on a page of the API, if the request has no limit. 0: 1,000 files, 50 commits.
	PageSize int
	// Quota is the number of API requests in QuotaWindow for each token, and for all requests without one together. More are answered 429.
	// The real Hub allows 1,000 for a token and 500 without one. 0: no limit, and no RateLimit headers.
	Quota int
	// QuotaWindow is the time after which the count of requests begins anew. 0: 5 min.
	QuotaWindow time.Duration
	// Now is the clock of quotas, limits, commits and replayed changes of buckets. Waits are real: run the test in a
	// [testing/synctest] bubble to pass them. Nil: [time.Now].
	Now func() time.Time
}

// Payloads says what the bodies of deliveries have where the real Hub's behaviour is unknown.
type Payloads struct {
	// ContentType is the header Content-Type. Empty: application/json, without a charset.
	ContentType string
	// Truncated puts updatedFilesTruncated into every event of a bucket's files, with the value false if the list is whole. Without it the
	// field is there only if the list was cut.
	Truncated bool
	// DeletedHeadSHA keeps headSha in the event of a repo's deletion.
	DeletedHeadSHA bool
	// NoUpdatedRefs leaves updatedRefs out, as a client of others has seen it.
	NoUpdatedRefs bool
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

// Hub is a stand-in for the Hub. All its methods may be called from any goroutine.
type Hub struct {
	// Accounts are its users, organizations and tokens.
	Accounts *Accounts
	// Faults make requests to its API go wrong.
	Faults *Faults
	// Requests is the log of the requests to its API.
	Requests *Requests

	options Options
	routes  http.Handler
	client  *http.Client
	own     *http.Transport // nil if Options has a client

	open    context.Context // until Close
	close   context.CancelFunc
	slots   chan struct{} // one for each request in flight
	sending sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	webhooks   registry
	deliveries []*Delivery
	byID       map[string]*Delivery
	attempts   []Attempt
	anonymous  window // requests without a token
	shuffle    *mathrand.Rand
	shelf      shelf
	jobs       []*StartedJob
}

// New starts a Hub without webhooks. The caller has to close it.
func New(options Options) *Hub {
	h := &Hub{options: options, byID: make(map[string]*Delivery)}
	h.webhooks.byID = make(map[string]*registration)
	h.Accounts = &Accounts{hub: h, byName: make(map[string]*account), tokens: make(map[string]*token)}
	h.Faults, h.Requests = new(Faults), &Requests{began: make(chan struct{})}
	h.shelf = shelf{make(map[place]*Repo), make(map[string]*Bucket), make(map[place]place)}
	h.options.URL = strings.TrimSuffix(cmp.Or(options.URL, "https://huggingface.co"), "/")
	h.options.Payloads.ContentType = cmp.Or(options.Payloads.ContentType, "application/json")
	h.options.User = cmp.Or(options.User, "me")
	h.options.API.BadRequest = cmp.Or(options.API.BadRequest, http.StatusBadRequest)
	h.options.ReplayWindow = cmp.Or(options.ReplayWindow, 15*time.Minute)
	h.options.KeepAlive = cmp.Or(options.KeepAlive, 30*time.Second)
	h.options.QuotaWindow = cmp.Or(options.QuotaWindow, 5*time.Minute)
	if options.Now == nil {
		h.options.Now = time.Now
	}
	if options.Shuffle > 0 {
		h.shuffle = mathrand.New(mathrand.NewPCG(options.ShuffleSeed, 0))
	}
	h.routes = routes(h)
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

// Close cuts the requests in flight, gives up pending deliveries and waits until all of the Hub's goroutines have ended. The logs stay.
// Requests to the API that hang end; the server that [Hub.ServeHTTP] runs in has to be closed by its owner.
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

// Wait waits until no delivery so far is pending. It fails only if ctx ends first.
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
