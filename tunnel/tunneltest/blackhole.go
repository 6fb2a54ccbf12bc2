package tunneltest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// staleAfter is how long a stand-in keeps the session of a client that it no longer hears.
const staleAfter = 10 * time.Second

// holes are a server's connections, each of which a black hole can take.
type holes struct {
	stale time.Duration // for which a lost connection is kept after its client has closed it

	mu    sync.Mutex
	on    bool
	conns map[*holeConn]struct{}
}

func newHoles(stale time.Duration) *holes {
	return &holes{stale: stale, conns: make(map[*holeConn]struct{})}
}

func (h *holes) set(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on = on
	if !on {
		return
	}
	for conn := range h.conns {
		conn.lost.Store(true)
	}
}

// through wraps a client's connection so that a black hole can take it.
func (h *holes) through(conn net.Conn) net.Conn {
	hole := &holeConn{Conn: conn, holes: h, closed: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[hole] = struct{}{}
	if h.on {
		hole.lost.Store(true)
	}
	return hole
}

func (h *holes) close() {
	h.mu.Lock()
	conns := make([]*holeConn, 0, len(h.conns))
	for conn := range h.conns {
		conns = append(conns, conn)
	}
	h.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

// holeConn is a connection whose bytes can vanish.
type holeConn struct {
	net.Conn
	holes  *holes
	lost   atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (c *holeConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.lost.Load() {
		return n, err
	}
	if err == nil {
		_, err = io.Copy(io.Discard, c.Conn)
	}
	// The client's goodbye has vanished like everything else.
	timer := time.NewTimer(c.holes.stale)
	defer timer.Stop()
	select {
	case <-c.closed:
	case <-timer.C:
	}
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

func (c *holeConn) Write(b []byte) (int, error) {
	if c.lost.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *holeConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.holes.mu.Lock()
		delete(c.holes.conns, c)
		c.holes.mu.Unlock()
	})
	return c.Conn.Close()
}
