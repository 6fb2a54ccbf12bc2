package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui/inspector"
)

const push = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"me/data"},"webhook":{"id":"6390e855e30d9209411de93b","version":3}}`

// newServer returns a server on a data directory of its own that no variable of this machine reaches.
func newServer(t *testing.T, c Config) *Server {
	t.Helper()
	if c.Data == "" {
		c.Data = t.TempDir()
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	if c.Errors == nil {
		c.Errors = io.Discard
	}
	if c.Getenv == nil {
		c.Getenv = variables(nil)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handler returns the public face of s.
func handler(tb testing.TB, s *Server) http.Handler {
	tb.Helper()
	h, err := s.Handler()
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// serve serves s through its Handler until the test ends.
func serve(t *testing.T, s *Server) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(handler(t, s))
	t.Cleanup(func() {
		web.Close()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return web
}

type reply struct {
	status int
	header http.Header
	body   string
}

// is reports whether the answer's body has exactly the given fields. A value "*" stands for any but the empty one.
func (r reply) is(fields map[string]string) bool {
	got := map[string]any{}
	if json.Unmarshal([]byte(r.body), &got) != nil || len(got) != len(fields) {
		return false
	}
	for name, want := range fields {
		text, _ := got[name].(string)
		if text != want && (want != "*" || text == "") {
			return false
		}
	}
	return true
}

func post(t *testing.T, url, body string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return do(t, r)
}

func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}

func record(t *testing.T, s *Server, id string) *queue.Record {
	t.Helper()
	r, err := s.queue.Load().Get(context.Background(), id)
	if err != nil {
		t.Fatalf("Get(%s): %v", id, err)
	}
	return r
}

// until waits for a delivery to come into a state.
func until(t *testing.T, s *Server, id string, state queue.State) *queue.Record {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		r := record(t, s, id)
		if r.State == state {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("delivery %s is %s (%s) after 10 s; want %s", id, r.State, r.Reason, state)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestAnswersOfAnEndpoint(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}, ReplyWithin: time.Second})
	release := make(chan struct{})
	s.Handle("result", func(context.Context, *payload.Payload) (any, error) { return map[string]int{"runs": 1}, nil })
	s.Handle("nothing", triggerTraining)
	s.Handle("slow", func(ctx context.Context, _ *payload.Payload) (any, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, nil
	}, Concurrency(1))
	s.Handle("failing", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom s3cret") }, Retry(2, time.Hour))
	s.Handle("hopeless", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom") }, Retry(1, time.Second))
	s.Handle("panicking", func(context.Context, *payload.Payload) (any, error) { panic("oh no") }, Retry(1, time.Second))
	s.Handle("chan", func(context.Context, *payload.Payload) (any, error) { return make(chan int), nil })
	s.Handle("picky", triggerTraining, When(func(p *payload.Payload) bool { return p.Repo.Type == payload.Model }))
	no := func(why string) Option {
		return WhenBecause(func(p *payload.Payload) (bool, string) { return p.Repo.Type == payload.Model, why })
	}
	s.Handle("because", triggerTraining, no("a dataset, want a model; not s3cret"))
	s.Handle("speechless", triggerTraining, no(""))
	s.Handle("agreed", triggerTraining, WhenBecause(func(*payload.Payload) (bool, string) { return true, "of no interest" }))
	s.Handle("checked", triggerTraining, WhenChecked(func(_ context.Context, p *payload.Payload) (bool, string, error) {
		return p.Repo.Type == payload.Model, "a dataset, want a model; not s3cret", nil
	}))
	s.Handle("unchecked", triggerTraining, Retry(2, time.Hour), WhenChecked(func(ctx context.Context, _ *payload.Payload) (bool, string, error) {
		d, ok := DeliveryFrom(ctx)
		return true, "of no interest", fmt.Errorf("s3cret: the Hub did not answer %t %d", ok, d.Attempt)
	}))
	s.Handle("kept", nil)
	web := serve(t, s)
	t.Cleanup(func() { close(release) })

	for _, test := range []struct {
		name, endpoint, body string
		status               int
		fields               map[string]string
		state                queue.State
	}{
		{"result", "result", push, 200, nil, queue.Done},
		{"no result", "nothing", push, 200, map[string]string{}, queue.Done},
		{"running", "slow", push, 202, map[string]string{"delivery": "*", "state": "running"}, queue.Running},
		{"waiting", "slow", push, 202, map[string]string{"delivery": "*", "state": "waiting"}, queue.Waiting},
		{"retrying", "failing", push, 202, map[string]string{"delivery": "*", "state": "retrying", "error": "boom [secret]"}, queue.Retrying},
		{"dead", "hopeless", push, 200, map[string]string{"delivery": "*", "state": "dead", "error": "boom"}, queue.Dead},
		{"panic", "panicking", push, 200, map[string]string{"delivery": "*", "state": "dead", "error": "panic: oh no"}, queue.Dead},
		{"no JSON result", "chan", push, 200, map[string]string{"delivery": "*", "state": "dead", "error": "*"}, queue.Dead},
		{"skipped", "picky", push, 200, map[string]string{"delivery": "*", "state": "skipped", "reason": "*"}, queue.Skipped},
		{"skipped because", "because", push, 200, map[string]string{"delivery": "*", "state": "skipped", "reason": "a dataset, want a model; not [secret]"}, queue.Skipped},
		{"skipped without a word", "speechless", push, 200, map[string]string{"delivery": "*", "state": "skipped", "reason": "the endpoint's condition (When) said no"}, queue.Skipped},
		{"not skipped", "agreed", push, 200, map[string]string{}, queue.Done},
		{"checked", "checked", push, 200, map[string]string{"delivery": "*", "state": "skipped", "reason": "a dataset, want a model; not [secret]"}, queue.Skipped},
		{"not to be checked", "unchecked", push, 202, map[string]string{"delivery": "*", "state": "retrying", "error": "[secret]: the Hub did not answer true 1"}, queue.Retrying},
		{"without handler", "kept", push, 200, map[string]string{}, queue.Done},
		{"no event", "nothing", `{"hello":"world"}`, 200, map[string]string{"delivery": "*", "state": "dead", "error": "*"}, queue.Dead},
		{"version 2", "kept", `{"event":"update","scope":"repo","repo":{"type":"model","name":"a/b"},"webhook":{"id":"1","version":2}}`, 200,
			map[string]string{"delivery": "*", "state": "dead", "error": "*"}, queue.Dead},
	} {
		got := post(t, web.URL+"/webhooks/"+test.endpoint, test.body, "X-Webhook-Secret", "s3cret")
		if got.status != test.status || test.fields != nil && !got.is(test.fields) {
			t.Errorf("%s: answer %d %s; want %d %v", test.name, got.status, got.body, test.status, test.fields)
		}
		if ct := got.header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s: Content-Type %q", test.name, ct)
		}
		r := record(t, s, got.header.Get("Hubhook-Delivery"))
		if r.State != test.state || string(r.Body) != test.body || r.Header.Get("X-Webhook-Secret") == "s3cret" {
			t.Errorf("%s: stored as %s with header %v and body %s", test.name, r.State, r.Header, r.Body)
		}
	}
	if got := post(t, web.URL+"/webhooks/result", push, "X-Webhook-Secret", "s3cret"); got.body != `{"runs":1}` {
		t.Errorf("result: body %s", got.body)
	}
}

func TestErrorsAreToldOnlyWhereASecretWasChecked(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("hopeless", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom") }, Retry(1, time.Second))
	web := serve(t, s)
	if got := post(t, web.URL+"/webhooks/hopeless", push); !got.is(map[string]string{"delivery": "*", "state": "dead"}) {
		t.Errorf("answer %s", got.body)
	}
}

func TestRefusals(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"old", "new"}, MaxBody: 1000})
	s.Handle("a/train", triggerTraining)
	web := serve(t, s)
	url := web.URL + "/webhooks/a/train"
	for _, test := range []struct {
		name, method, url, body string
		secret                  string
		status                  int
		words                   string
	}{
		{"unknown", "POST", web.URL + "/webhooks/other", push, "old", 404, "other"},
		{"unknown before the method", "GET", web.URL + "/webhooks/other", "", "", 404, "other"},
		{"no name", "POST", web.URL + "/webhooks/", push, "old", 404, "/webhooks/"},
		{"nowhere", "POST", web.URL + "/elsewhere", push, "old", 404, "nothing"},
		{"wrong method", "GET", url, "", "", 405, "POST"},
		{"wrong method at home", "POST", web.URL + "/", push, "", 405, "GET"},
		{"no secret", "POST", url, push, "", 401, "secret"},
		{"wrong secret", "POST", url, push, "guess", 403, "secret"},
		{"wrong secret in the URL", "POST", url + "?secret=guess", push, "", 403, "secret"},
		{"secret before size", "POST", url, strings.Repeat("x", 2000), "guess", 403, "secret"},
		{"too large", "POST", url, strings.Repeat("x", 1001), "old", 413, "1001"},
		{"empty", "POST", url, "", "old", 422, ""},
		{"not JSON", "POST", url, "{\n  \"a\": }", "new", 422, "line 2"},
		{"not an object", "POST", url, "[1]", "new", 422, ""},
		{"not UTF-8", "POST", url, "{\"a\":\"\xff\"}", "new", 422, "UTF-8"},
		{"more than one", "POST", url, "{} {}", "new", 422, ""},
	} {
		r, err := http.NewRequest(test.method, test.url, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if test.secret != "" {
			r.Header.Set("X-Webhook-Secret", test.secret)
		}
		got := do(t, r)
		if got.status != test.status || !got.is(map[string]string{"error": "*"}) || !strings.Contains(got.body, test.words) {
			t.Errorf("%s: answer %d %s; want %d and %q", test.name, got.status, got.body, test.status, test.words)
		}
		if (got.header.Get("Allow") != "") != (test.status == 405) {
			t.Errorf("%s: Allow %q", test.name, got.header.Get("Allow"))
		}
		for _, secret := range []string{"old", "new"} {
			if strings.Contains(got.body, secret) {
				t.Errorf("%s: the answer tells a secret: %s", test.name, got.body)
			}
		}
	}
	list, _, err := s.queue.Load().List(context.Background(), queue.Filter{})
	if err != nil || len(list) != 0 {
		t.Errorf("refused requests left %d deliveries (%v)", len(list), err)
	}
	for _, how := range []struct{ url, secret string }{{url, "old"}, {url, "new"}, {url + "?secret=new", ""}, {url + "/", "old"}, {web.URL + "//webhooks///a//train//", "old"}} {
		if got := post(t, how.url, push, "X-Webhook-Secret", how.secret); got.status != 200 {
			t.Errorf("POST %s with secret %q: %d %s", how.url, how.secret, got.status, got.body)
		}
	}
}

// A body of unknown length is refused once it has grown past the limit.
func TestChunkedBodyOverTheLimit(t *testing.T) {
	s := newServer(t, Config{MaxBody: 1000})
	s.Handle("train", triggerTraining)
	web := serve(t, s)
	r, _ := http.NewRequest(http.MethodPost, web.URL+"/webhooks/train", io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))))
	if got := do(t, r); got.status != 413 || !got.is(map[string]string{"error": "*"}) {
		t.Errorf("answer %d %s", got.status, got.body)
	}
}

// The secret and the size are checked before any of the body is sent.
func TestRefusalsThatDontWaitForTheBody(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"right"}})
	s.Handle("train", triggerTraining)
	web := serve(t, s)
	for status, head := range map[string]string{
		"401": "Content-Length: 1000\r\n",
		"403": "Content-Length: 1000\r\nX-Webhook-Secret: wrong\r\n",
		"413": "Content-Length: 99999999\r\nX-Webhook-Secret: right\r\n",
	} {
		conn, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /webhooks/train HTTP/1.1\r\nHost: x\r\n%s\r\n", head)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, status) {
			t.Errorf("first line %q, %v; want status %s", line, err, status)
		}
	}
}

func TestTooManyBytesInFlight(t *testing.T) {
	s := newServer(t, Config{MaxInFlight: 1500, MaxBody: 1000})
	s.Handle("train", triggerTraining)
	web := serve(t, s)
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /webhooks/train HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
	for deadline := time.Now().Add(5 * time.Second); s.inFlight.Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the slow body was never counted")
		}
		time.Sleep(time.Millisecond)
	}
	long := `{"x":"` + strings.Repeat("y", 900) + `"}`
	if got := post(t, web.URL+"/webhooks/train", long); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("answer %d %s, Retry-After %q", got.status, got.body, got.header.Get("Retry-After"))
	}
	conn.Close()
	for deadline := time.Now().Add(5 * time.Second); s.inFlight.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the cut body still counts")
		}
		time.Sleep(time.Millisecond)
	}
	if got := post(t, web.URL+"/webhooks/train", long); got.status != 200 {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

func TestSecretsAreStoredNowhere(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}})
	s.Handle("train", triggerTraining)
	web := serve(t, s)
	got := post(t, web.URL+"/webhooks/train?secret=s3cret", push,
		"X-Forwarded-Uri", "/webhooks/train?secret=s3cret", "Authorization", "Bearer hf_x", "Webhook-Id", "w1")
	r := record(t, s, got.header.Get("Hubhook-Delivery"))
	all := fmt.Sprint(r.Header)
	if strings.Contains(all, "s3cret") || strings.Contains(all, "hf_x") || r.WebhookID != "w1" || r.Header.Get("Webhook-Id") != "w1" {
		t.Errorf("stored: %q %s", r.WebhookID, all)
	}
}

// A secret that is part of ordinary words leaves the Content-Type, by which programs read a forwarded body, and texts as they are.
func TestSecretsThatAreWords(t *testing.T) {
	for _, secret := range []string{"a", "json"} {
		s := newServer(t, Config{Secrets: []string{secret}})
		s.Handle("x", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("a banana") })
		got := post(t, serve(t, s).URL+"/webhooks/x", push,
			"Content-Type", "application/json", "X-Webhook-Secret", secret, "X-Original-Url", "/webhooks/x?secret="+secret)
		r := record(t, s, got.header.Get("Hubhook-Delivery"))
		if kind := r.Header.Get("Content-Type"); kind != "application/json" || !strings.Contains(got.body, `"error":"a banana"`) {
			t.Errorf("secret %s: Content-Type %s, answer %s", secret, kind, got.body)
		}
		if sent, url := r.Header.Get("X-Webhook-Secret"), r.Header.Get("X-Original-Url"); sent != "[secret]" || strings.Contains(url, "secret="+secret) {
			t.Errorf("secret %s is in the record: %s, %s", secret, sent, url)
		}
	}
}

func TestDuplicates(t *testing.T) {
	s := newServer(t, Config{}) // under Handler the defaults are those of production
	runs := make(chan string, 10)
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		d, _ := DeliveryFrom(ctx)
		runs <- d.ID
		return nil, nil
	})
	web := serve(t, s)
	first := post(t, web.URL+"/webhooks/train", push, "Webhook-Id", "w1")
	again := post(t, web.URL+"/webhooks/train", push, "Webhook-Id", "w1")
	id := first.header.Get("Hubhook-Delivery")
	if again.status != 200 || !again.is(map[string]string{"delivery": id, "state": "duplicate"}) || again.header.Get("Hubhook-Delivery") != id {
		t.Errorf("answer %d %s", again.status, again.body)
	}
	post(t, web.URL+"/webhooks/train", push)
	post(t, web.URL+"/webhooks/train", push)
	if len(runs) != 3 {
		t.Errorf("%d runs; want one for the id, and one for each delivery without", len(runs))
	}
	newID, err := s.replay(context.Background(), id, nil)
	if err != nil || newID == id {
		t.Fatalf("replay: %q, %v", newID, err)
	}
	if r := until(t, s, newID, queue.Done); r.ReplayOf != id || r.WebhookID != "w1" {
		t.Errorf("the replay: %+v", r.Delivery)
	}
	if r := record(t, s, id); r.Duplicates != 1 || r.Replays != 1 {
		t.Errorf("the first: %+v", r.Delivery)
	}
}

func TestAFailedAttemptIsRetriedAndTheHandlerSeesWhich(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		d, ok := DeliveryFrom(ctx)
		if !ok || d.Endpoint != "train" || d.WebhookID != "w" || d.Received.IsZero() || d.Header.Get("X-Test") != "yes" {
			return nil, fmt.Errorf("DeliveryFrom: %+v, %v", d, ok)
		}
		if d.Attempt < 3 {
			return nil, fmt.Errorf("attempt %d fails", d.Attempt)
		}
		return d.ID, nil
	}, Retry(3, time.Millisecond))
	web := serve(t, s)
	got := post(t, web.URL+"/webhooks/train", push, "Webhook-Id", "w", "X-Test", "yes")
	if got.status != 202 || !got.is(map[string]string{"delivery": "*", "state": "retrying"}) {
		t.Errorf("answer %d %s", got.status, got.body)
	}
	id := got.header.Get("Hubhook-Delivery")
	r := until(t, s, id, queue.Done)
	if len(r.AttemptList) != 3 || r.AttemptList[1].Error != "attempt 2 fails" || string(r.AttemptList[2].Result) != `"`+id+`"` {
		t.Errorf("attempts: %+v", r.AttemptList)
	}
}

func TestTimeoutIsAFailedAttempt(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}})
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, Timeout(time.Millisecond), Retry(1, time.Second))
	web := serve(t, s)
	got := post(t, web.URL+"/webhooks/train", push, "X-Webhook-Secret", "s3cret")
	if !got.is(map[string]string{"delivery": "*", "state": "dead", "error": "timed out after 1ms: context deadline exceeded"}) {
		t.Errorf("answer %s", got.body)
	}
}

func TestHealthReadyAndHome(t *testing.T) {
	s := newServer(t, Config{Home: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "mine") })})
	s.Handle("train", triggerTraining)
	web := httptest.NewServer(handler(t, s))
	defer web.Close()
	for path, want := range map[string]string{"/healthz": `{"status":"ok"}`, "/readyz": `{"status":"ready"}`, "/": "mine"} {
		r, _ := http.NewRequest(http.MethodGet, web.URL+path, nil)
		if got := do(t, r); got.status != 200 || got.body != want {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodGet, web.URL+"/readyz", nil)
	if got := do(t, r); got.status != 503 {
		t.Errorf("GET /readyz after Shutdown: %d %s", got.status, got.body)
	}
	if got := post(t, web.URL+"/webhooks/train", push); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("POST after Shutdown: %d %s", got.status, got.body)
	}
}

func TestHandlerOnALockedDirectorySaysWhyAndCanBeAskedAgain(t *testing.T) {
	dir := t.TempDir()
	first := newServer(t, Config{Data: dir})
	first.Handle("train", nil)
	handler(t, first)
	var said strings.Builder
	second := newServer(t, Config{Data: dir, Errors: &said, Secrets: []string{"s3cret"}})
	second.Handle("train", nil)
	h, err := second.Handler()
	if h != nil || err == nil || !strings.Contains(err.Error(), "in use by process") || !strings.Contains(text.Hint(err), "--data") {
		t.Errorf("Handler: %v, %v, hint %q", h, err, text.Hint(err))
	}
	if said.String() != "" {
		t.Errorf("printed %q; want the error returned alone", said.String())
	}
	if err := first.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	web := serve(t, second)
	if got := post(t, web.URL+"/webhooks/train", push, "X-Webhook-Secret", "s3cret"); got.status != 200 {
		t.Errorf("answer once the directory was free: %d %s", got.status, got.body)
	}
}

func TestShutdownEndsAServerWhoseHandlerFailed(t *testing.T) {
	dir := t.TempDir()
	first := newServer(t, Config{Data: dir})
	serve(t, first)
	second := newServer(t, Config{Data: dir})
	if _, err := second.Handler(); err == nil {
		t.Fatal("Handler: no error")
	}
	if err := second.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestTriggerGoesThroughTheFrontDoor(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}})
	s.Handle("train", triggerTraining)
	s.Handle("eval", triggerTraining)
	serve(t, s)
	id, err := s.trigger(context.Background(), api.Trigger{Endpoint: "train", Scope: "repo.content", Set: map[string]any{"repo.name": "me/data"}})
	if err != nil {
		t.Fatal(err)
	}
	if r := until(t, s, id, queue.Done); !r.Synthetic || r.RepoName != "me/data" || r.Header.Get("X-Webhook-Secret") == "s3cret" {
		t.Errorf("the delivery: %+v %v", r.Delivery, r.Header)
	}
	from, err := s.trigger(context.Background(), api.Trigger{From: id})
	if err != nil {
		t.Fatal(err)
	}
	if r := record(t, s, from); r.Endpoint != "train" || string(r.Body) != string(record(t, s, id).Body) || r.ReplayOf != "" {
		t.Errorf("from another delivery: %+v", r.Delivery)
	}
	for want, wrong := range map[string]api.Trigger{
		"eval":          {Scope: "repo.content"},
		"no endpoint":   {Endpoint: "other", Scope: "repo.content"},
		"scope":         {Endpoint: "train", Scope: "push"},
		"repo.nickname": {Endpoint: "train", Scope: "repo", Set: map[string]any{"repo.nickname": "x"}},
	} {
		_, err := s.trigger(context.Background(), wrong)
		var refused *inspector.Refusal
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("trigger %+v: %v; want a refusal that contains %q", wrong, err, want)
		}
	}
}

// safeBuilder is a strings.Builder for more than one goroutine.
type safeBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuilder) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
