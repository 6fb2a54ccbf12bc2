package tunneltest_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/cloudflared"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/ssh"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// service is what every stand-in can do.
type service interface {
	Client() *http.Client
	Drop()
	Refuse(time.Duration)
	FreezeHeartbeats(bool)
	URLs() []string
	Sessions() (now, total int)
	WaitFor(context.Context, func(urls []string, sessions int) bool) error
}

// far is a stand-in and the provider that uses it.
type far struct {
	service
	provider tunnel.Provider
	// stop has the service end the session at url by a decision of its own.
	stop func(url string) error
	// rename has the service give another name from now on. Nil: the name is the user's for good.
	rename func(url string) error
	// anotherName says that the service gives another name to a session that replaces one.
	anotherName bool
	// retiresLater says that Retire tells a program to leave, which does so a moment later.
	retiresLater bool
}

// providers are all providers, each at a stand-in of its own.
var providers = map[string]func(t *testing.T) far{
	"ngrok": func(t *testing.T) far {
		edge := tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})
		config := filepath.Join(t.TempDir(), "ngrok.yml")
		if err := edge.WriteConfig(config, tunneltest.DefaultToken); err != nil {
			t.Fatal(err)
		}
		return far{
			service:  edge,
			provider: ngrok.New(ngrok.Config{ConfigFile: config, Getenv: func(string) string { return "" }}),
			stop:     func(url string) error { return edge.StopEndpoint(url, "", "stopped by its owner") },
			rename: func(string) error {
				edge.AssignDomain("another.ngrok-free.test")
				edge.Drop()
				return nil
			},
		}
	},
	"ssh": func(t *testing.T) far {
		server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
		home := t.TempDir()
		return far{
			service: server,
			provider: ssh.New(ssh.Config{Server: server.Addr(), Getenv: func(name string) string {
				return map[string]string{"HOME": home, "USER": "me"}[name]
			}}),
			stop: func(url string) error { return server.Expire(host(url), "Your hour is over.") },
			// After a loss it would ask for the old name for half a minute: its own tests have that, and wait less.
			rename: func(url string) error { return server.Move(host(url), "another") },
		}
	},
	"cloudflared": func(t *testing.T) far {
		program := newCloudflared(t)
		return far{
			service:  program,
			provider: cloudflared.New(cloudflared.Config{Program: program.Program(), Getenv: func(string) string { return "" }}),
			stop:     func(string) error { program.Crash(); return nil },
			rename: func(string) error {
				program.NextHost("another.trycloudflare.test")
				program.Crash()
				return nil
			},
			anotherName: true, retiresLater: true,
		}
	},
	"cloudflared with a tunnel of one's own": func(t *testing.T) far {
		program := newCloudflared(t)
		program.AddTunnel("mine", "hooks.example.com")
		credentials, config := filepath.Join(t.TempDir(), "credentials.json"), filepath.Join(t.TempDir(), "config.yml")
		for file, text := range map[string]string{credentials: "{}", config: "tunnel: mine\ncredentials-file: " + credentials + "\n"} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return far{
			service: program,
			provider: cloudflared.New(cloudflared.Config{Program: program.Program(), ConfigFile: config, URL: "hooks.example.com",
				Getenv: func(string) string { return "" }}),
			stop:         func(string) error { program.Crash(); return nil },
			retiresLater: true,
		}
	},
}

func newCloudflared(t *testing.T) *tunneltest.Cloudflared {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for cloudflared needs a POSIX shell")
	}
	return tunneltest.NewCloudflared(t)
}

func host(url string) string { return strings.TrimPrefix(url, "https://") }

// TestProviders holds every provider to the same: whatever service is behind it, a user of a tunnel sees no difference.
func TestProviders(t *testing.T) {
	t.Parallel()
	var running sync.WaitGroup // they wait more than they work: t.Parallel would run as many at once as there are cores
	defer running.Wait()
	for name, start := range providers {
		for what, check := range map[string]func(*held){
			"drop":        func(h *held) { h.comesBack(h.Drop) },
			"refuse":      func(h *held) { h.comesBack(func() { h.Refuse(3 * time.Second) }) },
			"freeze":      (*held).freeze,
			"another URL": (*held).anotherURL,
			"stop":        (*held).stopped,
			"retire":      (*held).retire,
			"close":       (*held).close,
		} {
			running.Go(func() {
				t.Run(name+"/"+what, func(t *testing.T) {
					h := &held{t: t, far: start(t)}
					if what == "another URL" && h.rename == nil {
						return
					}
					h.open()
					h.delivers()
					check(h)
				})
			})
		}
	}
}

// held is an open tunnel of a provider.
type held struct {
	far
	t       *testing.T
	tunnel  tunnel.Tunnel
	server  *http.Server
	client  *http.Client
	arrived chan bool // of requests to /slow
	finish  chan bool // which go on then
}

// patienceOfAll is for what happens by itself, on a slow machine too.
const patienceOfAll = 60 * time.Second

func (h *held) open() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patienceOfAll)
	defer cancel()
	var err error
	if h.tunnel, err = h.provider.Open(ctx); err != nil {
		h.t.Fatal(err)
	}
	h.client, h.arrived, h.finish = h.Client(), make(chan bool, 1), make(chan bool)
	h.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/slow" {
			h.arrived <- true
			<-h.finish
		}
		w.Write(body)
	})}
	served := make(chan bool)
	go func() {
		defer close(served)
		h.server.Serve(h.tunnel)
	}()
	h.t.Cleanup(func() {
		h.client.CloseIdleConnections()
		h.server.Close()
		h.tunnel.Close()
		if err := h.tunnel.Close(); err != nil {
			h.t.Error(err)
		}
		<-served
		for range h.tunnel.States() {
		}
	})
	if s := h.wait(tunnel.Online); s.URL == "" || s.URL != h.tunnel.URL() {
		h.t.Errorf("state %v, URL %s", s, h.tunnel.URL())
	}
}

func (h *held) post(path string) (status int, answer string, err error) {
	resp, err := h.client.Post(h.tunnel.URL()+path, "text/plain", strings.NewReader("ping"))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func (h *held) delivers() {
	h.t.Helper()
	// A busy service may still send one to a session that it is about to lose; a sender tries again.
	for tries := 1; ; tries++ {
		status, answer, err := h.post("/")
		if err == nil && status == http.StatusOK && answer == "ping" {
			return
		}
		if tries == 3 {
			h.t.Fatalf("through %s, three times: %d %q %v", h.tunnel.URL(), status, answer, err)
		}
	}
}

// wait reads states until one has the phase.
func (h *held) wait(phase tunnel.Phase) tunnel.State {
	h.t.Helper()
	var seen strings.Builder
	timeout := time.After(patienceOfAll)
	for {
		select {
		case s, ok := <-h.tunnel.States():
			if !ok {
				h.t.Fatalf("the states ended without %v; there were:\n%s", phase, &seen)
			}
			seen.WriteString(s.String() + "\n")
			if s.Phase == phase {
				return s
			}
		case <-timeout:
			h.t.Fatalf("no state %v; there were:\n%s", phase, &seen)
		}
	}
}

// comesBack loses the connection, and has it back at the same URL.
func (h *held) comesBack(lose func()) {
	h.t.Helper()
	before := h.tunnel.URL()
	lose()
	h.lost(before)
	h.backAt(before)
}

// lost waits until the tunnel has noticed that its session is gone.
func (h *held) lost(url string) {
	h.t.Helper()
	if s := h.wait(tunnel.Reconnecting); s.Err == nil || s.URL != url {
		h.t.Errorf("state %v; want the reason, and %s", s, url)
	}
}

func (h *held) backAt(url string) {
	h.t.Helper()
	if s := h.wait(tunnel.Online); s.URL != url || h.tunnel.URL() != url {
		h.t.Errorf("state %v; want it online at %s", s, url)
	}
	h.delivers()
}

// replaced waits for another session, which has the same name where the service keeps names.
func (h *held) replaced(before string) {
	h.t.Helper()
	if h.anotherName {
		h.moved(before)
		return
	}
	h.backAt(before)
}

func (h *held) moved(before string) {
	h.t.Helper()
	if s := h.wait(tunnel.URLChanged); s.URL == before || s.URL != h.tunnel.URL() || s.Err != nil {
		h.t.Errorf("state %v; want another URL than %s", s, before)
	}
	h.delivers()
}

// freeze is a service that is connected and says nothing any more.
func (h *held) freeze() {
	before := h.tunnel.URL()
	h.FreezeHeartbeats(true)
	h.lost(before)
	h.FreezeHeartbeats(false)
	h.replaced(before)
}

// anotherURL is a service that gives the old name to nobody any more.
func (h *held) anotherURL() {
	before := h.tunnel.URL()
	if err := h.rename(before); err != nil {
		h.t.Fatal(err)
	}
	h.moved(before)
}

// stopped is a service that ends the session and takes a new one.
func (h *held) stopped() {
	before := h.tunnel.URL()
	if err := h.stop(before); err != nil {
		h.t.Fatal(err)
	}
	h.lost(before)
	h.replaced(before)
}

// retire takes the URL off the service, and keeps what is in flight.
func (h *held) retire() {
	done := make(chan error, 1)
	var status int
	var answer string
	go func() {
		var err error
		status, answer, err = h.post("/slow")
		done <- err
	}()
	<-h.arrived
	h.tunnel.Retire(h.t.Context())
	if h.retiresLater {
		h.waitFor(func(urls []string, _ int) bool { return len(urls) == 0 })
	}
	if urls := h.URLs(); len(urls) != 0 {
		h.t.Errorf("online after Retire: %q", urls)
	}
	close(h.finish)
	if err := <-done; err != nil || status != http.StatusOK || answer != "ping" {
		h.t.Errorf("what was in flight: %d %q %v", status, answer, err)
	}
}

// close leaves nothing at the service.
func (h *held) close() {
	if err := h.tunnel.Close(); err != nil {
		h.t.Error(err)
	}
	if _, err := h.tunnel.Accept(); err == nil {
		h.t.Error("Accept after Close returns a connection")
	}
	h.client.CloseIdleConnections()
	h.server.Close()
	h.tunnel.Close()
	h.waitFor(func(urls []string, sessions int) bool { return len(urls) == 0 && sessions == 0 })
	if s := h.wait(tunnel.Stopped); s.Err != nil {
		h.t.Errorf("state: %v", s)
	}
}

func (h *held) waitFor(ok func(urls []string, sessions int) bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patienceOfAll)
	defer cancel()
	if err := h.WaitFor(ctx, ok); err != nil {
		h.t.Error(err)
	}
}
