package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/hubhook/hubhook/tunnel/internal/latest"
)

// The messages of RFC 4254, section 7.
type (
	forwardRequest struct {
		Host string
		Port uint32
	}
	forwardReply struct {
		Port uint32
	}
	forwardedChannel struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
)

// session is one SSH connection with one forward.
type session struct {
	wire   *wire
	client xssh.Conn
	chans  <-chan xssh.NewChannel
	reqs   <-chan *xssh.Request
	pace   pace
	words  lastWords

	asked   forwardRequest
	events  *latest.Chan[error]
	running sync.WaitGroup
	reading sync.WaitGroup // what reads the words
	done    chan struct{}  // closed by Close and Cut
	ending  sync.Once

	mu      sync.Mutex
	url     string
	lost    error // why the session itself gave the connection up
	retired bool
	open    map[*conn]struct{}
}

func newSession(w *wire, client xssh.Conn, chans <-chan xssh.NewChannel, reqs <-chan *xssh.Request, p pace) *session {
	s := &session{wire: w, client: client, chans: chans, reqs: reqs, pace: p, events: latest.New[error](1), done: make(chan struct{}), open: make(map[*conn]struct{})}
	s.running.Go(func() { xssh.DiscardRequests(reqs) })
	return s
}

// Accept returns the next connection; see [tunnel.Session].
func (s *session) Accept() (net.Conn, error) {
	for incoming := range s.chans {
		if incoming.ChannelType() != "forwarded-tcpip" {
			incoming.Reject(xssh.UnknownChannelType, "hubhook takes forwarded connections alone")
			continue
		}
		s.mu.Lock()
		retired := s.retired
		s.mu.Unlock()
		if retired {
			incoming.Reject(xssh.ConnectionFailed, "hubhook is about to stop")
			continue
		}
		ch, reqs, err := incoming.Accept()
		if err != nil {
			continue // the connection is lost: there will be no more channels
		}
		return s.take(ch, reqs, incoming.ExtraData()), nil
	}
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if lost != nil {
		return nil, lost
	}
	err := s.client.Wait()
	s.reading.Wait() // the connection can end before its last words are read
	if last := s.words.String(); last != "" {
		err = fmt.Errorf("%w; it had said: %s", err, last)
	}
	return nil, err
}

// take makes a connection of a channel.
func (s *session) take(ch xssh.Channel, reqs <-chan *xssh.Request, extra []byte) net.Conn {
	s.running.Go(func() { xssh.DiscardRequests(reqs) })
	remote := &net.TCPAddr{IP: net.IPv4zero}
	var from forwardedChannel
	if xssh.Unmarshal(extra, &from) == nil {
		// sish has a name in the place of the address.
		if addr, err := netip.ParseAddr(from.OriginHost); err == nil && from.OriginPort <= 0xffff {
			remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(from.OriginPort)))
		}
	}
	s.running.Add(1)
	var c *conn
	registered := make(chan struct{})
	c = newConn(ch, s.wire.LocalAddr(), remote, func() {
		<-registered
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		s.running.Done()
	})
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	close(registered)
	return c
}

// URL is the public URL. Services that move a session to another one say so.
func (s *session) URL() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url, true
}

// setURL notes the URL. moved says that the tunnel has to be told.
func (s *session) setURL(url string, moved bool) {
	s.mu.Lock()
	s.url = url
	s.mu.Unlock()
	if moved {
		s.events.Send(nil)
	}
}

// Events tells when the service has moved the session to another URL. A lost connection ends the session.
func (s *session) Events() <-chan error { return s.events.C }

// Resume reports false: SSH connections do not come back.
func (s *session) Resume() bool { return false }

// Local is the address at this end of the connection.
func (s *session) Local() []netip.Addr {
	if local, ok := s.wire.LocalAddr().(*net.TCPAddr); ok {
		return []netip.Addr{local.AddrPort().Addr().Unmap()}
	}
	return nil
}

// Retire takes the forward back.
func (s *session) Retire() {
	s.mu.Lock()
	s.retired = true
	s.mu.Unlock()
	// A server that does not know the request keeps the URL until the connection ends, and the connection ends next.
	_, _, _ = s.client.SendRequest("cancel-tcpip-forward", true, xssh.Marshal(&s.asked))
}

// Cut closes the connection to the server.
func (s *session) Cut() {
	s.ending.Do(func() { close(s.done) })
	s.wire.Close()
}

// Close ends the session, and waits for what belongs to it for a moment.
func (s *session) Close() {
	s.Cut()
	s.mu.Lock()
	open := s.open
	s.open = make(map[*conn]struct{})
	s.mu.Unlock()
	for c := range open {
		c.Close()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running.Wait()
		s.reading.Wait()
	}()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// giveUp ends the connection, for a reason of this side's.
func (s *session) giveUp(why error) {
	s.mu.Lock()
	if s.lost == nil {
		s.lost = why
	}
	s.mu.Unlock()
	s.wire.Close()
}

// keepAlive asks the server for a sign of life until the session ends. x/crypto/ssh waits for an answer for ever and has no deadline for it,
// so each request has a timer here.
func (s *session) keepAlive() {
	for {
		select {
		case <-s.done:
			return
		case <-time.After(s.pace.keepalive):
		}
		answer := make(chan error, 1)
		s.running.Go(func() {
			_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil) // a refusal is an answer too
			answer <- err
		})
		late := time.NewTimer(s.pace.silence)
		select {
		case err := <-answer:
			late.Stop()
			if err != nil {
				return // Accept tells why
			}
		case <-late.C:
			s.giveUp(fmt.Errorf("it has not answered for %v", s.pace.silence))
			return
		case <-s.done:
			late.Stop()
			return
		}
	}
}

// run opens a session in the sense of SSH, in which services talk, and calls line for each line that is said there.
func (s *session) run(command string, line func(string)) error {
	ch, reqs, err := s.client.OpenChannel("session", nil)
	if err != nil {
		return err
	}
	s.running.Go(func() { xssh.DiscardRequests(reqs) })
	s.reading.Go(func() { readLines(ch, line) })
	s.reading.Go(func() { readLines(ch.Stderr(), line) })
	// Without a wish for an answer: sish never answers an exec.
	if command == "" {
		_, err = ch.SendRequest("shell", false, nil)
	} else {
		_, err = ch.SendRequest("exec", false, xssh.Marshal(&struct{ Command string }{command}))
	}
	return err
}

// request asks for the forward. The answer comes once the server has it, and for sish that is after run.
func (s *session) request(ask forwardRequest) <-chan forwardAnswer {
	s.asked = ask
	answer := make(chan forwardAnswer, 1)
	written := s.wire.nextWrite()
	s.running.Go(func() {
		ok, payload, err := s.client.SendRequest("tcpip-forward", true, xssh.Marshal(&ask))
		a := forwardAnswer{refused: !ok, err: err}
		if ok && ask.Port == 0 {
			var reply forwardReply
			if xssh.Unmarshal(payload, &reply) == nil {
				a.port = reply.Port
			}
		}
		answer <- a
	})
	// Send the request before anything else, as OpenSSH does: services are tested with OpenSSH.
	select {
	case <-written:
	case <-time.After(time.Second):
	}
	return answer
}

type forwardAnswer struct {
	port    uint32 // where the server was to choose one
	refused bool
	err     error
}

// wire is the network connection. It knows when something was written.
type wire struct {
	net.Conn
	mu   sync.Mutex
	next chan struct{} // closed by the next Write; nil as long as nobody waits
}

func (w *wire) nextWrite() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == nil {
		w.next = make(chan struct{})
	}
	return w.next
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next != nil {
		close(w.next)
		w.next = nil
	}
	return n, err
}

// causeOf is why ctx ended, or err where it has not.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return err
}
