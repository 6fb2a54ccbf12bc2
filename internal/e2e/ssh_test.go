//go:build unix

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// A delivery comes through an SSH server. When the connection is lost it comes back by itself, under the same name.
func TestATunnelThroughAnSSHServer(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	h := newHome(t)
	p := h.serve(t, hubhook, "--port", "0", "--ssh", server.Addr())
	public := p.ready.PublicURL
	if public != "https://name-1.sish.test" {
		t.Fatalf("public URL %q", public)
	}
	client := publicClient(t, server)
	body := push(t)
	a := post(t, client, public+"/webhooks/inbox", body)
	if a.status != 200 {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	p.settled(a.delivery(), queue.Done)

	server.Drop()
	down := p.await("reconnecting", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "reconnecting" })
	up := p.await("online", patience, func(e event) bool {
		return e.Type == "tunnel" && (e.Phase == "online" || e.Phase == "url changed") && !e.Time.Before(down.Time)
	})
	if up.Phase != "online" || up.URL != public || down.Error == "" {
		t.Errorf("%+v, then %+v; want it back under %s", down, up, public)
	}
	if a := post(t, client, public+"/webhooks/inbox", body); a.status != 200 {
		t.Errorf("after the loss: answer %d %s", a.status, a.body)
	}
	p.stop()
	if said := p.errs.String(); !strings.Contains(said, "The host key of "+server.Addr()+" is not known yet") || !strings.Contains(said, server.Fingerprint()) {
		t.Errorf("standard error:\n%s\nwant the host key's fingerprint", said)
	}
	kept, err := os.ReadFile(filepath.Join(h.dir, "state", "hubhook", "known_hosts"))
	if err != nil || !strings.Contains(string(kept), server.KnownHost()) {
		t.Errorf("kept %q, %v; want %q", kept, err, server.KnownHost())
	}
	if strings.Contains(p.out.String()+p.errs.String(), tunneltest.ConsoleToken) {
		t.Error("a secret of the server was printed")
	}
	noSession(t, server)
}

// A key that has changed is refused, loudly, and the local server serves all the same.
func TestAnSSHServerWithAnotherKey(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	h := newHome(t)
	if err := os.MkdirAll(filepath.Join(h.dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, ".ssh", "known_hosts"), []byte(server.KnownHost()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	p := h.start(t, hubhook, "--port", "0", "--secret", secret, "--tunnel", "ssh", "--ssh", server.Addr())
	e := p.await("tunnel failed", 15*time.Second, func(e event) bool { return e.Type == "tunnel" && e.Phase == "failed" })
	if !strings.Contains(e.Error, "HAS CHANGED") || !strings.Contains(e.Hint, "remove line 1 of "+filepath.Join(h.dir, ".ssh", "known_hosts")) {
		t.Errorf("error %q, hint %q", e.Error, e.Hint)
	}
	p.awaitReady()
	if a := p.post("inbox", push(t), "X-Webhook-Secret", secret); a.status != 200 {
		t.Errorf("a local delivery is answered %d %s", a.status, a.body)
	}
	p.stop()
	p.wantError(e.Error, e.Hint)
}
