package queue

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

// postgresCommit is a batch as commit_1 takes it.
type postgresCommit struct {
	number int64
	sync   string
	args   []any // those after the process and its epoch
	fresh  map[int64]string
}

const postgresCommitArgs = 56

var postgresCommitQuery = func() string {
	places := make([]string, postgresCommitArgs)
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
func (e *postgresEngine) encode(b *batch, number int64) *postgresCommit {
	c := &postgresCommit{number: number, sync: e.sync, fresh: map[int64]string{}}
	if len(b.arrivals)+len(b.discards) == 0 {
		c.sync = "off" // after a power cut of the server they would merely happen again
	}
	for _, k := range b.ends {
		k.lost = false
	}
	for _, d := range b.discards {
		d.from, d.d = "", nil
	}
	rounds := int64(0)
	round := make([]int64, len(b.arrivals))
	hashes := make([]pgtype.UUID, len(b.arrivals))
	nextOf, nextIn := map[ulid.ULID]int64{}, map[burstKey]int64{}
	type webhook struct {
		hash, delivery ulid.ULID
		keep           int64
	}
	var webhooks []webhook
	var bursts []burstKey
	for i, a := range b.arrivals {
		a.first, a.behind, a.merged, a.runAt = nil, false, nil, time.Time{}
		endpoint := keyHash(a.d.Endpoint)
		if e.endpoints[endpoint] == "" {
			c.fresh[endpoint] = a.d.Endpoint
		}
		if a.dedupe {
			hash := webhookKey(a.d.Endpoint, a.d.WebhookID)
			hashes[i] = uuidOf(hash)
			if _, again := nextOf[hash]; !again {
				keep := keepWebhookFor
				if !a.since.IsZero() {
					keep = max(keep, a.d.Received.Sub(a.since))
				}
				webhooks = append(webhooks, webhook{hash, a.d.id, a.d.Received.Add(keep).UnixNano() &^ 1})
			}
			round[i] = nextOf[hash]
		}
		if a.burst != nil {
			key := burstKey{endpoint, a.burst.key}
			if _, again := nextIn[key]; !again {
				bursts = append(bursts, key)
			}
			round[i] = max(round[i], nextIn[key])
			nextIn[key] = round[i] + 1
		}
		if a.dedupe {
			nextOf[ulid.ULID(hashes[i].Bytes)] = round[i] + 1
		}
		rounds = max(rounds, round[i]+1)
	}
	slices.SortFunc(webhooks, func(a, b webhook) int { return a.hash.Compare(b.hash) })
	slices.SortFunc(bursts, func(a, b burstKey) int { return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.key, b.key)) })

	c.args = append(c.args, number, int64(e.cfg.lease))
	c.end(b.ends)
	c.args = append(c.args,
		column(b.discards, func(d *discarding) pgtype.UUID { return uuidOf(d.id) }),
		column(b.discards, func(d *discarding) string { return escapeText(d.reason) }))
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
	c.arrive(b.arrivals, hashes)
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

func (c *postgresCommit) end(ends []*ending) {
	c.args = append(c.args,
		column(ends, func(k *ending) pgtype.UUID { return uuidOf(k.id) }),
		column(ends, func(k *ending) int64 { return k.token }),
		column(ends, func(k *ending) int64 { return stateNumber(k.from) }),
		column(ends, func(k *ending) int64 { return stateNumber(k.to) }),
		column(ends, func(k *ending) string { return escapeText(k.reason) }),
		column(ends, func(k *ending) int64 { return int64(k.failures) }),
		column(ends, func(k *ending) int64 { return int64(k.attempts) }),
		column(ends, func(k *ending) int64 { return int64(k.attempt.Duration) }),
		column(ends, func(k *ending) int64 { return nanos(k.runAt) }),
		column(ends, func(k *ending) int64 { return int64(k.attempt.N) }),
		column(ends, func(k *ending) int64 { return nanos(k.attempt.Started) }),
		column(ends, func(k *ending) string { return escapeText(k.attempt.Error) }),
		column(ends, func(k *ending) string { return escapeText(k.attempt.Stack) }),
		column(ends, func(k *ending) []byte { return k.attempt.Output }),
		column(ends, func(k *ending) []byte { return k.attempt.Result }))
}

func (c *postgresCommit) arrive(arrivals []*arrival, hashes []pgtype.UUID) {
	c.args = append(c.args,
		column(arrivals, func(a *arrival) pgtype.UUID { return uuidOf(a.d.id) }),
		column(arrivals, func(a *arrival) int64 { return keyHash(a.d.Endpoint) }),
		column(arrivals, func(a *arrival) int64 { return stateNumber(a.d.State) }),
		column(arrivals, func(a *arrival) int64 { return a.d.Received.UnixNano() }),
		column(arrivals, func(a *arrival) int64 { return nanos(a.d.started) }),
		column(arrivals, func(a *arrival) int64 { return int64(a.d.Attempts) }),
		column(arrivals, func(a *arrival) int64 { return a.d.token }),
		column(arrivals, func(a *arrival) int64 { return a.d.serial }),
		column(arrivals, func(a *arrival) bool { return a.d.Synthetic }),
		column(arrivals, func(a *arrival) pgtype.UUID { return uuidOf(a.replayOf) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.d.Scope) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.d.Action) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.d.RepoType) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.d.RepoName) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.d.WebhookID) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.d.Reason) }),
		column(arrivals, func(a *arrival) string { return escapeText(a.stack) }),
		column(arrivals, func(a *arrival) []byte { return a.header }),
		column(arrivals, func(a *arrival) []byte { return a.body }),
		column(arrivals, func(a *arrival) int64 { return a.encoding }),
		hashes,
		column(arrivals, func(a *arrival) int64 { return nanos(a.since) }),
		column(arrivals, func(a *arrival) int64 {
			if a.burst == nil {
				return 0
			}
			return a.burst.key
		}),
		column(arrivals, func(a *arrival) int64 {
			if a.burst == nil {
				return 0
			}
			return int64(a.burst.wait)
		}),
		column(arrivals, func(a *arrival) int64 {
			if a.burst == nil {
				return 0
			}
			return int64(a.burst.maxWait)
		}))
}

// apply fills the results of a commit into its batch.
func (e *postgresEngine) apply(b *batch, c *postgresCommit, rows []postgresRow) {
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
			b.ends[place].lost = true
		case rowDiscarded:
			b.discards[place].from, b.discards[place].d = stateNames[r.at], e.narrow(r)
		case rowFirst:
			d := e.delivery(r)
			b.arrivals[place].first = &d
		case rowMerged:
			b.arrivals[place].merged = e.narrow(r)
		case rowBurst:
			b.arrivals[place].runAt = time.Unix(0, int64(r.at))
		case rowBehind:
			b.arrivals[place].behind = true
		}
	}
}

// postgresRow is a row_1 of the schema.
type postgresRow struct {
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

func (r *postgresRow) to() []any {
	return []any{
		&r.kind, &r.place, &r.at,
		&r.id, &r.endpoint, &r.state, &r.received, &r.attempts, &r.failures, &r.interruptions,
		&r.duplicates, &r.replays, &r.synthetic, &r.started, &r.duration, &r.runAt, &r.replayOf,
		&r.mergedInto, &r.scope, &r.action, &r.repoType, &r.repoName, &r.webhookID, &r.reason,
		&r.burst, &r.token, &r.serial, &r.merged, &r.header, &r.body, &r.encoding,
	}
}

// postgresQuerier is a connection, or a pool of them.
type postgresQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// queryRows returns what a query for row_1 does.
func queryRows(ctx context.Context, q postgresQuerier, query string, args ...any) ([]postgresRow, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []postgresRow
	for rows.Next() {
		var r postgresRow
		if err := rows.Scan(r.to()...); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// endpointName returns the name of an endpoint, which another process may have been the first to store.
func (e *postgresEngine) endpointName(id int64) string {
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
		e.cfg.warn(e.failed("look up an endpoint's name", err))
		return ""
	}
	name = unescapeText(stored)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endpoints[id] = name
	return name
}

// delivery makes a Delivery of a row.
func (e *postgresEngine) delivery(r *postgresRow) Delivery {
	str := func(s zeronull.Text) string { return unescapeText(string(s)) }
	d := Delivery{
		ID:       ulid.ULID(r.id).String(),
		Endpoint: e.endpointName(int64(r.endpoint)), State: stateNames[r.state], Reason: str(r.reason),
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
	if d.State == Retrying {
		d.RunAt = time.Unix(0, int64(r.runAt))
	}
	return d
}
