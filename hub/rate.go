package hub

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RateLimit is what the Hub has said of its rate limit, which counts the requests of a token's user, or of an address without a token.
type RateLimit struct {
	// Left is how many requests are left in the window.
	Left int
	// Quota is how many requests a window has. 0: the Hub did not say.
	Quota int
	// Reset is how long the window lasts from the Hub's answer on.
	Reset time.Duration
	// Window is how long a whole window lasts. 0: the Hub did not say.
	Window time.Duration
}

// RateLimit returns what the Hub's last answer said of the rate limit. ok is false where no answer has said anything yet.
func (c *Client) RateLimit() (limit RateLimit, ok bool) {
	c.quota.mu.Lock()
	defer c.quota.mu.Unlock()
	l := c.quota.last
	return l.RateLimit, l.known
}

// Pause returns how long no call is sent because the Hub's rate limit is used up, 0 where calls are sent.
func (c *Client) Pause() time.Duration { return c.quota.left(time.Now()) }

// limit is what an answer's headers say: RateLimit `"api";r=0;t=55`, r requests left for the next t seconds, and RateLimit-Policy
// `"fixed window";"api";q=500;w=300`, q requests in w seconds.
type limit struct {
	RateLimit
	known bool
}

var (
	rateLimit  = regexp.MustCompile(`"\w+"\s*;\s*r\s*=\s*(\d{1,9})\s*;\s*t\s*=\s*(\d{1,9})`)
	ratePolicy = regexp.MustCompile(`;\s*q\s*=\s*(\d{1,9})(?:\s*;\s*w\s*=\s*(\d{1,9}))?`)
)

func readLimit(header http.Header) limit {
	found := rateLimit.FindStringSubmatch(header.Get("RateLimit"))
	if found == nil {
		return limit{}
	}
	l := limit{known: true}
	l.Left, _ = strconv.Atoi(found[1])
	l.Reset = seconds(found[2])
	if policy := ratePolicy.FindStringSubmatch(header.Get("RateLimit-Policy")); policy != nil {
		l.Quota, _ = strconv.Atoi(policy[1])
		l.Window = seconds(policy[2])
	}
	return l
}

// seconds reads digits, "" as 0.
func seconds(digits string) time.Duration {
	n, _ := strconv.Atoi(digits)
	return time.Duration(n) * time.Second
}

// rounding is added to a wait of whole seconds, which may have been rounded down.
const rounding = time.Second

// retryAfter returns how long an answer asks to wait, 0 where it does not say. The header RateLimit comes with every answer, so it counts only
// with 429 and no request left.
func retryAfter(status int, header http.Header, l limit, now time.Time) time.Duration {
	if status == http.StatusTooManyRequests && l.known && l.Left == 0 {
		return l.Reset + rounding
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n)*time.Second + rounding
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0) + rounding
	}
	return 0
}

// quota knows until when the Hub's rate limit is used up, so that no call is sent that the Hub would refuse.
type quota struct {
	mu    sync.Mutex
	until time.Time
	last  limit
}

// note takes up what an answer says.
func (q *quota) note(now time.Time, l limit) {
	if !l.known {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.until, q.last = time.Time{}, l
	if l.Left == 0 {
		q.until = now.Add(l.Reset + rounding)
	}
}

// left returns how long no call should be sent.
func (q *quota) left(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.until.Sub(now), 0)
}
