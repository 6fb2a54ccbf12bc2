package queue

import (
	"context"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
)

// engine keeps deliveries. What every engine must do the same way (states, attempts, retries, interruptions, slots, who
// waits for what) is the Queue's; an engine makes changes durable, finds duplicates and answers queries.
//
// commit, sweep and close are called by one goroutine at a time; the others may be called at any time.
type engine interface {
	// commit keeps all changes of b or none, those made first first: settle, discards, starts, arrivals. When it returns
	// nil, what arrived is on disk and survives a power cut; the rest survives at least the death of the process.
	// It fills in what is said to be a result in the changes.
	commit(b *batch) error
	// outage reports whether err, of commit, says that nothing can be stored now, whatever it is (a full disk, a lost
	// connection), rather than that something of the batch can't.
	outage(err error) bool
	// forget makes sure, before anything else is stored, that arrivals of a failed commit don't come back by themselves.
	forget(ids []ulid.ULID)

	// backlog returns the unfinished deliveries of an endpoint, none of which is running.
	backlog(ctx context.Context, endpoint string) ([]due, error)
	// unfinished returns up to limit unfinished deliveries of all endpoints, oldest first, and how many there are.
	unfinished(ctx context.Context, limit int) ([]Delivery, int, error)
	// discardAll makes all unfinished deliveries discarded ones and says how many they were.
	discardAll(reason string) (int, error)

	// load returns what is needed to run a delivery that is no longer held in memory.
	load(ctx context.Context, id ulid.ULID) (*stored, error)
	list(ctx context.Context, f Filter) (ds []Delivery, next string, err error)
	get(ctx context.Context, id ulid.ULID) (*Record, error)
	counts(ctx context.Context) (Counts, error)
	// lastKey is the greatest key that an id ever had.
	lastKey() int64

	// sweep removes some of what r says need not be kept and reports whether there may be more.
	sweep(r retention) (more bool, err error)

	close() error
}

// batch is what one commit takes along.
type batch struct {
	ends     []*ending
	discards []*discarding
	starts   []*start
	arrivals []*arrival
}

func (b *batch) empty() bool {
	return len(b.ends)+len(b.discards)+len(b.starts)+len(b.arrivals) == 0
}

// arrival is a delivery to be stored.
type arrival struct {
	d        stored
	replayOf ulid.ULID // zero for none
	stack    string    // of a panic that made it dead
	dedupe   bool      // look for an earlier one with its Webhook-Id
	since    time.Time // one that is finished counts if it was received at or after this time; zero: it never does
	header   []byte    // packed
	body     []byte    // packed
	encoding int64     // of body

	first *Delivery // result: of which this one is a duplicate, and so was not stored; counted there already
}

// start is a waiting or retrying delivery whose next attempt begins.
type start struct {
	id       ulid.ULID
	endpoint string
	from     State // Waiting or Retrying
	at       time.Time
}

// ending is an attempt that ended.
type ending struct {
	id       ulid.ULID
	endpoint string
	from, to State // to may be the same as from: a delivery discarded while it ran stays so
	reason   string
	failures int       // so far
	attempts int       // so far; those that used none are not counted
	runAt    time.Time // for Waiting and Retrying: when it is due
	attempt  Attempt   // N 0: nothing of it is kept
}

// discarding is a delivery to be discarded. It is left as it is if it is finished by then.
type discarding struct {
	id     ulid.ULID
	reason string

	from State     // result: its state before; "" if there is no such delivery
	d    *Delivery // result: the delivery after it; nil where from is ""
}

// stored is a delivery with what only the queue needs to know of it.
type stored struct {
	Delivery
	id            ulid.ULID
	failures      int       // attempts that failed; interrupted and handed back ones are none
	interruptions int       // attempts that ended with the process
	started       time.Time // of the last attempt
	header        http.Header
	body          []byte
}

// due is an unfinished delivery that waits for its next attempt.
type due struct {
	at            int64 // Unix nanoseconds; 0 for one that was interrupted
	id            ulid.ULID
	attempts      int32
	failures      int32
	interruptions int32
	retrying      bool
}

// retention says which finished deliveries may go.
type retention struct {
	before time.Time // received before it
	count  int       // finished, but not dead, beyond this many
	rows   int       // looked at or removed by one sweep
}
