package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine/machinetest"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// script is a Dialer in memory, for a test in a bubble of package synctest. Its tries end as answer says.
type script struct {
	began time.Time

	mu       sync.Mutex
	answer   func(try int, url string) (*scene, error) // try counts from 0
	tries    []time.Duration                           // when they began, from the beginning of the test on
	urls     []string                                  // that were asked for
	sessions []*scene
	hang     bool // a try lasts until its limit
}

func newScript(answer func(try int, url string) (*scene, error)) *script {
	return &script{began: time.Now(), answer: answer}
}

// always is an answer: each try comes online at url.
func always(url string) func(int, string) (*scene, error) {
	return func(int, string) (*scene, error) { return newScene(url), nil }
}

func (s *script) Dial(ctx context.Context, url string, limit time.Duration) (Session, error) {
	s.mu.Lock()
	try, hang, answer := len(s.tries), s.hang, s.answer
	s.tries = append(s.tries, time.Since(s.began))
	s.urls = append(s.urls, url)
	s.mu.Unlock()
	if hang {
		if !sleep(ctx, limit) {
			return nil, context.Cause(ctx)
		}
		return nil, errors.New("no answer")
	}
	session, err := answer(try, url)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.sessions = append(s.sessions, session)
	s.mu.Unlock()
	return session, nil
}

func (s *script) Wait() {}

func (s *script) setAnswer(answer func(try int, url string) (*scene, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *script) setHang(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = on
}

// since returns when the tries from try on began.
func (s *script) since(try int) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries[min(try, len(s.tries)):]
}

// newest is the session that was dialed last.
func (s *script) newest() *scene {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[len(s.sessions)-1]
}

// scene is a Session of a script.
type scene struct {
	conns  chan net.Conn
	over   chan struct{}
	events chan error
	local  []netip.Addr
	// hangs has Retire and Close wait for the test to end it.
	hangs chan struct{}

	mu      sync.Mutex
	url     string
	sure    bool
	resumes bool // by itself
	resumed int
	retired bool
	cut     bool
	why     error
}

func newScene(url string) *scene {
	return &scene{conns: make(chan net.Conn), over: make(chan struct{}), url: url, sure: true}
}

// comingBack is a scene that comes back by itself.
func comingBack(url string, sure bool) *scene {
	s := newScene(url)
	s.events, s.resumes, s.sure = make(chan error), true, sure
	return s
}

func (s *scene) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.over:
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, s.why
	}
}

// end ends the session with an error of Accept.
func (s *scene) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
		close(s.over)
	}
}

func (s *scene) moveTo(url string, sure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url, s.sure = url, sure
}

func (s *scene) URL() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url, s.sure
}

func (s *scene) Events() <-chan error { return s.events }

func (s *scene) Resume() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resumes {
		s.resumed++
	}
	return s.resumes
}

func (s *scene) Local() []netip.Addr { return s.local }

func (s *scene) Retire() {
	s.mu.Lock()
	s.retired = true
	s.mu.Unlock()
	if s.hangs != nil {
		<-s.hangs
	}
}

func (s *scene) Cut() {
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.end(net.ErrClosed)
}

func (s *scene) Close() {
	if s.hangs != nil {
		<-s.hangs
	}
	s.end(net.ErrClosed)
}

// is reads one of the fields that mu guards.
func (s *scene) is(field *bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *field
}

func (s *scene) closed() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// play opens a tunnel with the script and closes it at the end of the test.
func play(t *testing.T, s *script, o Options) *life {
	t.Helper()
	tun, err := Open(t.Context(), s, o.onLaptop(machinetest.New()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tun.Close()
		tun.Close()
		for range tun.States() {
		}
	})
	return tun.(*life)
}

// onLaptop returns o with the laptop for its machine.
func (o Options) onLaptop(l *machinetest.Laptop) Options {
	if o.Name == "" {
		o.Name = "script"
	}
	limits := terms.Default()
	limits.Machine = l.Machine()
	limits.Machine.Interval = time.Second
	o.Terms = &limits
	return o
}

// next returns the next state and fails the test where it has another phase.
func (t *life) next(test *testing.T, phase Phase) State {
	test.Helper()
	s, ok := <-t.States()
	if !ok || s.Phase != phase {
		test.Fatalf("state %v, %v; want %v", s, ok, phase)
	}
	return s
}
