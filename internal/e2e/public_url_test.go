//go:build unix

package e2e_test

import (
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
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + port}))
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
}
