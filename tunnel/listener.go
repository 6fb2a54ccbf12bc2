package tunnel

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"
)

// Accept returns the next connection. Its RemoteAddr is that of the client at the public side.
func (t *life) Accept() (net.Conn, error) {
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
func (t *life) Close() error {
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
	timer := time.NewTimer(t.terms.Close)
	defer timer.Stop()
	select {
	case <-t.done:
		return nil
	case <-timer.C:
		return &Error{
			Op:    "close the " + t.options.Name + " tunnel",
			Cause: "the session did not end within " + t.terms.Close.String(),
			Fix:   "end the process; the service then drops the session by itself",
		}
	}
}

func (t *life) takeDown() { t.downOnce.Do(func() { close(t.down) }) }

// downWhenDrained takes the session down if the tunnel is closed and nothing is in flight. Close and the last connection to
// close both call it, whichever comes later.
func (t *life) downWhenDrained() {
	select {
	case <-t.closed:
		if t.open.none() {
			t.takeDown()
		}
	default:
	}
}

// Retire takes the public URL off the service; see [Tunnel].
func (t *life) Retire(ctx context.Context) {
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

func (t *life) retiring() bool {
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
func (t *life) finishRetire() {
	select {
	case <-t.retired:
	default:
		close(t.retired)
	}
}

// Addr is the public URL's host, in a [net.Addr].
func (t *life) Addr() net.Addr { return publicAddr(t.URL()) }

// handOver gives conn to Accept, or closes it where nobody wants it any more.
func (t *life) handOver(c net.Conn, l *link) {
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
	tunnel *life
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
