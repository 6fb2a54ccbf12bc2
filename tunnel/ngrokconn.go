package tunnel

import (
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

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

// tunnelConn is a connection from the public side.
type tunnelConn struct {
	net.Conn
	tunnel *ngrokTunnel
	link   *link

	writeUntil atomic.Int64 // Unix nanoseconds, 0 for no deadline
	closeOnce  sync.Once
	closeErr   error
}

// Write fails where the write deadline has passed when it begins.
func (c *tunnelConn) Write(b []byte) (int, error) {
	if until := c.writeUntil.Load(); until != 0 && time.Now().UnixNano() > until {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Write(b)
}

// SetWriteDeadline bounds the beginning of a Write, not one that is under way: where a deadline passes during a write, muxado
// (v2.0.2, stream.go) reuses a frame that its session is still sending, which breaks every connection of the session.
func (c *tunnelConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.writeUntil.Store(0)
	} else {
		c.writeUntil.Store(t.UnixNano())
	}
	return nil
}

// SetDeadline sets both deadlines; see SetWriteDeadline.
func (c *tunnelConn) SetDeadline(t time.Time) error {
	_ = c.SetWriteDeadline(t) // always nil
	return c.SetReadDeadline(t)
}

// RemoteAddr is the address of the client at the public side, 0.0.0.0 where the service did not say.
func (c *tunnelConn) RemoteAddr() net.Addr {
	addr, ok := c.Conn.RemoteAddr().(*net.TCPAddr)
	if !ok || addr == nil || addr.IP == nil {
		return &net.TCPAddr{IP: net.IPv4zero}
	}
	return addr
}

func (c *tunnelConn) Close() error {
	c.closeOnce.Do(func() {
		c.closeErr = c.Conn.Close()
		c.link.open.done()
		c.tunnel.open.done()
		c.tunnel.downWhenDrained()
	})
	return c.closeErr
}
