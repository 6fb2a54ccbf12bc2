package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

const (
	secretHeader   = "X-Webhook-Secret"
	deliveryHeader = "Hubhook-Delivery"
	masked         = "[secret]"
	retryAfter     = "10" // seconds
)

// secretSet holds digests, so that comparing takes the same time whatever is sent.
type secretSet struct {
	digests [][sha256.Size]byte
	texts   []string
	hide    *text.Redactor
}

func newSecretSet(secrets []string) secretSet {
	set := secretSet{texts: secrets, hide: text.NewRedactor(masked, secrets...)}
	for _, s := range secrets {
		set.digests = append(set.digests, sha256.Sum256([]byte(s)))
	}
	return set
}

func (s secretSet) defined() bool { return len(s.digests) > 0 }

func (s secretSet) has(given string) bool {
	digest, found := sha256.Sum256([]byte(given)), 0
	for i := range s.digests {
		found |= subtle.ConstantTimeCompare(digest[:], s.digests[i][:])
	}
	return found == 1
}

// arrival is what the server keeps of a delivery from admission to its first attempt.
type arrival struct {
	payload *payload.Payload
	sender  *sender // nil where nobody is answered
}

// refusal is a request that is answered with an error; nothing of it is stored.
type refusal struct {
	status int
	text   string // the answer
	fix    string // what to fix, for the screen
	unread bool   // the body was not read, so the connection can't be used again
	cause  string // for metrics
}

// admit checks a delivery, stores it and answers.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/webhooks/")
	e, known := s.endpoints.named(name), true
	if e == nil && s.joined != nil {
		if e = s.endpointOf(name); e == nil {
			e, known = s.joined.candidate(name), false
		}
	}
	if no := s.screenRequest(e, name, r); no != nil {
		s.refuse(w, r, name, no)
		return
	}
	if !known {
		var no *refusal
		if e, no = s.joined.admit(e); no != nil {
			s.refuse(w, r, name, no)
			return
		}
	}
	receipt, no := s.take(e, r)
	if no != nil {
		s.refuse(w, r, name, no)
		return
	}
	s.answer(w, r, e, receipt)
}

// take reads, checks and stores a delivery. Its bytes are in flight for as long as that takes.
func (s *Server) take(e *endpoint, r *http.Request) (*queue.Receipt, *refusal) {
	body, release, no := s.readBody(r)
	if no != nil {
		return nil, no
	}
	defer release()
	p, err := payload.Parse(body)
	if err != nil && !errors.Is(err, payload.ErrUnusable) {
		return nil, &refusal{status: http.StatusUnprocessableEntity, text: err.Error(), cause: "bad_json",
			fix: "the sender has to post one JSON object in UTF-8, as the Hub does"}
	}
	receipt, err := s.store(r.Context(), e, r, body, p, err)
	if err != nil {
		return nil, s.storeRefusal(err)
	}
	return receipt, nil
}

// screenRequest checks everything that can be checked before the body is read.
func (s *Server) screenRequest(e *endpoint, name string, r *http.Request) *refusal {
	if e == nil {
		return &refusal{status: http.StatusNotFound, text: fmt.Sprintf("no endpoint is called %q", s.shown(name, maxShownName)), unread: true, cause: "unknown_endpoint",
			fix: "endpoints here: " + strings.Join(s.names(), ", ")}
	}
	if r.Method != http.MethodPost {
		return &refusal{status: http.StatusMethodNotAllowed, text: fmt.Sprintf("method %s is not allowed here; use POST", s.shown(r.Method, maxShownName)), unread: true, cause: "wrong_method",
			fix: "the Hub posts; a browser that opens this URL sends GET"}
	}
	if s.secrets.defined() {
		header, query := r.Header.Get(secretHeader), ""
		if r.URL.RawQuery != "" {
			query = r.URL.Query().Get("secret")
		}
		switch {
		case header == "" && query == "":
			return &refusal{status: http.StatusUnauthorized, text: "no secret was sent", unread: true, cause: "no_secret",
				fix: "paste it into the webhook's settings on the Hub"}
		case !s.secrets.has(header) && !s.secrets.has(query) && !s.generatedFor(name, header):
			return &refusal{status: http.StatusForbidden, text: "the secret is wrong", unread: true, cause: "wrong_secret",
				fix: "make the secret in the webhook's settings on the Hub the same as the one configured here"}
		}
	}
	if r.ContentLength > s.settings.MaxBody {
		return s.tooLarge(fmt.Sprintf("the body has %d bytes", r.ContentLength))
	}
	return nil
}

func (s *Server) tooLarge(what string) *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("%s, the limit is %d", what, s.settings.MaxBody), unread: true, cause: "too_large",
		fix: "the Hub's own payloads stay far below that; Config.MaxBody raises the limit"}
}

// readBody reads the body and counts its bytes as in flight until release is called.
func (s *Server) readBody(r *http.Request) (body []byte, release func(), no *refusal) {
	counted := int64(0)
	release = func() { s.inFlight.Add(-counted) }
	grow := func(n int64) bool {
		if s.inFlight.Add(n) > s.settings.MaxInFlight {
			s.inFlight.Add(-n)
			return false
		}
		counted += n
		return true
	}
	var err error
	if r.ContentLength >= 0 {
		if !grow(r.ContentLength) {
			return nil, nil, tooBusy
		}
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = readUnknown(r.Body, s.settings.MaxBody, grow)
	}
	if err == nil {
		return body, release, nil
	}
	release()
	switch {
	case errors.Is(err, errTooBusy):
		return nil, nil, tooBusy
	case errors.Is(err, errTooLarge):
		return nil, nil, s.tooLarge("the body is too large")
	}
	return nil, nil, &refusal{status: http.StatusBadRequest, text: "the body ended early or came too slowly: " + err.Error(), unread: true, cause: "cut_body",
		fix: "the sender or the network broke off; the Hub tries again"}
}

var (
	errTooBusy  = errors.New("too many bytes are in flight")
	errTooLarge = errors.New("the body is over the limit")
	tooBusy     = &refusal{status: http.StatusServiceUnavailable, text: "too many bytes are being received at once; try again later", unread: true, cause: "busy",
		fix: "the Hub tries again; Config.MaxInFlight raises the limit"}
)

// readUnknown reads a body whose length nobody told, up to limit. It asks grow before it takes more memory.
func readUnknown(r io.Reader, limit int64, grow func(int64) bool) ([]byte, error) {
	var body []byte
	for {
		if len(body) == cap(body) {
			more := max(64<<10, int64(cap(body)))
			if !grow(more) {
				return nil, errTooBusy
			}
			body = append(make([]byte, 0, int64(cap(body))+more), body...)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, errTooLarge
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}

var errNotOpen = errors.New("the queue is not open; a warning at the start says why")

// store puts a delivery into the queue. unusable is why the payload is no event, nil if it is one.
func (s *Server) store(ctx context.Context, e *endpoint, r *http.Request, body []byte, p *payload.Payload, unusable error) (*queue.Receipt, error) {
	q := s.queue.Load()
	switch {
	case s.stopping.Load():
		return nil, queue.ErrStopping
	case q == nil:
		return nil, errNotOpen
	}
	a := newArrival(e.name, r.Header, body, p, unusable)
	a.Header = s.withoutSecrets(r.Header)
	a.WebhookID = r.Header.Get("Webhook-Id")
	a.Synthetic = isSample(ctx)
	s.sameAsCaughtUp(ctx, &a, p)
	s.askKeys(&a, e, true)
	from := new(sender)
	a.Value.(*arrival).sender = from
	if s.settings.longestAnswer() > 0 && !a.Synthetic {
		a.Sender = from
	}
	s.metrics.received(e.name)
	receipt, err := q.Accept(ctx, a)
	if err == nil && !receipt.Duplicate && !a.Synthetic {
		s.countForHub(e.name, p)
	}
	if err != nil { // the sender may have hung up while the delivery was stored all the same
		s.answered(from, 0)
	}
	return receipt, err
}

func newArrival(endpoint string, header http.Header, body []byte, p *payload.Payload, unusable error) queue.Arrival {
	a := queue.Arrival{Endpoint: endpoint, Header: header, Body: body, Value: &arrival{payload: p}}
	if p != nil {
		a.Scope, a.Action = string(p.Event.Scope), string(p.Event.Action)
		a.RepoType, a.RepoName = string(p.Repo.Type), p.Repo.Name
	}
	if unusable != nil {
		a.Dead = unusable.Error()
	}
	return a
}

// askKeys calls e's key functions: for the serial key, and, if the delivery may be held back, for the key of its burst. Without its keys it
// can't be run as it should be, so a panic leaves it dead.
func (s *Server) askKeys(a *queue.Arrival, e *endpoint, mayBeHeld bool) {
	if a.Dead != "" {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			a.SerialKey, a.Burst = "", nil
			a.Dead = s.secrets.hide.Redact(fmt.Sprintf("a key function of the endpoint panicked: %v", v))
			a.Stack = s.secrets.hide.Redact(string(debug.Stack()))
		}
	}()
	p := a.Value.(*arrival).payload
	if e.serialBy != nil {
		a.SerialKey = e.serialBy(p)
	}
	if d := e.debounce; d != nil && mayBeHeld {
		if key := d.key(p); key != "" {
			a.Burst = &queue.Burst{Key: key, Wait: d.wait, MaxWait: d.maxWait}
		}
	}
}

// credentials are headers that may carry a secret of the sender or of a proxy between.
var credentials = map[string]bool{secretHeader: true, "Authorization": true, "Proxy-Authorization": true, "Cookie": true}

// plainTypes are the Content-Types of webhooks. They stay where a secret is a part of them, such as "json": programs to which deliveries are
// forwarded read the body by them.
var plainTypes = []string{"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}

// secretInURL is a webhook secret in the URL of a header, the right one or another.
var secretInURL = regexp.MustCompile(`([?&]secret=)[^&#\s",]*`)

// withoutSecrets copies h with every secret in it replaced, in whatever header it stands: a proxy may add one with the whole URL.
func (s *Server) withoutSecrets(h http.Header) http.Header {
	clean := make(http.Header, len(h))
	for name, values := range h {
		if credentials[name] {
			clean[name] = []string{masked}
			continue
		}
		for i, v := range values {
			if name == "Content-Type" && slices.Contains(plainTypes, strings.ToLower(v)) {
				continue
			}
			hidden := s.secrets.hide.Redact(v)
			if strings.Contains(hidden, "secret=") {
				hidden = secretInURL.ReplaceAllString(hidden, "${1}"+masked)
			}
			if hidden != v {
				values = append(append(append([]string(nil), values[:i]...), hidden), values[i+1:]...)
			}
		}
		clean[name] = values
	}
	return clean
}

func (s *Server) storeRefusal(err error) *refusal {
	no := &refusal{status: http.StatusServiceUnavailable, text: "the delivery could not be stored; try again later", cause: "not_stored", fix: err.Error()}
	switch {
	case errors.Is(err, queue.ErrNotServed): // it went while the delivery was read
		no.status, no.text, no.cause, no.fix = http.StatusNotFound, "the endpoint is not served any more", "unknown_endpoint", "endpoints here: "+strings.Join(s.names(), ", ")
	case errors.Is(err, queue.ErrFull):
		no.text, no.cause = "too many deliveries wait already; try again later", "full"
		no.fix = fmt.Sprintf("%d deliveries wait; find out why they aren't handled, or raise --max-waiting", s.settings.MaxWaiting)
	case errors.Is(err, queue.ErrStopping):
		no.text, no.cause, no.fix = "shutting down; try again later", "stopping", "the Hub tries again"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		no.cause, no.fix = "gone", "the sender hung up before the delivery was stored"
	default:
		if hint := text.Hint(err); hint != "" {
			no.fix += "; " + hint
		}
	}
	return no
}

// refuse answers that the request r to the endpoint of that name is refused, and says so on the screen and in the inspector.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, name string, no *refusal) {
	s.metrics.refused(no.cause)
	if no.unread {
		// Otherwise net/http reads the body before it sends the answer.
		w.Header().Set("Connection", "close")
	}
	switch no.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	}
	seen := api.Rejected{Time: api.Time{Time: time.Now()}, Endpoint: s.shown(name, maxShownName), Status: no.status, Reason: no.cause,
		Error: no.text, Fix: no.fix, UserAgent: s.shown(r.UserAgent(), maxShownAgent), Times: 1}
	s.screen.Rejected(seen)
	if private := s.private.Load(); private != nil {
		private.Rejected(seen)
	}
	respondError(w, no.status, no.text)
}

func respondError(w http.ResponseWriter, status int, message string) {
	respond(w, status, api.Error{Error: message})
}

// respond answers with body as JSON, and returns the status that it wrote.
func respond(w http.ResponseWriter, status int, body any) int {
	b, err := json.Marshal(body)
	if err != nil { // only strings and numbers come here
		panic(err)
	}
	return writeJSON(w, status, b)
}

var jsonType = []string{"application/json"}

// writeJSON answers with JSON, and returns the status that it wrote.
func writeJSON(w http.ResponseWriter, status int, b []byte) int {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(status)
	w.Write(b) // a sender that has gone misses its answer, and asks again
	return status
}

// What a stranger sent is shown up to so many bytes.
const (
	maxShownName  = 80
	maxShownAgent = 200
)

// shown returns words of a stranger in a form that may be shown: without our secrets, which a sender may have put in the wrong place, and
// cut after most bytes. The cut comes second, or it could leave the beginning of a secret.
func (s *Server) shown(words string, most int) string {
	words = s.secrets.hide.Redact(words)
	if len(words) > most {
		return strings.ToValidUTF8(words[:most], "") + "…"
	}
	return words
}
