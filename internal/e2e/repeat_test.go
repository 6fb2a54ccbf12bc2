//go:build unix

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/queue"
)

// kind is one of the two sets of defaults with one of the two stores. Without --no-tunnel the defaults are those of development, even if
// there is no credential for a tunnel.
type kind struct {
	flags                []string
	production, database bool
}

var kinds = map[string]kind{
	"development":                 {flags: []string{"--secret", secret, "--reply-within", "500ms"}},
	"production":                  {flags: []string{"--secret", secret, "--reply-within", "500ms", "--no-tunnel"}, production: true},
	"production, with a database": {flags: []string{"--secret", secret, "--reply-within", "500ms", "--no-tunnel"}, production: true, database: true},
}

// eachKind runs a test with each kind.
func eachKind(t *testing.T, test func(t *testing.T, kind kind)) {
	t.Helper()
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func (k kind) home(t *testing.T) *home {
	t.Helper()
	if !k.database {
		return newHome(t)
	}
	h, _ := shared(t)
	return h
}

func (k kind) site(t *testing.T) *site {
	t.Helper()
	return newSiteIn(t, k.home(t), k.flags...)
}

// site is a program with a fixed address, a Hub that posts to it, and a proxy in between that may lose answers.
type site struct {
	*home
	*program
	flags []string
	hub   *hubtest.Hub
	proxy string
	lose  atomic.Int32 // answers yet to be lost
}

func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	return newSiteIn(t, newHome(t), flags...)
}

func newSiteIn(t *testing.T, h *home, flags ...string) *site {
	t.Helper()
	s := &site{home: h, flags: append([]string{"--port", freePort(t)}, flags...)}
	s.program = s.serve(t, bot, s.flags...)
	target, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ModifyResponse = func(*http.Response) error {
		if s.lose.Add(-1) >= 0 {
			return fmt.Errorf("lost on the way")
		}
		return nil
	}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy := httptest.NewServer(forward)
	s.proxy = proxy.URL
	s.hub = hubtest.New(hubtest.Options{Retry: hubtest.Backoff(10*time.Millisecond, 100*time.Millisecond, 1000)})
	t.Cleanup(func() {
		s.hub.Close()
		proxy.Close()
	})
	return s
}

// restart kills the program and starts it again.
func (s *site) restart() {
	s.t.Helper()
	s.kill()
	s.program = s.serve(s.t, bot, s.flags...)
}

// event has the Hub deliver a push to an endpoint.
func (s *site) event(endpoint string) *hubtest.Delivery {
	s.t.Helper()
	id, err := s.hub.Create(hubtest.Webhook{URL: s.proxy + "/webhooks/" + endpoint, Secret: secret})
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := s.hub.Send(id, []byte(push(s.t)))
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// send is event, and returns once the Hub has seen a 2xx.
func (s *site) send(endpoint string) *hubtest.Delivery {
	s.t.Helper()
	d := s.event(endpoint)
	s.delivered(d)
	return d
}

// delivered waits until the Hub has seen a 2xx.
func (s *site) delivered(d *hubtest.Delivery) {
	s.t.Helper()
	if state, err := d.Wait(s.t.Context()); err != nil || state != hubtest.Delivered {
		s.t.Fatalf("the delivery is %s, %v: %v", state, err, d.Attempts())
	}
}

// accepted returns the ID in the last 2xx answer to a delivery.
func accepted(d *hubtest.Delivery) string {
	attempts := d.Attempts()
	return attempts[len(attempts)-1].Header.Get("Hubhook-Delivery")
}

// replay presses the Hub's Replay button, checks that the answer is 2xx, and returns the delivery ID in the answer.
func (s *site) replay(d *hubtest.Delivery) (id string, duplicate bool) {
	s.t.Helper()
	a, err := s.hub.Replay(s.t.Context(), d)
	if err != nil || !a.Succeeded() {
		s.t.Fatalf("the Hub's replay: %v, %v", a, err)
	}
	return a.Header.Get("Hubhook-Delivery"), strings.Contains(string(a.Body), `"state":"duplicate"`)
}

// again lets the Hub repeat a delivery. It checks that the repeat is a duplicate of the delivery id, or else a new delivery that runs.
func (s *site) again(d *hubtest.Delivery, id string, wantDuplicate bool) {
	s.t.Helper()
	got, duplicate := s.replay(d)
	switch {
	case duplicate != wantDuplicate || duplicate != (got == id):
		s.t.Errorf("the Hub's replay of %s was taken for %s, duplicate %v; want duplicate %v", id, got, duplicate, wantDuplicate)
	case !duplicate:
		s.settled(got, queue.Done)
	}
}

// runs returns how often the handler of a delivery has started.
func (s *site) runs(id string) int {
	starts, _ := s.handled(s.t)
	return starts[id]
}

// If an answer is lost, the Hub repeats the delivery, and the delivery runs once all the same. A repeat after the delivery's end is
// handled in development, because it comes from the developer's Replay button. In production it is not, not even by the next process.
func TestRepeatsOfADeliveryThatIsDone(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind kind) {
		s := kind.site(t)
		s.lose.Store(2)
		d := s.send("held")
		id := accepted(d)
		if n := len(d.Attempts()); n < 3 {
			t.Fatalf("%d attempts; want some whose answers were lost", n)
		}
		if n := len(s.list("held")); n != 1 || s.runs(id) != 1 {
			t.Errorf("%d deliveries, %d runs of %s; want one that ran once", n, s.runs(id), id)
		}
		s.again(d, id, true)
		s.restart()
		s.settled(id, queue.Running)
		s.again(d, id, true) // it is unfinished
		s.open(t)
		s.settled(id, queue.Done)
		s.again(d, id, kind.production)
		s.restart()
		if kind.production {
			s.again(d, id, true)
			if n := s.runs(id); n != 2 { // the killed run and the run after it
				t.Errorf("it ran %d times; want twice", n)
			}
		} else {
			s.again(d, id, false)
		}
		s.stop()
	})
}

// The Hub's Replay button runs a dead or discarded delivery again, with either defaults.
func TestTheHubRevivesADeadDelivery(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind kind) {
		s := kind.site(t)
		dead, discarded := s.send("barred"), s.send("held")
		s.settled(accepted(dead), queue.Dead)
		if err := s.inspector().Discard(t.Context(), accepted(discarded)); err != nil {
			t.Fatal(err)
		}
		s.settled(accepted(discarded), queue.Discarded)
		s.restart()
		s.open(t)
		s.again(dead, accepted(dead), false)
		s.again(discarded, accepted(discarded), false)
		if kind.production { // by now one delivery with this Webhook-Id is done
			if _, duplicate := s.replay(dead); !duplicate {
				t.Error("the replay of one that was revived is no duplicate")
			}
		}
		s.stop()
	})
}

// A replay by `hubhook deliveries replay` is never a duplicate, and no delivery is a duplicate of it.
func TestReplaysMadeHereTakeNoPart(t *testing.T) {
	t.Parallel()
	s := kinds["production"].site(t)
	replay := func(id string) string {
		t.Helper()
		c := s.run(t, hubhook, "deliveries", "replay", id, "--data", s.ready.Data)
		if status := c.exit(); status != 0 {
			t.Fatalf("deliveries replay: status %d, %s", status, c.errs)
		}
		return strings.TrimSpace(c.out.String())
	}
	d := s.send("nothing")
	id := accepted(d)
	mine := replay(id)
	if r := s.settled(mine, queue.Done); r.ReplayOf != id || mine == id || s.runs(mine) != 1 {
		t.Errorf("the replay of %s is %+v, run %d times", id, r.Delivery, s.runs(mine))
	}
	s.again(d, id, true)

	dead := s.send("barred")
	s.settled(accepted(dead), queue.Dead)
	s.open(t)
	s.settled(replay(accepted(dead)), queue.Done)
	s.again(dead, accepted(dead), false) // the only delivery that counts is dead
	s.stop()
}

// Without a Webhook-Id nothing is a duplicate; with one, only one of many that come at the same time runs.
func TestRepeatsAtTheSameTime(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind kind) {
		h := kind.home(t)
		p := h.serve(t, bot, append([]string{"--port", "0"}, kind.flags...)...)
		body := push(t)
		const many = 20
		for webhookID, want := range map[string]int{"": many, "one and the same": 1} {
			headers := []string{"X-Webhook-Secret", secret}
			if webhookID != "" {
				headers = append(headers, "Webhook-Id", webhookID)
			}
			ids := make(chan string, many)
			var posts sync.WaitGroup
			for range many {
				posts.Go(func() {
					a, err := tryPost(t, p.client, p.base+"/webhooks/held", body, headers...)
					if err != nil || !a.ok() {
						t.Errorf("answer %d %s, %v", a.status, a.body, err)
					}
					ids <- a.delivery()
				})
			}
			posts.Wait()
			close(ids)
			different := map[string]bool{}
			for id := range ids {
				different[id] = true
			}
			if len(different) != want {
				t.Errorf("%d requests with the Webhook-Id %q became %d deliveries; want %d", many, webhookID, len(different), want)
			}
		}
		h.open(t)
		p.finished(patience)
		if starts, _ := h.handled(t); len(starts) != many+1 {
			t.Errorf("%d deliveries ran; want %d", len(starts), many+1)
		}
		p.stop()
	})
}
