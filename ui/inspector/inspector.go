// Package inspector is hubhook's private server: an HTTP API over the stored deliveries, a stream of live events, a small page, and the
// client of that API for hubhook's own commands.
//
// It shows payloads and can run handlers, so it belongs on a loopback listener of its own, never behind a tunnel. It makes three checks
// on every listener: the Host must be loopback, no other site may have made the request, and the request must carry the token. Only GET
// /metrics needs no token.
package inspector

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

// Queue is what the inspector needs of the stored deliveries. *queue.Queue is one.
type Queue interface {
	List(ctx context.Context, f queue.Filter) (ds []queue.Delivery, next string, err error)
	Get(ctx context.Context, id string) (*queue.Record, error)
	Counts(ctx context.Context) (queue.Counts, error)
	TimeSeries(ctx context.Context, tq queue.TimeSeriesQuery) ([]queue.TimeStep, error)
	Discard(ctx context.Context, id, reason string) error
	Watch(buffer int) *queue.Watcher
}

// Config sets up an inspector. All fields but Output and Metrics are required.
//
// The functions are called with the request's context and may be called at the same time. If one fails, the answer's status is 500; for
// an error of the queue 404, 409 or 503, and for a *Refusal the Refusal's own status.
type Config struct {
	Queue Queue

	// Token is what a request must carry; see the function Token.
	Token string

	// Replay stores a delivery again and returns the new delivery's ID. body replaces the stored body; nil means the same bytes. The
	// headers are the stored ones in both cases. body need not be a payload of the Hub's: if it can't be read, the new delivery is
	// stored as dead, as at an endpoint.
	Replay func(ctx context.Context, id string, body []byte) (newID string, err error)

	// Trigger sends a sample event the way of the Hub's deliveries, and returns the delivery's ID.
	Trigger func(ctx context.Context, t api.Trigger) (id string, err error)

	// Status returns the status of this process. The inspector fills in the counts.
	Status func(ctx context.Context) (api.Status, error)

	// Output returns the bounded text that the n-th attempt of a delivery has printed so far, and how many bytes it printed in all. It
	// returns "" and 0 if the attempt does not run in this process. Nil: output is shown only after an attempt has ended.
	Output func(id string, n int) (text string, total int64)

	// Metrics answers GET /metrics, without a token. Nil: the answer is 404.
	Metrics http.Handler
}

// Refusal is an error of Config.Replay or Config.Trigger that the caller caused.
type Refusal struct {
	Status int // of the answer, from 400 to 499
	Err    error
}

func (e *Refusal) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Refusal) Unwrap() error { return e.Err }

const metricsPath = "/metrics"

// Inspector is the http.Handler of hubhook's private server. Make one with New and end it with Close.
//
// Its streams set their own write deadlines through http.ResponseController, so the server's WriteTimeout may be as short as the other
// requests need. If you wrap the server's ResponseWriter, the wrapper must have Unwrap.
type Inspector struct {
	config      Config
	crossOrigin *http.CrossOriginProtection
	handler     http.Handler
	passes      *passes
	feed        *feed
	pace        pace

	rejected      history[api.Rejected]
	tunnelChanges history[api.TunnelChange]

	recentSeries *recentSeries
}

// New returns the inspector of c. It panics if a required field is missing.
func New(c Config) *Inspector {
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"Queue", c.Queue == nil},
		{"Token", c.Token == ""},
		{"Replay", c.Replay == nil},
		{"Trigger", c.Trigger == nil},
		{"Status", c.Status == nil},
	} {
		if field.missing {
			panic("inspector: Config." + field.name + " is missing")
		}
	}
	in := &Inspector{
		config:       c,
		crossOrigin:  http.NewCrossOriginProtection(),
		passes:       &passes{now: time.Now},
		feed:         newFeed(c.Queue),
		pace:         defaultPace,
		recentSeries: newRecentSeries(),
	}
	in.handler = in.protect(in.routes())
	return in
}

// ServeHTTP implements http.Handler.
func (in *Inspector) ServeHTTP(w http.ResponseWriter, r *http.Request) { in.handler.ServeHTTP(w, r) }

// Webhook publishes a change of a webhook that hubhook keeps on the Hub. v is encoded as JSON at once.
func (in *Inspector) Webhook(v any) { in.feed.publish(api.EventWebhook, v) }

// StatusChanged publishes that the status has changed: an endpoint came or went, or what one forwards to no longer answers, or does again.
func (in *Inspector) StatusChanged() { in.feed.publish(api.EventStatus, api.Nothing{}) }

// Close ends all streams, so that an http.Server can shut down, and refuses new ones. Other requests still work. Close
// returns when the inspector no longer watches the queue.
func (in *Inspector) Close() { in.feed.close() }

// routes returns the handler behind the checks. It matches paths uncleaned: a path with ".." or a doubled slash is not found, because a
// redirect to the cleaned path would need the checks too. `make docs` makes a table of the paths and their comments.
func (in *Inspector) routes() http.Handler {
	router := mux.NewRouter().SkipClean(true)
	router.Handle("/", methods{http.MethodGet: in.page})                                // the page; `?delivery=ID` opens it on that delivery
	router.Handle("/assets/{path:.+}", methods{http.MethodGet: in.asset})               // a file of the page
	router.Handle("/api/deliveries", methods{http.MethodGet: in.list})                  // deliveries, newest first
	router.Handle("/api/deliveries/{id}", methods{http.MethodGet: in.get})              // one delivery, with headers, body and attempts
	router.Handle("/api/deliveries/{id}/replay", methods{http.MethodPost: in.replay})   // handle it once more
	router.Handle("/api/deliveries/{id}/discard", methods{http.MethodPost: in.discard}) // give it up
	router.Handle("/api/trigger", methods{http.MethodPost: in.trigger})                 // send a sample event
	router.Handle("/api/pass", methods{http.MethodPost: in.issuePass})                  // a pass that replaces the token in one URL
	router.Handle("/api/payload", methods{http.MethodPost: in.readPayload})             // read a payload without storing it
	router.Handle("/api/samples", methods{http.MethodGet: in.samples})                  // a payload of each documented event
	router.Handle("/api/rejected", methods{http.MethodGet: in.listRejected})            // requests that were refused
	router.Handle("/api/tunnel", methods{http.MethodGet: in.listTunnelChanges})         // the tunnel's changes and checks
	router.Handle("/api/series", methods{http.MethodGet: in.series})                    // numbers and handling times of the last hour or day
	router.Handle("/api/stream", methods{http.MethodGet: in.stream})                    // live events
	router.Handle("/api/status", methods{http.MethodGet: in.status})                    // addresses, tunnel, endpoints, counts
	if in.config.Metrics != nil {
		router.Handle(metricsPath, methods{http.MethodGet: in.config.Metrics.ServeHTTP}) // metrics for Prometheus; needs no token
	}
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "the inspector has nothing at this path")
	})
	return router
}

// methods are the handlers of one path. HEAD gets the answer of GET; any other method gets 405.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handle, ok := m[method]; ok {
		handle(w, r)
		return
	}
	var allowed []string
	for name := range m {
		allowed = append(allowed, name)
		if name == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeError(w, http.StatusMethodNotAllowed, "method "+r.Method+" is not allowed here; "+strings.Join(allowed, " or ")+" is")
}
