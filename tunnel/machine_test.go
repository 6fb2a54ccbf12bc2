package tunnel

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// laptop is a machine that sleeps and changes its network when a test says so.
type laptop struct {
	mu     sync.Mutex
	asleep time.Duration // so far
	stood  time.Duration // so far, with both clocks going on
	addrs  map[netip.Addr]bool
	lost   error
}

func newLaptop(addrs ...string) *laptop {
	l := new(laptop)
	l.moveTo(addrs...)
	return l
}

func (l *laptop) moveTo(addrs ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs = make(map[netip.Addr]bool)
	for _, a := range addrs {
		l.addrs[netip.MustParseAddr(a)] = true
	}
}

func (l *laptop) sleep(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asleep += d
}

func (l *laptop) stop(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stood += d
}

// machine's clocks stand still but for what the test does, so that a slow test machine changes nothing.
func (l *laptop) machine() machine {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return machine{
		interval: 5 * time.Millisecond,
		clocks: func() (time.Time, time.Duration) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return began.Add(l.asleep + l.stood), l.stood
		},
		addresses: func() (map[netip.Addr]bool, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.addrs, l.lost
		},
	}
}

// served is a tunnel that answers "here", on a machine of the test's.
type served struct {
	*ngrokTunnel
	t      *testing.T
	edge   *tunneltest.Edge
	client *http.Client
	// A request for /slow is noted in arrived and answered after finish.
	arrived, finish chan struct{}
}

func serveOnLaptop(t *testing.T, edge *tunneltest.Edge, l *laptop, config NgrokConfig, tune ...func(*timing)) *served {
	t.Helper()
	config.Authtoken, config.ConnectCAs, config.ConnectURL = tunneltest.DefaultToken, edge.CAs(), cmp.Or(config.ConnectURL, edge.Addr())
	if config.Getenv == nil {
		config.Getenv = noEnv
	}
	provider := NewNgrok(config)
	provider.machine = l.machine()
	for _, change := range tune {
		change(&provider.timing)
	}
	tun, err := provider.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s := &served{tun.(*ngrokTunnel), t, edge, edge.Client(), make(chan struct{}, 1), make(chan struct{})}
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
	s.wait(Online)
	return s
}

// wait returns the next state of the phase and fails the test where none comes.
func (s *served) wait(phase Phase) State {
	s.t.Helper()
	timeout := time.After(15 * time.Second)
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

func (s *served) flows() {
	s.t.Helper()
	resp, err := s.client.Get(s.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "here" {
		s.t.Fatalf("%s %q %v", resp.Status, body, err)
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
		nap  func(*laptop)
		want string // in words; empty: nothing happens
	}{
		{"asleep for 3 h", func(l *laptop) { l.sleep(3*time.Hour + 10*time.Second) }, "the machine slept for 3 h"},
		{"asleep for 40 s", func(l *laptop) { l.sleep(40 * time.Second) }, "the machine slept for 40 s"},
		{"stopped", func(l *laptop) { l.stop(time.Minute + time.Second) }, "this program stood still for 1 min 1 s"},
		{"a clock that is set by little", func(l *laptop) { l.sleep(9 * time.Second) }, ""},
		{"a clock that is set back", func(l *laptop) { l.sleep(-time.Hour) }, ""},
		{"a slow moment", func(l *laptop) { l.stop(9 * time.Second) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{MaxSessions: 1})
			l := newLaptop("127.0.0.1")
			s := serveOnLaptop(t, edge, l, NgrokConfig{URL: "mine.example.com"})
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
			state := s.wait(Reconnecting)
			var e *Error
			if !errors.As(state.Err, &e) || e.Cause != test.want || e.Op != keepNgrok || !e.Temporary || e.Hint() == "" {
				t.Errorf("state: %v", state)
			}
			if state := s.wait(Online); state.URL != "https://mine.example.com" {
				t.Errorf("state: %v", state)
			}
			s.flows()
			if late := time.Since(woke); late > 2*time.Second {
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
			l := newLaptop(test.from...)
			s := serveOnLaptop(t, edge, l, NgrokConfig{URL: "mine.example.com"})
			l.moveTo(test.to...)
			if test.renews {
				if state := s.wait(Reconnecting); !strings.HasSuffix(state.String(), "the network has changed") {
					t.Errorf("state: %v", state)
				}
				s.wait(Online)
			}
			s.quiet()
			s.flows()
			if _, total := edge.Sessions(); (total > 1) != test.renews {
				t.Errorf("%d sessions", total)
			}
		})
	}
}

// TestNetworkReturns shows that a long outage ends at once when there is a network again, not with the next try.
func TestNetworkReturns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		wakes func(*laptop)
	}{
		{"addresses", func(l *laptop) { l.moveTo("127.0.0.1", "192.0.2.7") }},
		{"sleep", func(l *laptop) { l.sleep(time.Hour) }},
	} {
		for _, hangs := range []bool{false, true} {
			name := test.name + " while waiting for the next try"
			if hangs {
				name = test.name + " while a try hangs"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := newLaptop("127.0.0.1")
				tun := &ngrokTunnel{renewals: newLatest[renewal](4), client: ngrokClient{settings: ngrokSettings{connectURL: "127.0.0.1:1"}}}
				tun.trying, tun.stopTrying = context.WithCancel(context.Background())
				defer tun.stopTrying()
				watched := make(chan struct{})
				go func() {
					defer close(watched)
					tun.watch(l.machine())
				}()
				if hangs {
					// A try that hangs on the old network ends.
					edge := tunneltest.NewEdge(t, tunneltest.Options{})
					edge.Hang(true)
					tun.client = ngrokClient{settings: ngrokSettings{credential: credential{token: "t"}, connectURL: edge.Addr(), connectCAs: edge.CAs()}, getenv: noEnv, logger: newSDKLogger(nil, redactor{})}
					time.AfterFunc(50*time.Millisecond, func() { test.wakes(l) })
					if _, err := tun.client.connect(tun.trying, time.Hour, tun.renewals.c, &tun.background); !errors.Is(err, errChanged) {
						t.Errorf("the try: %v", err)
					}
				} else {
					time.AfterFunc(50*time.Millisecond, func() { test.wakes(l) })
					if woken, ok := tun.pause(time.Hour); !woken || !ok {
						t.Errorf("the wait: woken %v, another try %v", woken, ok)
					}
				}
				tun.stopTrying()
				<-watched
				tun.background.Wait()
				if _, ok := tun.pause(time.Hour); ok {
					t.Error("another try after the end")
				}
			})
		}
	}
}

// TestHangingTry has the laptop leave a network that swallows everything while a try of the tunnel hangs in it.
func TestHangingTry(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{Hosts: map[string]string{"connect.example.com:443": edge.Addr()}})
	l := newLaptop("192.0.2.7")
	s := serveOnLaptop(t, edge, l, NgrokConfig{
		ConnectURL: "connect.example.com:443",
		Getenv: func(name string) string {
			if name == "HTTPS_PROXY" {
				return proxy.URL().String()
			}
			return ""
		},
	}, func(limits *timing) { limits.sdk, limits.try = 50*time.Millisecond, time.Hour })
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
	s.wait(Reconnecting)
	// One try of the SDK and one of the tunnel come without a move: the third one cannot.
	for _, addr := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"} {
		before := len(proxy.Asked())
		l.moveTo(addr)
		tries(before + 1)
	}
	edge.BlackHole(false)
	l.moveTo("198.51.100.4")
	s.wait(Online)
	s.flows()
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	l := newLaptop("192.0.2.7")
	w := newWatcher(l.machine())
	if c := w.look(); c.cause != "" {
		t.Errorf("nothing happened: %+v", c)
	}
	l.lost = errors.New("no permission")
	l.moveTo("192.0.2.8")
	if c := w.look(); c.cause != "" || c.gone != nil {
		t.Errorf("addresses that cannot be read: %+v", c)
	}
	l.lost = nil
	l.sleep(time.Hour)
	if c := w.look(); c.cause != "the machine slept for 1 h" || !c.slept || !c.gone[netip.MustParseAddr("192.0.2.7")] {
		t.Errorf("asleep, and elsewhere afterwards: %+v", c)
	}
	if c := w.look(); c.cause != "" {
		t.Errorf("said twice: %+v", c)
	}
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	addrs, err := interfaceAddresses()
	if err != nil || !addrs[netip.MustParseAddr("127.0.0.1")] {
		t.Errorf("%v %v", addrs, err)
	}
	m := thisMachine()
	wall, running := m.clocks()
	if later, ran := m.clocks(); later.Before(wall) || ran < running || strings.Contains(later.String(), "m=") {
		t.Errorf("%v %v, then %v %v", wall, running, later, ran)
	}
}

func TestInWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		11400 * time.Millisecond:                   "11 s",
		time.Minute:                                "1 min",
		90 * time.Second:                           "1 min 30 s",
		3*time.Hour + 20*time.Second:               "3 h",
		26*time.Hour + 5*time.Minute + time.Second: "26 h 5 min",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestRenew replaces a session that looks well: what is in flight is answered on the old one, what comes then on the new one.
func TestRenew(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	s := serveOnLaptop(t, edge, newLaptop(), NgrokConfig{})
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
	var renewing interface{ Renew(cause error) } = s.ngrokTunnel
	renewing.Renew(errors.New("something else answers there"))
	state := s.wait(Reconnecting)
	var e *Error
	if !errors.As(state.Err, &e) || !strings.Contains(e.Cause, "opened anew: something else answers there") || e.Hint() == "" {
		t.Errorf("state: %v", state)
	}
	if state := s.wait(URLChanged); state.URL != "https://another.example.com" || s.URL() != state.URL {
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
	s := serveOnLaptop(t, edge, newLaptop(), NgrokConfig{})
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		if resp, err := s.client.Get(s.URL() + "/slow"); err == nil {
			resp.Body.Close()
		}
	}()
	<-s.arrived
	edge.Hang(true)
	s.Renew(errors.New("something else answers there"))
	waitForEdge(t, edge, func(_ []string, sessions int) bool { return sessions == 0 })
	edge.Hang(false)
	s.wait(Online)
	s.flows()
	<-slow
	close(s.finish)
}

// TestSince shows since when a phase lasts, whatever becomes of its reason.
func TestSince(t *testing.T) {
	t.Parallel()
	tun := &ngrokTunnel{states: newLatest[State](16)}
	began := time.Now().Round(0)
	say := func(phase Phase, cause string) State {
		var why *Error
		if cause != "" {
			why = &Error{Cause: cause}
		}
		tun.publish(phase, why)
		return <-tun.States()
	}
	online := say(Online, "")
	if online.Since.Before(began) || strings.Contains(online.Since.String(), "m=") {
		t.Errorf("online since %v", online.Since)
	}
	first, second := say(Reconnecting, "one reason"), say(Reconnecting, "another reason")
	if first.Since.Before(online.Since) || first.Since.IsZero() || !second.Since.Equal(first.Since) {
		t.Errorf("online %v, away %v and %v", online.Since, first.Since, second.Since)
	}
	if back := say(Online, ""); back.Since.Before(first.Since) {
		t.Errorf("away %v, back %v", first.Since, back.Since)
	}
}
