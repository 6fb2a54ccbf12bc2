package ngrok

import (
	"net"
	"os"
	"sync/atomic"
	"time"
)

// conn is a connection from the public side, without two faults of the SDK's.
type conn struct {
	net.Conn
	writeUntil atomic.Int64 // Unix nanoseconds, 0 for no deadline
}

// Write fails where the write deadline has passed when it begins.
func (c *conn) Write(b []byte) (int, error) {
	if until := c.writeUntil.Load(); until != 0 && time.Now().UnixNano() > until {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Write(b)
}

// SetWriteDeadline bounds the beginning of a Write, not one that is under way: where a deadline passes during a write, muxado
// (v2.0.2, stream.go) reuses a frame that its session is still sending, which breaks every connection of the session.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.writeUntil.Store(0)
	} else {
		c.writeUntil.Store(t.UnixNano())
	}
	return nil
}

// SetDeadline sets both deadlines; see SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetWriteDeadline(t) // always nil
	return c.SetReadDeadline(t)
}

// RemoteAddr is the address of the client at the public side, 0.0.0.0 where the service did not say.
func (c *conn) RemoteAddr() net.Addr {
	addr, ok := c.Conn.RemoteAddr().(*net.TCPAddr)
	if !ok || addr == nil || addr.IP == nil {
		return &net.TCPAddr{IP: net.IPv4zero}
	}
	return addr
}
