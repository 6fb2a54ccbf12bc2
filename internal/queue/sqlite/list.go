package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	// fewUnfinished is up to how many deliveries of a state are found by the index of the unfinished ones. Where there are
	// more, a search through the newest of all finds a page of them sooner.
	fewUnfinished = 5000
	// defaultSplitRows is from how many on a search goes through the newest of them first; most find enough there.
	defaultSplitRows = 50_000
)

// span is a range of keys, from is in it and to is not.
type span struct{ from, to int64 }

const inSpan = "d.id >= ? AND d.id < ?"

// search finds up to n deliveries in a span, newest first.
type search func(ctx context.Context, in span, n int) ([]store.Delivery, error)

// List implements store.Engine.
func (rd *reads) List(ctx context.Context, f store.Filter) ([]store.Delivery, string, error) {
	where, args, looks := rd.where(f)
	if looks == 0 {
		return nil, "", nil
	}
	all := span{to: math.MaxInt64}
	if f.Before != "" {
		id, _ := store.ParseID(f.Before)
		all.to = store.Key(id)
	}
	find := rd.searchRows(where, args)
	if f.Query != "" {
		find = rd.searchText(where, args, f.Query)
	}
	if len(where) == 0 && f.Query == "" {
		looks = 0 // any will do
	}
	// One more than asked for shows whether there are more.
	ds, err := rd.find(ctx, find, all, f.Limit+1, int(looks))
	if err != nil {
		return nil, "", rd.file.lookError("list deliveries", err)
	}
	if len(ds) > f.Limit {
		ds = ds[:f.Limit]
		return ds, ds[len(ds)-1].ID, nil
	}
	return ds, "", nil
}

// searchRows looks for rows that meet conditions.
func (rd *reads) searchRows(where []string, args []any) search {
	query := "SELECT " + columns + " FROM delivery d WHERE " + strings.Join(append(slices.Clone(where), inSpan), " AND ") +
		" ORDER BY d.id DESC LIMIT ?"
	return func(ctx context.Context, in span, n int) ([]store.Delivery, error) {
		return rd.deliveries(ctx, query, append(slices.Clone(args), in.from, in.to, n)...)
	}
}

// searchText looks for rows with a text in their id, Webhook-Id, repo or reason, in any case of letters.
func (rd *reads) searchText(where []string, args []any, text string) search {
	// Few have a reason, and to see that there is none is quicker than to look through it.
	const matches = `(d.webhook_id LIKE ? ESCAPE '\' OR d.repo_name LIKE ? ESCAPE '\' OR d.reason IS NOT NULL AND d.reason LIKE ? ESCAPE '\')`
	pattern := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%"
	patterns := []any{pattern, pattern, pattern}
	if !store.MaybeID(text) {
		return rd.searchRows(append(slices.Clone(where), matches), append(slices.Clone(args), patterns...))
	}
	// Of an id the database knows the key alone, so that the rest is looked at here.
	part := []byte(strings.ToUpper(text))
	query := "SELECT d.id, " + matches + " FROM delivery d WHERE " + strings.Join(append(slices.Clone(where), inSpan), " AND ") +
		" ORDER BY d.id DESC"
	args = append(patterns, args...)
	return func(ctx context.Context, in span, n int) ([]store.Delivery, error) {
		var keys []string
		var id [ulid.EncodedSize]byte
		err := rd.each(ctx, query, append(slices.Clone(args), in.from, in.to), func(row []driver.Value) error {
			key, found := row[0].(int64), row[1] == int64(1)
			if !found {
				if err := store.FromKey(key).MarshalTextTo(id[:]); err != nil {
					return err
				}
				found = bytes.Contains(id[:], part)
			}
			if found {
				if keys = append(keys, strconv.FormatInt(key, 10)); len(keys) == n {
					return errEnough
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) || len(keys) == 0 {
			return nil, err
		}
		return rd.deliveries(ctx, "SELECT "+columns+" FROM delivery d WHERE d.id IN ("+strings.Join(keys, ",")+") ORDER BY d.id DESC")
	}
}

// errEnough ends a search that has found what it was asked for.
var errEnough = errors.New("enough")

// each calls do with each row of a query, past database/sql, which costs as much for each row as the query does.
func (rd *reads) each(ctx context.Context, query string, args []any, do func(row []driver.Value) error) error {
	db, err := rd.reader()
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	n := 0
	return conn.Raw(func(c any) error {
		return (&writer{conn: c.(driver.Conn)}).each(query, args, func(row []driver.Value) error {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			return do(row)
		})
	})
}

// find returns up to n deliveries that are found. Where many have to be looked at, it goes through the newest first, and if
// these are not enough, through the rest in two halves at the same time.
func (rd *reads) find(ctx context.Context, find search, all span, n, looks int) ([]store.Delivery, error) {
	if looks < rd.file.cfg.splitRows {
		return find(ctx, all, n)
	}
	first := rd.file.cfg.splitRows / 2
	newest, rest, err := rd.split(ctx, all, first)
	if err != nil {
		return nil, err
	}
	found, err := find(ctx, newest, n)
	if err != nil || len(found) >= n {
		return found, err
	}
	newer, older, err := rd.split(ctx, rest, (looks-first)/2)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		ds  []store.Delivery
		err error
	}
	half := make(chan result, 1)
	lacking := n - len(found)
	go func() {
		ds, err := find(ctx, older, lacking)
		half <- result{ds, err}
	}()
	ds, err := find(ctx, newer, lacking)
	found = append(found, ds...)
	if err != nil || len(found) >= n {
		cancel() // the other half is of no use
		<-half
		return found, err
	}
	rested := <-half
	found = append(found, rested.ds...)
	return found[:min(n, len(found))], rested.err
}

// split divides a span after its newest n deliveries.
func (rd *reads) split(ctx context.Context, in span, n int) (newer, older span, err error) {
	db, err := rd.reader()
	if err != nil {
		return in, span{}, err
	}
	var at int64
	err = db.QueryRowContext(ctx, "SELECT id FROM delivery WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1 OFFSET ?", in.from, in.to, n).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return in, span{}, nil
	}
	return span{at, in.to}, span{in.from, at}, err
}
