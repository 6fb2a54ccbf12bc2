package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/text"
)

// forwarder is what forwards to a server from a public URL. It answers 502 until it is told where to.
type forwarder struct {
	*httptest.Server
	to atomic.Pointer[url.URL]
}

func newForwarder(t *testing.T) *forwarder {
	f := &forwarder{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := f.to.Load()
		if to == nil {
			http.Error(w, "nobody is there", http.StatusBadGateway)
			return
		}
		httputil.NewSingleHostReverseProxy(to).ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *forwarder) forward(t *testing.T, to string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	f.to.Store(u)
}

func publicURLConfig(t *testing.T, f *forwarder) Config {
	c := runConfig(t)
	c.PublicURL, c.probeClient = f.URL+"/", f.Client()
	c.recheckAfter = []time.Duration{time.Millisecond, 50 * time.Millisecond}
	return c
}

// A URL that something else forwards from is proven as a tunnel's is. What forwards may come up after hubhook.
func TestAPublicURLIsProven(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	var said safeBuilder
	c := publicURLConfig(t, f)
	c.Errors = &said
	s := newServer(t, c)
	s.Handle("train", nil)
	r := start(t, s)
	if ready := r.wait(t, "ready", nil); ready["checking"] != true || ready["public_url"] != f.URL {
		t.Errorf("ready: %v", ready)
	}
	l := r.wait(t, "tunnel", phase(reachable, unreachable, unchecked))
	if l.text("phase") != unreachable || l.text("provider") != "public-url" || l.text("url") != f.URL || !strings.Contains(l.text("error"), "502") || !strings.Contains(l.text("hint"), s.where.get().local) {
		t.Errorf("while nobody forwards: %v", l)
	}
	st, err := s.status(t.Context())
	if err != nil || st.Tunnel == nil || st.Tunnel.Provider != "public-url" || st.Tunnel.Phase != "online" || st.Tunnel.URL != f.URL || st.Tunnel.LastProbe == nil || st.Tunnel.LastProbe.OK {
		t.Errorf("status: %+v, %v", st.Tunnel, err)
	}
	f.forward(t, s.where.get().local)
	l = r.wait(t, "tunnel", phase(reachable, unreachable, unchecked))
	if l.text("phase") != reachable {
		t.Errorf("once somebody forwards: %v; want nothing before it is reachable", l)
	}
	if st, err = s.status(t.Context()); err != nil || !st.Tunnel.LastProbe.OK {
		t.Errorf("status: %+v, %v", st.Tunnel.LastProbe, err)
	}
	if n := strings.Count(said.String(), "does not lead here"); n > 1 {
		t.Errorf("it is said %d times that it does not lead here; want once", n)
	}
}

// A supervisor can have hubhook end where its public URL leads elsewhere.
func TestAPublicURLCountsForExitOnDown(t *testing.T) {
	t.Parallel()
	c := publicURLConfig(t, newForwarder(t))
	c.ExitOnDown = 50 * time.Millisecond
	c.recheckAfter = []time.Duration{time.Hour}
	s := newServer(t, c)
	s.Handle("train", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Run(ctx); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") || text.Hint(err) == "" {
		t.Errorf("Run: %v", err)
	}
}

func TestRecheckWaits(t *testing.T) {
	var s settings
	for n, want := range []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
		if got := s.recheckWait(n); got != want {
			t.Errorf("after %d rechecks: %v; want %v", n, got, want)
		}
	}
}
