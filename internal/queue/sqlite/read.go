package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// columns are the columns of a delivery, in the order of the col constants.
const columns = `d.id, d.endpoint, d.state, d.received, d.attempts, d.failures, d.interruptions, d.duplicates, d.replays,
	d.synthetic, d.started, d.duration, d.run_at, d.replay_of, d.merged_into, d.scope, d.action, d.repo_type, d.repo_name,
	d.webhook_id, d.reason, d.serial, d.burst`

const (
	colID = iota
	colEndpoint
	colState
	colReceived
	colAttempts
	colFailures
	colInterruptions
	colDuplicates
	colReplays
	colSynthetic
	colStarted
	colDuration
	colRunAt
	colReplayOf
	colMergedInto
	colScope
	colAction
	colRepoType
	colRepoName
	colWebhookID
	colReason
	colSerial
	colBurst
	colCount
)

// reads answers queries on its own connections, beside the writer.
type reads struct {
	file  *file
	known *known

	mu      sync.Mutex
	readers *sql.DB // nil until the first query
	closed  bool
}

// take returns the connections for the caller to close, nil if there are none. The next query opens new ones, unless last is true.
func (rd *reads) take(last bool) *sql.DB {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.closed = rd.closed || last
	readers := rd.readers
	rd.readers = nil
	return readers
}

// reader returns the connections for reading. It opens them at the first call.
func (rd *reads) reader() (*sql.DB, error) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.closed {
		return nil, store.ErrClosed
	}
	if rd.readers == nil {
		db, err := sql.Open("sqlite", rd.file.dsn(url.Values{
			"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)", "cache_size(-2000)"},
		}))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(4)
		db.SetMaxIdleConns(2)
		db.SetConnMaxIdleTime(30 * time.Second)
		rd.readers = db
	}
	return rd.readers, nil
}

// deliveries runs a query that selects columns.
func (rd *reads) deliveries(ctx context.Context, query string, args ...any) ([]store.Delivery, error) {
	db, err := rd.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ds []store.Delivery
	row, to := newRow()
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		ds = append(ds, rd.known.delivery(row))
	}
	return ds, rows.Err()
}

// newRow returns an empty row of columns, and the pointers to scan into it.
func newRow() (row []driver.Value, to []any) {
	row, to = make([]driver.Value, colCount), make([]any, colCount)
	for i := range row {
		to[i] = (*any)(&row[i])
	}
	return row, to
}

// Backlog implements store.Owning.
func (rd *reads) Backlog(ctx context.Context, endpoint string) ([]store.Due, error) {
	db, err := rd.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, store.NumberStates(`SELECT d.run_at, d.id, d.attempts, d.failures, d.interruptions, d.state = {retrying},
			coalesce(d.serial, 0), coalesce(d.burst, 0)
		FROM delivery d JOIN endpoint p ON p.id = d.endpoint
		WHERE p.name = ? AND d.run_at IS NOT NULL ORDER BY d.run_at, d.id`), endpoint)
	if err != nil {
		return nil, rd.file.readError("read the backlog", err)
	}
	defer rows.Close()
	var ds []store.Due
	for rows.Next() {
		var d store.Due
		var key int64
		if err := rows.Scan(&d.At, &key, &d.Attempts, &d.Failures, &d.Interruptions, &d.Retrying, &d.Serial, &d.Burst); err != nil {
			return nil, rd.file.readError("read the backlog", err)
		}
		d.ID = store.FromKey(key)
		ds = append(ds, d)
	}
	if err := rows.Err(); err != nil {
		return nil, rd.file.readError("read the backlog", err)
	}
	return ds, nil
}

// Unfinished implements store.Engine.
func (rd *reads) Unfinished(ctx context.Context, limit int) ([]store.Delivery, int, error) {
	rd.known.mu.Lock()
	n, low := 0, rd.known.low
	for _, c := range rd.known.shown {
		n += int(c[store.StateWaiting] + c[store.StateRunning] + c[store.StateRetrying])
	}
	rd.known.mu.Unlock()
	ds, err := rd.deliveries(ctx, store.NumberStates("SELECT "+columns+` FROM delivery d WHERE d.state < {done}
		AND d.id IN (SELECT id FROM delivery INDEXED BY delivery_due WHERE run_at IS NOT NULL UNION ALL SELECT id FROM delivery WHERE id >= ?)
		ORDER BY d.id LIMIT ?`), low, limit)
	if err != nil {
		return nil, 0, rd.file.readError("read the unfinished deliveries", err)
	}
	return ds, n, nil
}

// where returns the conditions of a filter without Query and Before. looks is about how many rows a search with them reads; if it is 0,
// no delivery meets them.
func (rd *reads) where(f store.Filter) (where []string, args []any, looks int64) {
	and := func(cond string, values ...any) {
		where = append(where, cond)
		args = append(args, values...)
	}
	rd.known.mu.Lock()
	defer rd.known.mu.Unlock()
	for _, states := range rd.known.shown {
		for _, n := range states {
			looks += n
		}
	}
	endpoint, known := rd.known.endpoints[f.Endpoint]
	if f.Endpoint != "" {
		if !known {
			return nil, nil, 0
		}
		and("d.endpoint = ?", endpoint)
	}
	if f.State != "" {
		state := store.StateNumber(f.State)
		n := int64(0)
		for id, c := range rd.known.shown {
			if state >= 0 && (f.Endpoint == "" || id == endpoint) {
				n += c[state]
			}
		}
		if n == 0 { // avoids a search through all rows
			return nil, nil, 0
		}
		and("d.state = ?", state)
		switch {
		case state >= store.StateDead:
			and(store.NumberStates("d.state >= {dead}")) // lets SQLite use the index delivery_unusual
			looks = n
		case state < store.StateDone && n <= fewUnfinished:
			and(store.NumberStates(`d.id IN (SELECT id FROM delivery INDEXED BY delivery_due WHERE run_at IS NOT NULL
				UNION ALL SELECT id FROM delivery WHERE id >= ? AND state = {running})`), rd.known.low)
			looks = n
		}
	}
	if f.Scope != "" {
		and("(d.scope = ? OR d.scope >= ? AND d.scope < ?)", f.Scope, f.Scope+".", f.Scope+"/") // '/' comes after '.'
	}
	if f.Action != "" {
		and("d.action = ?", f.Action)
	}
	if f.Repo != "" {
		if kind, name, ok := strings.Cut(f.Repo, ":"); ok {
			and("d.repo_type = ? AND d.repo_name = ?", kind, name)
		} else {
			and("d.repo_name = ?", f.Repo)
		}
	}
	if !f.Since.IsZero() {
		// A key is never older than the time of receipt, so it bounds the search. It may be newer, after the clock was set back.
		and("d.id >= ? AND d.received >= ?", store.KeyAt(f.Since), f.Since.UnixNano())
	}
	if f.Unreplayed {
		and("d.replays = 0")
	}
	return where, args, looks
}

// defaultPartRows is how many deliveries of a time series one query reads. While a query runs, the log can't start over.
const defaultPartRows = 20_000

// TimeSeries implements store.Engine. It adds row by row, because a GROUP BY sorts in SQLite and takes three times as long.
func (rd *reads) TimeSeries(ctx context.Context, in store.TimeSpan, endpoint string, add func(store.Alike)) error {
	where, args := "d.received >= ? AND d.received < ?", []any{in.From, in.To}
	if endpoint != "" {
		id, known := rd.known.endpoint(endpoint)
		if !known {
			return nil
		}
		where, args = where+" AND d.endpoint = ?", append(args, id)
	}
	query := "SELECT d.id, d.received, d.state, d.duration FROM delivery d WHERE " + where + " AND d.id >= ? ORDER BY d.id LIMIT ?"
	// A key is never older than the time of receipt, so it bounds the search. It may be newer, after the clock was set back.
	next := store.KeyAt(time.Unix(0, in.From))
	for rows := rd.file.cfg.partRows; rows == rd.file.cfg.partRows; {
		rows = 0
		err := rd.each(ctx, query, append(slices.Clone(args), next, int64(rd.file.cfg.partRows)), func(row []driver.Value) error {
			l := store.Alike{Step: (row[1].(int64) - in.From) / in.Step, State: row[2].(int64), N: 1}
			if duration, ended := row[3].(int64); ended {
				l.Timed, l.Longest = 1, time.Duration(duration)
			}
			add(l)
			next = row[0].(int64) + 1
			rows++
			return nil
		})
		if err != nil {
			return rd.file.lookError("read a time series", err)
		}
	}
	return nil
}

// Load implements store.Engine.
func (rd *reads) Load(ctx context.Context, id ulid.ULID) (*store.Stored, error) {
	if !store.HasKey(id) {
		return nil, store.ErrNotFound
	}
	db, err := rd.reader()
	if err != nil {
		return nil, err
	}
	row, to := newRow()
	var header, body []byte
	var encoding sql.NullInt64
	err = db.QueryRowContext(ctx, "SELECT "+columns+`, c.header, c.body, c.encoding
		FROM delivery d LEFT JOIN content c ON c.id = d.id WHERE d.id = ?`, store.Key(id)).Scan(append(to, &header, &body, &encoding)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, rd.file.lookError("read delivery "+id.String(), err)
	}
	s := rd.known.stored(row)
	if s.Merged, err = mergedInto(ctx, db, s); err != nil {
		return nil, rd.file.lookError("read delivery "+id.String(), err)
	}
	if s.Header, err = store.UnpackHeader(header); err != nil {
		return nil, rd.file.lookError("read delivery "+id.String(), err)
	}
	if s.Body, err = store.UnpackBody(body, encoding.Int64); err != nil {
		return nil, rd.file.lookError("read delivery "+id.String(), err)
	}
	return s, nil
}

// mergedInto returns the IDs of the deliveries that were merged into s, oldest first.
func mergedInto(ctx context.Context, db *sql.DB, s *store.Stored) (ids []string, err error) {
	if s.Burst == 0 || s.State == store.Merged {
		return nil, nil
	}
	rows, err := db.QueryContext(ctx, "SELECT id FROM delivery WHERE burst = ? AND id < ? ORDER BY id", s.Burst, store.Key(s.ULID))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key int64
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		ids = append(ids, store.FromKey(key).String())
	}
	return ids, rows.Err()
}

// Get implements store.Engine.
func (rd *reads) Get(ctx context.Context, id ulid.ULID) (*store.Record, error) {
	s, err := rd.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &store.Record{Delivery: s.Delivery, Header: s.Header, Body: s.Body, Merged: s.Merged}
	db, err := rd.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT n, started, duration, error, stack, output, result
		FROM attempt WHERE delivery = ? ORDER BY n`, store.Key(id))
	if err != nil {
		return nil, rd.file.lookError("read the attempts of "+id.String(), err)
	}
	defer rows.Close()
	for rows.Next() {
		a := store.Attempt{Ended: true}
		var started int64
		var msg, stack sql.NullString
		if err := rows.Scan(&a.N, &started, &a.Duration, &msg, &stack, &a.Output, &a.Result); err != nil {
			return nil, rd.file.lookError("read the attempts of "+id.String(), err)
		}
		a.Started, a.Error, a.Stack = time.Unix(0, started), msg.String, stack.String
		r.AttemptList = append(r.AttemptList, a)
	}
	if err := rows.Err(); err != nil {
		return nil, rd.file.lookError("read the attempts of "+id.String(), err)
	}
	r.AddUnwritten(s.Started)
	return r, nil
}
