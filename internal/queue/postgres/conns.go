package postgres

import (
	"context"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// openConns are the network connections to a database, including those that pgx opens to cancel a query. If the server stalls, pgx waits up
// to 15 s for each of them to close in order. cut closes them all at once.
type openConns struct {
	mu   sync.Mutex
	open map[*openConn]struct{}
	dead bool // cut was called
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

// over returns a dial function whose connections are added to s.
func (s *openConns) over(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.dead {
			_ = conn.Close() // nothing was sent on it
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

// cut closes all connections at once. Those that are dialled later fail.
func (s *openConns) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	for c := range s.open {
		_ = c.Conn.Close() // the user of the connection gets the error
	}
	clear(s.open)
}
