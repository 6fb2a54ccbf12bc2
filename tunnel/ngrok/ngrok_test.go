package ngrok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/opentest"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

const secondsOfATest = time.Minute

// environment is a Getenv with nothing in it but these pairs.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// configFor is a configuration that leads to the edge through an ngrok.yml with the token.
func configFor(t *testing.T, edge *tunneltest.Edge, token string) ngrok.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ngrok.yml")
	if err := edge.WriteConfig(path, token); err != nil {
		t.Fatal(err)
	}
	return ngrok.Config{ConfigFile: path, Getenv: environment()}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// opened is a tunnel with a server on it.
type opened struct {
	*opentest.Opened
	t *testing.T
}

// open opens a tunnel and serves h on it until the test ends.
func open(t *testing.T, edge *tunneltest.Edge, config ngrok.Config, h http.Handler) *opened {
	t.Helper()
	return &opened{opentest.Open(t, edge.Client(), ngrok.Patient(config), h), t}
}

// post sends body to the public URL and returns the answer's status and body.
func (o *opened) post(publicURL, body string) (int, string, error) {
	resp, err := o.Client.Post(publicURL+"/webhooks/inbox", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// flows fails the test where a request through the public URL is not answered by the handler.
func (o *opened) flows() {
	o.t.Helper()
	// On a busy machine the edge may still send one to a session that it is about to lose; a sender tries again.
	for tries := 1; ; tries++ {
		status, answer, err := o.post(o.URL(), "ping")
		if err == nil && status == http.StatusOK && answer == "ping" {
			return
		}
		if tries == 3 {
			o.t.Fatalf("through %s, three times: %d %q %v", o.URL(), status, answer, err)
		}
	}
}

// echo answers with the body.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(w, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
})

func TestRequestsGoThrough(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	requests := make(chan *http.Request, 1)
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		echo(w, r)
	}))
	if s := o.Wait(tunnel.Online); s.URL != "https://"+tunneltest.DefaultDomain || s.Err != nil {
		t.Errorf("state: %v", s)
	}
	if got := o.Addr(); got.Network() != "tcp" || got.String() != tunneltest.DefaultDomain {
		t.Errorf("Addr: %s %s", got.Network(), got)
	}
	o.flows()
	r := <-requests
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err != nil || net.ParseIP(host) == nil || port == "0" {
		t.Errorf("RemoteAddr %q is not the client's", r.RemoteAddr)
	}
	if r.Host != tunneltest.DefaultDomain || r.Header.Get("X-Forwarded-Proto") != "https" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Header.Get("X-Forwarded-Host") != r.Host {
		t.Errorf("host %q, headers %v", r.Host, r.Header)
	}
	big := strings.Repeat("0123456789abcdef", 15<<20/16)
	status, answer, err := o.post(o.URL(), big)
	<-requests
	if err != nil || status != http.StatusOK || answer != big {
		t.Errorf("15 MiB: status %d, %d bytes back, %v", status, len(answer), err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 10 {
				body := fmt.Sprintf("request %d of client %d", j, i)
				if status, answer, err := o.post(o.URL(), body); err != nil || status != http.StatusOK || answer != body {
					t.Errorf("%s: %d %q %v", body, status, answer, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestWantedURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, config, env, want string
	}{
		{"config", "https://mine.example.com", "", "https://mine.example.com"},
		{"bare domain", "mine.example.com", "", "https://mine.example.com"},
		{"environment", "", "mine.example.com", "https://mine.example.com"},
		{"config before environment", "first.example.com", "second.example.com", "https://first.example.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			config := configFor(t, edge, tunneltest.DefaultToken)
			config.URL, config.Getenv = test.config, environment("NGROK_DOMAIN", test.env)
			o := open(t, edge, config, echo)
			if o.URL() != test.want {
				t.Errorf("URL %q, want %q", o.URL(), test.want)
			}
			o.flows()
			edge.Drop()
			o.Wait(tunnel.Reconnecting)
			if s := o.Wait(tunnel.Online); s.URL != test.want {
				t.Errorf("after a lost session: %v", s)
			}
			o.flows()
			if now, total := edge.Sessions(); now != 1 || total != 2 {
				t.Errorf("%d sessions, %d so far; a wanted URL needs no third", now, total)
			}
		})
	}
}

// TestRefused has the failures of the start: what is said, by whom, and how soon.
func TestRefused(t *testing.T) {
	t.Parallel()
	const wrong = "2nobodyKnowsThisToken_0123456789"
	tests := []struct {
		name      string
		token     string
		change    func(*testing.T, *tunneltest.Edge, *ngrok.Config)
		code      string
		source    string // "FILE" for ngrok.yml
		cause     string
		fix       string
		temporary bool
		soon      bool // after the first try rather than after those of 12 s
	}{
		{
			name: "wrong token in the file", token: wrong,
			code: "ERR_NGROK_107", source: "FILE", cause: "not valid any more", fix: "your-authtoken", soon: true,
		},
		{
			name: "wrong token in the environment", token: tunneltest.DefaultToken,
			change: func(_ *testing.T, _ *tunneltest.Edge, c *ngrok.Config) {
				c.Getenv = environment("NGROK_AUTHTOKEN", wrong)
			},
			code: "ERR_NGROK_107", source: "NGROK_AUTHTOKEN", cause: "from NGROK_AUTHTOKEN", fix: "your-authtoken", soon: true,
		},
		{
			name: "something else than a token in a flag", token: tunneltest.DefaultToken,
			change: func(_ *testing.T, _ *tunneltest.Edge, c *ngrok.Config) {
				c.Authtoken, c.AuthtokenSource = "ngrok config add-authtoken "+wrong, "--ngrok-authtoken"
			},
			code: "ERR_NGROK_105", source: "--ngrok-authtoken", cause: "not an ngrok authtoken", fix: "your-authtoken", soon: true,
		},
		{
			name: "token that the service takes for none", token: wrong,
			change: func(_ *testing.T, e *tunneltest.Edge, _ *ngrok.Config) {
				e.FailAuth("ERR_NGROK_4018", "no account", -1)
			},
			code: "ERR_NGROK_4018", cause: "no authtoken", fix: "NGROK_AUTHTOKEN", soon: true,
		},
		{
			name: "domain of somebody else", token: tunneltest.DefaultToken,
			change: func(_ *testing.T, e *tunneltest.Edge, c *ngrok.Config) {
				e.FailBind("ERR_NGROK_320", "not yours", -1)
				c.URL = "theirs.example.com"
			},
			code: "ERR_NGROK_320", source: "FILE", cause: "another ngrok account", fix: "--url", soon: true,
		},
		{
			name: "code that is not known here", token: tunneltest.DefaultToken,
			change: func(_ *testing.T, e *tunneltest.Edge, _ *ngrok.Config) {
				e.FailAuth("ERR_NGROK_9999", "The moon is in the wrong house.", -1)
			},
			code: "ERR_NGROK_9999", source: "FILE", cause: "The moon is in the wrong house.", fix: "https://ngrok.com/docs/errors/err_ngrok_9999", soon: true,
		},
		{
			name: "wrong CA", token: tunneltest.DefaultToken,
			change: func(t *testing.T, e *tunneltest.Edge, c *ngrok.Config) {
				rewrite(t, c.ConfigFile, e.CAFile(), tunneltest.NewEdge(t, tunneltest.Options{}).CAFile())
			},
			cause: "not signed by an authority that is trusted here", fix: "connect_cas", soon: true,
		},
		{
			name: "nothing listens", token: tunneltest.DefaultToken,
			change: func(t *testing.T, e *tunneltest.Edge, c *ngrok.Config) {
				rewrite(t, c.ConfigFile, e.Addr(), nobody(t))
			},
			cause: "cannot be reached: dial tcp 127.0.0.1:", fix: "check your network", temporary: true,
		},
		{
			name: "edge that resets connections", token: tunneltest.DefaultToken,
			change: func(_ *testing.T, e *tunneltest.Edge, _ *ngrok.Config) {
				e.RefuseUntil(func() bool { return false })
			},
			cause: "reset by peer", fix: "check ", temporary: true,
		},
		{
			name: "edge that never answers", token: tunneltest.DefaultToken,
			change: func(_ *testing.T, e *tunneltest.Edge, _ *ngrok.Config) { e.Hang(true) },
			cause:  "does not complete a TLS handshake", fix: "check the network", temporary: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			// To make an edge takes a few milliseconds on an idle machine. A busy one is late with all that the tries do, too.
			busy := 10 * max(0, time.Since(began)-20*time.Millisecond)
			config := configFor(t, edge, test.token)
			var logged lockedBuffer
			config.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			var tries []string
			config.Connecting = func(try int, err error) { tries = append(tries, fmt.Sprint(try, " ", err)) }
			if test.change != nil {
				test.change(t, edge, &config)
			}
			began = time.Now()
			tun, err := ngrok.New(config).Open(within(t, secondsOfATest))
			took := time.Since(began)
			if err == nil {
				tun.Close()
				t.Fatal("the tunnel opened")
			}
			if took > 15*time.Second+busy {
				t.Errorf("said after %v; want 15 s, and %v for the busy machine", took, busy)
			}
			var e *tunnel.Error
			if !errors.As(err, &e) {
				t.Fatalf("%T is not an *Error: %v", err, err)
			}
			wantSource := test.source
			if wantSource == "FILE" {
				wantSource = config.ConfigFile
			}
			if e.Code != test.code || e.Source != wantSource || !strings.Contains(e.Cause, test.cause) || !strings.Contains(e.Hint(), test.fix) || e.Temporary != test.temporary {
				t.Errorf("%#v", e)
			}
			if want := "open the ngrok tunnel: "; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), test.code) || strings.Contains(err.Error()+e.Hint(), "\n") {
				t.Errorf("not a line that begins with %q and has the code: %q", want, err)
			}
			if test.soon != (len(tries) == 0) {
				t.Errorf("tries before the last: %q; want none: %v", tries, test.soon)
			}
			all := fmt.Sprintf("%v %s %#v %+v %q %s", err, e.Hint(), e, e.Err, tries, logged.String())
			if strings.Contains(all, wrong) || strings.Contains(all, tunneltest.DefaultToken) {
				t.Errorf("a token is shown in:\n%s", all)
			}
			if test.soon && logged.Len() == 0 {
				t.Error("the SDK logged nothing, so that the search for a token in it proves nothing")
			}
			for line := range strings.Lines(logged.String()) {
				if !strings.Contains(line, "level=DEBUG") {
					t.Errorf("not at debug level: %s", line)
				}
			}
		})
	}
}

// nobody is an address on loopback where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func rewrite(t *testing.T, path, old, new string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.ReplaceAll(text, []byte(old), []byte(new))
	if bytes.Equal(changed, text) {
		t.Fatalf("%s does not have %q", path, old)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Len() int { return len(l.String()) }

func TestNoCredential(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	for name, config := range map[string]ngrok.Config{
		"no file":       {Getenv: environment("HOME", t.TempDir())},
		"no home":       {Getenv: environment()},
		"only an edge":  configFor(t, edge, ""),
		"only a domain": {Getenv: environment("HOME", t.TempDir(), "NGROK_DOMAIN", "mine.example.com", "NGROK_AUTHTOKEN", " ")},
	} {
		_, err := ngrok.New(config).Open(context.Background())
		if !errors.Is(err, tunnel.ErrNoCredential) {
			t.Errorf("%s: %v", name, err)
		}
		var e *tunnel.Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint(), "NGROK_AUTHTOKEN") || e.Code != "" {
			t.Errorf("%s: %#v", name, err)
		}
	}
	if _, total := edge.Sessions(); total != 0 {
		t.Errorf("%d sessions without a token", total)
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	edge.Hang(true)
	ctx, cancel := context.WithCancel(context.Background())
	began := time.Now()
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err := ngrok.New(configFor(t, edge, tunneltest.DefaultToken)).Open(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Open returned after %v", took)
	}
	if _, err := ngrok.New(configFor(t, edge, tunneltest.DefaultToken)).Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestOpenContextEnds shows that the context of Open is not the tunnel's life.
func TestOpenContextEnds(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	tun, err := ngrok.Patient(configFor(t, edge, tunneltest.DefaultToken)).Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	defer tun.Close()
	cancel()
	go http.Serve(tun, echo)
	client := edge.Client()
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Post(tun.URL(), "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
}

func TestShutdownKeepsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	arrived, finish := make(chan struct{}), make(chan struct{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-finish
		io.WriteString(w, "done")
	}))
	o.Wait(tunnel.Online)
	type result struct {
		status int
		body   string
		err    error
	}
	answered := make(chan result, 1)
	go func() {
		status, body, err := o.post("https://"+tunneltest.DefaultDomain, "slow")
		answered <- result{status, body, err}
	}()
	<-arrived
	o.Retire(within(t, 5*time.Second))
	if urls := edge.URLs(); len(urls) != 0 {
		t.Errorf("online after Retire: %q", urls)
	}
	if status, _, err := o.post("https://"+tunneltest.DefaultDomain, "late"); err != nil || status != http.StatusNotFound {
		t.Errorf("a request after Retire: %d %v", status, err)
	}
	shut := make(chan error, 1)
	go func() { shut <- o.Server.Shutdown(within(t, 10*time.Second)) }()
	if _, err := o.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	close(finish)
	if r := <-answered; r.err != nil || r.status != http.StatusOK || r.body != "done" {
		t.Errorf("in flight: %+v", r)
	}
	if err := <-shut; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if s := o.Wait(tunnel.Stopped); s.Err != nil {
		t.Errorf("state: %v", s)
	}
	if err := edge.WaitFor(within(t, 5*time.Second), func(_ []string, sessions int) bool { return sessions == 0 }); err != nil {
		t.Error(err)
	}
	o.Retire(context.Background()) // returns, too, when all is over
}

func TestCloseWhileAway(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	o := open(t, edge, configFor(t, edge, tunneltest.DefaultToken), echo)
	o.Wait(tunnel.Online)
	edge.RefuseUntil(func() bool { return false })
	o.Wait(tunnel.Reconnecting)
	began := time.Now()
	o.Retire(within(t, 5*time.Second))
	o.Server.Shutdown(within(t, 5*time.Second))
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
}
