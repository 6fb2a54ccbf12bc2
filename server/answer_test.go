package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// gate is a handler that waits until its channel is closed.
func gate(open <-chan struct{}) Handler {
	return func(ctx context.Context, _ *payload.Payload) (any, error) {
		select {
		case <-open:
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// later posts without waiting for the answer.
func later(t *testing.T, url, body string, headers ...string) <-chan reply {
	t.Helper()
	answers := make(chan reply, 1)
	go func() {
		defer close(answers)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil {
			t.Error(err)
			return
		}
		answers <- reply{resp.StatusCode, resp.Header, b.String()}
	}()
	return answers
}

// one waits until an endpoint has a delivery, and returns its ID.
func one(t *testing.T, s *Server, endpoint string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		list, _, err := s.queue.Load().List(t.Context(), queue.Filter{Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			return list[0].ID
		}
		if time.Now().After(deadline) {
			t.Fatalf("endpoint %s has no delivery after 10 s", endpoint)
		}
	}
}

func TestAnswerHandledIs2xxOnlyOnceTheHubNeedNotSendItAgain(t *testing.T) {
	s := newServer(t, Config{Answer: "handled", Secrets: []string{"s3cret"}, ReplyWithin: -1})
	var tries atomic.Int32
	s.Handle("result", func(context.Context, *payload.Payload) (any, error) {
		time.Sleep(20 * time.Millisecond) // ReplyWithin has no meaning
		return map[string]int{"runs": 1}, nil
	})
	s.Handle("recovering", func(context.Context, *payload.Payload) (any, error) {
		if tries.Add(1) < 3 {
			return nil, errors.New("boom")
		}
		return "third time", nil
	}, Retry(3, time.Millisecond))
	s.Handle("hopeless", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom s3cret") }, Retry(2, time.Millisecond))
	s.Handle("picky", triggerTraining, When(func(*payload.Payload) bool { return false }))
	s.Handle("kept", nil)
	s.Handle("keyless", triggerTraining, SerialBy(func(*payload.Payload) string { panic("no key") }))
	web := serve(t, s)

	for _, test := range []struct {
		name, endpoint, body string
		status               int
		answer               string // in its body
		state                queue.State
	}{
		{"done", "result", push, 200, `{"runs":1}`, queue.Done},
		{"done at last", "recovering", push, 200, `"third time"`, queue.Done},
		{"skipped", "picky", push, 200, `"state":"skipped"`, queue.Skipped},
		{"without handler", "kept", push, 200, `{}`, queue.Done},
		{"unreadable", "result", `{"hello":"world"}`, 200, `"state":"dead"`, queue.Dead},
		{"without its key", "keyless", push, 200, `"state":"dead"`, queue.Dead},
		{"failed", "hopeless", push, 503, `could not be handled: boom [secret]"}`, queue.Dead},
	} {
		got := post(t, web.URL+"/webhooks/"+test.endpoint, test.body, "X-Webhook-Secret", "s3cret")
		if got.status != test.status || !strings.Contains(got.body, test.answer) {
			t.Errorf("%s: answer %d %s; want %d with %s", test.name, got.status, got.body, test.status, test.answer)
		}
		if test.status == 503 && (!got.is(map[string]string{"error": "*"}) || got.header.Get("Retry-After") == "") {
			t.Errorf("%s: answer %s, Retry-After %q", test.name, got.body, got.header.Get("Retry-After"))
		}
		if r := record(t, s, got.header.Get("Hubhook-Delivery")); r.State != test.state {
			t.Errorf("%s: stored as %s (%s); want %s", test.name, r.State, r.Reason, test.state)
		}
	}
	if want := `hubhook_deliveries_total{endpoint="picky",state="skipped"} 1`; !strings.Contains(scrape(t, s), want) {
		t.Errorf("metrics lack %s", want)
	}
}

func TestAnswerHandledTellsTheHubToComeBackForWhatTakesLonger(t *testing.T) {
	var out bytes.Buffer
	s := newServer(t, Config{Answer: "handled", Output: &out, handledLimit: 60 * time.Millisecond})
	open := make(chan struct{})
	s.Handle("slow", gate(open))
	web := httptest.NewServer(handler(t, s))
	url := web.URL + "/webhooks/slow"

	late := post(t, url, push, "Webhook-Id", "w")
	if late.status != 503 || !late.is(map[string]string{"error": "*"}) || late.header.Get("Retry-After") == "" || !strings.Contains(late.body, "60ms") {
		t.Fatalf("answer %d %s, Retry-After %q; want 503", late.status, late.body, late.header.Get("Retry-After"))
	}
	id := late.header.Get("Hubhook-Delivery")
	if r := record(t, s, id); r.State != queue.Running {
		t.Errorf("the delivery is %s; want it to go on", r.State)
	}
	s.settings.handledLimit = 10 * time.Second // no request is under way
	again := later(t, url, push, "Webhook-Id", "w")
	for deadline := time.Now().Add(10 * time.Second); record(t, s, id).Duplicates == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the same Webhook-Id is no duplicate")
		}
	}
	select {
	case a := <-again:
		t.Fatalf("answered %d %s while the first one runs", a.status, a.body)
	default:
	}
	close(open)
	if a := <-again; a.status != 200 || !a.is(map[string]string{"delivery": id, "state": "duplicate"}) {
		t.Errorf("answer %d %s; want the first one's outcome", a.status, a.body)
	}
	if a := post(t, url, push, "Webhook-Id", "w"); a.status != 200 || !a.is(map[string]string{"delivery": id, "state": "duplicate"}) {
		t.Errorf("later: answer %d %s; want a duplicate", a.status, a.body)
	}
	web.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "503: delivery "+id+" is not handled within 60ms") {
		t.Errorf("the screen does not tell of the 503:\n%s", text)
	}
}

func TestADuplicateOfOneThatFailsIsNotAnswered2xxWithAnswerHandled(t *testing.T) {
	s := newServer(t, Config{Answer: "handled"})
	open := make(chan struct{})
	s.Handle("failing", func(context.Context, *payload.Payload) (any, error) {
		<-open
		return nil, errors.New("boom")
	}, Retry(1, time.Second))
	web := serve(t, s)
	first := later(t, web.URL+"/webhooks/failing", push, "Webhook-Id", "w")
	id := one(t, s, "failing")
	again := later(t, web.URL+"/webhooks/failing", push, "Webhook-Id", "w")
	for deadline := time.Now().Add(10 * time.Second); record(t, s, id).Duplicates == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the same Webhook-Id is no duplicate")
		}
	}
	close(open)
	for _, a := range []reply{<-first, <-again} {
		if a.status != 503 || !a.is(map[string]string{"error": "*"}) || strings.Contains(a.body, "boom") {
			t.Errorf("answer %d %s; want 503, and without a secret not why", a.status, a.body)
		}
	}
}

// What is discarded while its sender waits was not handled.
func TestADiscardedDeliveryIsNotAnswered2xxWithAnswerHandled(t *testing.T) {
	s := newServer(t, Config{Answer: "handled"})
	s.Handle("slow", gate(nil))
	web := serve(t, s)
	answer := later(t, web.URL+"/webhooks/slow", push)
	if err := s.queue.Load().Discard(t.Context(), one(t, s, "slow"), "by hand"); err != nil {
		t.Fatal(err)
	}
	if a := <-answer; a.status != 503 || !strings.Contains(a.body, "discarded") {
		t.Errorf("answer %d %s; want 503", a.status, a.body)
	}
}

// A server that stops answers those who wait: with what their handlers still come to, and with 503 where they don't.
func TestAnswersThatWaitWhileTheServerStops(t *testing.T) {
	s := newServer(t, Config{Answer: "handled"})
	open := make(chan struct{})
	s.Handle("slow", gate(open), Concurrency(1))
	web := httptest.NewServer(handler(t, s))
	defer web.Close()
	url := web.URL + "/webhooks/slow"
	running := later(t, url, push)
	one(t, s, "slow")
	waiting := later(t, url, push)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if list, _, err := s.queue.Load().List(t.Context(), queue.Filter{State: queue.Waiting}); err != nil || len(list) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the second delivery does not wait")
		}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	for !s.stopping.Load() {
		time.Sleep(time.Millisecond)
	}
	if a := post(t, url, push); a.status != 503 {
		t.Errorf("a new delivery is answered %d %s", a.status, a.body)
	}
	close(open)
	if a := <-running; a.status != 200 || a.body != `"done"` {
		t.Errorf("the one whose handler came to its end: %d %s", a.status, a.body)
	}
	if a := <-waiting; a.status != 503 || !strings.Contains(a.body, "shutting down") {
		t.Errorf("the one that was not started: %d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// One whose handler is not done in time is handed back, and the next process may not find it.
func TestADeliveryThatIsHandedBackIsNotAnswered2xxWithAnswerHandled(t *testing.T) {
	s := newServer(t, Config{Answer: "handled"})
	s.Handle("slow", gate(nil))
	web := httptest.NewServer(handler(t, s))
	defer web.Close()
	answer := later(t, web.URL+"/webhooks/slow", push)
	until(t, s, one(t, s, "slow"), queue.Running)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // no handler has any time left
	if err := s.Shutdown(ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if a := <-answer; a.status != 503 || !strings.Contains(a.body, "shutting down") {
		t.Errorf("answer %d %s; want 503", a.status, a.body)
	}
}

// A sample event is the developer's, who does not wait for the handler.
func TestATriggerDoesNotWaitWithAnswerHandled(t *testing.T) {
	s := newServer(t, Config{Answer: "handled"})
	open := make(chan struct{})
	s.Handle("slow", gate(open))
	serve(t, s)
	defer close(open)
	id, err := s.trigger(t.Context(), api.Trigger{Endpoint: "slow", Scope: "repo.content"})
	if err != nil {
		t.Fatal(err)
	}
	if r := record(t, s, id); r.State != queue.Running {
		t.Errorf("the sample is %s", r.State)
	}
}

func TestWarningsAboutTheMomentOfTheAnswer(t *testing.T) {
	space := variables(map[string]string{"SPACE_ID": "me/bot"})
	for name, test := range map[string]struct {
		config Config
		opts   []Option
		want   string
	}{
		"in a Space":                 {config: Config{Getenv: space}, want: "--answer handled"},
		"in a Space, handled":        {config: Config{Getenv: space, Answer: "handled"}},
		"elsewhere":                  {},
		"held back too long":         {config: Config{Answer: "handled"}, opts: []Option{Debounce(time.Minute, 0, nil)}, want: "holds deliveries back for 1m0s"},
		"held back for a while":      {config: Config{Answer: "handled"}, opts: []Option{Debounce(time.Second, 0, nil)}},
		"held back, answered before": {opts: []Option{Debounce(time.Minute, 0, nil)}},
	} {
		var errs bytes.Buffer
		test.config.Errors, test.config.Secrets = &errs, []string{"s3cret"}
		s := newServer(t, test.config)
		s.Handle("train", triggerTraining, test.opts...)
		handler(t, s)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if text := errs.String(); (text != "") != (test.want != "") || !strings.Contains(text, test.want) {
			t.Errorf("%s: warned %q; want %q", name, text, test.want)
		}
	}
}

func TestAMetricCountsWhatWasNotHandledInTime(t *testing.T) {
	s := newServer(t, Config{Answer: "handled", handledLimit: time.Millisecond})
	open := make(chan struct{})
	s.Handle("slow", gate(open))
	web := serve(t, s)
	defer close(open)
	post(t, web.URL+"/webhooks/slow", push)
	w := httptest.NewRecorder()
	s.metrics.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if want := fmt.Sprintf("hubhook_refused_total{reason=%q} 1", "not_handled"); !strings.Contains(w.Body.String(), want) {
		t.Errorf("metrics lack %s", want)
	}
}
