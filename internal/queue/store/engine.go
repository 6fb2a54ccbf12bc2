// Package store is the contract between the queue and the engines that store its deliveries: what an engine does, and the types
// that both know. It also has what every engine needs: ids, the packing of content, the numbers of states, and errors with
// advice.
package store

import (
	"context"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
)

// Engine stores deliveries. It makes changes durable, finds duplicates and answers queries. What is the same with every engine
// (states, attempts, retries, handlers, who waits for what) is done by the queue.
//
// Commit, Sweep and Close are called by one goroutine at a time; the others may be called at any time. Where deliveries are
// shared, Sweep may be called beside Commit, and Commit by as many goroutines as there are Writers.
type Engine interface {
	// Commit stores all changes of b or none, in this order: ends, discards, starts, arrivals. When it returns nil, the
	// arrivals and marks are on disk and survive a power cut. The rest survives at least the death of the process. It fills in
	// those fields of the changes that are called results. The error is an ErrMarkMoved if a mark of b is out of date.
	Commit(b *Batch) error
	// Outage reports whether an error of Commit says that nothing at all can be stored now (a full disk, a lost connection),
	// rather than that something of the batch can't be.
	Outage(err error) bool
	// Forget makes sure, before anything else is stored, that these arrivals of a failed commit are not stored after all. The
	// marks of a failed commit are either stored with their arrivals or not at all.
	Forget(ids []ulid.ULID)

	// Marks returns the stored marks whose keys begin with prefix, by key. Their Version is the stored one.
	Marks(ctx context.Context, prefix string) ([]Mark, error)

	// Unfinished returns up to limit unfinished deliveries of all endpoints, oldest first, and how many there are.
	Unfinished(ctx context.Context, limit int) ([]Delivery, int, error)
	// DiscardAll discards all unfinished deliveries and returns how many there were.
	DiscardAll(reason string) (int, error)

	// Load returns what is needed to run a delivery that is no longer held in memory. The error is ErrNotFound if there is none.
	Load(ctx context.Context, id ulid.ULID) (*Stored, error)
	// List returns up to f.Limit deliveries, newest first, and the cursor for those that come after them, "" for none.
	List(ctx context.Context, f Filter) (ds []Delivery, next string, err error)
	// Get returns all that is kept of a delivery. The error is ErrNotFound if there is none.
	Get(ctx context.Context, id ulid.ULID) (*Record, error)
	// Counts returns how many deliveries are stored. Counts of zero may be left out.
	Counts(ctx context.Context) (Counts, error)
	// TimeSeries calls add with all deliveries of an endpoint, "" for any, that were received within a span of time. Deliveries
	// that are alike may come in one call or in several.
	TimeSeries(ctx context.Context, in TimeSpan, endpoint string, add func(Alike)) error
	// Last returns the greatest id that was ever stored, the zero one for none.
	Last() ulid.ULID

	// Sweep removes some of the deliveries that r names and reports whether there may be more. It gives up when ctx ends.
	Sweep(ctx context.Context, r Retention) (more bool, err error)

	// Close ends the engine's work and closes its files or connections.
	Close() error
}

// Owning is what an engine also does if one process alone has the deliveries.
type Owning interface {
	// Backlog returns the unfinished deliveries of an endpoint, none of which is running.
	Backlog(ctx context.Context, endpoint string) ([]Due, error)
	// Preload begins to read the deliveries received since then, which an arrival may be a duplicate of.
	Preload(since time.Time)
}

// Sharing is what an engine also does if several processes handle deliveries of the same store.
//
// A running delivery is a claim there: it has a token, new for each attempt, and a lease, which ends unless the claim is
// renewed. Changes that come with a token that is no longer the delivery's are refused, each by itself.
//
// The engine keeps track of serial keys. A delivery with a key is stored as waiting. Claim starts it when no other delivery with
// its key runs. The key is free again when the claim ends, in whatever way.
type Sharing interface {
	// Writers is how many commits may be under way at once.
	Writers() int
	// Skew is how far the store's clock is ahead of this machine's.
	Skew() time.Duration
	// Claim starts deliveries that are due, oldest due first for each endpoint, and returns them with their content,
	// running and with a token. It leaves out what other processes are about to start. Before that, it ends the claims whose
	// lease has ended: these deliveries were interrupted, and are due at once, or dead.
	Claim(ctx context.Context, wants []Want) (claimed []*Stored, left Remaining, err error)
	// Renew extends the leases of claims that run here, and returns the claims that are lost.
	Renew(ctx context.Context, claims []Lease) (gone []LostLease, err error)
	// Tell lets other processes know what has changed here, and whether deliveries are due that no handler here is free for.
	// It does not block.
	Tell(changed []ulid.ULID, due bool)
	// Follow calls changed with what other processes told, until ctx ends. A call with no ids and due false says that there
	// may be changes. If processes can't tell each other anything, Follow looks for changes itself.
	Follow(ctx context.Context, changed func(ids []ulid.ULID, due bool))
	// Deliveries returns the deliveries with these ids, as far as they are stored.
	Deliveries(ctx context.Context, ids []ulid.ULID) ([]Delivery, error)
	// Lead makes this process the leader of a task for the given time, or keeps it so, and reports whether it is. One process
	// leads a task at a time: the one whose token was given last, until its time has passed. When the leader changes, all marks
	// whose keys begin with the task's name and a slash get a new version. So a late commit of the leader before is refused.
	Lead(ctx context.Context, task string, token int64, lease time.Duration) (bool, error)
	// Resign lets another process lead a task at once, if the one with this token leads it.
	Resign(ctx context.Context, task string, token int64) error
}

// Mark is what someone who makes deliveries has seen so far, stored in step with them: a delivery and the mark after it are in
// one commit, so a crash neither skips a delivery nor makes it twice.
type Mark struct {
	Key   string
	Value []byte
	// Version is the stored version that this value replaces, 0 if there is none. Each commit of the mark adds 1 to it. A commit
	// is refused if the stored version is another one, because someone else has changed the mark meanwhile.
	Version int64
}

// Want asks for deliveries of an endpoint.
type Want struct {
	Endpoint string
	N        int
	Suspects bool // true: only deliveries that were interrupted AloneAfter times or more; false: only others
}

// Remaining says what Claim left behind.
type Remaining struct {
	Due      map[string]bool // endpoints for which more is due than was asked for
	Suspects map[string]bool // endpoints for which suspects are due
	Waiting  int             // deliveries of all endpoints in state waiting
	Next     time.Time       // when the next one is due, of those endpoints; zero for none

	Oldest map[string]time.Time // endpoints with waiting deliveries, and when the oldest of those was received
}

// Lease is a claim that runs here.
type Lease struct {
	ID    ulid.ULID
	Token int64
}

// LostLease is a claim that this process no longer has, though the delivery runs here.
type LostLease struct {
	ID        ulid.ULID
	Discarded bool // true: the delivery was discarded; false: another process has taken it over
	Reason    string
}

// Batch is the changes of one commit.
type Batch struct {
	Ends     []*End
	Discards []*Discard
	Starts   []*Start
	Arrivals []*Arrival
	Alone    []*Mark // marks without an arrival
}

// Marks returns the marks of a batch, those of its arrivals included.
func (b *Batch) Marks() []*Mark {
	marks := b.Alone
	for _, a := range b.Arrivals {
		if a.Mark != nil {
			marks = append(marks[:len(marks):len(marks)], a.Mark)
		}
	}
	return marks
}

// Empty reports whether there is nothing to commit.
func (b *Batch) Empty() bool {
	return len(b.Ends)+len(b.Discards)+len(b.Starts)+len(b.Arrivals)+len(b.Alone) == 0
}

// Arrival is a delivery to be stored.
type Arrival struct {
	Stored   Stored    // the delivery, without its content
	ReplayOf ulid.ULID // zero for none
	Stack    string    // of a panic that made it dead
	Dedupe   bool      // look for an earlier one with its Webhook-Id
	Since    time.Time // a finished one counts only if it was received at or after this time; zero: never
	Header   []byte    // packed
	Body     []byte    // packed
	Encoding int64     // of body
	Burst    *Burst    // nil: nothing delays it
	Mark     *Mark     // stored in the same commit, for a duplicate too; nil for none

	First  *Delivery // result: the delivery of which this is a duplicate, already counted there; this one was not stored
	Behind bool      // result, where deliveries are shared: another delivery with its serial key comes first
	Merged *Stored   // result: the last delivery of the same burst, now merged into this one
	RunAt  time.Time // result, with burst: when it is due
}

// Burst says how an arrival is delayed, so that a later one of its kind can take its place.
type Burst struct {
	Key     int64         // stands for the key that arrivals of one endpoint share
	Wait    time.Duration // it is due this long after it was received
	MaxWait time.Duration // but at the latest this long after the first one of the burst was; 0 for no limit
}

// Start is a waiting or retrying delivery whose next attempt begins.
type Start struct {
	ID       ulid.ULID
	Endpoint string
	From     State // Waiting or Retrying
	At       time.Time
	Burst    bool // others may have been merged into it

	Lost bool // result: it must not run any more, and was left as it is
}

// End is an attempt that ended.
type End struct {
	ID       ulid.ULID
	Endpoint string
	From, To State // the same for a delivery that was discarded while it ran
	Reason   string
	Failures int       // so far
	Attempts int       // so far
	RunAt    time.Time // for Waiting and Retrying: when it is due
	Attempt  Attempt   // N 0: it is not stored
	Token    int64     // of the claim, where deliveries are shared

	Lost bool // result: the claim is lost, and nothing of this was stored
}

// Discard is a delivery to be discarded, unless it is finished.
type Discard struct {
	ID     ulid.ULID
	Reason string

	Before State   // result: its state before; "" if there is no such delivery
	After  *Stored // result: the delivery after it, without its content; nil where Before is ""
}

// Stored is a delivery with what only the queue and the engines need to know of it.
type Stored struct {
	Delivery
	ULID          ulid.ULID
	Failures      int       // attempts that failed; not those that were interrupted or handed back
	Interruptions int       // attempts that ended with the process
	Started       time.Time // of the last attempt
	Serial        int64     // Hash of its serial key; 0 for none
	Burst         int64     // identifies its burst; 0 for none
	Token         int64     // of its claim, where deliveries are shared
	Merged        []string  // IDs of the deliveries merged into it; only after Load and Claim
	Header        http.Header
	Body          []byte
}

// Due is an unfinished delivery that waits for its next attempt.
type Due struct {
	At            int64 // Unix nanoseconds; 0 for one that was interrupted
	ID            ulid.ULID
	Attempts      int32
	Failures      int32
	Interruptions int32
	Retrying      bool
	Serial, Burst int64 // as in Stored
}

// Retention says which finished deliveries may be removed.
type Retention struct {
	Before time.Time // received before it
	Count  int       // finished, but not dead, beyond this many
	Rows   int       // looked at or removed by one call of Sweep
}
