package ngrok

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/machine/machinetest"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// TestNothingInDefaultLog shows that the SDK, which writes to slog.Default where it is given no logger, is given one. It is not
// parallel, because it replaces the default.
func TestNothingInDefaultLog(t *testing.T) {
	var logged bytes.Buffer
	before, flags, out := slog.Default(), log.Flags(), log.Writer()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer func() {
		slog.SetDefault(before)
		log.SetFlags(flags)
		log.SetOutput(out)
	}()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	_, err := New(Config{Authtoken: "wrong_token", ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv}).Open(context.Background())
	if err == nil || logged.Len() != 0 {
		t.Errorf("%v; logged:\n%s", err, logged.String())
	}
}

// TestNobodyReadsStates has the SDK's events and the tunnel's states go unread: neither may hold up a reconnect.
func TestNobodyReadsStates(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	s := serveOnLaptop(t, edge, machinetest.New(), Config{URL: "mine.example.com"}, func(p *Provider) { p.terms.Steady = 0 })
	for range 40 {
		edge.Drop()
		s.until(time.Now().Add(time.Minute))
	}
}

func waitForEdge(t *testing.T, edge *tunneltest.Edge, ok func(urls []string, sessions int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := edge.WaitFor(ctx, ok); err != nil {
		t.Fatal(err)
	}
}

// TestGoodSessionsDieAtOnce has sessions that are cut as soon as they look good. The SDK itself has no wait then: it makes hundreds of
// them in the time.
func TestGoodSessionsDieAtOnce(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	s := serveOnLaptop(t, edge, machinetest.New(), Config{URL: "mine.example.com"})
	edge.SessionLife(5 * time.Millisecond)
	edge.Drop()
	time.Sleep(5 * time.Second) // what is looked at is what happens in a time
	if _, total := edge.Sessions(); total > 25 {
		t.Errorf("%d sessions in 5 s", total)
	}
	// A busy machine may need longer for the few that come without a wait.
	waitForEdge(t, edge, func([]string, int) bool {
		_, total := edge.Sessions()
		return total >= terms.Default().QuickLosses
	})
	edge.Heal()
	healed := time.Now()
	waitForEdge(t, edge, func(urls []string, _ int) bool { return len(urls) == 1 })
	s.flows()
	if late := time.Since(healed); late > 2*time.Second+s.machineTime() {
		t.Errorf("deliveries flow %v after the end", late)
	}
}

// TestQuickRecovery measures how long a sender waits for its next answer after a fault: 2 s at most. A busy machine may be late by itself,
// so each fault has three tries.
func TestQuickRecovery(t *testing.T) {
	t.Parallel()
	for _, wanted := range []string{"", "mine.example.com"} {
		for _, d := range []time.Duration{0, 300, 600, 1200, 1600, 2100, 2600, 3000, 8000} {
			d *= time.Millisecond
			t.Run(fmt.Sprint(d, " ", wanted), func(t *testing.T) {
				t.Parallel()
				edge := tunneltest.NewEdge(t, tunneltest.Options{})
				s := serveOnLaptop(t, edge, machinetest.New(), Config{URL: wanted})
				s.flows()
				var late error
				for range 3 {
					edge.Refuse(d)
					end := time.Now().Add(d)
					if late = s.answered(end.Add(2*time.Second + s.machineTime())); late == nil {
						return
					}
					s.until(time.Now().Add(time.Minute))
				}
				t.Errorf("three times, no delivery was answered within 2 s and %v after a fault of %v: %v", s.machineTime(), d, late)
			})
		}
	}
}

// until fails the test where deliveries, sent again and again as the Hub does, are not answered before the deadline.
func (s *served) until(deadline time.Time) {
	s.t.Helper()
	if err := s.answered(deadline); err != nil {
		s.t.Errorf("no delivery was answered in time: %v", err)
	}
}

// answered returns nil once a delivery is answered, of those that are sent again and again until the deadline.
func (s *served) answered(deadline time.Time) error {
	s.t.Helper()
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var last error
	// A request can wait for ever in a lost session, and a busy machine needs longer for one: each that takes too long doubles the limit.
	limit := 500 * time.Millisecond
	for ctx.Err() == nil {
		try, end := context.WithTimeout(ctx, limit)
		req, err := http.NewRequestWithContext(try, http.MethodPost, s.URL(), strings.NewReader("delivery"))
		if err != nil {
			s.t.Fatal(err)
		}
		resp, err := s.client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				end()
				return nil
			}
			err = errors.New(resp.Status)
		}
		if try.Err() != nil {
			limit *= 2
		}
		end()
		last = err
		pause, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		<-pause.Done()
		stop()
	}
	if last == nil {
		last = ctx.Err()
	}
	return last
}

// TestDeadConnections has connections that die without a word: deliveries flow again 10 s later.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		begin func(*tunneltest.Edge)
	}{
		{"frozen", func(e *tunneltest.Edge) { e.FreezeHeartbeats(true) }},
		{"black hole", func(e *tunneltest.Edge) {
			e.BlackHole(true)
			time.AfterFunc(3*time.Second, e.Heal)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{MaxSessions: 1})
			s := serveOnLaptop(t, edge, machinetest.New(), Config{URL: "mine.example.com"})
			began := time.Now()
			test.begin(edge)
			state := s.wait(tunnel.Reconnecting)
			if noticed := time.Since(began); noticed > 9*time.Second+s.machineTime() {
				t.Errorf("noticed after %v: %v", noticed, state)
			}
			s.until(began.Add(10*time.Second + s.machineTime()))
		})
	}
}

// TestDialEnds has a try that hangs on an edge which takes the connection and says nothing: it ends with its context and says why.
func TestDialEnds(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	edge.Hang(true)
	d, _, err := New(Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv}).dialer()
	if err != nil {
		t.Fatal(err)
	}
	why := &tunnel.Error{Op: keepAct, Cause: "the network has changed"}
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	began := time.Now()
	if s, err := d.Dial(ctx, "", time.Hour); s != nil || !errors.Is(err, why) {
		t.Errorf("%v, %v", s, err)
	}
	d.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the try ended after %v", took)
	}
}

// TestSilentServer has something that takes a connection and never says a word; the SDK's own dialer would wait for ever.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "socks5"} {
		proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{})
		proxy.Hang(true)
		via := proxy.URL()
		via.Scheme = scheme
		d := newServiceDialer(settings{proxyURL: via}, noEnv)
		if d.limit != 10*time.Second {
			t.Errorf("a dial may take %v", d.limit)
		}
		d.limit = 100 * time.Millisecond
		conn, err := d.Dial("tcp", "connect.example.com:443")
		if err == nil {
			conn.Close()
		}
		var timeout net.Error
		if !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

// TestProxies connects through each kind of proxy, named in each place.
func TestProxies(t *testing.T) {
	t.Parallel()
	const password = "pass+word_of_the_proxy"
	for _, test := range []struct {
		variable string
		socks    bool
		wrong    bool
	}{
		{variable: "HTTPS_PROXY"},
		{variable: "https_proxy", socks: true},
		{variable: "ALL_PROXY", socks: true},
		{variable: "all_proxy"},
		{variable: "HTTPS_PROXY", wrong: true},
		{variable: "ALL_PROXY", socks: true, wrong: true},
	} {
		t.Run(fmt.Sprintf("%s socks %v wrong %v", test.variable, test.socks, test.wrong), func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			options := tunneltest.ProxyOptions{User: "me", Password: password, Hosts: map[string]string{"connect.example.com:443": edge.Addr()}}
			if test.wrong {
				options.Password = "another"
			}
			proxy := tunneltest.NewProxy(t, options)
			via := proxy.URL()
			if test.socks {
				via = proxy.SOCKSURL()
			}
			via.User = url.UserPassword("me", password)
			var logged lockedLog
			config := Config{
				Authtoken: tunneltest.DefaultToken, ConnectURL: "connect.example.com:443", ConnectCAs: edge.CAs(),
				Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
				Getenv: func(name string) string {
					if name == test.variable {
						return via.String()
					}
					return ""
				},
			}
			provider := Patient(config)
			if test.wrong { // it is tried to the end
				provider.terms.Open = 3 * time.Second
			}
			tun, err := provider.Open(context.Background())
			if err == nil {
				defer tun.Close()
				defer tun.Close()
			}
			if asked := proxy.Asked(); !test.wrong && (len(asked) == 0 || asked[0] != "connect.example.com:443") {
				t.Errorf("asked for %q", asked)
			}
			if !test.wrong {
				if err != nil {
					t.Errorf("%v", err)
				}
				return
			}
			var e *tunnel.Error
			if !errors.As(err, &e) || !strings.Contains(e.Cause, "through the proxy "+via.Scheme+"://") || e.Fix != "check the proxy that "+test.variable+" names" {
				t.Errorf("%#v", err)
			}
			if all := fmt.Sprintf("%v %#v %s", err, err, logged.String()); strings.Contains(all, password) || strings.Contains(all, url.QueryEscape(password)) {
				t.Errorf("the password is shown:\n%s", all)
			}
		})
	}
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestProxyOfAnotherKind(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"gopher://me:secret@proxy.example.com": `use the proxy that ALL_PROXY names: proxies of scheme "gopher" are not supported`,
		"http://me:sec%ret@proxy":              "use the proxy that ALL_PROXY names: it is not a URL",
	} {
		d := newServiceDialer(settings{}, func(name string) string {
			if name == "ALL_PROXY" {
				return value
			}
			return ""
		})
		if _, err := d.Dial("tcp", "connect.example.com:443"); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}

// TestCloseWithNobodyAccepting has connections that nobody takes, which make the SDK's own Close hang.
func TestCloseWithNobodyAccepting(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	d, options, err := Patient(Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv}).dialer()
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{}, 1)
	tun, err := tunnel.Open(context.Background(), &watchedDialer{d, arrived}, options)
	if err != nil {
		t.Fatal(err)
	}
	client := edge.Client()
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if resp, err := client.Get(tun.URL()); err == nil {
				resp.Body.Close()
			}
		})
	}
	select {
	case <-arrived:
	case <-time.After(time.Minute):
		t.Fatal("no connection has come")
	}
	began := time.Now()
	for range 2 {
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
	wg.Wait()
}

// watchedDialer tells when the first connection has arrived at one of its sessions.
type watchedDialer struct {
	tunnel.Dialer
	arrived chan struct{}
}

func (d *watchedDialer) Dial(ctx context.Context, url string, limit time.Duration) (tunnel.Session, error) {
	s, err := d.Dialer.Dial(ctx, url, limit)
	if err != nil {
		return nil, err
	}
	return &watchedSession{s, d.arrived}, nil
}

type watchedSession struct {
	tunnel.Session
	arrived chan struct{}
}

func (s *watchedSession) Accept() (net.Conn, error) {
	c, err := s.Session.Accept()
	if err == nil {
		select {
		case s.arrived <- struct{}{}:
		default:
		}
	}
	return c, err
}

// TestCloseInAStorm closes while new requests keep coming, which makes the SDK's own Close hang.
func TestCloseInAStorm(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	provider := Patient(Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv})
	tun, err := provider.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}
	over := make(chan error, 1)
	go func() { over <- server.Serve(tun) }()
	storm, calm := context.WithCancel(context.Background())
	var senders sync.WaitGroup
	public := tun.URL()
	for range 16 {
		senders.Go(func() {
			client := edge.Client()
			client.Transport.(*http.Transport).DisableKeepAlives = true // each request is a stream of its own
			for storm.Err() == nil {
				if resp, err := client.Get(public); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	waitForEdge(t, edge, func(urls []string, _ int) bool { return len(urls) == 1 })
	began := time.Now()
	limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tun.Retire(limit)
	if err := server.Shutdown(limit); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
	calm()
	senders.Wait()
	if err := <-over; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
}

// TestNoReturnAfterClose closes in the middle of a redial: the SDK's Disconnect then says "session closed", and reconnects.
func TestNoReturnAfterClose(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	tun, err := Patient(Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv}).Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	edge.RefuseUntil(func() bool { return false })
	for s := range tun.States() {
		if s.Phase == tunnel.Reconnecting {
			break
		}
	}
	for range 2 {
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
	}
	for range tun.States() {
	}
	edge.Heal()
	time.Sleep(2500 * time.Millisecond) // the SDK's waits of 0.5 and 1.5 s would end in this time
	if now, total := edge.Sessions(); now != 0 || total != 1 {
		t.Errorf("%d sessions, %d in all", now, total)
	}
}

// TestServerTimeouts shows which of a server's deadlines hold over a tunnel, and that the one that passes breaks no other request.
func TestServerTimeouts(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	tun, err := Patient(Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv}).Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	server := &http.Server{
		ReadTimeout:  time.Second,
		WriteTimeout: time.Second,
		IdleTimeout:  time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/reads":
				_, err := io.ReadAll(r.Body)
				read <- err
			case "/writes":
				piece := bytes.Repeat([]byte("x"), 64<<10)
				for {
					if _, err := w.Write(piece); err != nil {
						return
					}
				}
			}
			io.WriteString(w, "ok")
		}),
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		server.Serve(tun)
	}()
	defer func() {
		server.Close()
		tun.Close()
		<-over
	}()

	half, err := net.Dial("tcp", edge.PublicAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	fmt.Fprintf(half, "POST /reads HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\nhalf", edge.Domain())
	select {
	case err := <-read:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a body that stops: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a body that stops is waited for")
	}

	client := edge.Client()
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := client.Get(tun.URL() + "/writes")
			if err != nil {
				return
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
		})
	}
	wg.Wait()
	for range 20 {
		resp, err := client.Get(tun.URL() + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "ok" {
			t.Errorf("after answers that were cut off: %s %q %v", resp.Status, body, err)
		}
	}
	if _, total := edge.Sessions(); total != 1 {
		t.Errorf("%d sessions: a deadline broke one", total)
	}
}
