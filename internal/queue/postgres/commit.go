package postgres

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// keepWebhookFor is how long a Webhook-Id is kept at least, even if the endpoint's dedupe window is shorter.
const keepWebhookFor = time.Hour

// commitCall is a batch in the form that commit_4 takes. arrive_3 and store_4 take a part of it.
type commitCall struct {
	number, epoch, lease int64
	process              int32
	sync                 string
	named                bool // call a named statement, which the server parses once for a connection
	lone                 bool // arrive_3 can store it
	plain                bool // store_4 can store it
	ends                 []*store.End
	discards             []*store.Discard
	arrivals             []*store.Arrival
	rounds               int64
	round                []int64          // the round of each arrival
	hash                 []pgtype.UUID    // the Webhook-Id hash of each arrival
	keep                 []int64          // until when that hash is kept at least, in Unix nanoseconds
	fresh                []int64          // endpoints that may not be stored yet
	names                map[int64]string // the names of fresh endpoints
	webhooks             []webhook
	bursts               []burstKey
	marks                []*store.Mark // not of commit_4
}

// webhook is a Webhook-Id to store, for the first arrival of a batch that has it.
type webhook struct {
	hash, delivery ulid.ULID
	until          int64
}

// commitParams are the parameters of commit_4, each with its name and value, in the order of the signature in 1_commit.sql. Only this list
// and that signature name them. A test compares the two.
var commitParams = []struct {
	name  string
	value func(*commitCall) any
}{
	{"sync", func(c *commitCall) any { return c.sync }},
	{"my_process", func(c *commitCall) any { return c.process }},
	{"my_epoch", func(c *commitCall) any { return c.epoch }},
	{"my_batch", func(c *commitCall) any { return c.number }},
	{"lease_for", func(c *commitCall) any { return c.lease }},

	{"end_id", ofEnds(func(end *store.End) pgtype.UUID { return uuidOf(end.ID) })},
	{"end_token", ofEnds(func(end *store.End) int64 { return end.Token })},
	{"end_from", ofEnds(func(end *store.End) int64 { return store.StateNumber(end.From) })},
	{"end_state", ofEnds(func(end *store.End) int64 { return store.StateNumber(end.To) })},
	{"end_reason", ofEnds(func(end *store.End) string { return escapeText(end.Reason) })},
	{"end_failures", ofEnds(func(end *store.End) int64 { return int64(end.Failures) })},
	{"end_attempts", ofEnds(func(end *store.End) int64 { return int64(end.Attempts) })},
	{"end_duration", ofEnds(func(end *store.End) int64 { return int64(end.Attempt.Duration) })},
	{"end_run_at", ofEnds(func(end *store.End) int64 { return nanos(end.RunAt) })},
	{"end_n", ofEnds(func(end *store.End) int64 { return int64(end.Attempt.N) })},
	{"end_started", ofEnds(func(end *store.End) int64 { return nanos(end.Attempt.Started) })},
	{"end_error", ofEnds(func(end *store.End) string { return escapeText(end.Attempt.Error) })},
	{"end_stack", ofEnds(func(end *store.End) string { return escapeText(end.Attempt.Stack) })},
	{"end_output", ofEnds(func(end *store.End) []byte { return end.Attempt.Output })},
	{"end_result", ofEnds(func(end *store.End) []byte { return end.Attempt.Result })},

	{"discard_id", ofDiscards(func(d *store.Discard) pgtype.UUID { return uuidOf(d.ID) })},
	{"discard_reason", ofDiscards(func(d *store.Discard) string { return escapeText(d.Reason) })},

	{"fresh_endpoint", func(c *commitCall) any { return c.fresh }},
	{"fresh_name", func(c *commitCall) any {
		return column(c.fresh, func(id int64) string { return escapeText(c.names[id]) })
	}},
	{"webhook_hash", ofWebhooks(func(w webhook) pgtype.UUID { return uuidOf(w.hash) })},
	{"webhook_delivery", ofWebhooks(func(w webhook) pgtype.UUID { return uuidOf(w.delivery) })},
	{"webhook_until", ofWebhooks(func(w webhook) int64 { return w.until })},
	{"burst_endpoint", ofBursts(func(b burstKey) int64 { return b.endpoint })},
	{"burst_key", ofBursts(func(b burstKey) int64 { return b.key })},

	{"rounds", func(c *commitCall) any { return c.rounds }},
	{"arrival_round", func(c *commitCall) any { return c.round }},
	{"arrival_id", ofArrivals(func(a *store.Arrival) pgtype.UUID { return uuidOf(a.Stored.ULID) })},
	{"arrival_endpoint", ofArrivals(func(a *store.Arrival) int64 { return store.Hash(a.Stored.Endpoint) })},
	{"arrival_state", ofArrivals(func(a *store.Arrival) int64 { return store.StateNumber(a.Stored.State) })},
	{"arrival_received", ofArrivals(func(a *store.Arrival) int64 { return a.Stored.Received.UnixNano() })},
	{"arrival_started", ofArrivals(func(a *store.Arrival) int64 { return nanos(a.Stored.Started) })},
	{"arrival_attempts", ofArrivals(func(a *store.Arrival) int64 { return int64(a.Stored.Attempts) })},
	{"arrival_token", ofArrivals(func(a *store.Arrival) int64 { return a.Stored.Token })},
	{"arrival_serial", ofArrivals(func(a *store.Arrival) int64 { return a.Stored.Serial })},
	{"arrival_synthetic", ofArrivals(func(a *store.Arrival) bool { return a.Stored.Synthetic })},
	{"arrival_replay_of", ofArrivals(func(a *store.Arrival) pgtype.UUID { return uuidOf(a.ReplayOf) })},
	{"arrival_scope", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stored.Scope) })},
	{"arrival_action", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stored.Action) })},
	{"arrival_repo_type", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stored.RepoType) })},
	{"arrival_repo_name", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stored.RepoName) })},
	{"arrival_webhook_id", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stored.WebhookID) })},
	{"arrival_reason", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stored.Reason) })},
	{"arrival_stack", ofArrivals(func(a *store.Arrival) string { return escapeText(a.Stack) })},
	{"arrival_header", ofArrivals(func(a *store.Arrival) []byte { return a.Header })},
	{"arrival_body", ofArrivals(func(a *store.Arrival) []byte { return a.Body })},
	{"arrival_encoding", ofArrivals(func(a *store.Arrival) int64 { return a.Encoding })},
	{"arrival_hash", func(c *commitCall) any { return c.hash }},
	{"arrival_since", ofArrivals(func(a *store.Arrival) int64 { return nanos(a.Since) })},
	{"arrival_key", ofBurst(func(b *store.Burst) int64 { return b.Key })},
	{"arrival_wait", ofBurst(func(b *store.Burst) int64 { return int64(b.Wait) })},
	{"arrival_max_wait", ofBurst(func(b *store.Burst) int64 { return int64(b.MaxWait) })},
}

// commitQuery passes commitParams by position. Where a statement has no name, PostgreSQL parses each call anew, and 56 names in it cost a
// lone delivery 4 % of its rate.
var commitQuery = func() string {
	places := make([]string, len(commitParams))
	for i := range places {
		places[i] = fmt.Sprintf("$%d", i+1)
	}
	return "SELECT * FROM hubhook.commit_4(" + strings.Join(places, ", ") + ")"
}()

const arriveQuery = "SELECT hubhook.arrive_3($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)"

// arrival returns the parameters of arrive_3, in the order of 3_arrive.sql.
func (c *commitCall) arrival() []any {
	a := c.arrivals[0]
	return []any{
		c.sync, c.process, c.epoch, c.number, c.lease, c.hash[0], c.keep[0],
		uuidOf(a.Stored.ULID), store.Hash(a.Stored.Endpoint), store.StateNumber(a.Stored.State), a.Stored.Received.UnixNano(), nanos(a.Stored.Started),
		int64(a.Stored.Attempts), a.Stored.Token, a.Stored.Synthetic,
		escapeText(a.Stored.Scope), escapeText(a.Stored.Action), escapeText(a.Stored.RepoType), escapeText(a.Stored.RepoName),
		escapeText(a.Stored.WebhookID), escapeText(a.Stored.Reason), a.Header, a.Body, a.Encoding,
	}
}

// inMode returns args for pgx, after the mode in which it is to call the statement.
func (c *commitCall) inMode(args []any) []any {
	if c.named {
		return append([]any{pgx.QueryExecModeCacheStatement}, args...)
	}
	return args
}

// args returns the values of commitParams.
func (c *commitCall) args() []any {
	args := make([]any, len(commitParams))
	for i, p := range commitParams {
		args[i] = p.value(c)
	}
	return args
}

func ofEnds[V any](value func(*store.End) V) func(*commitCall) any {
	return func(c *commitCall) any { return column(c.ends, value) }
}

func ofDiscards[V any](value func(*store.Discard) V) func(*commitCall) any {
	return func(c *commitCall) any { return column(c.discards, value) }
}

func ofArrivals[V any](value func(*store.Arrival) V) func(*commitCall) any {
	return func(c *commitCall) any { return column(c.arrivals, value) }
}

// ofBurst is ofArrivals for values of an arrival's burst. The value is 0 for an arrival without one.
func ofBurst(value func(*store.Burst) int64) func(*commitCall) any {
	return ofArrivals(func(a *store.Arrival) int64 {
		if a.Burst == nil {
			return 0
		}
		return value(a.Burst)
	})
}

func ofWebhooks[V any](value func(webhook) V) func(*commitCall) any {
	return func(c *commitCall) any { return column(c.webhooks, value) }
}

func ofBursts[V any](value func(burstKey) V) func(*commitCall) any {
	return func(c *commitCall) any { return column(c.bursts, value) }
}

// webhookKey returns the hash of an endpoint and a Webhook-Id.
func webhookKey(endpoint, webhookID string) ulid.ULID {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(endpoint))))
	h.Write([]byte(endpoint))
	h.Write([]byte(webhookID))
	return ulid.ULID(h.Sum(nil)[:16])
}

// burstKey identifies a burst among those of all endpoints.
type burstKey struct{ endpoint, key int64 }

// encode makes a call of commit_4 with the changes of a batch.
func (cs *commits) encode(b *store.Batch, number int64) *commitCall {
	c := &commitCall{
		number: number, lease: int64(cs.db.cfg.lease), process: cs.process, sync: cs.db.sync, named: cs.db.sessions.Load() && !cs.db.asked, names: map[int64]string{},
		ends: b.Ends, discards: b.Discards, arrivals: b.Arrivals, marks: b.Marks(),
		round: make([]int64, len(b.Arrivals)), hash: make([]pgtype.UUID, len(b.Arrivals)), keep: make([]int64, len(b.Arrivals)),
	}
	if len(b.Arrivals)+len(b.Discards)+len(b.Alone) == 0 {
		c.sync = "off" // after a power cut of the server, these deliveries merely run again
	}
	for _, end := range b.Ends {
		end.Lost = false
	}
	for _, d := range b.Discards {
		d.Before, d.After = "", nil
	}
	nextOf, nextIn := map[ulid.ULID]int64{}, map[burstKey]int64{}
	for i, a := range b.Arrivals {
		a.First, a.Behind, a.Merged, a.RunAt = nil, false, nil, time.Time{}
		endpoint := store.Hash(a.Stored.Endpoint)
		if !cs.db.names.isStored(endpoint) {
			c.names[endpoint] = a.Stored.Endpoint
		}
		if a.Dedupe {
			hash := webhookKey(a.Stored.Endpoint, a.Stored.WebhookID)
			c.hash[i] = uuidOf(hash)
			keep := keepWebhookFor
			if !a.Since.IsZero() {
				keep = max(keep, a.Stored.Received.Sub(a.Since))
			}
			c.keep[i] = a.Stored.Received.Add(keep).UnixNano() &^ 1
			if _, again := nextOf[hash]; !again {
				c.webhooks = append(c.webhooks, webhook{hash, a.Stored.ULID, c.keep[i]})
			}
			c.round[i] = nextOf[hash]
		}
		if a.Burst != nil {
			key := burstKey{endpoint, a.Burst.Key}
			if _, again := nextIn[key]; !again {
				c.bursts = append(c.bursts, key)
			}
			c.round[i] = max(c.round[i], nextIn[key])
			nextIn[key] = c.round[i] + 1
		}
		if a.Dedupe {
			nextOf[ulid.ULID(c.hash[i].Bytes)] = c.round[i] + 1
		}
		c.rounds = max(c.rounds, c.round[i]+1)
	}
	slices.SortFunc(c.webhooks, func(a, b webhook) int { return a.hash.Compare(b.hash) })
	slices.SortFunc(c.bursts, func(a, b burstKey) int { return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.key, b.key)) })

	c.fresh = slices.Sorted(maps.Keys(c.names))
	plain := c.isPlain()
	c.plain = plain && !cs.db.asked
	c.lone = plain && len(c.arrivals) == 1 && len(c.ends) == 0
	return c
}

// column returns one value of each item. It is never nil, which would be NULL in SQL.
func column[T, V any](items []T, value func(T) V) []V {
	vs := make([]V, len(items))
	for i, item := range items {
		vs[i] = value(item)
	}
	return vs
}

// nanos returns t in Unix nanoseconds, 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// apply writes the results of a commit into its batch.
func (cs *commits) apply(b *store.Batch, c *commitCall, rows []row) {
	cs.db.names.noteStored(c.names)
	for i := range rows {
		r := &rows[i]
		place := int(r.place) - 1
		switch r.kind {
		case rowLost:
			b.Ends[place].Lost = true
		case rowDiscarded:
			b.Discards[place].Before, b.Discards[place].After = store.StateNames[r.at], cs.db.narrow(r)
		case rowFirst:
			d := cs.db.delivery(r)
			b.Arrivals[place].First = &d
		case rowMerged:
			b.Arrivals[place].Merged = cs.db.narrow(r)
		case rowBurst:
			b.Arrivals[place].RunAt = time.Unix(0, int64(r.at))
		case rowBehind:
			b.Arrivals[place].Behind = true
		}
	}
}
