package ssh

import (
	"io"
	"net"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// linger is how long a closed connection may take to deliver what was written to it.
const linger = 5 * time.Second

// conn is a connection from the public side: an SSH channel with deadlines, which channels do not have. A pipe for each direction has them.
type conn struct {
	in  net.Conn // what the channel has brought
	out net.Conn // what the channel is to take

	local, remote net.Addr
	hard          *time.Timer // closes the channel whatever is left to send
	once          sync.Once
}

// newConn begins to copy on goroutines that end with the channel, and calls closed after that.
func newConn(ch xssh.Channel, local, remote net.Addr, closed func()) *conn {
	in, fromChannel := net.Pipe()
	out, toChannel := net.Pipe()
	c := &conn{in: in, out: out, local: local, remote: remote}
	c.hard = time.AfterFunc(time.Hour, func() { ch.Close() })
	c.hard.Stop()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(fromChannel, ch)
		fromChannel.Close() // tells the reader
	})
	both.Go(func() {
		// It ends with Close, or with the channel. Neither leaves anybody to tell of an error.
		io.Copy(ch, toChannel)
		toChannel.Close()
		ch.CloseWrite()
		ch.Close()
	})
	go func() {
		both.Wait()
		c.hard.Stop()
		closed()
	}()
	return c
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.Write(b) }

// Close lets what has been written reach the channel, within some seconds, and does not wait for it.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.hard.Reset(linger)
		c.in.Close()
		c.out.Close()
	})
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.in.SetReadDeadline(t); err != nil {
		return err
	}
	return c.out.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
