package tunneltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// ServiceHeader is in the answers of an SSH or Cloudflared stand-in that are its own, and not those of the program behind the tunnel.
const ServiceHeader = "Tunneltest-Service"

// The values of ServiceHeader.
const (
	// Offline: nobody has the host of the request.
	Offline = "offline"
	// Lost: the request was passed on, and may have arrived, but there was no answer.
	Lost = "lost"
)

// answerItself answers in the place of the program behind the tunnel. The connection ends with it: what is left of the request's body may
// still be read, to be passed on, and net/http panics where it reads the next request meanwhile.
func answerItself(w http.ResponseWriter, what string, status int, words string) {
	w.Header().Set(ServiceHeader, what)
	w.Header().Set("Connection", "close")
	http.Error(w, words, status)
}

// idleFor is how long a stand-in keeps an idle connection to a program.
const idleFor = 2 * time.Second

// board is where a stand-in says what is online, to tests that wait for it.
type board struct {
	// now returns the public URLs that are online, the number of sessions, and how many sessions there have been. It is called under mu.
	now func() (urls []string, sessions, total int)

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something changes
}

// wakeLocked wakes everyone who waits for a change.
func (b *board) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Sessions returns how many clients are connected now, and how many have connected since the start.
func (b *board) Sessions() (now, total int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, now, total = b.now()
	return now, total
}

// URLs are the public URLs that are online, sorted.
func (b *board) URLs() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	urls, _, _ := b.now()
	slices.Sort(urls)
	return urls
}

// WaitFor waits until ok returns true for the online URLs and the number of connected clients. It fails only if ctx ends first.
func (b *board) WaitFor(ctx context.Context, ok func(urls []string, sessions int) bool) error {
	for {
		b.mu.Lock()
		urls, sessions, _ := b.now()
		changed := b.changed
		b.mu.Unlock()
		slices.Sort(urls)
		if ok(urls, sessions) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the stand-in, which has %d sessions and %q online: %w", sessions, urls, ctx.Err())
		}
	}
}

// client is the session of a client that has logged in at a stand-in.
type client interface {
	comparable
	carrier() net.Conn
}

// standIn is the side of a stand-in that its clients connect to, with the faults that every service has.
type standIn[C client] struct {
	board
	holes   *holes // the clients' connections
	serving sync.WaitGroup

	// Under the board's lock.
	closed   bool
	conns    map[net.Conn]struct{} // to close with the stand-in
	sessions map[C]struct{}
	started  int // sessions that were let in so far
	faults   faults
}

// begin sets up a stand-in that has the URLs of urls online, and keeps a dead connection for stale.
func (s *standIn[C]) begin(urls func() []string, stale time.Duration) {
	s.holes = newHoles(stale)
	s.conns = make(map[net.Conn]struct{})
	s.sessions = make(map[C]struct{})
	s.changed = make(chan struct{})
	s.now = func() ([]string, int, int) { return urls(), len(s.sessions), s.started }
}

// end closes the listeners and all connections, and waits for those who serve them.
func (s *standIn[C]) end(listeners ...io.Closer) error {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = nil
	s.faults = faults{}
	s.wakeLocked()
	s.mu.Unlock()
	var failed error
	for _, l := range listeners {
		if l != nil {
			failed = errors.Join(failed, l.Close())
		}
	}
	for conn := range conns {
		conn.Close()
	}
	s.holes.close()
	s.serving.Wait()
	return failed
}

// acceptAll serves each connection of l on a goroutine that end waits for.
func (s *standIn[C]) acceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.conns[conn] = struct{}{}
		s.serving.Go(func() {
			serve(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			conn.Close()
		})
		s.mu.Unlock()
	}
}

// admit returns a client's new connection, which faults can take, or false where a fault refuses it. The caller closes it in either case.
func (s *standIn[C]) admit(conn net.Conn) (net.Conn, bool) {
	s.mu.Lock()
	refusing := s.faults.refusing
	s.mu.Unlock()
	if refusing != nil {
		if refusing() {
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetLinger(0) // closing it is a reset
			}
			return nil, false
		}
		s.set(func(f *faults) { f.refusing = nil })
	}
	if !s.waitWhile(func(f faults) bool { return f.hanging }, nil) {
		return nil, false
	}
	return s.holes.through(conn), true
}
