package queue

import (
	"sync"
	"time"
)

// slewing makes a clock that is ahead a tenth slower: to fall back by an hour takes ten hours.
const slewing = 10

// steadyClock is a clock that never goes back. If it did, what is due in a minute would be due only when the machine's clock has
// been set back and has reached that minute again. When the machine's clock is set forward, steadyClock follows at once. When it
// is set back, steadyClock goes on from where it was, a little slower, until the machine's clock has caught up. So times shown
// are right again after a while, without a restart.
type steadyClock struct {
	machine func() time.Time

	mu    sync.Mutex
	last  time.Time
	ahead time.Duration // of the machine's clock
}

func (c *steadyClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.machine().Round(0) // without the monotonic reading, which stored times lack
	switch elapsed := now.Add(c.ahead).Sub(c.last); {
	case !now.Before(c.last):
		c.ahead = 0
	case elapsed < 0:
		c.ahead = c.last.Sub(now)
	default:
		c.ahead -= elapsed / slewing
	}
	c.last = now.Add(c.ahead)
	return c.last
}
