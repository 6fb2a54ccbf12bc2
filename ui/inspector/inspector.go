// Package inspector is hubhook's private face: an HTTP API over the stored deliveries, a stream of what happens, a small
// page, and the client with which hubhook's own commands use that API.
//
// It shows payloads and can run handlers, so it belongs on a loopback listener of its own, never behind a tunnel. Three
// walls stand before it, whatever it is served on: the Host must be a loopback one, no other site may have made the
// request, and, but for GET /metrics, the request must carry the token.
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

// Config says what an inspector shows and does. All fields but Output and Metrics are required.
//
// The functions are called with the request's context and may be called at the same time. An error of theirs is answered
// with status 500, one of the queue's with what it means (404, 409 or 503), and a *Refusal with its own status.
type Config struct {
	Queue Queue

	// Token is what a request must carry; see the function Token.
	Token string

	// Replay stores a delivery again and returns the new one's ID. body replaces the stored one, nil means the same
	// bytes; headers are the stored ones in both cases. It need not be an object of the Hub's: what can't be read is
	// stored as dead, as at the front door.
	Replay func(ctx context.Context, id string, body []byte) (newID string, err error)

	// Trigger sends a sample event through the front door and returns the delivery's ID.
	Trigger func(ctx context.Context, t api.Trigger) (id string, err error)

	// Status returns how this process stands. The counts in it are filled in by the inspector.
	Status func(ctx context.Context) (api.Status, error)

	// Output returns what the n-th attempt of a delivery has printed so far, bounded, and how many bytes that were in all; "" and 0 where
	// it does not run in this process. Nil: there is nothing to show before an attempt has ended.
	Output func(id string, n int) (text string, total int64)

	// Metrics answers GET /metrics, without a token. Nil: there are none, 404.
	Metrics http.Handler
}

// Refusal is an error of Config.Replay or Config.Trigger that is the caller's doing.
type Refusal struct {
	Status int // what is answered, from 400 to 499
	Err    error
}

func (e *Refusal) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Refusal) Unwrap() error { return e.Err }

const metricsPath = "/metrics"

// Inspector is the http.Handler of the private face. Make one with New and end it with Close.
//
// Its streams set their own write deadlines, through http.ResponseController, so that the server's WriteTimeout may be as
// short as the other requests want it. A ResponseWriter that is wrapped around the server's must have Unwrap.
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
func (in *Inspector) Webhook(v any) { in.feed.publish("webhook", v) }

// Close ends all streams, so that an http.Server can shut down, and refuses new ones. Other requests still work. It
// returns when nothing of the inspector watches the queue any more.
func (in *Inspector) Close() { in.feed.close() }

// routes returns the handler behind the walls. Paths are matched as they came: one with ".." or a doubled slash is
// not found, as a redirect to a cleaned one would have to be guarded too.
func (in *Inspector) routes() http.Handler {
	router := mux.NewRouter().SkipClean(true)
	router.Handle("/", methods{http.MethodGet: in.page})
	router.Handle("/assets/{path:.+}", methods{http.MethodGet: in.asset})
	router.Handle("/api/deliveries", methods{http.MethodGet: in.list})
	router.Handle("/api/deliveries/{id}", methods{http.MethodGet: in.get})
	router.Handle("/api/deliveries/{id}/replay", methods{http.MethodPost: in.replay})
	router.Handle("/api/deliveries/{id}/discard", methods{http.MethodPost: in.discard})
	router.Handle("/api/trigger", methods{http.MethodPost: in.trigger})
	router.Handle("/api/pass", methods{http.MethodPost: in.issuePass})
	router.Handle("/api/payload", methods{http.MethodPost: in.readPayload})
	router.Handle("/api/samples", methods{http.MethodGet: in.samples})
	router.Handle("/api/rejected", methods{http.MethodGet: in.listRejected})
	router.Handle("/api/tunnel", methods{http.MethodGet: in.listTunnelChanges})
	router.Handle("/api/series", methods{http.MethodGet: in.series})
	router.Handle("/api/stream", methods{http.MethodGet: in.stream})
	router.Handle("/api/status", methods{http.MethodGet: in.status})
	if in.config.Metrics != nil {
		router.Handle(metricsPath, methods{http.MethodGet: in.config.Metrics.ServeHTTP})
	}
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "the inspector has nothing at this path")
	})
	return router
}

// methods are the handlers of one path. HEAD is answered as GET is, any other method with 405.
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
