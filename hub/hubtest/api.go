package hubtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxBody bounds the body of an API request, in bytes.
const maxBody = 4 << 20

// API says how the API answers where the real Hub's behaviour is unknown, or has changed. The zero value is the behaviour that was seen
// last, or the behaviour that clients handle wrongly more often.
type API struct {
	// EchoSecret puts a webhook's secret into answers, as the Hub's OpenAPI description of 2025 has it. Without it they have hasSecret, as a
	// client of 2026 has it.
	EchoSecret bool
	// Errors is the shape of an error's body.
	Errors ErrorShape
	// BadRequest is the status of a request whose fields are wrong. 0: 400. Clients of others saw 422 too.
	BadRequest int
	// KeepSecret makes an update without a secret keep the one there was. Without it such an update removes the secret.
	KeepSecret bool
	// NeedDomains refuses a webhook without domains, which the Hub's OpenAPI description requires and huggingface_hub leaves out of updates.
	NeedDomains bool
	// KnownItems refuses to watch what is no repo or account of the Hub.
	KnownItems bool
	// Warning is the header X-HF-Warning of all answers, such as "topic; message". Empty: none.
	Warning string
	// OldCursorResets makes the feed of a bucket refuse every cursor from before [Options].ReplayWindow. Without it a cursor is too old only if
	// its client has missed a change that can't be replayed any more.
	OldCursorResets bool
	// HiddenIs401 answers 401 to a request without a token for a repo that is private or not there, as huggingface_hub describes it. Without
	// it the answer is 404.
	HiddenIs401 bool
}

// ErrorShape is the shape of an error's body. huggingface_hub reads all three.
type ErrorShape int

const (
	// ErrorText is {"error": "TEXT"}.
	ErrorText ErrorShape = iota
	// ErrorList is {"error": ["TEXT", ...]}.
	ErrorList
	// ErrorObjects is {"errors": [{"message": "TEXT"}, ...]}.
	ErrorObjects
)

// apiError is an error that the API answers.
type apiError struct {
	status   int    // 0: [API].BadRequest
	code     string // header X-Error-Code
	messages []string
}

func (e *apiError) Error() string { return strings.Join(e.messages, "; ") }

func badRequest(err error) error { return &apiError{messages: []string{err.Error()}} }

// noPage answers a path that the API does not have.
var noPage = notFound("", "Sorry, we can't find the page you are looking for.")

func notFound(code, message string) error {
	return &apiError{status: http.StatusNotFound, code: code, messages: []string{message}}
}

// call is one request to the API.
type call struct {
	hub   *Hub
	w     http.ResponseWriter
	r     *http.Request
	token *token // nil: none was sent
}

// user returns the name of the caller, "" without a token.
func (c *call) user() string {
	if c.token == nil {
		return ""
	}
	return c.token.User
}

// needsToken returns the caller's token, which must have the permissions.
func (c *call) needsToken(permissions ...string) (*token, error) {
	if c.token == nil {
		return nil, &apiError{status: http.StatusUnauthorized, messages: []string{"Invalid username or password."}}
	}
	for _, p := range permissions {
		if !c.token.may(p) {
			return nil, &apiError{status: http.StatusForbidden, messages: []string{
				fmt.Sprintf("This token does not have the permission %s", p),
			}}
		}
	}
	return c.token, nil
}

// read reads the JSON of the request's body into v.
func (c *call) read(v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		return badRequest(fmt.Errorf("read the body: %w", err))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return badRequest(fmt.Errorf("read the body as JSON: %w", err))
	}
	return nil
}

// writeJSON answers 200 with v.
func (c *call) writeJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.Write(b)
	return nil
}

// fail answers an error.
func (c *call) fail(err error) {
	var to *redirect
	if errors.As(err, &to) {
		if c.r.URL.RawQuery != "" {
			to.path += "?" + c.r.URL.RawQuery
		}
		c.w.Header().Set("Location", to.path)
		c.w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, messages: []string{err.Error()}}
	}
	status := e.status
	if status == 0 {
		status = c.hub.options.API.BadRequest
	}
	var body any
	switch c.hub.options.API.Errors {
	case ErrorList:
		body = map[string]any{"error": e.messages}
	case ErrorObjects:
		type message struct {
			Message string `json:"message"`
		}
		var list []message
		for _, m := range e.messages {
			list = append(list, message{m})
		}
		body = map[string]any{"errors": list}
	default:
		body = map[string]any{"error": e.Error()}
	}
	b, _ := json.Marshal(body) // of strings: never fails
	header := c.w.Header()
	if e.code != "" {
		header.Set("X-Error-Code", e.code)
	}
	header.Set("X-Error-Message", strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, e.Error()))
	header.Set("Content-Type", "application/json; charset=utf-8")
	c.w.WriteHeader(status)
	c.w.Write(b)
}

// ServeHTTP serves the Hub's API. The package's documentation lists the paths.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.open, cancel)()
	r = r.WithContext(ctx)

	entry := &Request{
		ID: "Root=1-" + objectID(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Started: h.options.Now(),
	}
	h.Requests.begin(entry)
	rec := &recorder{ResponseWriter: w, log: h.Requests, entry: entry}
	defer rec.end()
	r.Body = &counter{ReadCloser: r.Body, log: h.Requests, entry: entry}
	rec.Header().Set("X-Request-Id", entry.ID)
	if warning := h.options.API.Warning; warning != "" {
		rec.Header().Set("X-HF-Warning", warning)
	}

	if fault := h.Faults.next(r); fault != nil {
		if fault.After {
			(&call{hub: h, w: &lost{header: make(http.Header)}, r: r}).serve()
		}
		fault.Answer(rec, r)
		return
	}
	(&call{hub: h, w: rec, r: r}).serve()
}

// serve does what the request asks for.
func (c *call) serve() {
	if err := c.admit(); err != nil {
		c.fail(err)
		return
	}
	c.hub.routes.ServeHTTP(c.w, c.r.WithContext(context.WithValue(c.r.Context(), callKey{}, c)))
}

type callKey struct{}

// An answerer answers one path: it returns what is written as JSON, nil if it has answered itself.
type answerer func(*call) (any, error)

// admit looks up the caller's token and counts the request towards the quota.
func (c *call) admit() error {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	t, err := h.Accounts.of(c.r)
	if err != nil {
		return err
	}
	c.token = t
	if h.options.Quota <= 0 {
		return nil
	}
	quota := &h.anonymous
	if t != nil {
		quota = &t.quota
	}
	now := h.options.Now()
	left, allowed := quota.take(now, h.options.QuotaWindow, h.options.Quota)
	reset := int64((quota.began.Add(h.options.QuotaWindow).Sub(now) + time.Second - 1) / time.Second)
	header := c.w.Header()
	header.Set("RateLimit", fmt.Sprintf(`"api";r=%d;t=%d`, left, reset))
	header.Set("RateLimit-Policy", fmt.Sprintf(`"fixed window";"api";q=%d;w=%d`, h.options.Quota, int64(h.options.QuotaWindow/time.Second)))
	if !allowed {
		return &apiError{status: http.StatusTooManyRequests, messages: []string{"You have reached your 'api' rate limit"}}
	}
	return nil
}

// window counts what happens in fixed spans of time.
type window struct {
	began time.Time
	used  int
}

// take counts one more event. It returns how many of limit are left, and whether this event is allowed.
func (w *window) take(now time.Time, span time.Duration, limit int) (left int, allowed bool) {
	if w.began.IsZero() || now.Sub(w.began) >= span {
		*w = window{began: now}
	}
	if w.used >= limit {
		return 0, false
	}
	w.used++
	return limit - w.used, true
}

// routes returns the API's paths.
func routes(h *Hub) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, answer answerer) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c := r.Context().Value(callKey{}).(*call)
			c.w, c.r = w, r
			v, err := answer(c)
			if err == nil && v != nil {
				err = c.writeJSON(v)
			}
			if err != nil {
				c.fail(err)
			}
		})
	}
	handle("GET /api/whoami-v2", locked(h.Accounts.whoAmI))
	handle("GET /api/users/{name}/overview", locked(h.Accounts.overview(false)))
	handle("GET /api/organizations/{name}/overview", locked(h.Accounts.overview(true)))
	webhookRoutes(handle)
	repoRoutes(handle)
	bucketRoutes(handle)
	jobRoutes(handle)
	handle("/", func(*call) (any, error) { return nil, noPage })
	return mux
}

// locked makes an answer that has the Hub's lock.
func locked(answer answerer) answerer {
	return func(c *call) (any, error) {
		c.hub.mu.Lock()
		defer c.hub.mu.Unlock()
		return answer(c)
	}
}

// lost is an answer that nobody reads.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(b []byte) (int, error) { return len(b), nil }
func (l *lost) WriteHeader(int)             {}

// Server is a Hub that listens on a port of the loopback interface.
type Server struct {
	*Hub
	// URL is its address, such as http://127.0.0.1:40213, for HF_ENDPOINT.
	URL string

	server  *http.Server
	mu      sync.Mutex
	closed  bool
	serving sync.WaitGroup // added to with mu held, and not after Close
}

// NewServer starts a Hub on a free port. The caller has to close it. It panics if the loopback interface has no port, as
// [net/http/httptest.NewServer] does.
func NewServer(options Options) *Server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("hubtest: listen on a free port of 127.0.0.1: %v", err))
	}
	s := &Server{Hub: New(options), URL: "http://" + l.Addr().String()}
	s.server = &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // connections that a fault cuts
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.enter() {
				panic(http.ErrAbortHandler)
			}
			defer s.serving.Done()
			s.Hub.ServeHTTP(w, r)
		}),
	}
	s.serving.Go(func() { s.server.Serve(l) })
	return s
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.serving.Add(1)
	return true
}

// Close ends the requests in flight, stops listening and closes the Hub. It waits for all that the Server has started.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Hub.close()
	s.server.Close()
	s.serving.Wait()
	s.Hub.Close()
}

// stamp writes a time as the Hub does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
