package postgres

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// clock knows how far the server's clock is ahead of this machine's.
type clock struct {
	now   func() time.Time
	ahead atomic.Int64 // nanoseconds
}

// measure finds out how far the server's clock is ahead.
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

// note compares the clocks by an answer that came within the given time. What is known stays as long as the answer does
// not contradict it: the slower it came the less it tells, and two processes whose clocks wander put deliveries in the wrong order.
func (c *clock) note(sent time.Time, took time.Duration, there int64) {
	ahead := time.Duration(there - sent.Add(took/2).UnixNano())
	if (ahead - c.skew()).Abs() > took/2 {
		c.ahead.Store(int64(ahead))
	}
}

func (c *clock) skew() time.Duration { return time.Duration(c.ahead.Load()) }
