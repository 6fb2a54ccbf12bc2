//go:build unix

package e2e_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
)

// A URL from which something else forwards is proven, and deliveries come through it.
func TestSomethingElseForwards(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + port})
	forward.ErrorLog = log.New(io.Discard, "", 0)
	proxy := httptest.NewServer(forward)
	t.Cleanup(proxy.Close)
	h, _ := newPatient(t)
	p := h.serve(t, hubhook, "--port", port, "--public-url", proxy.URL+"/")
	if p.ready.PublicURL != proxy.URL || p.ready.Endpoints[0].URL != proxy.URL+"/webhooks/inbox" {
		t.Errorf("ready with %q and %v", p.ready.PublicURL, p.ready.Endpoints)
	}
	p.await("reachable", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "reachable" && e.URL == proxy.URL })
	p.settled(post(t, http.DefaultClient, proxy.URL+"/webhooks/inbox", push(t), "X-Webhook-Secret", strongSecret).delivery(), queue.Done)
	st, err := p.inspector().Status(t.Context())
	if err != nil || st.Tunnel == nil || st.Tunnel.URL != proxy.URL || st.Tunnel.LastProbe == nil || !st.Tunnel.LastProbe.OK {
		t.Errorf("status: %+v, %v", st.Tunnel, err)
	}
	found, _ := h.diagnose(t)
	wantFound(t, found, map[string]string{"tunnel": "skip", "public URL": "ok leads to the running hubhook"})
	p.stop()
	found, _ = h.diagnose(t, "--public-url", proxy.URL)
	wantFound(t, found, map[string]string{"tunnel": "skip", "public URL": "ok 502 Bad Gateway"})
	q := newHome(t).serve(t, hubhook, "--port", port, "--no-tunnel")
	found, _ = h.diagnose(t, "--public-url", proxy.URL)
	wantFound(t, found, map[string]string{"public URL": "warn something answers at " + proxy.URL})
	q.stop()
	proxy.Close()
	found, _ = h.diagnose(t, "--public-url", proxy.URL)
	wantFound(t, found, map[string]string{"public URL": "warn connection refused"})
}
