package queue

import (
	"sync"
	"time"
)

// slewing is how much of the time that passes a clock that is ahead uses to fall back: an hour takes ten.
const slewing = 10

// steadyClock is a clock that never goes back, whatever is set on the machine: what is due would come due only when the
// machine's clock has been there again. Set forward, it follows at once. Set back, it goes on from where it was, a little
// slower until the machine's clock is there too.
type steadyClock struct {
	machine func() time.Time

	mu    sync.Mutex
	last  time.Time
	ahead time.Duration // of the machine's clock
}

func (c *steadyClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.machine().Round(0) // without what Go knows of the time that really passed, which stored times lack
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
