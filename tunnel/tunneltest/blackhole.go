package tunneltest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// staleAfter is how long the edge keeps the session of an agent that it no longer hears.
const staleAfter = 10 * time.Second

// BlackHole drops all bytes between the edge and its agents, both ways, while the connections stay up, as when a NAT has forgotten them
// or the machine has left the network. New connections come up, and their bytes vanish too. After it is turned off, new connections work
// again, and the old ones stay dead. The edge keeps a dead connection's endpoints until its agent comes back, or for 10 s after the agent
// has closed the connection. Meanwhile another agent gets ERR_NGROK_334 or 108.
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
