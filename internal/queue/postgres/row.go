package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Kinds of rows that the functions of the schema return. Databases have these numbers in their functions, so they never change.
const (
	// Of commit_4.
	rowLost      = 1
	rowDiscarded = 2
	rowFirst     = 3
	rowMerged    = 4
	rowBurst     = 5
	rowBehind    = 6
	// Of claim_4.
	rowClaimed   = 10
	rowEndpoint  = 11
	rowRemaining = 12
	rowTaken     = 13
	rowSuspects  = 14
	rowOldest    = 15
	// Of renew_4.
	rowGone    = 20
	rowProcess = 21
)

// rowKinds are these numbers by their names in SQL, such as {row.lost}.
var rowKinds = map[string]int{
	"lost": rowLost, "discarded": rowDiscarded, "first": rowFirst, "merged": rowMerged, "burst": rowBurst, "behind": rowBehind,
	"claimed": rowClaimed, "endpoint": rowEndpoint, "remaining": rowRemaining, "taken": rowTaken, "suspects": rowSuspects, "oldest": rowOldest,
	"gone": rowGone, "process": rowProcess,
}

// row is a row of the type row_1.
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

// queryRows returns the rows of a query for row_1.
func queryRows(ctx context.Context, q querier, sql string, args ...any) ([]row, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return readRows(rows)
}

// readRows returns the rows of an answer, and closes it.
func readRows(rows pgx.Rows) ([]row, error) {
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

// delivery makes a Delivery from a row.
func (db *database) delivery(r *row) store.Delivery {
	str := func(s zeronull.Text) string { return unescapeText(string(s)) }
	d := store.Delivery{
		ID:       ulid.ULID(r.id).String(),
		Endpoint: db.endpointName(int64(r.endpoint)), State: store.StateNames[r.state], Reason: str(r.reason),
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

// narrow makes a Stored from a row without content.
func (db *database) narrow(r *row) *store.Stored {
	s := &store.Stored{
		Delivery: db.delivery(r), ULID: ulid.ULID(r.id), Failures: int(r.failures), Interruptions: int(r.interruptions),
		Serial: int64(r.serial), Burst: store.Key(ulid.ULID(r.burst)), Token: int64(r.token),
	}
	if r.started != 0 {
		s.Started = time.Unix(0, int64(r.started))
	}
	for _, m := range r.merged {
		s.Merged = append(s.Merged, ulid.ULID(m.Bytes).String())
	}
	return s
}

// stored makes a Stored from a row with content.
func (db *database) stored(r *row) (_ *store.Stored, err error) {
	s := db.narrow(r)
	if s.Header, err = store.UnpackHeader(r.header); err != nil {
		return nil, err
	}
	s.Body, err = store.UnpackBody(r.body, int64(r.encoding))
	return s, err
}
