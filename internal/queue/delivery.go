package queue

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// State says where a delivery stands.
type State string

// The states of a delivery. The last five are finished: nothing moves a delivery out of them.
const (
	Waiting   State = "waiting"   // stored, not started yet
	Running   State = "running"   // its handler runs
	Retrying  State = "retrying"  // an attempt failed, the next one is due later
	Done      State = "done"      // handled
	Dead      State = "dead"      // attempts used up, or unreadable
	Skipped   State = "skipped"   // the endpoint's condition said no
	Merged    State = "merged"    // into a later delivery of its burst
	Discarded State = "discarded" // by hand
)

// States returns all states, in the order of a delivery's life.
func States() []State {
	return []State{Waiting, Running, Retrying, Done, Dead, Skipped, Merged, Discarded}
}

// Finished reports whether a delivery in state s will never run again.
func (s State) Finished() bool {
	switch s {
	case Done, Dead, Skipped, Merged, Discarded:
		return true
	}
	return false
}

// Arrival is a delivery that asks to be stored.
type Arrival struct {
	Endpoint  string      // name of a served endpoint
	WebhookID string      // the Webhook-Id header; without one a delivery is never a duplicate
	Header    http.Header // as received, with every secret already replaced
	Body      []byte      // byte for byte as received; not changed, and kept until the delivery has been handled

	// What the payload says of itself, for lists and filters. Any may be empty.
	Scope, Action, RepoType, RepoName string

	// Dead is the reason why the delivery can't be handled, "" if it can. One with a reason is stored as dead and never run.
	Dead string
	// Stack goes with Dead where a panic is the reason.
	Stack string

	ReplayOf  string // ID of the delivery that this one repeats; a replay is never a duplicate
	Synthetic bool   // a sample event, not the Hub's

	// SerialKey keeps deliveries of one endpoint apart that have the same one: they run one at a time, whatever process
	// runs them. Without one a delivery runs beside any other.
	SerialKey string
	// Burst holds the delivery back for others of its kind, nil for none.
	Burst *Burst

	// Value is handed to the handler as it is when the delivery runs without having been read back from disk. It saves a second parsing.
	Value any
	// Sender stands for who waits for the end of the first attempt, and is told with it, in this process, however long that takes. It should
	// be small: it is held in memory for each delivery that waits.
	Sender any
}

// Burst says how a delivery is held back, so that of several that come in quick succession only the last one runs; the
// others are merged into it.
type Burst struct {
	Key     string        // deliveries of one endpoint with the same Key belong together
	Wait    time.Duration // without a further delivery, the last one runs after it
	MaxWait time.Duration // it runs at the latest this long after the first one was received; 0: Wait says all
}

// Delivery is what lists show of one stored delivery.
type Delivery struct {
	ID         string
	Endpoint   string
	State      State
	Reason     string // why it is dead, skipped or discarded, or how the last attempt failed
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

// Record is one delivery with all that is kept of it.
type Record struct {
	Delivery
	Header      http.Header
	Body        []byte
	Merged      []string  // IDs of the deliveries that were merged into this one, oldest first
	AttemptList []Attempt // oldest first; the last one has no end while it runs
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

// Claim is one attempt that a handler is asked to make.
type Claim struct {
	Delivery
	Attempt int // from 1
	Header  http.Header
	Body    []byte
	Merged  []string // IDs of the deliveries that were merged into this one
	Value   any      // Arrival.Value; nil when the delivery was read back from disk
}

// Outcome says how an attempt ended. The zero Outcome is a success without a result.
type Outcome struct {
	Result []byte // JSON; nil counts as {}
	Error  string // not "": the attempt failed
	Stack  string // of a panic
	Output []byte // what the handler printed, bounded by the caller
	Skip   string // not "": the endpoint's condition said no, and why; such a run uses no attempt
	Final  bool   // with Error: no further attempt can help
}

// Report is what is known of a delivery when its first attempt has ended, or when it came to an end without one.
type Report struct {
	State  State
	Reason string // as in Delivery
	Result []byte // JSON of a done delivery; nil counts as {}
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

// Change is one event of a delivery's life, for those who watch.
type Change struct {
	Delivery Delivery
	New      bool     // the delivery was just stored
	Attempt  *Attempt // the attempt that just started or ended, nil for other changes
	// Duplicate: the delivery has one more duplicate, and is what it was otherwise.
	Duplicate bool
	Value     any // Arrival.Value, where the delivery has not been read back from disk
	Sender    any // Arrival.Sender, with the end of the first attempt
}

// The errors of a queue. Test with errors.Is.
var (
	// ErrNotFound: no delivery has this ID, or no longer.
	ErrNotFound = errors.New("no such delivery")
	// ErrFinished: the delivery is finished, so it can't be discarded.
	ErrFinished = errors.New("the delivery is already finished")
	// ErrCursor: Filter.Before is nothing that List returned.
	ErrCursor = errors.New("not a cursor that a list returned")
	// ErrFull: Config.MaxWaiting deliveries wait already.
	ErrFull = errors.New("the queue is full")
	// ErrDiskFull: the queue can't be opened for want of room. It can be once there is some.
	ErrDiskFull = errors.New("the disk is full")
	// ErrStopping: Drain or Close was called.
	ErrStopping = errors.New("the queue is shutting down")
)

// LockedError says that another process holds the data directory.
type LockedError struct {
	Dir string
	PID int // 0 if it could not be read
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by process %d", e.Dir, e.PID)
}
