package ngrok

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/machine/machinetest"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// served is a tunnel that answers "here", on a machine of the test's.
type served struct {
	tunnel.Tunnel
	t      *testing.T
	edge   *tunneltest.Edge
	client *http.Client
	// opening is how long the tunnel took to open.
	opening time.Duration
	// A request for /slow is noted in arrived and answered after finish.
	arrived, finish chan struct{}
}

func serveOnLaptop(t *testing.T, edge *tunneltest.Edge, l *machinetest.Laptop, config Config, tune ...func(*Provider)) *served {
	t.Helper()
	config.Authtoken, config.ConnectCAs, config.ConnectURL = tunneltest.DefaultToken, edge.CAs(), cmp.Or(config.ConnectURL, edge.Addr())
	if config.Getenv == nil {
		config.Getenv = noEnv
	}
	provider := Patient(config)
	provider.terms.Machine = l.Machine()
	for _, change := range tune {
		change(provider)
	}
	began := time.Now()
	tun, err := provider.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s := &served{tun, t, edge, edge.Client(), time.Since(began), make(chan struct{}, 1), make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			s.arrived <- struct{}{}
			<-s.finish
		}
		io.WriteString(w, "here")
	})}
	over := make(chan struct{})
	go func() {
		defer close(over)
		server.Serve(tun)
	}()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		server.Close()
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		<-over
		for range tun.States() {
		}
	})
	s.wait(tunnel.Online)
	return s
}

// machineTime is what a busy machine may add to a time limit. Coming back costs about as much work as opening does, which takes 100 ms on
// an idle machine: the tunnel may come back ten times as late as it was late to open.
func (s *served) machineTime() time.Duration { return 10 * max(0, s.opening-100*time.Millisecond) }

// wait returns the next state of the phase and fails the test where none comes.
func (s *served) wait(phase tunnel.Phase) tunnel.State {
	s.t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case state, ok := <-s.States():
			if !ok {
				s.t.Fatalf("the states ended without %v", phase)
			}
			if state.Phase == phase {
				return state
			}
		case <-timeout:
			s.t.Fatalf("no state %v", phase)
		}
	}
}

// flows fails the test where a request through the public URL is not answered here.
func (s *served) flows() {
	s.t.Helper()
	ask := func() (string, error) {
		resp, err := s.client.Get(s.URL())
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%s %q", resp.Status, body), err
	}
	// On a busy machine the edge may still send one to a session that it is about to lose; a sender tries again.
	for tries := 1; ; tries++ {
		answer, err := ask()
		if err == nil && answer == `200 OK "here"` {
			return
		}
		if tries == 3 {
			s.t.Fatalf("three times: %s %v", answer, err)
		}
	}
}

// quiet fails the test where a state comes although nothing happened that matters.
func (s *served) quiet() {
	s.t.Helper()
	// 20 looks of the watcher.
	select {
	case state := <-s.States():
		s.t.Errorf("state: %v", state)
	case <-time.After(100 * time.Millisecond):
	}
}

// TestSleep has a laptop that slept: its connection looks alive and is dead, and the service holds the URL for the old session.
func TestSleep(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		nap  func(*machinetest.Laptop)
		want string // in words; empty: nothing happens
	}{
		{"asleep for 3 h", func(l *machinetest.Laptop) { l.Sleep(3*time.Hour + 10*time.Second) }, "the machine slept for 3 h"},
		{"asleep for 40 s", func(l *machinetest.Laptop) { l.Sleep(40 * time.Second) }, "the machine slept for 40 s"},
		{"stopped", func(l *machinetest.Laptop) { l.Stop(time.Minute + time.Second) }, "this program stood still for 1 min 1 s"},
		{"a clock that is set by little", func(l *machinetest.Laptop) { l.Sleep(9 * time.Second) }, ""},
		{"a clock that is set back", func(l *machinetest.Laptop) { l.Sleep(-time.Hour) }, ""},
		{"a slow moment", func(l *machinetest.Laptop) { l.Stop(9 * time.Second) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{MaxSessions: 1})
			l := machinetest.New("127.0.0.1")
			s := serveOnLaptop(t, edge, l, Config{URL: "mine.example.com"})
			s.flows()
			if test.want == "" {
				test.nap(l)
				s.quiet()
				return
			}
			edge.BlackHole(true)
			edge.BlackHole(false)
			woke := time.Now()
			test.nap(l)
			state := s.wait(tunnel.Reconnecting)
			var e *tunnel.Error
			if !errors.As(state.Err, &e) || e.Cause != test.want || e.Op != keepAct || !e.Temporary || e.Hint() == "" {
				t.Errorf("state: %v", state)
			}
			if state := s.wait(tunnel.Online); state.URL != "https://mine.example.com" {
				t.Errorf("state: %v", state)
			}
			s.flows()
			if late := time.Since(woke); late > 2*time.Second+s.machineTime() {
				t.Errorf("deliveries flow after %v", late)
			}
			s.quiet()
		})
	}
}

// TestNetworkChange has machines that move: only a connection whose own address is gone is given up.
func TestNetworkChange(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		from   []string
		to     []string
		renews bool
	}{
		{"its address is gone", []string{"127.0.0.1", "192.0.2.7"}, []string{"192.0.2.7", "198.51.100.9"}, true},
		{"another one is gone", []string{"127.0.0.1", "192.0.2.7"}, []string{"127.0.0.1"}, false},
		{"one has come", []string{"127.0.0.1"}, []string{"127.0.0.1", "2001:db8::1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			l := machinetest.New(test.from...)
			s := serveOnLaptop(t, edge, l, Config{URL: "mine.example.com"})
			l.MoveTo(test.to...)
			if test.renews {
				if state := s.wait(tunnel.Reconnecting); !strings.HasSuffix(state.String(), "the network has changed") {
					t.Errorf("state: %v", state)
				}
				s.wait(tunnel.Online)
			}
			s.quiet()
			s.flows()
			if _, total := edge.Sessions(); (total > 1) != test.renews {
				t.Errorf("%d sessions", total)
			}
		})
	}
}

// TestHangingTry has the laptop leave a network that swallows everything while a try of the tunnel hangs in it.
func TestHangingTry(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{Hosts: map[string]string{"connect.example.com:443": edge.Addr()}})
	l := machinetest.New("192.0.2.7")
	s := serveOnLaptop(t, edge, l, Config{
		ConnectURL: "connect.example.com:443",
		Getenv: func(name string) string {
			if name == "HTTPS_PROXY" {
				return proxy.URL().String()
			}
			return ""
		},
	}, func(p *Provider) { p.resume, p.terms.Try = 50*time.Millisecond, time.Hour })
	edge.BlackHole(true)
	edge.Drop()
	tries := func(n int) {
		t.Helper()
		// Less than the 8 s after which its heartbeats end a session that hangs.
		for deadline := time.Now().Add(5 * time.Second); len(proxy.Asked()) < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("tries: %q", proxy.Asked())
			}
		}
	}
	s.wait(tunnel.Reconnecting)
	// One try of the SDK and one of the tunnel come without a move: the third one cannot.
	for _, addr := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"} {
		before := len(proxy.Asked())
		l.MoveTo(addr)
		tries(before + 1)
	}
	edge.BlackHole(false)
	l.MoveTo("198.51.100.4")
	s.wait(tunnel.Online)
	s.flows()
}

// TestRenew replaces a session that looks well: what is in flight is answered on the old one, what comes then on the new one.
func TestRenew(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})
	// A session that is not off within this time is cut. A busy machine may need longer than the default.
	s := serveOnLaptop(t, edge, machinetest.New(), Config{}, func(p *Provider) { p.terms.Replace = time.Minute })
	slow := make(chan error, 1)
	go func() {
		resp, err := s.client.Get(s.URL() + "/slow")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		slow <- err
	}()
	<-s.arrived
	edge.AssignDomain("another.example.com")
	tunnel.Renewer(s.Tunnel)(errors.New("something else answers there"))
	state := s.wait(tunnel.Reconnecting)
	var e *tunnel.Error
	if !errors.As(state.Err, &e) || !strings.Contains(e.Cause, "opened again: something else answers there") || e.Hint() == "" {
		t.Errorf("state: %v", state)
	}
	if state := s.wait(tunnel.URLChanged); state.URL != "https://another.example.com" || s.URL() != state.URL {
		t.Errorf("state: %v", state)
	}
	s.flows()
	if urls := edge.URLs(); len(urls) != 1 {
		t.Errorf("online: %q", urls)
	}
	close(s.finish)
	if err := <-slow; err != nil {
		t.Errorf("in flight meanwhile: %v", err)
	}
}

// TestRenewWithoutAnAnswer has a service that does not take the URL off: the old session must not hold it against the new one.
func TestRenewWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	s := serveOnLaptop(t, edge, machinetest.New(), Config{})
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		if resp, err := s.client.Get(s.URL() + "/slow"); err == nil {
			resp.Body.Close()
		}
	}()
	<-s.arrived
	edge.Hang(true)
	tunnel.Renewer(s.Tunnel)(errors.New("something else answers there"))
	waitForEdge(t, edge, func(_ []string, sessions int) bool { return sessions == 0 })
	edge.Hang(false)
	s.wait(tunnel.Online)
	s.flows()
	<-slow
	close(s.finish)
}
