//go:build unix

package cloudflared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// patience bounds every wait that no requirement bounds.
const patience = 60 * time.Second

// opened is a tunnel with a server on it.
type opened struct {
	tunnel.Tunnel
	t      *testing.T
	far    *tunneltest.Cloudflared
	client *http.Client
	states []tunnel.State
}

// quick are limits that keep tests short, but patient with a program that answers slowly on a busy machine.
func quick() limits {
	l := defaultLimits
	l.poll, l.answer, l.start, l.grace, l.hold = 20*time.Millisecond, patience, patience, 200*time.Millisecond, 50*time.Millisecond
	return l
}

func provider(far *tunneltest.Cloudflared, config Config) *Provider {
	config.Program = far.Program()
	config.Getenv = func(string) string { return "" }
	p := New(config)
	p.limits = quick()
	patient := terms.Default()
	patient.Open, patient.Try = patience, patience
	p.terms = &patient
	return p
}

func open(t *testing.T, far *tunneltest.Cloudflared, p *Provider) *opened {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tun, err := p.Open(ctx)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	o := &opened{Tunnel: tun, t: t, far: far, client: far.Client()}
	o.client.Timeout = patience
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "echo ", r.Host, r.URL.Path)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(tun) }()
	t.Cleanup(func() {
		o.client.CloseIdleConnections()
		server.Close()
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		<-served
		for _, pid := range far.PIDs() {
			if lives(pid) {
				t.Errorf("process %d lives on", pid)
			}
		}
		if t.Failed() {
			t.Logf("states: %v", o.states)
		}
	})
	return o
}

// lives reports whether there is a process with that id. All that the provider starts is waited for, so none is a zombie.
func lives(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// wait waits for a state in that phase.
func (o *opened) wait(phase tunnel.Phase) tunnel.State {
	o.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case s, open := <-o.States():
			if !open {
				o.t.Fatalf("the tunnel has ended before it was %v", phase)
			}
			o.states = append(o.states, s)
			if s.Phase == phase {
				return s
			}
		case <-timeout.C:
			o.t.Fatalf("the tunnel is not %v within %v", phase, patience)
		}
	}
}

// flows sends a request the whole way.
func (o *opened) flows() {
	o.t.Helper()
	resp, err := o.client.Get(o.URL() + "/webhooks/inbox")
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := "echo " + strings.TrimPrefix(o.URL(), "https://") + "/webhooks/inbox"; err != nil || string(body) != want {
		o.t.Fatalf("%s %q, %v; want %q", resp.Status, body, err, want)
	}
}

func TestAQuickTunnel(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	o := open(t, far, provider(far, Config{}))
	if s := o.wait(tunnel.Online); s.URL != "https://stand-in-1.trycloudflare.test" || o.URL() != s.URL {
		t.Errorf("state %v, URL %s", s, o.URL())
	}
	o.flows()
}

// A program that ends by itself is started again. The new one has another name, which is told.
func TestACrash(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	o := open(t, far, provider(far, Config{}))
	o.wait(tunnel.Online)
	far.Crash()
	s := o.wait(tunnel.Reconnecting)
	var e *tunnel.Error
	if !errors.As(s.Err, &e) || !strings.Contains(e.Cause, "has ended, exit status 1") || !strings.Contains(e.Cause, "told to crash") || e.Op != keepOp || e.Fix == "" {
		t.Errorf("error %+v", s.Err)
	}
	if strings.Contains(s.Err.Error(), "eyJ") {
		t.Errorf("a token is shown: %v", s.Err)
	}
	if s := o.wait(tunnel.URLChanged); s.URL != "https://stand-in-2.trycloudflare.test" {
		t.Errorf("state %v", s)
	}
	o.flows()
}

// A program that comes back under its old name is no change.
func TestTheOldNameAgain(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	far.NextHost("same.trycloudflare.test")
	o := open(t, far, provider(far, Config{}))
	o.wait(tunnel.Online)
	far.NextHost("same.trycloudflare.test")
	far.Crash()
	o.wait(tunnel.Reconnecting)
	o.wait(tunnel.Online)
	o.flows()
}

// While the program connects again by itself it is left alone, so that its name stays.
func TestConnectsAgainByItself(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	o := open(t, far, provider(far, Config{}))
	before := o.wait(tunnel.Online)
	far.Disconnect()
	if s := o.wait(tunnel.Reconnecting); s.Err == nil || !strings.Contains(s.Err.Error(), "lost its connections") {
		t.Errorf("state %v", s)
	}
	far.Connect()
	if s := o.wait(tunnel.Online); s.URL != before.URL || len(far.PIDs()) != 1 {
		t.Errorf("state %v after %d programs; want %s and one", s, len(far.PIDs()), before.URL)
	}
	o.flows()
}

// A program that hangs is killed, and another one started. It does not listen to SIGTERM either.
func TestHangs(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	p := provider(far, Config{})
	p.limits.answer = time.Second
	o := open(t, far, p)
	o.wait(tunnel.Online)
	far.Hang()
	if s := o.wait(tunnel.Reconnecting); s.Err == nil || !strings.Contains(s.Err.Error(), "does not answer") {
		t.Errorf("state %v", s)
	}
	o.wait(tunnel.URLChanged)
	o.flows()
}

// One that ignores SIGTERM is killed after the grace.
func TestDeaf(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	far.Deaf()
	p := provider(far, Config{})
	o := open(t, far, p)
	o.wait(tunnel.Online)
	began := time.Now()
	o.Retire(t.Context())
	o.Close()
	o.Close()
	if took := time.Since(began); took < p.limits.grace {
		t.Errorf("closed after %v; want the grace of %v", took, p.limits.grace)
	}
	o.wait(tunnel.Stopped)
}

// A request in flight is answered after the program was told to end.
func TestRetireKeepsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	tun, err := provider(far, Config{}).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began, release := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(began)
		<-release
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(tun) }()
	client := far.Client()
	defer client.CloseIdleConnections()
	answered := make(chan error, 1)
	go func() {
		resp, err := client.Get(tun.URL() + "/")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		answered <- err
	}()
	<-began
	tun.Retire(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(context.WithoutCancel(t.Context())) }()
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	<-served
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if pid := far.PIDs()[0]; lives(pid) {
		t.Errorf("process %d lives on", pid)
	}
}

// A program that is slow is waited for over several tries, and not started again.
func TestASlowStart(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	far.Disconnect()
	s, err := provider(far, Config{}).config.settings()
	if err != nil {
		t.Fatal(err)
	}
	d := newDialer(s, quick())
	for began := time.Now(); ; {
		if time.Since(began) > patience {
			t.Fatalf("the program does not answer within %v", patience)
		}
		_, err := d.Dial(t.Context(), "", 100*time.Millisecond)
		var e *tunnel.Error
		if !errors.As(err, &e) || !e.Temporary || e.Final {
			t.Fatalf("error %+v; want a temporary one", err)
		}
		if strings.Contains(e.Cause, "not connected to Cloudflare yet") {
			break // it answers by now
		}
	}
	far.Connect()
	session, err := d.Dial(t.Context(), "", patience)
	if err != nil {
		t.Fatal(err)
	}
	if url, _ := session.URL(); url != "https://stand-in-1.trycloudflare.test" {
		t.Errorf("URL %s; want that of the first program", url)
	}
	session.Close()
	d.Wait()
}

// One that never connects is ended, and the next try starts another.
func TestNeverConnected(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	far.Disconnect()
	s, err := provider(far, Config{}).config.settings()
	if err != nil {
		t.Fatal(err)
	}
	l := quick()
	l.start = time.Millisecond
	d := newDialer(s, l)
	var e *tunnel.Error
	if _, err := d.Dial(t.Context(), "", patience); !errors.As(err, &e) || !strings.Contains(e.Cause, "not connected within 1ms") || d.starting != nil {
		t.Errorf("error %v, and %v is kept", err, d.starting)
	}
	// What was begun and never waited for ends with Wait.
	d.limits.start = patience
	if _, err := d.Dial(t.Context(), "", time.Millisecond); err == nil || d.starting == nil {
		t.Fatalf("error %v; want one, and a program that is kept", err)
	}
	c := d.starting.child
	d.Wait()
	if !c.ended() {
		t.Error("the program lives on")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line             string
		says             string
		final, temporary bool
	}{
		"too many":    {`ERR Error unmarshaling QuickTunnel response: error code: 1015 error="invalid character" status_code="429 Too Many Requests"`, "no more quick tunnels", false, true},
		"no network":  {`ERR failed to request quick Tunnel: Post "https://api.trycloudflare.com/tunnel": dial tcp: lookup api.trycloudflare.com: no such host`, "does not reach Cloudflare", false, true},
		"bad secret":  {`ERR Register tunnel error from server side error="Unauthorized: Invalid tunnel secret"`, "credentials", true, false},
		"an old one":  {`ERR Incorrect Usage: flag provided but not defined: -metrics`, "does not know how it is called", true, false},
		"who knows":   {`ERR something new, token=abcdefgh1234`, "something new, token=(hidden)", false, true},
		"not a cause": {`INF dial tcp: lookup example.com: no such host`, "exit status 1", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := tunneltest.NewCloudflared(t)
			far.RefuseStart(test.line)
			s, err := provider(far, Config{}).config.settings()
			if err != nil {
				t.Fatal(err)
			}
			d := newDialer(s, quick())
			var e *tunnel.Error
			if _, err := d.Dial(t.Context(), "", patience); !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(e.Cause, test.says) || e.Final != test.final || e.Temporary != test.temporary || e.Fix == "" {
				t.Errorf("%+v", e)
			}
			if strings.Contains(e.Cause, "abcdefgh1234") || strings.Contains(e.Cause, "example.com") {
				t.Errorf("it says too much: %v", e)
			}
			d.Wait()
			if pid := far.PIDs()[0]; lives(pid) {
				t.Errorf("process %d lives on", pid)
			}
		})
	}
}

// While Cloudflare says that there were too many, tries keep a distance.
func TestTooManyHoldsBack(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	far.RefuseStart("ERR error code: 1015")
	s, err := provider(far, Config{}).config.settings()
	if err != nil {
		t.Fatal(err)
	}
	l := quick()
	l.hold = patience
	d := newDialer(s, l)
	_, first := d.Dial(t.Context(), "", patience)
	_, second := d.Dial(t.Context(), "", 10*time.Millisecond)
	if first == nil || second == nil || first.Error() != second.Error() || len(far.PIDs()) != 1 {
		t.Errorf("%v, then %v, after %d programs; want the same, and one", first, second, len(far.PIDs()))
	}
}

// namedConfig writes a configuration of a named tunnel, with a credentials file.
func namedConfig(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	credentials := filepath.Join(dir, "credentials.json")
	path := filepath.Join(dir, "config.yml")
	for file, text := range map[string]string{credentials: `{"TunnelSecret": "secret-of-the-tunnel"}`, path: fmt.Sprintf("tunnel: mine\ncredentials-file: %s\n%s", credentials, more)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestANamedTunnel(t *testing.T) {
	t.Parallel()
	addr, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	for name, more := range map[string]string{"without rules": "", "with a rule": "ingress:\n- {hostname: hooks.example.com, service: 'http://localhost:" + port + "'}\n- service: http_status:404\n"} {
		t.Run(name, func(t *testing.T) {
			far := tunneltest.NewCloudflared(t)
			far.AddTunnel("mine", "hooks.example.com")
			o := open(t, far, provider(far, Config{ConfigFile: namedConfig(t, more), URL: "hooks.example.com"}))
			if s := o.wait(tunnel.Online); s.URL != "https://hooks.example.com" {
				t.Errorf("state %v", s)
			}
			o.flows()
			far.Crash()
			o.wait(tunnel.Reconnecting)
			o.wait(tunnel.Online) // under the same name, and on the same port where there is a rule
			o.flows()
		})
	}
	t.Run("unknown to Cloudflare", func(t *testing.T) {
		far := tunneltest.NewCloudflared(t)
		_, err := provider(far, Config{ConfigFile: namedConfig(t, ""), URL: "hooks.example.com"}).Open(t.Context())
		var e *tunnel.Error
		if !errors.As(err, &e) || !e.Final || !strings.Contains(e.Cause, "does not know the tunnel") {
			t.Errorf("error %+v", err)
		}
	})
}
