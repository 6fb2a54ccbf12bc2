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
// commit, sweep and close are called by one goroutine at a time; the others may be called at any time. Where deliveries are
// shared, sweep may be called beside commit.
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

	// unfinished returns up to limit unfinished deliveries of all endpoints, oldest first, and how many there are.
	unfinished(ctx context.Context, limit int) ([]Delivery, int, error)
	// discardAll makes all unfinished deliveries discarded ones and says how many they were.
	discardAll(reason string) (int, error)

	// load returns what is needed to run a delivery that is no longer held in memory.
	load(ctx context.Context, id ulid.ULID) (*stored, error)
	list(ctx context.Context, f Filter) (ds []Delivery, next string, err error)
	get(ctx context.Context, id ulid.ULID) (*Record, error)
	counts(ctx context.Context) (Counts, error)
	// timeSeries calls add with all deliveries of an endpoint, "" for any, that were received within a span of time. It may do
	// so in several parts for those that are alike.
	timeSeries(ctx context.Context, in timeSpan, endpoint string, add func(likes)) error
	// last returns the greatest id that was ever stored, the zero one for none.
	last() ulid.ULID

	// sweep removes some of what r says need not be kept and reports whether there may be more. The end of ctx interrupts what takes long.
	sweep(ctx context.Context, r retention) (more bool, err error)

	close() error
}

// owning is what an engine does besides where one process alone has the deliveries.
type owning interface {
	// backlog returns the unfinished deliveries of an endpoint, none of which is running.
	backlog(ctx context.Context, endpoint string) ([]due, error)
	// preload begins to read what an arrival may be a duplicate of that counts those received since then.
	preload(since time.Time)
}

// sharing is what an engine does besides where other processes handle deliveries of the same store.
//
// A running delivery is a claim there: it has a token, new for each attempt, and a lease, which ends unless the claim is
// renewed. Changes that come with a token that is no longer the delivery's are refused, each by itself.
//
// Serial keys are the engine's to keep: a delivery with a key is stored as waiting, claim starts it once no other one with
// its key runs, and the key is free again when the claim ends, however it does.
type sharing interface {
	// skew is how far the store's clock is ahead of this machine's.
	skew() time.Duration
	// claim starts deliveries that are due, oldest due first for each endpoint, and returns them with their content,
	// running and with a token. What others are about to start is left out. It first makes deliveries whose lease has
	// ended wait to run at once, or dead, as interrupted ones.
	claim(ctx context.Context, wants []want) (claimed []*stored, left pending, err error)
	// renew extends the leases of claims that run here, and returns those that are gone.
	renew(ctx context.Context, claims []held) (gone []lost, err error)
	// tell lets other processes know what has changed here, and whether deliveries are due that no handler here is free for.
	// It does not block.
	tell(changed []ulid.ULID, due bool)
	// follow calls changed with what other processes told, until ctx ends. It may call it with nothing at all, which says
	// that there may be work. Where nothing can be told, it looks for changes itself.
	follow(ctx context.Context, changed func(ids []ulid.ULID, due bool))
	// deliveries returns those of ids that are stored.
	deliveries(ctx context.Context, ids []ulid.ULID) ([]Delivery, error)
}

// want asks for deliveries of an endpoint.
type want struct {
	endpoint string
	n        int
	suspects bool // only those that were interrupted aloneAfter times or more; otherwise none of them
}

// pending says what claim left behind.
type pending struct {
	due      map[string]bool // endpoints for which more is due than was asked for
	suspects map[string]bool // endpoints for which suspects are due
	waiting  int             // deliveries of all endpoints in state waiting
	next     time.Time       // when the next one is due, of those endpoints; zero for none

	oldest map[string]time.Time // endpoints with waiting deliveries, and when the oldest of those was received
}

// held is a claim that runs here.
type held struct {
	id    ulid.ULID
	token int64
}

// lost is a claim that runs here, but is another's by now.
type lost struct {
	id        ulid.ULID
	discarded bool // finished by hand; otherwise it has been taken over
	reason    string
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
	burst    *burst    // nil: nothing holds it back

	first  *Delivery // result: of which this one is a duplicate, and so was not stored; counted there already
	behind bool      // result, with a serial key, where deliveries are shared: another one comes first
	merged *stored   // result: the one that was held back for the same burst until now, merged into this one
	runAt  time.Time // result, with burst: when it is due
}

// burst is a Burst with what stands for its key.
type burst struct {
	key           int64
	wait, maxWait time.Duration
}

// start is a waiting or retrying delivery whose next attempt begins.
type start struct {
	id       ulid.ULID
	endpoint string
	from     State // Waiting or Retrying
	at       time.Time
	burst    bool // others may have been merged into it

	lost bool // result: it is not to run any more, and was left as it is
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
	token    int64     // of the claim, where deliveries are shared

	lost bool // result: the claim is gone, and nothing of this was kept
}

// discarding is a delivery to be discarded. It is left as it is if it is finished by then.
type discarding struct {
	id     ulid.ULID
	reason string

	from State   // result: its state before; "" if there is no such delivery
	d    *stored // result: the delivery after it, without its content; nil where from is ""
}

// stored is a delivery with what only the queue needs to know of it.
type stored struct {
	Delivery
	id            ulid.ULID
	failures      int       // attempts that failed; interrupted and handed back ones are none
	interruptions int       // attempts that ended with the process
	started       time.Time // of the last attempt
	serial        int64     // stands for its SerialKey; 0 for none
	burst         int64     // stands for its burst; 0 for none
	token         int64     // of its claim, where deliveries are shared
	merged        []string  // IDs of the deliveries merged into it; only where it is read back or claimed
	header        http.Header
	body          []byte
}

// addUnwritten adds the attempt that the delivery's own row tells of, begun at that time: the one that runs, or one that succeeded and of
// which there is nothing more to say.
func (r *Record) addUnwritten(started time.Time) {
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

// due is an unfinished delivery that waits for its next attempt.
type due struct {
	at            int64 // Unix nanoseconds; 0 for one that was interrupted
	id            ulid.ULID
	attempts      int32
	failures      int32
	interruptions int32
	retrying      bool
	serial, burst int64 // as in stored
}

// retention says which finished deliveries may go.
type retention struct {
	before time.Time // received before it
	count  int       // finished, but not dead, beyond this many
	rows   int       // looked at or removed by one sweep
}
