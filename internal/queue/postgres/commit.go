package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// keepWebhookFor is how long a Webhook-Id is kept at least, whatever window the endpoint has now.
const keepWebhookFor = time.Hour

// Why commit_1 returns a row.
const (
	rowLost      = 1
	rowDiscarded = 2
	rowFirst     = 3
	rowMerged    = 4
	rowBurst     = 5
	rowBehind    = 6
)

// commitCall is a batch as commit_1 takes it.
type commitCall struct {
	number int64
	sync   string
	args   []any // those after the process and its epoch
	fresh  map[int64]string
}

const commitArgs = 56

var commitQuery = func() string {
	places := make([]string, commitArgs)
	for i := range places {
		places[i] = fmt.Sprintf("$%d", i+1)
	}
	return "SELECT * FROM hubhook.commit_1(" + strings.Join(places, ", ") + ")"
}()

// webhookKey is what stands for a Webhook-Id of an endpoint.
func webhookKey(endpoint, webhookID string) ulid.ULID {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(endpoint))))
	h.Write([]byte(endpoint))
	h.Write([]byte(webhookID))
	return ulid.ULID(h.Sum(nil)[:16])
}

// burstKey is a burst's key among those of all endpoints.
type burstKey struct{ endpoint, key int64 }

// encode makes the arguments of commit_1. It is called with mu held.
func (e *Engine) encode(b *store.Batch, number int64) *commitCall {
	c := &commitCall{number: number, sync: e.sync, fresh: map[int64]string{}}
	if len(b.Arrivals)+len(b.Discards) == 0 {
		c.sync = "off" // after a power cut of the server they would merely happen again
	}
	for _, k := range b.Ends {
		k.Lost = false
	}
	for _, d := range b.Discards {
		d.Before, d.After = "", nil
	}
	rounds := int64(0)
	round := make([]int64, len(b.Arrivals))
	hashes := make([]pgtype.UUID, len(b.Arrivals))
	nextOf, nextIn := map[ulid.ULID]int64{}, map[burstKey]int64{}
	type webhook struct {
		hash, delivery ulid.ULID
		keep           int64
	}
	var webhooks []webhook
	var bursts []burstKey
	for i, a := range b.Arrivals {
		a.First, a.Behind, a.Merged, a.RunAt = nil, false, nil, time.Time{}
		endpoint := store.Hash(a.Stored.Endpoint)
		if e.endpoints[endpoint] == "" {
			c.fresh[endpoint] = a.Stored.Endpoint
		}
		if a.Dedupe {
			hash := webhookKey(a.Stored.Endpoint, a.Stored.WebhookID)
			hashes[i] = uuidOf(hash)
			if _, again := nextOf[hash]; !again {
				keep := keepWebhookFor
				if !a.Since.IsZero() {
					keep = max(keep, a.Stored.Received.Sub(a.Since))
				}
				webhooks = append(webhooks, webhook{hash, a.Stored.ULID, a.Stored.Received.Add(keep).UnixNano() &^ 1})
			}
			round[i] = nextOf[hash]
		}
		if a.Burst != nil {
			key := burstKey{endpoint, a.Burst.Key}
			if _, again := nextIn[key]; !again {
				bursts = append(bursts, key)
			}
			round[i] = max(round[i], nextIn[key])
			nextIn[key] = round[i] + 1
		}
		if a.Dedupe {
			nextOf[ulid.ULID(hashes[i].Bytes)] = round[i] + 1
		}
		rounds = max(rounds, round[i]+1)
	}
	slices.SortFunc(webhooks, func(a, b webhook) int { return a.hash.Compare(b.hash) })
	slices.SortFunc(bursts, func(a, b burstKey) int { return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.key, b.key)) })

	c.args = append(c.args, number, int64(e.cfg.lease))
	c.end(b.Ends)
	c.args = append(c.args,
		column(b.Discards, func(d *store.Discard) pgtype.UUID { return uuidOf(d.ID) }),
		column(b.Discards, func(d *store.Discard) string { return escapeText(d.Reason) }))
	var freshIDs []int64
	for id := range c.fresh {
		freshIDs = append(freshIDs, id)
	}
	slices.Sort(freshIDs)
	c.args = append(c.args, freshIDs, column(freshIDs, func(id int64) string { return escapeText(c.fresh[id]) }),
		column(webhooks, func(w webhook) pgtype.UUID { return uuidOf(w.hash) }),
		column(webhooks, func(w webhook) pgtype.UUID { return uuidOf(w.delivery) }),
		column(webhooks, func(w webhook) int64 { return w.keep }),
		column(bursts, func(k burstKey) int64 { return k.endpoint }),
		column(bursts, func(k burstKey) int64 { return k.key }),
		rounds, round)
	c.arrive(b.Arrivals, hashes)
	return c
}

// column returns one value of each item, as an array that is never NULL.
func column[T, V any](items []T, value func(T) V) []V {
	vs := make([]V, len(items))
	for i, item := range items {
		vs[i] = value(item)
	}
	return vs
}

// nanos is a time as it is stored, 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func (c *commitCall) end(ends []*store.End) {
	c.args = append(c.args,
		column(ends, func(k *store.End) pgtype.UUID { return uuidOf(k.ID) }),
		column(ends, func(k *store.End) int64 { return k.Token }),
		column(ends, func(k *store.End) int64 { return store.StateNumber(k.From) }),
		column(ends, func(k *store.End) int64 { return store.StateNumber(k.To) }),
		column(ends, func(k *store.End) string { return escapeText(k.Reason) }),
		column(ends, func(k *store.End) int64 { return int64(k.Failures) }),
		column(ends, func(k *store.End) int64 { return int64(k.Attempts) }),
		column(ends, func(k *store.End) int64 { return int64(k.Attempt.Duration) }),
		column(ends, func(k *store.End) int64 { return nanos(k.RunAt) }),
		column(ends, func(k *store.End) int64 { return int64(k.Attempt.N) }),
		column(ends, func(k *store.End) int64 { return nanos(k.Attempt.Started) }),
		column(ends, func(k *store.End) string { return escapeText(k.Attempt.Error) }),
		column(ends, func(k *store.End) string { return escapeText(k.Attempt.Stack) }),
		column(ends, func(k *store.End) []byte { return k.Attempt.Output }),
		column(ends, func(k *store.End) []byte { return k.Attempt.Result }))
}

func (c *commitCall) arrive(arrivals []*store.Arrival, hashes []pgtype.UUID) {
	c.args = append(c.args,
		column(arrivals, func(a *store.Arrival) pgtype.UUID { return uuidOf(a.Stored.ULID) }),
		column(arrivals, func(a *store.Arrival) int64 { return store.Hash(a.Stored.Endpoint) }),
		column(arrivals, func(a *store.Arrival) int64 { return store.StateNumber(a.Stored.State) }),
		column(arrivals, func(a *store.Arrival) int64 { return a.Stored.Received.UnixNano() }),
		column(arrivals, func(a *store.Arrival) int64 { return nanos(a.Stored.Started) }),
		column(arrivals, func(a *store.Arrival) int64 { return int64(a.Stored.Attempts) }),
		column(arrivals, func(a *store.Arrival) int64 { return a.Stored.Token }),
		column(arrivals, func(a *store.Arrival) int64 { return a.Stored.Serial }),
		column(arrivals, func(a *store.Arrival) bool { return a.Stored.Synthetic }),
		column(arrivals, func(a *store.Arrival) pgtype.UUID { return uuidOf(a.ReplayOf) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stored.Scope) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stored.Action) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stored.RepoType) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stored.RepoName) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stored.WebhookID) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stored.Reason) }),
		column(arrivals, func(a *store.Arrival) string { return escapeText(a.Stack) }),
		column(arrivals, func(a *store.Arrival) []byte { return a.Header }),
		column(arrivals, func(a *store.Arrival) []byte { return a.Body }),
		column(arrivals, func(a *store.Arrival) int64 { return a.Encoding }),
		hashes,
		column(arrivals, func(a *store.Arrival) int64 { return nanos(a.Since) }),
		column(arrivals, func(a *store.Arrival) int64 {
			if a.Burst == nil {
				return 0
			}
			return a.Burst.Key
		}),
		column(arrivals, func(a *store.Arrival) int64 {
			if a.Burst == nil {
				return 0
			}
			return int64(a.Burst.Wait)
		}),
		column(arrivals, func(a *store.Arrival) int64 {
			if a.Burst == nil {
				return 0
			}
			return int64(a.Burst.MaxWait)
		}))
}

// apply fills the results of a commit into its batch.
func (e *Engine) apply(b *store.Batch, c *commitCall, rows []row) {
	e.mu.Lock()
	for id, name := range c.fresh {
		e.endpoints[id] = name
	}
	e.mu.Unlock()
	for i := range rows {
		r := &rows[i]
		place := int(r.place) - 1
		switch r.kind {
		case rowLost:
			b.Ends[place].Lost = true
		case rowDiscarded:
			b.Discards[place].Before, b.Discards[place].After = store.StateNames[r.at], e.narrow(r)
		case rowFirst:
			d := e.delivery(r)
			b.Arrivals[place].First = &d
		case rowMerged:
			b.Arrivals[place].Merged = e.narrow(r)
		case rowBurst:
			b.Arrivals[place].RunAt = time.Unix(0, int64(r.at))
		case rowBehind:
			b.Arrivals[place].Behind = true
		}
	}
}

// row is a row_1 of the schema.
type row struct {
	kind, place, at                                                                   zeronull.Int8
	id                                                                                zeronull.UUID
	endpoint, state, received, attempts, failures, interruptions, duplicates, replays zeronull.Int8
	synthetic                                                                         pgtype.Bool
	started, duration, runAt                                                          zeronull.Int8
	replayOf, mergedInto                                                              zeronull.UUID
	scope, action, repoType, repoName, webhookID, reason                              zeronull.Text
	burst                                                                             zeronull.UUID
	token, serial                                                                     zeronull.Int8
	merged                                                                            []pgtype.UUID
	header, body                                                                      []byte
	encoding                                                                          zeronull.Int8
}

func (r *row) to() []any {
	return []any{
		&r.kind, &r.place, &r.at,
		&r.id, &r.endpoint, &r.state, &r.received, &r.attempts, &r.failures, &r.interruptions,
		&r.duplicates, &r.replays, &r.synthetic, &r.started, &r.duration, &r.runAt, &r.replayOf,
		&r.mergedInto, &r.scope, &r.action, &r.repoType, &r.repoName, &r.webhookID, &r.reason,
		&r.burst, &r.token, &r.serial, &r.merged, &r.header, &r.body, &r.encoding,
	}
}

// querier is a connection, or a pool of them.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// queryRows returns what a query for row_1 does.
func queryRows(ctx context.Context, q querier, query string, args ...any) ([]row, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan(r.to()...); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// endpointName returns the name of an endpoint, which another process may have been the first to store.
func (e *Engine) endpointName(id int64) string {
	e.mu.Lock()
	name, ok := e.endpoints[id]
	if !ok {
		name, ok = e.served[id]
	}
	e.mu.Unlock()
	if ok {
		return name
	}
	ctx, cancel := context.WithTimeout(e.life, workFor)
	defer cancel()
	var stored string
	if err := e.workers.QueryRow(ctx, "SELECT name FROM hubhook.endpoint WHERE id = $1", id).Scan(&stored); err != nil {
		e.cfg.Warn(e.failed("look up an endpoint's name", err))
		return ""
	}
	name = unescapeText(stored)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endpoints[id] = name
	return name
}

// delivery makes a Delivery of a row.
func (e *Engine) delivery(r *row) store.Delivery {
	str := func(s zeronull.Text) string { return unescapeText(string(s)) }
	d := store.Delivery{
		ID:       ulid.ULID(r.id).String(),
		Endpoint: e.endpointName(int64(r.endpoint)), State: store.StateNames[r.state], Reason: str(r.reason),
		WebhookID: str(r.webhookID), Synthetic: r.synthetic.Bool, Received: time.Unix(0, int64(r.received)),
		Scope: str(r.scope), Action: str(r.action), RepoType: str(r.repoType), RepoName: str(r.repoName),
		Attempts: int(r.attempts), Duplicates: int(r.duplicates), Replays: int(r.replays), Duration: time.Duration(r.duration),
	}
	if id := ulid.ULID(r.replayOf); id != (ulid.ULID{}) {
		d.ReplayOf = id.String()
	}
	if id := ulid.ULID(r.mergedInto); id != (ulid.ULID{}) {
		d.MergedInto = id.String()
	}
	if d.State == store.Retrying {
		d.RunAt = time.Unix(0, int64(r.runAt))
	}
	return d
}
