package ngrok_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// TestComesBack looks at the states and the URL. TestQuickRecovery measures the time.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for _, wanted := range []string{"", "mine.example.com"} {
		for _, test := range []struct {
			name   string
			broken func(*tunneltest.Edge)
		}{
			{"dropped", (*tunneltest.Edge).Drop},
			{"refused for 3 s", func(e *tunneltest.Edge) { e.Refuse(3 * time.Second) }},
			{"refused for 8 s", func(e *tunneltest.Edge) { e.Refuse(8 * time.Second) }},
		} {
			t.Run(test.name+" "+wanted, func(t *testing.T) {
				t.Parallel()
				edge := tunneltest.NewEdge(t, tunneltest.Options{})
				config := configFor(t, edge, tunneltest.DefaultToken)
				config.URL = wanted
				o := open(t, edge, config, echo)
				o.Wait(tunnel.Online)
				o.flows()
				before := o.URL()
				test.broken(edge)
				lost := o.Wait(tunnel.Reconnecting)
				if lost.URL != before || lost.Err == nil {
					t.Errorf("state: %#v", lost)
				}
				s := o.Wait(tunnel.Online)
				if s.URL != before || o.URL() != before {
					t.Errorf("URL %s before, %s after", before, o.URL())
				}
				o.flows()
			})
		}
	}
}

// TestFrozenSession has a connection that dies without a word: only the heartbeats tell.
func TestFrozenSession(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	config := configFor(t, edge, tunneltest.DefaultToken)
	config.URL = "mine.example.com"
	o := open(t, edge, config, echo)
	o.Wait(tunnel.Online)
	edge.FreezeHeartbeats(true)
	frozen := time.Now()
	o.Wait(tunnel.Reconnecting)
	if noticed := time.Since(frozen); noticed > 12*time.Second {
		t.Errorf("noticed after %v", noticed)
	}
	edge.FreezeHeartbeats(false)
	o.Wait(tunnel.Online)
	o.flows()
}

// TestOtherURL has an edge that assigns another URL when the session comes back, and refuses the old one. The SDK keeps saying the old one.
func TestOtherURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		prove func(*tunneltest.Edge) func(context.Context, string) error
	}{
		{"not proven", nil},
		{"proof fails", func(e *tunneltest.Edge) func(context.Context, string) error {
			return func(ctx context.Context, u string) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
				if err != nil {
					return err
				}
				client := e.Client()
				defer client.CloseIdleConnections()
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					return errors.New(resp.Status)
				}
				return nil
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})
			config := configFor(t, edge, tunneltest.DefaultToken)
			if test.prove != nil {
				config.Prove = test.prove(edge)
			}
			o := open(t, edge, config, echo)
			o.Wait(tunnel.Online)
			edge.AssignDomain("another.ngrok-free.app")
			edge.Drop()
			s := o.Wait(tunnel.URLChanged)
			if s.URL != "https://another.ngrok-free.app" || o.URL() != s.URL || s.Err != nil {
				t.Errorf("%v, URL %s", s, o.URL())
			}
			o.flows()
			if urls := edge.URLs(); len(urls) != 1 {
				t.Errorf("online: %q", urls)
			}
		})
	}
}

// TestOldURLIsGranted has an edge that would assign another URL, and grants the old one to a session that asks for it.
func TestOldURLIsGranted(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	o.Wait(tunnel.Online)
	before := o.URL()
	for range 2 {
		edge.AssignDomain("another.ngrok-free.app")
		edge.Drop()
		o.Wait(tunnel.Reconnecting)
		if s := o.Wait(tunnel.Online); s.URL != before || o.URL() != before {
			t.Errorf("URL %s before, then %v", before, s)
		}
		o.flows()
	}
	if now, total := edge.Sessions(); now != 1 || total != 4 {
		t.Errorf("%d sessions, %d so far; the second loss needs no new agent", now, total)
	}
	if strings.Contains(o.Seen.String(), tunnel.URLChanged.String()) {
		t.Errorf("states:\n%s", o.Seen)
	}
}

// TestOldURLIsRefusedLater has an edge that grants the old URL once. The SDK asks for it again after the next loss, and is refused.
func TestOldURLIsRefusedLater(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	o.Wait(tunnel.Online)
	edge.Drop()
	o.Wait(tunnel.Reconnecting)
	o.Wait(tunnel.Online)
	o.flows()
	edge.AssignDomain("another.ngrok-free.app")
	edge.Drop()
	if s := o.Wait(tunnel.URLChanged); s.URL != "https://another.ngrok-free.app" || o.URL() != s.URL {
		t.Errorf("state: %v", s)
	}
	o.flows()
}

// TestProvenURL shows that a URL that is proven needs no second session.
func TestProvenURL(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	config := configFor(t, edge, tunneltest.DefaultToken)
	asked := make(chan string, 8)
	config.Prove = func(_ context.Context, u string) error { asked <- u; return nil }
	o := open(t, edge, config, echo)
	o.Wait(tunnel.Online)
	edge.Drop()
	o.Wait(tunnel.Reconnecting)
	o.Wait(tunnel.Online)
	if u := <-asked; u != o.URL() {
		t.Errorf("asked to prove %q", u)
	}
	if now, total := edge.Sessions(); now != 1 || total != 2 {
		t.Errorf("%d sessions, %d so far", now, total)
	}
	o.flows()
}

// TestStoppedEndpoint has an endpoint that somebody stops in ngrok's dashboard: the SDK would come back with one whose requests hang.
func TestStoppedEndpoint(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	o.Wait(tunnel.Online)
	if err := edge.StopEndpoint(o.URL(), "ERR_NGROK_9998", "Stopped by an operator."); err != nil {
		t.Fatal(err)
	}
	s := o.Wait(tunnel.Reconnecting)
	if s.Err == nil || !strings.Contains(s.Err.Error(), "ERR_NGROK_9998: Stopped by an operator.") {
		t.Errorf("state: %v", s)
	}
	o.Wait(tunnel.Online)
	o.flows()
	edge.Drop()
	o.Wait(tunnel.Reconnecting)
	o.Wait(tunnel.Online)
	o.flows()
}

// TestUsedUp has a refusal while the tunnel is online that no retry can fix.
func TestUsedUp(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	o.Wait(tunnel.Online)
	edge.FailAuth("ERR_NGROK_725", "Enough.", -1)
	edge.Drop()
	s := o.Wait(tunnel.Stopped)
	var e *tunnel.Error
	if !errors.As(s.Err, &e) || e.Code != "ERR_NGROK_725" || !strings.Contains(e.Hint(), "--public-url") {
		t.Errorf("state: %#v", s)
	}
	if err := <-o.Served; !errors.Is(err, s.Err) {
		t.Errorf("Serve: %v", err)
	}
}

// TestTokenRevoked has a token that stops to be valid while the tunnel is online; nothing may show it.
func TestTokenRevoked(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	o.Wait(tunnel.Online)
	edge.FailAuth("ERR_NGROK_107", "Your authtoken: "+tunneltest.DefaultToken, -1)
	edge.Drop()
	s := o.Wait(tunnel.Stopped)
	if all := fmt.Sprintf("%v %#v %s", s, s.Err, o.Seen); strings.Contains(all, tunneltest.DefaultToken) || !strings.Contains(all, "ERR_NGROK_107") {
		t.Error(all)
	}
}

// TestOwnDyingSession has the refusals that our own session before a crash can be the reason of.
func TestOwnDyingSession(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"ERR_NGROK_108", "ERR_NGROK_334"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			if code == "ERR_NGROK_108" {
				edge.FailAuth(code, "too many", 3)
			} else {
				edge.FailBind(code, "taken", 3)
			}
			o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
			s := o.Wait(tunnel.Connecting)
			if s.Err == nil || !strings.Contains(s.Err.Error(), code) || s.URL != "" {
				t.Errorf("state: %v", s)
			}
			if s := o.Wait(tunnel.Online); s.URL == "" || s.URL != o.URL() {
				t.Errorf("state: %v", s)
			}
			o.flows()
		})
	}
}

// TestTooManySessions has a real second session in the way, until it ends.
func TestTooManySessions(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{MaxSessions: 1})
	first := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	second := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	if s := second.Wait(tunnel.Connecting); !strings.Contains(s.String(), "ERR_NGROK_108") {
		t.Errorf("state: %v", s)
	}
	first.Close()
	first.Close()
	second.Wait(tunnel.Online)
	second.flows()
}
