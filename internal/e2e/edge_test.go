//go:build unix

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// A lost session comes back by itself, under the same URL, and deliveries flow again within 2 s of the edge's return. Local deliveries
// work meanwhile. These tests measure time, so they don't run in parallel.
func TestTheEdgeComesBack(t *testing.T) {
	for name, lose := range map[string]func(*tunneltest.Edge) (back time.Time){
		"dropped": func(e *tunneltest.Edge) time.Time {
			e.Drop()
			return time.Now()
		},
		"refused for 3 s": func(e *tunneltest.Edge) time.Time {
			e.Refuse(3 * time.Second)
			return time.Now().Add(3 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			p, public := viaEdge(t, newHome(t), edge, bot)
			client := publicClient(t, edge)
			body := push(t)
			if a := post(t, client, public+"/webhooks/nothing", body); a.status != 200 {
				t.Fatalf("answer %d %s before anything happened", a.status, a.body)
			}

			lost := time.Now().Truncate(time.Millisecond) // as precise as the events say it
			back := lose(edge)
			if a := p.post("nothing", body); a.status != 200 {
				t.Errorf("meanwhile a local delivery is answered %d %s", a.status, a.body)
			}
			// Repeat the same delivery until it is accepted, as the Hub does, but without waits. To come back, a tunnel needs about ten
			// requests and answers one after the other; a busy machine may take as long again for these.
			within := 2 * time.Second
			for n := 0; ; n++ {
				a, err := tryPost(t, client, public+"/webhooks/nothing", body, "Webhook-Id", "the one")
				if err == nil && a.ok() {
					if r := p.settled(a.delivery(), queue.Done); r.Duplicates > n {
						t.Errorf("%d duplicates of %d tries", r.Duplicates, n)
					}
					break
				}
				within = max(within, 2*time.Second+10*machineTime(t))
				if time.Since(back) > within {
					t.Fatalf("no delivery within %v of the edge's return; the last was answered %d %s, %v", within, a.status, a.body, err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			if late := time.Since(back); late > within {
				t.Errorf("deliveries flow again %v after the edge's return; want %v at most", late, within)
			}
			down := p.await("reconnecting", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "reconnecting" && !e.Time.Before(lost) })
			if down.Error == "" {
				t.Error("the screen does not say why the tunnel went down")
			}
			up := p.await("online", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "online" && !e.Time.Before(down.Time) })
			if up.URL != public {
				t.Errorf("it came back under %s; it was %s", up.URL, public)
			}
			p.stop()
			noSession(t, edge)
		})
	}
}

// If the tunnel can't be opened, the program says so within 15 s of the start: with the code, the cause, where the token came from and
// one fix, and never with the token. The local server serves all the while.
func TestATunnelThatDoesNotOpen(t *testing.T) {
	const wrong = "2zzzzzzzzzzzzzzzzzzzzzzzzzz_3WrongTokenOfNobodyAtAll"
	for _, test := range []struct {
		name  string
		setUp func(t *testing.T, h *home, edge *tunneltest.Edge)
		flags []string
		says  []string // in the error; CONFIG stands for the path of ngrok.yml
		hint  string
	}{
		{name: "wrong token in ngrok.yml", says: []string{"ERR_NGROK_107", "CONFIG", "not valid"}, hint: "dashboard.ngrok.com/get-started/your-authtoken",
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) { writeConfig(t, h, edge, wrong) }},
		{name: "wrong token in NGROK_AUTHTOKEN", says: []string{"ERR_NGROK_107", "NGROK_AUTHTOKEN"}, hint: "dashboard.ngrok.com",
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) {
				writeConfig(t, h, edge, tunneltest.DefaultToken)
				h.env = append(h.env, "NGROK_AUTHTOKEN="+wrong)
			}},
		{name: "wrong token in a flag", says: []string{"ERR_NGROK_107", "--ngrok-authtoken"}, hint: "dashboard.ngrok.com",
			flags: []string{"--ngrok-authtoken", wrong},
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) { writeConfig(t, h, edge, "") }},
		{name: "no token at all", says: []string{"authtoken"}, hint: "NGROK_AUTHTOKEN",
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) { writeConfig(t, h, edge, "") }},
		{name: "no configuration at all", says: []string{"authtoken"}, hint: "NGROK_AUTHTOKEN",
			setUp: func(*testing.T, *home, *tunneltest.Edge) {}},
		{name: "an edge that refuses connections", says: []string{"127.0.0.1:"},
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) {
				writeNgrokYML(t, h, "127.0.0.1:"+freePort(t), edge.CAFile())
			}},
		{name: "an edge that says nothing", says: []string{"127.0.0.1:"},
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) {
				writeConfig(t, h, edge, tunneltest.DefaultToken)
				edge.Hang(true)
			}},
		{name: "a certificate of another authority", says: []string{"certificate"},
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) {
				other := tunneltest.NewEdge(t, tunneltest.Options{})
				writeNgrokYML(t, h, edge.Addr(), other.CAFile())
			}},
		{name: "a domain of someone else", says: []string{"ERR_NGROK_319"}, hint: "--url", flags: []string{"--url", "https://not-mine.example.com"},
			setUp: func(t *testing.T, h *home, edge *tunneltest.Edge) { writeConfig(t, h, edge, tunneltest.DefaultToken) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			edge := tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})
			h := newHome(t)
			test.setUp(t, h, edge)
			port := freePort(t)
			p := h.start(t, hubhook, append([]string{"--port", port, "--secret", secret}, test.flags...)...)
			base := "http://127.0.0.1:" + port

			p.poll("the local server answers while the tunnel is tried", func() (bool, string) {
				resp, err := p.client.Get(base + "/healthz")
				if err != nil {
					return false, err.Error()
				}
				resp.Body.Close()
				return resp.StatusCode == http.StatusOK, resp.Status
			})
			// A busy machine takes longer for the same work: ten times as long as the start took more than on an idle one.
			busy := 10 * max(0, time.Since(p.started)-100*time.Millisecond)
			e := p.await("tunnel failed", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "failed" })
			if took := e.Time.Sub(p.started); took > 15*time.Second+busy {
				t.Errorf("the failure came %v after the start; want 15 s at most, and %v for the busy machine", took, busy)
			}
			for _, words := range test.says {
				words = strings.ReplaceAll(words, "CONFIG", h.ngrokConfig())
				if !strings.Contains(e.Error, words) {
					t.Errorf("error %q; want it to say %q", e.Error, words)
				}
			}
			if e.Hint == "" || !strings.Contains(e.Hint, test.hint) {
				t.Errorf("hint %q; want one that says %q", e.Hint, test.hint)
			}
			p.awaitReady()
			if p.ready.PublicURL != "" || len(p.ready.Endpoints) != 1 || p.ready.Endpoints[0].URL != base+"/webhooks/inbox" {
				t.Errorf("the banner has public URL %q and endpoints %+v; want the local one", p.ready.PublicURL, p.ready.Endpoints)
			}
			if a := p.post("inbox", push(t), "X-Webhook-Secret", secret); a.status != 200 {
				t.Errorf("a local delivery is answered %d %s", a.status, a.body)
			}
			p.stop()
			p.wantError(e.Error, strings.Split(e.Hint, "\n")[0])
			for _, o := range []*output{p.out, p.errs} {
				for _, token := range []string{wrong, tunneltest.DefaultToken} {
					if strings.Contains(o.String(), token) {
						t.Errorf("a token was printed:\n%s", o)
					}
				}
			}
		})
	}
}

// If an endpoint is stopped at ngrok's dashboard, the public URL is lost, and nothing else.
func TestAnEndpointThatIsStoppedFarAway(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	p, public := viaEdge(t, newHome(t), edge, hubhook)
	if err := edge.StopEndpoint(public, "", "stopped by its owner"); err != nil {
		t.Fatal(err)
	}
	p.await("what became of the tunnel", patience, func(e event) bool { return e.Type == "tunnel" && e.Error != "" })
	if a := p.post("inbox", push(t)); a.status != 200 {
		t.Errorf("a local delivery is answered %d %s", a.status, a.body)
	}
	p.stop()
}

func writeConfig(t *testing.T, h *home, edge *tunneltest.Edge, token string) {
	t.Helper()
	if err := edge.WriteConfig(h.ngrokConfig(), token); err != nil {
		t.Fatal(err)
	}
}

// writeNgrokYML writes a configuration of version 2, with a token that every edge takes.
func writeNgrokYML(t *testing.T, h *home, addr, authority string) {
	t.Helper()
	text := fmt.Sprintf("version: \"2\"\nauthtoken: %s\nconnect_url: %s\nconnect_cas: %q\n", tunneltest.DefaultToken, addr, authority)
	if err := os.MkdirAll(filepath.Dir(h.ngrokConfig()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.ngrokConfig(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noSession waits until the stand-in has seen the end of every session.
func noSession(t *testing.T, far farSide) {
	t.Helper()
	pollFor(t, patience, "the service sees the end", func() (bool, string) {
		now, _ := far.Sessions()
		return now == 0, fmt.Sprintf("%d sessions are left", now)
	})
}
