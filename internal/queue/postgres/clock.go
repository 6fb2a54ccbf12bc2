package postgres

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// clock is how far the server's clock is ahead of this machine's.
type clock struct {
	now   func() time.Time
	ahead atomic.Int64 // nanoseconds
}

// measure asks the server three times, and goes by the quickest answer.
func (c *clock) measure(ctx context.Context, conn *pgx.Conn) error {
	best := time.Duration(-1)
	for range 3 {
		var there int64
		sent := c.now()
		began := time.Now()
		if err := conn.QueryRow(ctx, query("now")).Scan(&there); err != nil {
			return err
		}
		if took := time.Since(began); best < 0 || took < best {
			best = took
			c.ahead.Store(there - sent.Add(took/2).UnixNano())
		}
	}
	return nil
}

// note compares the clocks by an answer that took the given time. The slower an answer is, the less exact it is. So the known difference
// stays unless the answer contradicts it. If it changed with each answer, two processes could put deliveries in the wrong order.
func (c *clock) note(sent time.Time, took time.Duration, there int64) {
	ahead := time.Duration(there - sent.Add(took/2).UnixNano())
	if (ahead - c.skew()).Abs() > took/2 {
		c.ahead.Store(int64(ahead))
	}
}

func (c *clock) skew() time.Duration { return time.Duration(c.ahead.Load()) }
