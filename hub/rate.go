package hub

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A limit is what an answer's RateLimit header says: `"api";r=0;t=55`, r requests left for the next t seconds.
type limit struct {
	known bool
	left  int
	reset time.Duration
}

var rateLimit = regexp.MustCompile(`"\w+"\s*;\s*r\s*=\s*(\d{1,9})\s*;\s*t\s*=\s*(\d{1,9})`)

func readLimit(header http.Header) limit {
	found := rateLimit.FindStringSubmatch(header.Get("RateLimit"))
	if found == nil {
		return limit{}
	}
	left, _ := strconv.Atoi(found[1])
	reset, _ := strconv.Atoi(found[2])
	return limit{known: true, left: left, reset: time.Duration(reset) * time.Second}
}

// rounding is added to a wait of whole seconds, which may have been rounded down.
const rounding = time.Second

// retryAfter returns how long an answer asks to wait, 0 where it does not say. The header RateLimit comes with every answer. It is the
// reason of a refusal only where no request is left.
func retryAfter(status int, header http.Header, l limit, now time.Time) time.Duration {
	if status == http.StatusTooManyRequests && l.known && l.left == 0 {
		return l.reset + rounding
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds)*time.Second + rounding
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0) + rounding
	}
	return 0
}

// quota knows until when the Hub's rate limit is used up, so that no call is sent in vain.
type quota struct {
	mu    sync.Mutex
	until time.Time
}

// note takes up what an answer says.
func (q *quota) note(now time.Time, l limit) {
	if !l.known {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.until = time.Time{}
	if l.left == 0 {
		q.until = now.Add(l.reset + rounding)
	}
}

// left returns how long no call should be sent.
func (q *quota) left(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.until.Sub(now), 0)
}
