package tunneltest_test

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
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

// providers are all providers, each at a stand-in of its own. rename has the service give another name; nil leaves that out.
var providers = map[string]func(t *testing.T) (s service, p tunnel.Provider, rename func()){
	"ngrok": func(t *testing.T) (service, tunnel.Provider, func()) {
		edge := tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})
		config := filepath.Join(t.TempDir(), "ngrok.yml")
		if err := edge.WriteConfig(config, tunneltest.DefaultToken); err != nil {
			t.Fatal(err)
		}
		p := ngrok.New(ngrok.Config{ConfigFile: config, Getenv: func(string) string { return "" }})
		return edge, p, func() { edge.AssignDomain("another.ngrok-free.test") }
	},
	"ssh": func(t *testing.T) (service, tunnel.Provider, func()) {
		server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
		home := t.TempDir()
		p := ssh.New(ssh.Config{Server: server.Addr(), Getenv: func(name string) string {
			return map[string]string{"HOME": home, "USER": "me"}[name]
		}})
		return server, p, nil // it asks for the old name for half a minute: its own tests have that, and wait less
	},
}

// TestProviders holds every provider to the same: whatever service is behind it, a user of a tunnel sees no difference.
func TestProviders(t *testing.T) {
	t.Parallel()
	for name, start := range providers {
		for what, check := range map[string]func(*held){
			"drop":    func(h *held) { h.comesBack(h.service.Drop) },
			"refuse":  func(h *held) { h.comesBack(func() { h.service.Refuse(3 * time.Second) }) },
			"freeze":  (*held).freeze,
			"retire":  (*held).retire,
			"close":   (*held).close,
			"renamed": (*held).renamed,
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				h := &held{t: t}
				h.service, h.provider, h.rename = start(t)
				if what == "renamed" && h.rename == nil {
					return
				}
				h.open()
				h.delivers()
				check(h)
			})
		}
	}
}

// held is an open tunnel of a provider.
type held struct {
	t        *testing.T
	service  service
	provider tunnel.Provider
	rename   func()
	tunnel   tunnel.Tunnel
	server   *http.Server
	client   *http.Client
	arrived  chan bool // of requests to /slow
	finish   chan bool // which go on then
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
	h.client, h.arrived, h.finish = h.service.Client(), make(chan bool, 1), make(chan bool)
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

// comesBack loses the session, and has it back at the same URL.
func (h *held) comesBack(lose func()) {
	h.t.Helper()
	before := h.tunnel.URL()
	lose()
	if s := h.wait(tunnel.Reconnecting); s.Err == nil || s.URL != before {
		h.t.Errorf("state: %v", s)
	}
	if s := h.wait(tunnel.Online); s.URL != before || h.tunnel.URL() != before {
		h.t.Errorf("URL %s before, then %v", before, s)
	}
	h.delivers()
}

func (h *held) freeze() {
	before := h.tunnel.URL()
	h.service.FreezeHeartbeats(true)
	h.wait(tunnel.Reconnecting)
	h.service.FreezeHeartbeats(false)
	if s := h.wait(tunnel.Online); s.URL != before {
		h.t.Errorf("URL %s before, then %v", before, s)
	}
	h.delivers()
}

// renamed has a service that gives the old name to nobody any more.
func (h *held) renamed() {
	before := h.tunnel.URL()
	h.rename()
	h.service.Drop()
	if s := h.wait(tunnel.URLChanged); s.URL == before || s.URL != h.tunnel.URL() || s.Err != nil {
		h.t.Errorf("URL %s before, then %v", before, s)
	}
	h.delivers()
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
	if urls := h.service.URLs(); len(urls) != 0 {
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
	ctx, cancel := context.WithTimeout(h.t.Context(), patienceOfAll)
	defer cancel()
	if err := h.service.WaitFor(ctx, func(urls []string, sessions int) bool { return len(urls) == 0 && sessions == 0 }); err != nil {
		h.t.Error(err)
	}
	if s := h.wait(tunnel.Stopped); s.Err != nil {
		h.t.Errorf("state: %v", s)
	}
}
