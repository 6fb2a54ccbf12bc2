//go:build unix

package e2e_test

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// viaCloudflared serves behind a stand-in for cloudflared, which PATH leads to, and returns a client of the public side.
func viaCloudflared(t *testing.T, h *home, far *tunneltest.Cloudflared, flags ...string) (*program, *http.Client) {
	t.Helper()
	h.env = append(h.env, "PATH="+far.Dir()+":/usr/bin:/bin")
	return h.serve(t, hubhook, append([]string{"--port", "0", "--tunnel", "cloudflared"}, flags...)...), publicClient(t, far)
}

// noneLeft waits until none of the programs lives.
func noneLeft(t *testing.T, far *tunneltest.Cloudflared) {
	t.Helper()
	pids := far.PIDs()
	if len(pids) == 0 {
		t.Error("no program was started; the test has shown nothing")
	}
	pollFor(t, patience, "no program of the tunnel lives", func() (bool, string) {
		return !slices.ContainsFunc(pids, lives), fmt.Sprint(pids)
	})
}

// Deliveries come through cloudflared, which leads to the public face alone. When it dies it is started again, its new name is told, and
// it ends with hubhook.
func TestThroughCloudflared(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	p, client := viaCloudflared(t, newHome(t), far)
	public := p.ready.PublicURL
	if public != "https://stand-in-1.trycloudflare.test" || len(p.ready.Endpoints) != 1 || p.ready.Endpoints[0].URL != public+"/webhooks/inbox" {
		t.Errorf("ready with %q and %v", public, p.ready.Endpoints)
	}
	p.settled(post(t, client, public+"/webhooks/inbox", push(t)).delivery(), queue.Done)
	if a := post(t, client, public+"/api/trigger", "{}"); a.status != http.StatusNotFound {
		t.Errorf("the inspector's API is answered %d %s through the tunnel; want 404", a.status, a.body)
	}

	if err := syscall.Kill(far.PIDs()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	down := p.await("reconnecting", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "reconnecting" })
	if !strings.Contains(down.Error, "cloudflared has ended, signal: killed") {
		t.Errorf("it is down: %q", down.Error)
	}
	changed := p.await("url changed", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "url changed" })
	if changed.URL == public || len(changed.Endpoints) != 1 || changed.Endpoints[0].URL != changed.URL+"/webhooks/inbox" {
		t.Errorf("it is back: %+v", changed)
	}
	p.settled(post(t, client, changed.URL+"/webhooks/inbox", push(t)).delivery(), queue.Done)
	p.stop()
	noneLeft(t, far)
}

// Not even one that ignores signals outlives a hubhook that is killed.
func TestCloudflaredEndsWhereHubhookIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for the death of a parent")
	}
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	far.Deaf()
	p, _ := viaCloudflared(t, newHome(t), far)
	p.kill()
	noneLeft(t, far)
}

// Without the program the local server runs, and the screen says what to do.
func TestCloudflaredIsNotInstalled(t *testing.T) {
	t.Parallel()
	h, _ := newPatient(t)
	h.env = append(h.env, "PATH="+h.dir)
	p := h.serve(t, hubhook, "--port", "0", "--tunnel", "cloudflared")
	if a := p.post("inbox", push(t), "X-Webhook-Secret", strongSecret); a.status != 200 || p.ready.PublicURL != "" {
		t.Errorf("a local delivery is answered %d %s, and the public URL is %q", a.status, a.body, p.ready.PublicURL)
	}
	p.stop()
	p.wantError("opening the cloudflared tunnel: the program cloudflared is not installed", "install it, see https://developers.cloudflare.com/")

	found, _ := h.diagnose(t, "--tunnel", "cloudflared")
	wantFound(t, found, map[string]string{"cloudflared program": "fail install it", "cloudflared settings": "skip", "cloudflared look-up": "skip", "cloudflared tcp": "skip"})
}
