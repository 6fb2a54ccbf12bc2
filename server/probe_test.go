package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// answerer is a far end of its own making.
type answerer func(*http.Request) (*http.Response, error)

func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func tunnelConfig(t *testing.T, edge *tunneltest.Edge) Config {
	c := runConfig(t)
	c.Provider = ngrok.New(ngrok.Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(),
		Getenv: func(string) string { return "" }, ConfigFile: os.DevNull})
	return c
}

func phase(names ...string) func(line) bool {
	return func(l line) bool {
		for _, name := range names {
			if l.text("phase") == name {
				return true
			}
		}
		return false
	}
}

func TestTheWayIsProvenAtTheStartAndAfterEachReturn(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	c := tunnelConfig(t, edge)
	c.probeClient = edge.Client()
	s := newServer(t, c)
	s.Handle("train", nil)
	r := start(t, s)
	if ready := r.wait(t, "ready", nil); ready["checking"] != true {
		t.Errorf("ready: %v", ready)
	}
	r.wait(t, "tunnel", phase(reachable))
	edge.Drop()
	r.wait(t, "tunnel", phase("online", "url changed"))
	r.wait(t, "tunnel", phase(reachable))
	status, err := s.status(context.Background())
	if err != nil || status.Tunnel == nil || status.Tunnel.LastProbe == nil || !status.Tunnel.LastProbe.OK {
		t.Errorf("status: %+v, %v", status.Tunnel, err)
	}
}

func TestAnAnswerThatIsNotOursIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		answer answerer
		phase  string
		words  string
	}{
		"somebody else": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 404, Status: "404 Not Found", Body: io.NopCloser(strings.NewReader("ERR_NGROK_3200"))}, nil
		}, unreachable, "404 Not Found, ERR_NGROK_3200"},
		"a copy of us": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Status: "200 OK", Body: io.NopCloser(strings.NewReader(`{"status":"ok","signature":"00"}`))}, nil
		}, unreachable, "200 OK"},
		"no name": {func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "stand-in", IsNotFound: true}
		}, unchecked, "no such host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			c := tunnelConfig(t, edge)
			c.probeClient = &http.Client{Transport: test.answer}
			var said safeBuilder
			c.Errors = &said
			s := newServer(t, c)
			s.Handle("train", nil)
			r := start(t, s)
			l := r.wait(t, "tunnel", phase(reachable, unreachable, unchecked))
			if l.text("phase") != test.phase || !strings.Contains(l.text("error"), test.words) || strings.Contains(l.text("error"), "nonce") {
				t.Errorf("%v; want %s and %q", l, test.phase, test.words)
			}
			// Where somebody else answered, the tunnel is opened anew, once.
			deadline := time.Now().Add(10 * time.Second)
			for {
				resp, err := edge.Client().Post(s.publicBase()+"/webhooks/train", "application/json", strings.NewReader(push))
				if err == nil && resp.Body.Close() == nil && resp.StatusCode == 200 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("afterwards, through the tunnel: %v, %v", resp, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// Name servers may not know a new name yet: what could not be asked from here is asked again, and only news is told.
func TestANameThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	c := tunnelConfig(t, edge)
	client, asked := edge.Client(), 0 // by one check at a time
	c.probeClient = &http.Client{Transport: answerer(func(r *http.Request) (*http.Response, error) {
		if asked++; asked < 3 {
			return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
		}
		return client.Transport.RoundTrip(r)
	})}
	c.recheckAfter = []time.Duration{time.Millisecond}
	s := newServer(t, c)
	s.Handle("train", nil)
	r := start(t, s)
	for _, want := range []string{unchecked, reachable} {
		if l := r.wait(t, "tunnel", phase(reachable, unreachable, unchecked)); l.text("phase") != want {
			t.Errorf("%v; want %s", l, want)
		}
	}
	client.CloseIdleConnections()
}

func TestExitOnDown(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	c := tunnelConfig(t, edge)
	c.probeClient = edge.Client()
	c.ExitOnDown = 200 * time.Millisecond
	s := newServer(t, c)
	s.Handle("train", nil)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	lines := &running{Server: s, lines: c.Output.(*lineWriter).lines}
	lines.wait(t, "tunnel", phase(reachable))
	edge.RefuseUntil(func() bool { return false })
	edge.Drop()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "--exit-on-down") || text.Hint(err) == "" {
			t.Errorf("Run: %v (hint %q)", err, text.Hint(err))
		}
	case <-time.After(time.Minute):
		t.Fatal("still running 20 s after the tunnel went down")
	}
}

func TestSilenceIsNoticedOnce(t *testing.T) {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p := newProber(nil)
	for i := range 10 {
		p.delivered(began.Add(time.Duration(i+1) * time.Minute)) // one a minute, the last at 12:10
	}
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{15 * time.Minute, false}, {21 * time.Minute, true}, {40 * time.Minute, false}} {
		if got := p.silent(began.Add(step.after), began); got != step.want {
			t.Errorf("%v after the start: silent %v; want %v", step.after, got, step.want)
		}
	}
	if newProber(nil).silent(began.Add(time.Hour), began) {
		t.Error("nothing ever came, so nothing has stopped")
	}
}

func TestANonceIsSigned(t *testing.T) {
	s := newServer(t, Config{})
	web := serve(t, s)
	r, _ := http.NewRequest(http.MethodGet, web.URL+"/healthz?nonce=n", nil)
	if got := do(t, r); !got.is(map[string]string{"status": "ok", "signature": s.prober.Sign("n")}) {
		t.Errorf("GET /healthz?nonce=n: %s", got.body)
	}
	if other := newServer(t, Config{}); other.prober.Sign("n") == s.prober.Sign("n") {
		t.Error("two processes sign alike")
	}
}
