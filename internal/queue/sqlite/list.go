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
	// fewUnfinished is up to how many deliveries of an unfinished state List finds them by the index of unfinished ones. With more of
	// them, a search through all deliveries, newest first, fills a page sooner.
	fewUnfinished = 5000
	// defaultSplitRows is from how many rows on a search is split. It then reads the newest rows first, where most searches find enough.
	defaultSplitRows = 50_000
)

// span is the range of keys from <= key < to.
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
		looks = 0 // every row matches, so no search is needed
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

// searchRows returns a search for rows that meet the conditions.
func (rd *reads) searchRows(where []string, args []any) search {
	query := "SELECT " + columns + " FROM delivery d WHERE " + strings.Join(append(slices.Clone(where), inSpan), " AND ") +
		" ORDER BY d.id DESC LIMIT ?"
	return func(ctx context.Context, in span, n int) ([]store.Delivery, error) {
		return rd.deliveries(ctx, query, append(slices.Clone(args), in.from, in.to, n)...)
	}
}

// searchText returns a search for rows with a text in their ID, Webhook-Id, repo or reason, in upper or lower case.
func (rd *reads) searchText(where []string, args []any, text string) search {
	// Few rows have a reason, and IS NOT NULL is quicker than LIKE.
	const matches = `(d.webhook_id LIKE ? ESCAPE '\' OR d.repo_name LIKE ? ESCAPE '\' OR d.reason IS NOT NULL AND d.reason LIKE ? ESCAPE '\')`
	pattern := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%"
	patterns := []any{pattern, pattern, pattern}
	if !store.MaybeID(text) {
		return rd.searchRows(append(slices.Clone(where), matches), append(slices.Clone(args), patterns...))
	}
	// The database has the key only, not the text of the ID. So each key is turned into text and compared here.
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

// each calls do with each row of a query. It calls the driver directly, because database/sql takes as long for a row as the query does.
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

// find returns the newest n deliveries that a search finds in a span. If many rows have to be read, it reads the newest of them first. If
// these are not enough, it reads the rest in two halves at the same time.
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
		cancel() // the older half is not needed
		<-half
		return found, err
	}
	old := <-half
	found = append(found, old.ds...)
	return found[:min(n, len(found))], old.err
}

// split splits a span after its newest n deliveries.
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
