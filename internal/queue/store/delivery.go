package store

import (
	"net/http"
	"time"
)

// Delivery is what lists show of one stored delivery.
type Delivery struct {
	ID         string
	Endpoint   string
	State      State
	Reason     string // why it is dead, skipped or discarded, or the error of the last attempt that failed
	WebhookID  string
	ReplayOf   string
	MergedInto string
	Synthetic  bool
	Received   time.Time

	Scope, Action, RepoType, RepoName string

	Attempts   int           // started so far, interrupted ones included
	Duplicates int           // arrivals that were answered as duplicates of this one
	Replays    int           // deliveries that repeat this one
	Duration   time.Duration // of the last attempt that ended; 0 before that
	RunAt      time.Time     // when a retrying delivery is due; zero otherwise
}

// Record is one delivery with all that is stored of it.
type Record struct {
	Delivery
	Header      http.Header
	Body        []byte
	Merged      []string  // IDs of the deliveries that were merged into this one, oldest first
	AttemptList []Attempt // oldest first; the last one has no end while it runs
}

// AddUnwritten adds the attempt that has no row of its own because the delivery's row says all of it: the attempt that runs, or
// one that succeeded without output or result. It began at the given time.
func (r *Record) AddUnwritten(started time.Time) {
	if n := len(r.AttemptList); r.Attempts == 0 || n > 0 && r.AttemptList[n-1].N >= r.Attempts {
		return
	}
	switch r.State {
	case Running:
		r.AttemptList = append(r.AttemptList, Attempt{N: r.Attempts, Started: started})
	case Done:
		r.AttemptList = append(r.AttemptList, Attempt{N: r.Attempts, Started: started, Ended: true, Duration: r.Duration})
	}
}

// Attempt is one run of a handler.
type Attempt struct {
	N        int // from 1
	Started  time.Time
	Ended    bool // false while it runs
	Duration time.Duration
	Error    string // "" for one that succeeded
	Stack    string // of a panic
	Output   []byte // what the handler printed, bounded
	Result   []byte // JSON that the handler returned, nil for none
}

// Filter picks deliveries. Empty fields pick all.
type Filter struct {
	Endpoint   string
	State      State
	Scope      string // itself and all narrower ones: "repo" picks "repo.content" too
	Action     string
	Repo       string    // a name, "me/data", or with its type, "dataset:me/data"
	Query      string    // part of an ID, a Webhook-Id, a repo name or a reason, in any case of letters
	Since      time.Time // received at or after
	Unreplayed bool      // only those that no other delivery repeats
	Before     string    // a cursor from List: only what comes after it in the list
	Limit      int       // default 50, at most 1000
}

// Counts are the numbers of stored deliveries by endpoint and state.
type Counts map[string]map[State]int64
