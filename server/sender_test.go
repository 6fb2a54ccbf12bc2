package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
)

// answering is a server behind an HTTP server of its own, with the lines that it prints.
func answering(t *testing.T, c Config, register func(*Server)) (r *running, url string) {
	t.Helper()
	out := newLineWriter(t)
	c.JSON, c.Output = true, out
	s := newServer(t, c)
	register(s)
	return &running{Server: s, lines: out.lines}, serve(t, s).URL + "/webhooks/"
}

// ended returns the line about the end of an attempt of that state, or of a delivery without one, and the status in it, 0 for none.
func (r *running) ended(t *testing.T, id, state string) (status int) {
	t.Helper()
	l := r.wait(t, "attempt", func(l line) bool { return l.text("delivery") == id })
	if l.text("state") != state {
		t.Errorf("the line is %v; want the state %s", l, state)
	}
	n, _ := l["status"].(float64)
	return int(n)
}

// The line about an outcome names the status of the answer that told it, and none where no answer did.
func TestTheStatusInALineIsThatOfTheAnswer(t *testing.T) {
	boom := func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom") }
	var tries atomic.Int32
	r, url := answering(t, Config{}, func(s *Server) {
		s.Handle("train", triggerTraining)
		s.Handle("kept", nil)
		s.Handle("picky", triggerTraining, When(func(*payload.Payload) bool { return false }))
		s.Handle("hopeless", boom, Retry(1, time.Second))
		s.Handle("failing", boom, Retry(2, time.Hour))
		s.Handle("recovering", func(ctx context.Context, p *payload.Payload) (any, error) {
			if tries.Add(1) == 1 {
				return boom(ctx, p)
			}
			return nil, nil
		}, Retry(2, time.Millisecond))
		s.Handle("burst", triggerTraining, Debounce(50*time.Millisecond, 0, nil))
	})
	for _, test := range []struct {
		endpoint, state string
		status          int
	}{
		{"train", "done", 200},
		{"kept", "done", 200},
		{"picky", "skipped", 200},
		{"hopeless", "dead", 200},
		{"failing", "retrying", 202},
		{"recovering", "retrying", 202},
	} {
		a := post(t, url+test.endpoint, push)
		id := a.header.Get("Hubhook-Delivery")
		if got := r.ended(t, id, test.state); got != test.status || a.status != test.status {
			t.Errorf("%s: the line says %d, the answer was %d; want %d", test.endpoint, got, a.status, test.status)
		}
		if test.endpoint != "recovering" {
			continue
		}
		if got := r.ended(t, id, "done"); got != 0 {
			t.Errorf("the second attempt has the status %d, which no answer told", got)
		}
	}

	// One that is held back is answered before anything becomes of it, whether it is merged or runs.
	first, second := post(t, url+"burst", push), post(t, url+"burst", push)
	if first.status != 202 || second.status != 202 {
		t.Errorf("answered %d and %d; want 202", first.status, second.status)
	}
	if got := r.ended(t, first.header.Get("Hubhook-Delivery"), "merged"); got != 0 {
		t.Errorf("the merged one has the status %d", got)
	}
	if got := r.ended(t, second.header.Get("Hubhook-Delivery"), "done"); got != 0 {
		t.Errorf("the last one of the burst has the status %d", got)
	}

	// Nobody waits for what becomes of a replay or a sample event. A delivery without a handler is done when its sample is answered.
	done := post(t, url+"train", push).header.Get("Hubhook-Delivery")
	r.ended(t, done, "done")
	replay, err := r.replay(t.Context(), done, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.ended(t, replay, "done"); got != 0 {
		t.Errorf("the replay has the status %d", got)
	}
	for endpoint, want := range map[string]int{"train": 0, "kept": 200} {
		sample, err := r.trigger(t.Context(), api.Trigger{Endpoint: endpoint, Scope: "repo.content"})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.ended(t, sample, "done"); got != want {
			t.Errorf("the sample event of %s has the status %d, want %d", endpoint, got, want)
		}
	}
}

func TestNoStatusOfAnAnswerThatCameBeforeTheOutcome(t *testing.T) {
	open := make(chan struct{})
	r, url := answering(t, Config{ReplyWithin: time.Millisecond}, func(s *Server) { s.Handle("slow", gate(open)) })
	first := post(t, url+"slow", push, "Webhook-Id", "w")
	id := first.header.Get("Hubhook-Delivery")
	if first.status != 202 {
		t.Fatalf("answer %d %s; want 202", first.status, first.body)
	}
	// A duplicate is answered 200, which tells nothing of the outcome.
	if again := post(t, url+"slow", push, "Webhook-Id", "w"); again.status != 200 || !again.is(map[string]string{"delivery": id, "state": "duplicate"}) {
		t.Fatalf("answer %d %s; want 200 and a duplicate", again.status, again.body)
	}
	close(open)
	if got := r.ended(t, id, "done"); got != 0 {
		t.Errorf("the line has the status %d", got)
	}
}

func TestNoStatusWhereTheSenderHasGone(t *testing.T) {
	out := newLineWriter(t)
	s := newServer(t, Config{JSON: true, Output: out, ReplyWithin: time.Hour})
	open := make(chan struct{})
	s.Handle("slow", gate(open))
	inner, returned := handler(t, s), make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		close(returned)
	}))
	t.Cleanup(web.Close)
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, web.URL+"/webhooks/slow", strings.NewReader(push))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	id := one(t, s, "slow")
	hangUp()
	if err := <-answered; err == nil {
		t.Fatal("the sender got an answer")
	}
	<-returned
	close(open)
	r := &running{Server: s, lines: out.lines}
	if got := r.ended(t, id, "done"); got != 0 {
		t.Errorf("the line has the status %d, which nobody got", got)
	}
}

func TestTheStatusInALineWithAnswerHandled(t *testing.T) {
	var tries atomic.Int32
	boom := errors.New("boom")
	r, url := answering(t, Config{Answer: "handled"}, func(s *Server) {
		s.Handle("recovering", func(context.Context, *payload.Payload) (any, error) {
			if tries.Add(1) < 3 {
				return nil, boom
			}
			return nil, nil
		}, Retry(3, time.Millisecond))
		s.Handle("hopeless", func(context.Context, *payload.Payload) (any, error) { return nil, boom }, Retry(1, time.Second))
		s.Handle("picky", triggerTraining, When(func(*payload.Payload) bool { return false }))
		s.Handle("kept", nil)
	})
	// The sender waits through the attempts that fail.
	a := post(t, url+"recovering", push)
	id := a.header.Get("Hubhook-Delivery")
	for _, want := range []struct {
		state  string
		status int
	}{{"retrying", 0}, {"retrying", 0}, {"done", 200}} {
		if got := r.ended(t, id, want.state); got != want.status {
			t.Errorf("%s has the status %d, want %d", want.state, got, want.status)
		}
	}
	for endpoint, state := range map[string]string{"picky": "skipped", "kept": "done"} {
		a := post(t, url+endpoint, push)
		if got := r.ended(t, a.header.Get("Hubhook-Delivery"), state); got != 200 || a.status != 200 {
			t.Errorf("%s: the line says %d, the answer was %d; want 200", endpoint, got, a.status)
		}
	}
	// The refusal has a line of its own.
	dead := post(t, url+"hopeless", push)
	if dead.status != 503 {
		t.Errorf("answer %d %s; want 503", dead.status, dead.body)
	}
	if l := r.wait(t, "rejected", nil); l["status"] != 503.0 {
		t.Errorf("the refusal's line is %v", l)
	}
}

// Whichever comes first, the outcome is shown once, with the status of the answer that told it.
func TestAnOutcomeMeetsItsAnswer(t *testing.T) {
	outcome := func() *ui.Outcome { return &ui.Outcome{Attempts: 1} }
	f, v := new(sender), outcome()
	if f.takeOutcome(v) {
		t.Error("shown before the answer")
	}
	if later := outcome(); !f.takeOutcome(later) || later.Status != 0 {
		t.Errorf("a second outcome does not wait, and no answer tells it: %+v", later)
	}
	if got := f.takeAnswer(202); got != v || v.Status != 202 {
		t.Errorf("the answer brings %+v; want the first outcome with 202", got)
	}
	if later := outcome(); !f.takeOutcome(later) || later.Status != 0 {
		t.Errorf("after that an outcome has no answer: %+v", later)
	}

	f, v = new(sender), outcome()
	if got := f.takeAnswer(200); got != nil {
		t.Errorf("the answer brings %+v before there is an outcome", got)
	}
	if !f.takeOutcome(v) || v.Status != 200 {
		t.Errorf("the outcome that was told is %+v; want 200", v)
	}
	if later := outcome(); !f.takeOutcome(later) || later.Status != 0 {
		t.Errorf("the next one is %+v; want no status", later)
	}
}
