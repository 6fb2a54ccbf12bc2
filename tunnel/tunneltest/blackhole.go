package tunneltest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// staleAfter is when the edge gives a session up whose agent it cannot hear any more.
const staleAfter = 10 * time.Second

// BlackHole makes all bytes between the edge and its agents vanish, both ways, while the connections stay up: a NAT that has
// forgotten them, a network that was left. New connections come up and vanish, too. Turned off, new connections work again; those that
// were in the hole stay dead, and the edge holds their endpoints until their agent comes back (a stranger gets ERR_NGROK_334 or 108) or
// 10 s after the agent has closed the connection.
func (e *Edge) BlackHole(on bool) {
	e.set(func(f *faults) { f.blackHole = on })
	if !on {
		return
	}
	e.holes.Range(func(hole, _ any) bool {
		hole.(*holeConn).lost.Store(true)
		return true
	})
}

// throughHole wraps an agent's connection so that a black hole can take it.
func (e *Edge) throughHole(conn net.Conn) net.Conn {
	hole := &holeConn{Conn: conn, edge: e, closed: make(chan struct{})}
	e.holes.Store(hole, nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults.blackHole {
		hole.lost.Store(true)
	}
	return hole
}

// holeConn is a connection whose bytes can vanish.
type holeConn struct {
	net.Conn
	edge   *Edge
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
	// The agent's goodbye has vanished like everything else.
	timer := time.NewTimer(staleAfter)
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
		c.edge.holes.Delete(c)
	})
	return c.Conn.Close()
}
