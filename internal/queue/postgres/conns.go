package postgres

import (
	"context"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// openConns are the network connections to a database, those included that pgx makes to have a query cancelled. Where a server stands still,
// pgx waits up to 15 s for each of them to end in order; this is how to end them all.
type openConns struct {
	mu   sync.Mutex
	open map[*openConn]struct{}
	dead bool // by cut
}

type openConn struct {
	net.Conn
	all *openConns
}

func (c *openConn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// over returns a dial whose connections are among those that cut ends.
func (s *openConns) over(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.dead {
			_ = conn.Close() // nothing was said on it
			return nil, store.ErrClosed
		}
		c := &openConn{Conn: conn, all: s}
		if s.open == nil {
			s.open = map[*openConn]struct{}{}
		}
		s.open[c] = struct{}{}
		return c, nil
	}
}

// cut ends all connections, whatever happens on them, and those that are made after it.
func (s *openConns) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	for c := range s.open {
		_ = c.Conn.Close() // whoever uses it is told
	}
	clear(s.open)
}
