package queue

import (
	"errors"
	"net/http"
	"time"
)

// Arrival is a delivery to be stored.
type Arrival struct {
	Endpoint  string // name of a served endpoint
	WebhookID string // the Webhook-Id header; without one a delivery is never a duplicate
	// SameFor is how long after its arrival a finished delivery with the same WebhookID makes this one a duplicate, if that is longer than
	// the endpoint's DedupeWindow.
	SameFor time.Duration
	Header  http.Header // as received, with every secret already replaced
	Body    []byte      // byte for byte as received; not changed, and kept until the delivery has been handled

	// What the payload says of itself, for lists and filters. Any may be empty.
	Scope, Action, RepoType, RepoName string

	// Dead is the reason why the delivery can't be handled, "" if it can. With a reason it is stored as dead and never runs.
	Dead string
	// Stack is that of the panic which is the reason in Dead, if it is one.
	Stack string

	ReplayOf  string // ID of the delivery that this one repeats; a replay is never a duplicate
	Synthetic bool   // not sent by the Hub: Delivery.Source says what made it

	// Deliveries of one endpoint with the same SerialKey run one at a time, whatever process runs them. A delivery without a
	// SerialKey runs beside any other.
	SerialKey string
	// Burst delays the delivery so that later ones can take its place, nil for no delay.
	Burst *Burst

	// Mark is stored in the same commit as the delivery, for a duplicate too. If it is out of date, Accept returns ErrMarkMoved and
	// stores nothing. nil for no mark.
	Mark *Mark

	// Value is given to the handler if the delivery runs without having been read back from disk. It saves parsing the body again.
	Value any
	// Sender stands for the caller that waits for the end of the first attempt. The [Change] for that end has it, in this process, however
	// long the delivery waits. It should be small: it stays in memory for each delivery that waits.
	Sender any
}

// Burst says how a delivery is delayed. Of several that come in quick succession only the last one runs. The others are merged
// into it.
type Burst struct {
	Key     string        // deliveries of one endpoint with the same Key belong together
	Wait    time.Duration // the last one runs when no other has come for this long
	MaxWait time.Duration // and at the latest this long after the first one was received; 0 for no limit
}

// Claim is the attempt that a handler is to make.
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
	Skip   string // not "": why the endpoint's condition declined the delivery; that uses no attempt
	Final  bool   // with Error: no further attempt can help
	// PutBack, not nil, says that no attempt was made, whatever the other fields say: the delivery waits again, with the attempts and
	// interruptions that it had. So that it keeps its place, nothing of its endpoint starts in this process until After has passed.
	PutBack *PutBack
}

// PutBack says how long a delivery waits that was not attempted.
type PutBack struct {
	After time.Duration // 0: until Resume of its endpoint; a Resume while the handler ran counts
}

// Report is what is known of a delivery when its first attempt has ended, or when it has ended without an attempt.
type Report struct {
	State  State
	Reason string // as in Delivery
	Result []byte // JSON of a done delivery; nil counts as {}
}

// Change is one event of a delivery's life, for those who watch.
type Change struct {
	Delivery Delivery
	New      bool     // the delivery was just stored
	Attempt  *Attempt // the attempt that just started or ended, nil for other changes
	// Duplicate: the delivery has one more duplicate, and nothing else of it changed.
	Duplicate bool
	Value     any // Arrival.Value, where the delivery has not been read back from disk
	Sender    any // Arrival.Sender, with the end of the first attempt
}

// The errors of a queue. Test with errors.Is.
var (
	// ErrFinished: the delivery is finished, so it can't be discarded.
	ErrFinished = errors.New("the delivery is already finished")
	// ErrCursor: Filter.Before is nothing that List returned.
	ErrCursor = errors.New("not a cursor that a list returned")
	// ErrFull: Config.MaxWaiting deliveries wait already.
	ErrFull = errors.New("the queue is full")
	// ErrNotServed: no endpoint of that name is served.
	ErrNotServed = errors.New("it is not served")
	// ErrStopping: Drain or Close was called.
	ErrStopping = errors.New("the queue is shutting down")
)
