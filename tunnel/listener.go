package tunnel

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/latest"
)

// listener is what a user has in hand of a tunnel: connections, the URL, states, and the ways to end it.
type listener struct {
	name       string        // the provider's
	closeLimit time.Duration // of the second Close

	conns  chan net.Conn
	states *latest.Chan[State]
	open   openConns

	trying     context.Context // ends when no new session is wanted
	stopTrying context.CancelFunc

	closeOnce  sync.Once
	closed     chan struct{} // the first Close: Accept fails
	downOnce   sync.Once
	down       chan struct{} // take the session down
	retireOnce sync.Once
	retire     chan struct{} // take no new request
	retired    chan struct{} // closed when that has been done
	done       chan struct{} // closed when all is over

	mu   sync.Mutex
	url  string
	last State
	err  error // why the tunnel stopped by itself
}

func newListener(name string, closeLimit time.Duration) *listener {
	t := &listener{
		name:       name,
		closeLimit: closeLimit,
		conns:      make(chan net.Conn),
		states:     latest.New[State](16),
		closed:     make(chan struct{}),
		down:       make(chan struct{}),
		retire:     make(chan struct{}),
		retired:    make(chan struct{}),
		done:       make(chan struct{}),
	}
	t.trying, t.stopTrying = context.WithCancel(context.Background())
	return t
}

// Accept returns the next connection. Its RemoteAddr is that of the client at the public side.
func (t *listener) Accept() (net.Conn, error) {
	select {
	case <-t.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	case <-t.done:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err != nil {
			return nil, t.err
		}
		return nil, net.ErrClosed
	}
}

// Close stops Accept; see [Tunnel].
func (t *listener) Close() error {
	first := false
	t.closeOnce.Do(func() {
		first = true
		close(t.closed)
		t.stopTrying()
		t.downWhenDrained()
	})
	if first {
		return nil
	}
	t.takeDown()
	timer := time.NewTimer(t.closeLimit)
	defer timer.Stop()
	select {
	case <-t.done:
		return nil
	case <-timer.C:
		return &Error{
			Op:    "close the " + t.name + " tunnel",
			Cause: "the session did not end within " + t.closeLimit.String(),
			Fix:   "end the process; the service then drops the session by itself",
		}
	}
}

func (t *listener) takeDown() { t.downOnce.Do(func() { close(t.down) }) }

// downWhenDrained takes the session down if the tunnel is closed and nothing is in flight. Close and the last connection to
// close both call it, whichever comes later.
func (t *listener) downWhenDrained() {
	select {
	case <-t.closed:
		if t.open.none() {
			t.takeDown()
		}
	default:
	}
}

// Retire takes the public URL off the service; see [Tunnel].
func (t *listener) Retire(ctx context.Context) {
	t.retireOnce.Do(func() {
		close(t.retire)
		t.stopTrying()
	})
	select {
	case <-t.retired:
	case <-t.done:
	case <-ctx.Done():
	}
}

func (t *listener) retiring() bool {
	select {
	case <-t.retire:
		return true
	case <-t.closed:
		return true
	default:
		return false
	}
}

// finishRetire lets Retire return. Only run calls it.
func (t *listener) finishRetire() {
	select {
	case <-t.retired:
	default:
		close(t.retired)
	}
}

// Addr is the public URL's host, in a [net.Addr].
func (t *listener) Addr() net.Addr { return publicAddr(t.URL()) }

// stop says the tunnel's last word: why it stopped by itself, or nil after Close or Retire.
func (t *listener) stop(why *Error) {
	if why == nil {
		t.publish(Stopped, nil)
		return
	}
	t.mu.Lock()
	t.err = why
	t.mu.Unlock()
	t.publish(Stopped, why)
}

// online notes and tells that the tunnel is online at url.
func (t *listener) online(url string) {
	t.mu.Lock()
	phase := Online
	if t.url != "" && t.url != url {
		phase = URLChanged
	}
	t.url = url
	t.mu.Unlock()
	t.publish(phase, nil)
}

// URL is the current public URL.
func (t *listener) URL() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.url
}

// States tells what becomes of the tunnel; see [Tunnel].
func (t *listener) States() <-chan State { return t.states.C }

// publish tells a state, unless it says the same as the one before.
func (t *listener) publish(phase Phase, why *Error) {
	t.mu.Lock()
	s := State{Phase: phase, URL: t.url, Since: t.last.Since}
	if s.Phase != t.last.Phase || s.URL != t.last.URL || s.Since.IsZero() {
		s.Since = time.Now().Round(0)
	}
	if why != nil {
		s.Err = why
	}
	same := s.Phase == t.last.Phase && s.URL == t.last.URL && s.Err != nil && t.last.Err != nil && s.Err.Error() == t.last.Err.Error()
	t.last = s
	t.mu.Unlock()
	if !same {
		t.states.Send(s)
	}
}

// handOver gives conn to Accept, or closes it where nobody wants it any more.
func (t *listener) handOver(c net.Conn, l *link) {
	counted := &conn{Conn: c, tunnel: t, link: l}
	t.open.add()
	l.open.add()
	select {
	case t.conns <- counted:
	case <-t.closed:
		counted.Close()
	case <-l.dropped:
		counted.Close()
	}
}

// conn is a connection from the public side that is counted as open until it is closed.
type conn struct {
	net.Conn
	tunnel *listener
	link   *link

	closeOnce sync.Once
	closeErr  error
}

func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		c.closeErr = c.Conn.Close()
		c.link.open.done()
		c.tunnel.open.done()
		c.tunnel.downWhenDrained()
	})
	return c.closeErr
}

// publicAddr is a public URL as a net.Addr.
type publicAddr string

func (a publicAddr) Network() string { return "tcp" }

func (a publicAddr) String() string {
	_, host, found := strings.Cut(string(a), "://")
	if !found {
		return string(a)
	}
	return host
}

// openConns counts connections that have been handed out and not closed.
type openConns struct {
	mu      sync.Mutex
	n       int
	waiting chan struct{} // closed at the next zero; nil as long as nobody waits
}

func (o *openConns) add() {
	o.mu.Lock()
	o.n++
	o.mu.Unlock()
}

func (o *openConns) done() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n--
	if o.n == 0 && o.waiting != nil {
		close(o.waiting)
		o.waiting = nil
	}
}

// none reports whether none is open.
func (o *openConns) none() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n == 0
}

// drained is closed as soon as none is open.
func (o *openConns) drained() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if o.waiting == nil {
		o.waiting = make(chan struct{})
	}
	return o.waiting
}
