package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

var (
	loadQuery     = query("load")
	attemptsQuery = query("attempts")
	listColumns   = placeholders.Replace("{columns}, d.token, {no content}")
)

// reads answers queries.
type reads struct{ db *database }

// reading limits the time of a query, because ctx may have no deadline.
func (rd *reads) reading(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, readFor)
}

// queryDeliveries runs a query that selects the columns of deliveries.
func (rd *reads) queryDeliveries(ctx context.Context, doing, sql string, args ...any) ([]store.Delivery, error) {
	ctx, cancel := rd.reading(ctx)
	defer cancel()
	rows, err := queryRows(ctx, rd.db.readers, sql, args...)
	if err != nil {
		return nil, rd.db.failed(doing, err)
	}
	var ds []store.Delivery
	for i := range rows {
		ds = append(ds, rd.db.delivery(&rows[i]))
	}
	return ds, nil
}

// Deliveries implements store.Sharing.
func (rd *reads) Deliveries(ctx context.Context, ids []ulid.ULID) ([]store.Delivery, error) {
	return rd.queryDeliveries(ctx, "read deliveries from the database",
		query("deliveries"), pgx.NamedArgs{"ids": uuidsOf(ids)})
}

// Unfinished implements store.Engine.
func (rd *reads) Unfinished(ctx context.Context, limit int) ([]store.Delivery, int, error) {
	const doing = "read the unfinished deliveries from the database"
	ds, err := rd.queryDeliveries(ctx, doing, query("unfinished"), pgx.NamedArgs{"limit": limit})
	if err != nil {
		return nil, 0, err
	}
	counts, err := rd.Counts(ctx)
	if err != nil {
		return nil, 0, err
	}
	n := int64(0)
	for _, states := range counts {
		n += states[store.Waiting] + states[store.Running] + states[store.Retrying]
	}
	return ds, int(n), nil
}

// Counts implements store.Engine.
func (rd *reads) Counts(ctx context.Context) (store.Counts, error) {
	ctx, cancel := rd.reading(ctx)
	defer cancel()
	rows, err := rd.db.readers.Query(ctx, query("counts"))
	if err != nil {
		return nil, rd.db.failed("read the counts from the database", err)
	}
	all := store.Counts{}
	var endpoint, state, n int64
	_, err = pgx.ForEachRow(rows, []any{&endpoint, &state, &n}, func() error {
		name := rd.db.endpointName(endpoint)
		if all[name] == nil {
			all[name] = map[store.State]int64{}
		}
		all[name][store.StateNames[state]] = n
		return nil
	})
	return all, rd.db.failed("read the counts from the database", err)
}

// TimeSeries implements store.Engine.
func (rd *reads) TimeSeries(ctx context.Context, in store.TimeSpan, endpoint string, add func(store.Alike)) error {
	const doing = "read a time series from the database"
	ctx, cancel := rd.reading(ctx)
	defer cancel()
	var first ulid.ULID
	if err := first.SetTime(uint64(max(0, in.From/int64(time.Millisecond)))); err != nil {
		return rd.db.failed(doing, err)
	}
	args := pgx.NamedArgs{
		"from": in.From, "to": in.To, "step": in.Step, "first": pgtype.UUID{Bytes: first, Valid: true},
		"finest": int64(store.FinestDuration), "classes_per_e": store.ClassesPerE, "endpoint": nil,
	}
	if endpoint != "" {
		args["endpoint"] = store.Hash(endpoint)
	}
	rows, err := rd.db.readers.Query(ctx, query("time_series"), args)
	if err != nil {
		return rd.db.failed(doing, err)
	}
	var l store.Alike
	_, err = pgx.ForEachRow(rows, []any{&l.Step, &l.State, &l.N, &l.Timed, &l.Longest}, func() error {
		add(l)
		return nil
	})
	return rd.db.failed(doing, err)
}

// List implements store.Engine.
func (rd *reads) List(ctx context.Context, f store.Filter) ([]store.Delivery, string, error) {
	from, where, args := rd.where(f)
	sql := "SELECT " + listColumns + " FROM " + from
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	// One more than asked for shows whether there are more.
	args = append(args, f.Limit+1)
	ds, err := rd.queryDeliveries(ctx, "list deliveries from the database", fmt.Sprintf("%s ORDER BY d.id DESC LIMIT $%d", sql, len(args)), args...)
	if err != nil {
		return nil, "", err
	}
	if len(ds) > f.Limit {
		ds = ds[:f.Limit]
		return ds, ds[len(ds)-1].ID, nil
	}
	return ds, "", nil
}

// where returns the tables and conditions of a filter.
func (rd *reads) where(f store.Filter) (from string, where []string, args []any) {
	// and adds a condition. Each ? in it stands for the next value.
	and := func(cond string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, cond)
	}
	from = "hubhook.delivery d"
	if f.Endpoint != "" {
		and("d.endpoint = ?", store.Hash(f.Endpoint))
	}
	switch state := store.StateNumber(f.State); {
	case f.State == "":
	case state < 0:
		and("false")
	case state < store.StateDone:
		from += " JOIN hubhook.unfinished u ON u.id = d.id"
		and("u.state = ?::smallint", state)
		and("d.state = ?::smallint", state)
	case state == store.StateDone:
		and("d.state = ?::smallint", state)
	default:
		and("d.unusual = ?::smallint", state)
	}
	if f.State != "" {
		// Avoids a search through all deliveries if none is in that state.
		cond, values := "EXISTS (SELECT FROM hubhook.tally t WHERE t.state = ?::smallint HAVING sum(t.n) > 0)", []any{store.StateNumber(f.State)}
		if f.Endpoint != "" {
			cond, values = strings.Replace(cond, " HAVING", " AND t.endpoint = ? HAVING", 1), append(values, store.Hash(f.Endpoint))
		}
		and(cond, values...)
	} else if f.Endpoint != "" {
		and("EXISTS (SELECT FROM hubhook.tally t WHERE t.endpoint = ? HAVING sum(t.n) > 0)", store.Hash(f.Endpoint))
	}
	if f.Scope != "" {
		and("(d.scope = ? OR starts_with(d.scope, ?))", escapeText(f.Scope), escapeText(f.Scope+"."))
	}
	if f.Action != "" {
		and("d.action = ?", escapeText(f.Action))
	}
	if f.Repo != "" {
		if kind, name, ok := strings.Cut(f.Repo, ":"); ok {
			and("d.repo_type = ? AND d.repo_name = ?", escapeText(kind), escapeText(name))
		} else {
			and("d.repo_name = ?", escapeText(f.Repo))
		}
	}
	if !f.Since.IsZero() {
		// An ID is never older than the time of receipt, so it bounds the search. It may be newer, after the clock was set back.
		var first ulid.ULID
		if first.SetTime(uint64(max(0, f.Since.UnixMilli()))) == nil {
			and("d.id >= ?", pgtype.UUID{Bytes: first, Valid: true})
		}
		and("d.received >= ?", f.Since.UnixNano())
	}
	if f.Unreplayed {
		and("d.replays = 0")
	}
	if f.Before != "" {
		id, _ := store.ParseID(f.Before)
		and("d.id < ?", uuidOf(id))
	}
	if f.Query != "" {
		q := strings.ToLower(escapeText(f.Query))
		cond := `strpos(lower(d.webhook_id COLLATE "C"), ?) > 0 OR strpos(lower(d.repo_name COLLATE "C"), ?) > 0 OR strpos(lower(d.reason COLLATE "C"), ?) > 0`
		values := []any{q, q, q}
		if store.MaybeID(f.Query) {
			in, more := idPart(f.Query)
			cond += " OR " + in
			values = append(values, more...)
		}
		and("("+cond+")", values...)
	}
	return from, where, args
}

// idPart returns a condition for IDs that contain a part, and its values. An ID is 26 digits of 5 bits each; the first two bits are always
// 0. Comparing bits at each digit is exact, but slow. So the condition first looks for the whole bytes that the part has at each possible
// digit, and compares bits only in IDs that have them.
func idPart(part string) (cond string, values []any) {
	var bits string
	for _, digit := range strings.ToUpper(part) {
		bits += fmt.Sprintf("%05b", strings.IndexRune(ulid.Encoding, digit))
	}
	const whole = "B'00' || ('x' || encode(uuid_send(d.id), 'hex'))::bit(128)"
	var places, bytes []string
	seen := map[string]bool{}
	for i := range ulid.EncodedSize - len(part) + 1 {
		places = append(places, fmt.Sprintf("substring(%s FROM %d FOR %d)", whole, 5*i+1, len(bits)))
		begin := 5*i - 2 // the part's first bit within the id
		first, end := (max(0, begin)+7)/8*8, (begin+len(bits))/8*8
		pattern := []byte{}
		for bit := first; bit < end; bit += 8 {
			n, err := strconv.ParseUint(bits[bit-begin:bit-begin+8], 2, 8)
			if err != nil {
				panic(err) // they are zeros and ones
			}
			pattern = append(pattern, byte(n))
		}
		if !seen[string(pattern)] {
			seen[string(pattern)] = true
			bytes = append(bytes, "position(?::bytea IN uuid_send(d.id)) > 0")
			values = append(values, pattern)
		}
	}
	exact := "(?::text)::varbit IN (" + strings.Join(places, ", ") + ")"
	return "CASE WHEN " + strings.Join(bytes, " OR ") + " THEN " + exact + " ELSE false END", append(values, bits)
}

// Load implements store.Engine.
func (rd *reads) Load(ctx context.Context, id ulid.ULID) (*store.Stored, error) {
	ctx, cancel := rd.reading(ctx)
	defer cancel()
	doing := "read delivery " + id.String() + " from the database"
	rows, err := queryRows(ctx, rd.db.readers, loadQuery, pgx.NamedArgs{"id": uuidOf(id)})
	if err != nil {
		return nil, rd.db.failed(doing, err)
	}
	if len(rows) == 0 {
		return nil, store.ErrNotFound
	}
	s, err := rd.db.stored(&rows[0])
	return s, rd.db.failed(doing, err)
}

// Get implements store.Engine.
func (rd *reads) Get(ctx context.Context, id ulid.ULID) (*store.Record, error) {
	s, err := rd.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	doing := "read the attempts of " + id.String() + " from the database"
	r := &store.Record{Delivery: s.Delivery, Header: s.Header, Body: s.Body, Merged: s.Merged}
	ctx, cancel := rd.reading(ctx)
	defer cancel()
	rows, err := rd.db.readers.Query(ctx, attemptsQuery, pgx.NamedArgs{"delivery": uuidOf(id)})
	if err != nil {
		return nil, rd.db.failed(doing, err)
	}
	r.AttemptList, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a store.Attempt, err error) {
		a.Ended = true
		var started int64
		err = row.Scan(&a.N, &started, &a.Duration, &a.Error, &a.Stack, &a.Output, &a.Result)
		a.Started, a.Error, a.Stack = time.Unix(0, started), unescapeText(a.Error), unescapeText(a.Stack)
		return a, err
	})
	if err != nil {
		return nil, rd.db.failed(doing, err)
	}
	r.AddUnwritten(s.Started)
	return r, nil
}

// errNoNotifications says that notifications do not arrive.
var errNoNotifications = errors.New("no notification arrives; a pooler in transaction mode may be in between")
