// Package servertest runs a user's server in a test. Deliveries go through the real admission, store and queue, and the test sees what became
// of them. There is no port, no tunnel, and nothing to sleep for: [Delivery.Wait] returns once the delivery is finished.
//
//	s := servertest.Start(t, server.Config{}, register) // func register(s *server.Server) { s.Add(triggerTraining) }
//	got := s.Trigger("trigger_training", payload.ScopeRepoContent, payload.Update, nil).Wait()
//	if got.State != servertest.Done {
//		t.Errorf("%s: %s", got.State, got.Reason)
//	}
//
// # Time
//
// A failed attempt is retried after a second or more, and a burst is held back, as in production. A test of such a server runs in no time in a
// bubble of testing/synctest, in which the server starts and ends, too:
//
//	synctest.Test(t, func(t *testing.T) {
//		s := servertest.Start(t, server.Config{}, register)
//		...
//	})
package servertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// Server is a user's server that runs in a test.
type Server struct {
	t       testing.TB
	handler http.Handler
	face    face
	secret  string
}

// face is what the handler of a server knows beside answering.
type face interface {
	Endpoints() []string
	Finished(ctx context.Context, id string) (*queue.Record, error)
}

// endTime is how long handlers may go on once the test has ended.
const endTime = 5 * time.Second

// Start starts a server with the settings of config and the endpoints that register registers, and ends it at the end of the test. A mistake
// in either fails the test.
//
// The defaults are those of production, as with [server.Server.Handler]: five attempts, and a repeated Webhook-Id is a duplicate for an
// hour. What config leaves out is made for the test: an empty data directory, a secret, which deliveries then bring, and no variables, so that
// those of the machine change nothing. The server's lines go to the test's log.
//
// At the end, handlers that still run have 5 s. After that their contexts end, and one that does not return fails the test.
func Start(t testing.TB, config server.Config, register func(*server.Server)) *Server {
	t.Helper()
	if config.Data == "" {
		config.Data = t.TempDir()
	}
	if config.Getenv == nil {
		config.Getenv = func(string) (string, bool) { return "", false }
	}
	if len(config.Secrets) == 0 {
		config.Secrets = []string{rand.Text()}
	}
	if config.Output == nil {
		config.Output = t.Output()
	}
	if config.Errors == nil {
		config.Errors = t.Output()
	}
	s, err := server.New(config)
	if err != nil {
		t.Fatalf("servertest: make the server: %v", err)
	}
	register(s)
	handler, err := s.Handler()
	if err != nil {
		t.Fatalf("servertest: start the server: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("servertest: shut the server down: %v", err)
		}
	})
	return &Server{t: t, handler: handler, face: handler.(face), secret: s.Secret()}
}

// Handler returns the server's public face, for requests that Post can't make.
func (s *Server) Handler() http.Handler { return s.handler }

// Trigger posts a sample event to the endpoint, as the Hub would. An empty action is the scope's usual one, and set has values for fields of
// the payload, by their paths, such as "repo.name"; [payload.Sample] says more. A wrong event or path fails the test, as does the name of an
// endpoint that the server does not have.
func (s *Server) Trigger(endpoint string, scope payload.Scope, action payload.Action, set map[string]any) *Delivery {
	s.t.Helper()
	sample, err := payload.Sample(scope, action, set)
	if err != nil {
		s.t.Fatalf("servertest: make the event for %s: %v", endpoint, err)
	}
	return s.Post(endpoint, sample.Raw(), nil)
}

// Post posts body to the endpoint byte for byte, and returns the answer, whatever it is. It returns when the server answers, which waits for
// the handler as [server.Config].ReplyWithin says. The name of an endpoint that the server does not have fails the test.
//
// The request has a Webhook-Id of its own and the secret, unless header has others. An empty X-Webhook-Secret in header sends none.
func (s *Server) Post(endpoint string, body []byte, header http.Header) *Delivery {
	s.t.Helper()
	endpoint = strings.Trim(endpoint, "/")
	if known := s.face.Endpoints(); !slices.Contains(known, endpoint) {
		s.t.Fatalf("servertest: the server has no endpoint %q; it has %s", endpoint, strings.Join(known, ", "))
	}
	r := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "/webhooks/"+endpoint, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Webhook-Id", rand.Text())
	r.Header.Set("X-Webhook-Secret", s.secret)
	for name, values := range header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return &Delivery{
		ID: w.Header().Get("Hubhook-Delivery"), Endpoint: endpoint, Status: w.Code, Answer: w.Body.Bytes(),
		t: s.t, face: s.face,
	}
}

// Delivery is one that was posted, and how it was answered.
type Delivery struct {
	ID       string // that of the first one for a duplicate; "" where it was refused and so is no delivery
	Endpoint string
	Status   int    // of the answer: 2xx where the delivery is stored
	Answer   []byte // its body, JSON

	t    testing.TB
	face face
}

// How deliveries end, as Outcome.State has it.
const (
	Done      = "done"
	Dead      = "dead"      // the attempts are used up, or the payload is no event
	Skipped   = "skipped"   // the endpoint's condition said no
	Merged    = "merged"    // into a later one of its burst
	Discarded = "discarded" // by somebody
)

// Outcome is how a delivery has ended.
type Outcome struct {
	State      string          // Done, Dead, Skipped, Merged or Discarded
	Reason     string          // why it is dead, skipped or discarded; "" for one that is done
	Result     json.RawMessage // what the handler has returned, as JSON; nil for nothing
	Output     string          // what the last attempt has written to server.Output
	Attempts   []Attempt       // oldest first; none where the handler was not called
	Merged     []string        // IDs of the deliveries of its burst that were merged into this one
	MergedInto string          // ID of the delivery that this one was merged into; "" if it was not
	Duplicates int             // how often it was sent again
}

// Attempt is one call of the handler.
type Attempt struct {
	Error  string          // "" for one that succeeded
	Stack  string          // of a panic
	Output string          // what it has written to server.Output
	Result json.RawMessage // what it has returned, as JSON; nil for nothing
	Took   time.Duration
}

// Wait waits until the delivery is finished, with all its attempts, and returns how it has ended. A delivery that was refused fails the test.
// There is no limit but the test's own: a handler that does not return shows with all goroutines when go test gives up.
func (d *Delivery) Wait() Outcome {
	d.t.Helper()
	if d.ID == "" {
		d.t.Fatalf("servertest: there is nothing to wait for: endpoint %s refused it with status %d: %s", d.Endpoint, d.Status, d.Answer)
	}
	r, err := d.face.Finished(d.t.Context(), d.ID)
	if err != nil {
		d.t.Fatalf("servertest: wait for delivery %s of endpoint %s: %v", d.ID, d.Endpoint, err)
	}
	o := Outcome{State: string(r.State), Reason: r.Reason, Merged: r.Merged, MergedInto: r.MergedInto, Duplicates: r.Duplicates}
	for _, a := range r.AttemptList {
		o.Attempts = append(o.Attempts, Attempt{Error: a.Error, Stack: a.Stack, Output: string(a.Output), Result: a.Result, Took: a.Duration})
		o.Output, o.Result = string(a.Output), a.Result
	}
	return o
}
