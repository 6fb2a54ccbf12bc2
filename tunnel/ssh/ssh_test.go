package ssh_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/opentest"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
	"github.com/hubhook/hubhook/tunnel/ssh"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// patience is for what happens by itself, on a slow machine too.
const patience = 30 * time.Second

// testUser is somebody who uses the provider: a home, and what was said there.
type testUser struct {
	t    *testing.T
	home string

	mu   sync.Mutex
	said []string
}

func newUser(t *testing.T) *testUser {
	t.Helper()
	u := &testUser{t: t, home: t.TempDir()}
	if err := os.Mkdir(filepath.Join(u.home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *testUser) write(name, content string) string {
	u.t.Helper()
	path := filepath.Join(u.home, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		u.t.Fatal(err)
	}
	return path
}

// config is for the server, as the user of the services where there is one.
func (u *testUser) config(server string) ssh.Config {
	return ssh.Config{
		Server: server,
		Getenv: func(name string) string {
			switch name {
			case "HOME":
				return u.home
			case "USER":
				return "tester"
			}
			return ""
		},
		Say: func(line string) {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.said = append(u.said, line)
		},
	}
}

// heard is all that was said.
func (u *testUser) heard() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.said, "\n")
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
func open(t *testing.T, client *http.Client, p *ssh.Provider, h http.Handler) *opened {
	t.Helper()
	return &opened{opentest.Open(t, client, p, h), t}
}

// flows fails the test where a request through the public URL is not answered by the handler.
func (o *opened) flows() {
	o.t.Helper()
	const body = "ping"
	resp, err := o.Client.Post(o.URL()+"/webhooks/inbox", "application/json", strings.NewReader(body))
	if err != nil {
		o.t.Fatalf("through %s: %v", o.URL(), err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(answer) != body {
		o.t.Fatalf("through %s: %s %q %v", o.URL(), resp.Status, answer, err)
	}
}

// echo answers with the body.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
})

// hurried is a provider that does not wait between its steps, and is patient with a busy machine.
func hurried(config ssh.Config) *ssh.Provider { return lasting(config, patience, patience) }

// lasting is a hurried provider. It takes a server that has not answered for silence to be gone, and asks oldName for its old name.
func lasting(config ssh.Config, silence, oldName time.Duration) *ssh.Provider {
	t := terms.Default()
	t.Open, t.Refused, t.Try = patience, patience, silence // a try can hang as long as a connection can
	return ssh.Hurried(config, 100*time.Millisecond, silence, oldName, &t)
}

// failure is the error of a tunnel that can't be opened. On a busy machine the first tries may end before they get to that error, so it opens
// the tunnel again with more time, until the error says these words.
func failure(t *testing.T, config ssh.Config, says string) error {
	t.Helper()
	limits := terms.Default()
	for limits.Open = 2 * time.Second; ; limits.Open *= 2 {
		tun, err := ssh.Hurried(config, 100*time.Millisecond, patience, patience, &limits).Open(t.Context())
		if err == nil {
			tun.Close()
			t.Fatal("the tunnel opened")
		}
		if strings.Contains(err.Error(), says) || limits.Open > patience {
			return err
		}
	}
}

// TestServices has the words and habits of each service.
func TestServices(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind   tunneltest.SSHKind
		server string // "" for the address
		url    string
		says   string
	}{
		{tunneltest.Sish, "", "https://name-1.sish.test", "is not known yet"},
		{tunneltest.LocalhostRun, "localhost.run", "https://name-1.lhr.test", "passes through localhost.run, which can read it"},
		{tunneltest.Pinggy, "pinggy", "https://name-1.run.pinggy-free.test", "60 minutes"},
		{tunneltest.Serveo, "serveo", "https://name-1.serveo.test", "passes through serveo"},
	} {
		t.Run(test.url, func(t *testing.T) {
			t.Parallel()
			server := tunneltest.NewSSH(t, tunneltest.SSHOptions{Kind: test.kind})
			u := newUser(t)
			config := ssh.At(u.config(test.server), server.Addr())
			if test.server == "" {
				config.Server = server.Addr()
			}
			requests := make(chan *http.Request, 1)
			o := open(t, server.Client(), hurried(config), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests <- r
				echo(w, r)
			}))
			if s := o.Wait(tunnel.Online); s.URL != test.url || s.Err != nil {
				t.Errorf("state: %v", s)
			}
			o.flows()
			r := <-requests
			if r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Header.Get("X-Forwarded-Proto") != "https" || "https://"+r.Host != test.url {
				t.Errorf("host %q, headers %v", r.Host, r.Header)
			}
			if from, _, _ := strings.Cut(r.RemoteAddr, ":"); from != map[bool]string{true: "0.0.0.0", false: "127.0.0.1"}[test.kind == tunneltest.Sish] {
				t.Errorf("RemoteAddr %q", r.RemoteAddr)
			}
			if said := u.heard(); !strings.Contains(said, test.says) || !strings.Contains(said, server.Fingerprint()) {
				t.Errorf("said:\n%s\nwant %q and the fingerprint", said, test.says)
			}
			big := strings.Repeat("0123456789abcdef", 2<<20/16)
			resp, err := o.Client.Post(o.URL(), "text/plain", strings.NewReader(big))
			<-requests
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if answer, err := io.ReadAll(resp.Body); err != nil || string(answer) != big {
				t.Errorf("2 MiB: %d bytes back, %v", len(answer), err)
			}
		})
	}
}

// TestNoServer needs no network.
func TestNoServer(t *testing.T) {
	t.Parallel()
	_, err := ssh.New(newUser(t).config("")).Open(t.Context())
	var e *tunnel.Error
	if !errors.Is(err, tunnel.ErrNoCredential) || !errors.As(err, &e) || !strings.Contains(e.Fix, "--ssh") {
		t.Errorf("%#v", err)
	}
}

// atServer is for a service by its name, which is where the server is.
func atServer(u *testUser, server *tunneltest.SSH, service string) ssh.Config {
	return ssh.At(u.config(service), server.Addr())
}
