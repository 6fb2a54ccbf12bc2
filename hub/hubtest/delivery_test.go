package hubtest_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
)

const secret = "s3cret of the webhook"

// receiver receives the webhooks: it records the requests, and answers as told.
type receiver struct {
	answer http.HandlerFunc // nil: 200

	mu   sync.Mutex
	got  []*http.Request
	when []time.Time
	body []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // its sender has gone
	}
	r.mu.Lock()
	r.got, r.when, r.body = append(r.got, req), append(r.when, time.Now()), append(r.body, string(body))
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, req)
	}
}

func (r *receiver) setAnswer(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = h
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// waits are the times between requests.
func (r *receiver) waits() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var waits []time.Duration
	for n := 1; n < len(r.when); n++ {
		waits = append(waits, r.when[n].Sub(r.when[n-1]))
	}
	return waits
}

// serve returns a client that reaches r without a network, so that time in a synctest bubble can pass.
func serve(t *testing.T, r *receiver) *http.Client {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: r, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(l)
	}()
	transport := &http.Transport{DialContext: l.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		<-ended
	})
	return &http.Client{Transport: transport}
}

type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// newReceiver serves r on the loopback interface and returns its address.
func newReceiver(t *testing.T, r *receiver) string {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server.URL
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hub starts a Hub with one webhook.
func hub(t *testing.T, options hubtest.Options, url string) (*hubtest.Hub, string) {
	t.Helper()
	h := hubtest.New(options)
	t.Cleanup(h.Close)
	id, err := h.Create(hubtest.Webhook{URL: url, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	return h, id
}

func send(t *testing.T, h *hubtest.Hub, webhook, body string) *hubtest.Delivery {
	t.Helper()
	d, err := h.Send(webhook, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wantState(t *testing.T, d *hubtest.Delivery, want hubtest.State) {
	t.Helper()
	got, err := d.Wait(t.Context())
	if err != nil || got != want || d.State() != want {
		t.Errorf("the delivery is %s, %v; want %s (%v)", got, err, want, d.Attempts())
	}
}

// Over real connections: the request as it arrives, and the answer in the log.
func TestARequestAndItsAnswer(t *testing.T) {
	r := &receiver{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Hubhook-Delivery", "the one")
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, strings.Repeat("x", 100<<10))
	}}
	server := httptest.NewServer(r)
	defer server.Close()
	h, id := hub(t, hubtest.Options{}, server.URL+"/webhooks/inbox?secret=from-the-query")
	before := time.Now()
	d := send(t, h, id, `{"event": {}}`)
	wantState(t, d, hubtest.Delivered)

	got := r.got[0]
	if got.Method != http.MethodPost || got.URL.String() != "/webhooks/inbox?secret=from-the-query" || r.body[0] != `{"event": {}}` || got.ContentLength != 13 {
		t.Errorf("%s %s with %d bytes: %s", got.Method, got.URL, got.ContentLength, r.body[0])
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "X-Webhook-Secret": secret, "Webhook-Id": d.ID} {
		if values := got.Header.Values(name); !slices.Equal(values, []string{want}) {
			t.Errorf("%s: %q; want %q", name, values, want)
		}
	}
	all := h.Attempts()
	if len(all) != 1 {
		t.Fatalf("attempts %v; want one", all)
	}
	a := all[0]
	if !a.Succeeded() || a.Status != 202 || a.Err != nil || a.Number != 1 || a.Replay || a.DeliveryID != d.ID ||
		a.Header.Get("Hubhook-Delivery") != "the one" || len(a.Body) != 16<<10 {
		t.Errorf("%v, header %v, %d bytes, %+v", a, a.Header, len(a.Body), a.Err)
	}
	if a.Started.Before(before) || a.Ended.Before(a.Started) || a.Ended.After(time.Now()) {
		t.Errorf("it took from %v to %v", a.Started, a.Ended)
	}
}

func TestNoSecretNoHeader(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	h := hubtest.New(hubtest.Options{})
	defer h.Close()
	id, err := h.Create(hubtest.Webhook{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	first, second := send(t, h, id, "{}"), send(t, h, id, "{}")
	wantState(t, first, hubtest.Delivered)
	wantState(t, second, hubtest.Delivered)
	if _, there := r.got[0].Header["X-Webhook-Secret"]; there {
		t.Error("a webhook without a secret sends one")
	}
	if first.ID == second.ID || first.ID == "" {
		t.Errorf("Webhook-Ids %q and %q; want two", first.ID, second.ID)
	}
}

// The default: waits of 1 s that double up to 5 min, ten attempts, all with the same Webhook-Id.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: status(http.StatusServiceUnavailable)}
		h, id := hub(t, hubtest.Options{Client: serve(t, r)}, "http://receiver.example/webhooks/inbox")
		d := send(t, h, id, "{}")
		wantState(t, d, hubtest.GivenUp)
		want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256}
		for n := range want {
			want[n] *= time.Second
		}
		if got := r.waits(); !slices.Equal(got, want) {
			t.Errorf("waits %v; want %v", got, want)
		}
		for n, a := range d.Attempts() {
			if a.Number != n+1 || a.Status != http.StatusServiceUnavailable || r.got[n].Header.Get("Webhook-Id") != d.ID || r.body[n] != "{}" {
				t.Errorf("attempt %d: %v with Webhook-Id %q and body %q", n+1, a, r.got[n].Header.Get("Webhook-Id"), r.body[n])
			}
		}
	})
}

func TestBackoffStopsGrowing(t *testing.T) {
	retry := hubtest.Backoff(3*time.Second, 10*time.Second, 1000)
	for failures, want := range map[int]time.Duration{1: 3 * time.Second, 2: 6 * time.Second, 3: 10 * time.Second, 999: 10 * time.Second} {
		if got, again := retry(failures); got != want || !again {
			t.Errorf("after %d failures %v, %v; want %v", failures, got, again, want)
		}
	}
	if _, again := retry(1000); again {
		t.Error("a thousand attempts are not all")
	}
	if got, _ := hubtest.Backoff(time.Minute, time.Second, 2)(1); got != time.Second {
		t.Errorf("the first wait is %v; want no more than the longest", got)
	}
}

// Each kind of failure, followed by a success.
func TestWhatFails(t *testing.T) {
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	trickle := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		fails  bool
		lasts  time.Duration
	}{
		{"not found", status(404), 404, false, 0},
		{"a permanent redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
		}, 308, false, 0},
		{"no answer", cut, 0, true, 0},
		{"an answer that does not come", never, 0, true, 30 * time.Second},
		{"an answer that does not end", trickle, 500, true, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &receiver{answer: test.answer}
				h, id := hub(t, hubtest.Options{Client: serve(t, r)}, "http://receiver.example/inbox?secret=from-the-query")
				d := send(t, h, id, "{}")
				time.Sleep(test.lasts + 500*time.Millisecond)
				r.setAnswer(nil)
				wantState(t, d, hubtest.Delivered)
				all := d.Attempts()
				if len(all) != 2 || all[0].Succeeded() || all[0].Status != test.status || (all[0].Err != nil) != test.fails || !all[1].Succeeded() {
					t.Fatalf("attempts %v; want one with status %d, and one that succeeds", all, test.status)
				}
				if took := all[0].Ended.Sub(all[0].Started); took != test.lasts {
					t.Errorf("the first attempt took %v; want %v", took, test.lasts)
				}
				if strings.Contains(all[0].String(), "from-the-query") {
					t.Errorf("the log of the attempt has the URL in it: %v", all[0])
				}
				for _, got := range r.got {
					if got.URL.Path != "/inbox" {
						t.Errorf("it went to %s", got.URL)
					}
				}
			})
		})
	}
}

// Suspension stops all waiting deliveries; a success in between resets the count.
func TestSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: status(500)}
		h, id := hub(t, hubtest.Options{Client: serve(t, r), SuspendAfter: 3, Retry: hubtest.Backoff(time.Second, time.Second, 100)}, "http://receiver.example/")
		suspended := func() bool {
			t.Helper()
			yes, err := h.Suspended(id)
			if err != nil {
				t.Fatal(err)
			}
			return yes
		}
		first := send(t, h, id, "{}")
		time.Sleep(1500 * time.Millisecond)
		r.setAnswer(nil)
		wantState(t, first, hubtest.Delivered) // after two failures
		r.setAnswer(status(500))
		one := send(t, h, id, "{}")
		synctest.Wait()
		other := send(t, h, id, "{}")
		synctest.Wait()
		if suspended() {
			t.Error("suspended after two failures in a row")
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantState(t, one, hubtest.GivenUp)
		wantState(t, other, hubtest.GivenUp)
		if !suspended() {
			t.Error("not suspended after three failures in a row")
		}
		before := r.count()
		late := send(t, h, id, "{}")
		wantState(t, late, hubtest.GivenUp)
		if len(late.Attempts()) != 0 || r.count() != before {
			t.Error("a suspended webhook was called")
		}

		r.setAnswer(nil)
		if a, err := h.Replay(t.Context(), late); err != nil || !a.Succeeded() || !a.Replay || a.DeliveryID != late.ID {
			t.Errorf("replay: %v, %v", a, err)
		}
		if !suspended() {
			t.Error("a replay ended the suspension")
		}
		if err := h.Enable(id); err != nil {
			t.Fatal(err)
		}
		wantState(t, send(t, h, id, "{}"), hubtest.Delivered)
		if suspended() {
			t.Error("suspended after it was enabled")
		}
	})
}

// Retries and replays go where the webhook points now.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: status(404)}
		h, id := hub(t, hubtest.Options{Client: serve(t, r)}, "http://old.example/inbox")
		d := send(t, h, id, "{}")
		synctest.Wait()
		if err := h.Update(hubtest.Webhook{ID: id, URL: "http://new.example/inbox", Secret: "another"}); err != nil {
			t.Fatal(err)
		}
		r.setAnswer(nil)
		wantState(t, d, hubtest.Delivered)
		if a, err := h.Replay(t.Context(), d); err != nil || a.Number != 3 || a.URL != "http://new.example/inbox" {
			t.Errorf("replay: %v to %s, %v", a, a.URL, err)
		}
		for n, want := range []struct{ host, secret string }{{"old.example", secret}, {"new.example", "another"}, {"new.example", "another"}} {
			if got := r.got[n]; got.Host != want.host || got.Header.Get("X-Webhook-Secret") != want.secret || got.Header.Get("Webhook-Id") != d.ID {
				t.Errorf("request %d went to %s with the secret %q and the Webhook-Id %q", n+1, got.Host, got.Header.Get("X-Webhook-Secret"), got.Header.Get("Webhook-Id"))
			}
		}
		if w, err := h.Webhook(id); err != nil || w.URL != "http://new.example/inbox" {
			t.Errorf("the webhook is %+v, %v", w, err)
		}
	})
}

func TestNoMoreInFlightThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }}
		h, id := hub(t, hubtest.Options{Client: serve(t, r), InFlight: 2}, "http://receiver.example/")
		for range 5 {
			send(t, h, id, "{}")
		}
		for want := 2; want <= 6; want += 2 {
			synctest.Wait()
			if got := r.count(); got != min(want, 5) {
				t.Errorf("%d requests so far; want %d", got, min(want, 5))
			}
			time.Sleep(time.Second)
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Close waits only for the Hub's goroutines: it cuts requests in flight and gives up waiting deliveries.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
		h, id := hub(t, hubtest.Options{Client: serve(t, r), InFlight: 1, SuspendAfter: 1}, "http://receiver.example/")
		flying, waiting := send(t, h, id, "{}"), send(t, h, id, "{}")
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Wait(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait returns %v while deliveries are pending", err)
		}
		began := time.Now()
		h.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
		wantState(t, flying, hubtest.GivenUp)
		wantState(t, waiting, hubtest.GivenUp)
		if all := h.Attempts(); len(all) != 1 || !errors.Is(all[0].Err, context.Canceled) {
			t.Errorf("attempts %v; want the one that was cut", all)
		}
		if yes, err := h.Suspended(id); yes || err != nil {
			t.Errorf("suspended for what Close has cut: %v, %v", yes, err)
		}
		if _, err := h.Send(id, []byte("{}")); err == nil {
			t.Error("Send after Close succeeds")
		}
		if _, err := h.Replay(t.Context(), flying); err == nil {
			t.Error("Replay after Close succeeds")
		}
		h.Close() // a second one does no harm
	})
}

func TestWhatAWebhookMayNotBe(t *testing.T) {
	h := hubtest.New(hubtest.Options{})
	defer h.Close()
	for _, w := range []hubtest.Webhook{
		{URL: ""},
		{URL: "/webhooks/inbox"},
		{URL: "ftp://example.com/"},
		{URL: "https://"},
		{URL: "https://example.com/", Secret: "gehéim"},
		{URL: "https://example.com/", Secret: "two\nlines"},
	} {
		if _, err := h.Create(w); err == nil {
			t.Errorf("%+v was created", w)
		}
	}
	id, err := h.Create(hubtest.Webhook{URL: "https://example.com/"})
	if err != nil || len(id) != 24 {
		t.Fatalf("ID %q, %v", id, err)
	}
	if _, err := h.Create(hubtest.Webhook{ID: id, URL: "https://example.com/"}); err == nil {
		t.Error("an ID was given twice")
	}
	if err := h.Update(hubtest.Webhook{ID: id}); err == nil {
		t.Error("a webhook was updated to no URL")
	}
	for what, err := range map[string]error{
		"Update":    h.Update(hubtest.Webhook{ID: "another", URL: "https://example.com/"}),
		"Enable":    h.Enable("another"),
		"Send":      second(h.Send("another", nil)),
		"Webhook":   second(h.Webhook("another")),
		"Suspended": second(h.Suspended("another")),
	} {
		if err == nil || !strings.Contains(err.Error(), `"another"`) {
			t.Errorf("%s of a webhook that is not there: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
