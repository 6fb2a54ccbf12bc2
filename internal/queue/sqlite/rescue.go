package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"

	"github.com/hubhook/hubhook/internal/queue/store"

	"github.com/hubhook/hubhook/internal/queue/sqlite/salvage"
)

// rescue fills a new database with what is left of a damaged one.
type rescue struct {
	*writer
	pages   *salvage.File
	layouts []*salvage.Table
	inserts map[string]map[int]*statement // by table and number of columns
	due     map[int64]dueAt               // unfinished deliveries by key, from the index delivery_due
	ended   map[int64]int64               // states of finished deliveries that are not done, by key, from the index delivery_unusual
	names   map[int64]string              // endpoints by number, from an index
	stored  summary                       // the summary of the damaged database
	any     bool                          // a row of one of our tables was found
}

type dueAt struct{ endpoint, at int64 }

func newRescue(path string, pages *salvage.File) (_ *rescue, err error) {
	s := &rescue{pages: pages, due: map[int64]dueAt{}, ended: map[int64]int64{}, names: map[int64]string{}}
	if s.layouts, err = layouts(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	conn, err := (&sqlite.Driver{}).Open((&file{path: path}).dsn(url.Values{"_error_rc": {"1"}}))
	if err != nil {
		return nil, err
	}
	s.writer = &writer{conn: conn}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// The complete file is synced once, at the end. After an error it is removed.
	for _, q := range []string{"PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -64000"} {
		if err := s.exec(q); err != nil {
			return nil, err
		}
	}
	if err := s.migrate(migrations); err != nil {
		return nil, err
	}
	s.inserts = map[string]map[int]*statement{}
	for _, l := range s.layouts {
		s.inserts[l.Name] = map[int]*statement{}
		for n := range l.Counts {
			var names []string
			for _, c := range l.Columns[:n] {
				names = append(names, c.Name)
			}
			q := fmt.Sprintf("INSERT OR IGNORE INTO %s (%s) VALUES (?%s)", l.Name, strings.Join(names, ", "), strings.Repeat(",?", n-1))
			insert, err := prepare(conn, q)
			if err != nil {
				return nil, err
			}
			s.inserts[l.Name][n] = insert
			s.prepared = append(s.prepared, insert)
		}
	}
	return s, s.exec("BEGIN")
}

// read copies all rows that can be read.
func (s *rescue) read(ctx context.Context, progress func(done, total int)) error {
	if err := s.pages.Each(ctx, progress, s.keep); err != nil {
		return err
	}
	if !s.any {
		return fileError(errors.New("no page of it is one of hubhook's database: nothing is left to save"),
			"move the file away, and restore a backup if you have one; hubhook begins with an empty database where there is none")
	}
	return nil
}

// keep stores a row in the new database if it fits one of our tables, and notes it if it is an entry of an index. sure says that the row
// belongs to the database now, rather than to a free page or an older copy.
func (s *rescue) keep(r salvage.Row, sure bool) error {
	for _, l := range s.layouts {
		if !l.Fits(r) {
			continue
		}
		s.any = true
		values := slices.Clone(r.Values)
		for i, c := range l.Columns[:len(values)] {
			if c.Key {
				values[i] = r.Key
			}
		}
		switch l.Name {
		case "delivery":
			if !plausible(r) {
				return nil
			}
		case "content":
			header, _ := values[1].([]byte)
			body, _ := values[2].([]byte)
			if checkContent(header, body, values[3].(int64)) != nil {
				return nil
			}
		case "summary":
			if text, ok := values[1].([]byte); ok {
				// Without the old summary only Vanished is unknown: summarize makes a new one.
				_ = json.Unmarshal(text, &s.stored)
			}
			return nil
		}
		if l.Name == "mark" {
			// Of two copies the newer one is right: the deliveries before it are stored.
			if err := s.exec("DELETE FROM mark WHERE key = ? AND version < ?", values[0], values[1]); err != nil {
				return err
			}
		}
		args := make([]any, len(values))
		for i, v := range values {
			args[i] = v
		}
		return s.inserts[l.Name][len(values)].exec(args...)
	}
	s.keepEntry(r, sure)
	return nil
}

// plausible reports whether a row can be a delivery: its state exists, and its key is not older than its time of receipt.
func plausible(r salvage.Row) bool {
	state, received := r.Values[2].(int64), r.Values[3].(int64)
	return r.Key > 0 && state >= 0 && state < store.StateCount && store.KeyAt(time.Unix(0, received)) <= r.Key
}

// keepEntry notes what an entry of an index says, in case the row of its table is lost: an endpoint's name, a due time or a state.
func (s *rescue) keepEntry(r salvage.Row, sure bool) {
	if !r.Index {
		return
	}
	number := func(i int) (n int64, ok bool) { n, ok = r.Values[i].(int64); return n, ok }
	// Each entry ends in the key of the row.
	switch n := len(r.Values); {
	case n == 2: // index of endpoint (name)
		name, ok := r.Values[0].(string)
		if id, ok2 := number(1); ok && ok2 {
			s.names[id] = name
		}
	case n == 3 && sure: // delivery_unusual (state, id)
		state, ok := number(0)
		id, ok2 := number(1)
		if key, ok3 := number(2); ok && ok2 && ok3 && id == key && state > store.StateDone && state < store.StateCount {
			s.ended[key] = state
		}
	case n == 4 && sure: // delivery_due (endpoint, run_at, id)
		endpoint, ok := number(0)
		at, ok2 := number(1)
		id, ok3 := number(2)
		if key, ok4 := number(3); ok && ok2 && ok3 && ok4 && id == key {
			s.due[key] = dueAt{endpoint, at}
		}
	}
}

// finish completes the new database and reports what it contains.
func (s *rescue) finish(now time.Time) (*Recovery, error) {
	r := &Recovery{}
	for _, step := range []func(*Recovery) error{s.nameEndpoints, s.rebuild, s.catchUp, s.nameLosses, s.nameEndpoints} {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	if err := s.summarize(r, now); err != nil {
		return nil, err
	}
	r.BadPages = len(s.pages.BadPages)
	return r, s.exec("COMMIT")
}

// nameEndpoints stores the endpoints that deliveries refer to and that are not stored yet. It makes up a name where none was found.
func (s *rescue) nameEndpoints(r *Recovery) error {
	for id, name := range s.names {
		if err := s.exec("INSERT OR IGNORE INTO endpoint (id, name) VALUES (?, ?)", id, name); err != nil {
			return err
		}
	}
	nameless, err := s.query("SELECT DISTINCT endpoint FROM delivery WHERE endpoint NOT IN (SELECT id FROM endpoint) ORDER BY 1")
	if err != nil {
		return err
	}
	for _, row := range nameless {
		name := fmt.Sprintf("recovered-%d", row[0])
		r.Renamed = append(r.Renamed, name)
		if err := s.exec("INSERT INTO endpoint (id, name) VALUES (?, ?)", row[0], name); err != nil {
			return err
		}
	}
	return nil
}

// rebuild makes records of deliveries of which only content, attempts or an entry of delivery_due are left.
func (s *rescue) rebuild(r *Recovery) error {
	rows, err := s.query(`SELECT id FROM (SELECT id FROM content UNION SELECT delivery FROM attempt) WHERE id NOT IN (SELECT id FROM delivery)`)
	if err != nil {
		return err
	}
	keys := map[int64]bool{}
	for _, row := range rows {
		keys[row[0].(int64)] = true
	}
	for key := range s.due {
		if there, err := s.query("SELECT 1 FROM delivery WHERE id = ?", key); err != nil {
			return err
		} else if len(there) == 0 {
			keys[key] = true
		}
	}
	known, err := s.query("SELECT id FROM endpoint ORDER BY id")
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(keys) {
		endpoint := int64(0) // stands for an unknown endpoint
		if len(known) == 1 {
			endpoint = known[0][0].(int64)
		}
		state, reason, runAt := int64(store.StateDead), any(unknownEndReason), any(nil)
		attempts, err := s.query("SELECT n, error IS NULL FROM attempt WHERE delivery = ? ORDER BY n DESC LIMIT 1", key)
		if err != nil {
			return err
		}
		n := int64(0)
		if len(attempts) > 0 {
			n = attempts[0][0].(int64)
			if attempts[0][1].(int64) != 0 {
				state, reason = store.StateDone, nil
			}
		}
		if d, ok := s.due[key]; ok {
			state, reason, runAt, endpoint = store.StateWaiting, nil, d.at, d.endpoint
		} else if ended, ok := s.ended[key]; ok {
			state, reason = ended, recordLostReason
		}
		webhookID, err := s.webhookID(key)
		if err != nil {
			return err
		}
		received := time.UnixMilli(key >> store.ClockBits).UnixNano()
		if err := s.exec("INSERT INTO delivery (id, endpoint, state, received, attempts, run_at, webhook_id, reason) VALUES (?,?,?,?,?,?,?,?)",
			key, endpoint, state, received, n, runAt, webhookID, reason); err != nil {
			return err
		}
		r.Rebuilt = append(r.Rebuilt, store.FromKey(key).String())
	}
	return nil
}

func sortedKeys(set map[int64]bool) []int64 {
	keys := make([]int64, 0, len(set))
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// webhookID returns the Webhook-Id among a delivery's headers.
func (s *rescue) webhookID(key int64) (any, error) {
	rows, err := s.query("SELECT header FROM content WHERE id = ?", key)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	packed, _ := rows[0][0].([]byte)
	header, err := store.UnpackHeader(packed)
	if err != nil {
		return nil, err
	}
	return textOrNull(store.StoredWebhookID(header.Get("Webhook-Id"))), nil
}

// catchUp updates records whose page is an older copy than the page of their attempts. A delivery that may not have ended becomes waiting
// again.
func (s *rescue) catchUp(*Recovery) error {
	stale, err := s.query(`SELECT d.id, d.state, a.n, a.error IS NULL FROM delivery d JOIN attempt a ON a.delivery = d.id
		WHERE a.n = (SELECT max(n) FROM attempt WHERE delivery = d.id) AND a.n >= d.attempts + (d.state <> ?)`, int64(store.StateRunning))
	if err != nil {
		return err
	}
	for _, row := range stale {
		state, runAt := row[1].(int64), any(nil)
		switch {
		case state >= store.StateDone:
		case row[3].(int64) != 0:
			state = store.StateDone
		default:
			state, runAt = store.StateWaiting, int64(0)
		}
		if err := s.exec("UPDATE delivery SET state = ?, attempts = ?, run_at = ? WHERE id = ?", state, row[2], runAt, row[0]); err != nil {
			return err
		}
	}
	return nil
}

// nameLosses reports which deliveries have lost their content or attempts. Unfinished ones become dead if their content is lost, because
// they can't run without it.
func (s *rescue) nameLosses(r *Recovery) error {
	ids := func(query string, args ...any) (ids []string, err error) {
		rows, err := s.query(query, args...)
		for _, row := range rows {
			ids = append(ids, store.FromKey(row[0].(int64)).String())
		}
		return ids, err
	}
	const noContent = " FROM delivery WHERE id NOT IN (SELECT id FROM content)"
	var err error
	if r.LostContent, err = ids("SELECT id" + noContent + " ORDER BY id"); err != nil {
		return err
	}
	if r.Died, err = ids("SELECT id"+noContent+" AND state < ? ORDER BY id", int64(store.StateDone)); err != nil {
		return err
	}
	if err := s.exec("UPDATE delivery SET state = ?, reason = ?, run_at = NULL WHERE state < ? AND id NOT IN (SELECT id FROM content)",
		int64(store.StateDead), ContentLostReason, int64(store.StateDone)); err != nil {
		return err
	}
	// The attempt that runs is not stored yet.
	r.LostAttempts, err = ids(`SELECT d.id FROM delivery d LEFT JOIN attempt a ON a.delivery = d.id AND a.n <= d.attempts
		WHERE d.attempts > 0 AND d.state <> ? GROUP BY d.id HAVING count(a.n) < d.attempts - (d.state = ?) ORDER BY d.id`,
		int64(store.StateDiscarded), int64(store.StateRunning))
	return err
}

// summarize stores a new summary.
func (s *rescue) summarize(r *Recovery, now time.Time) error {
	sum := summary{Last: max(s.stored.Last, store.KeyAt(now)), Clean: true, Counts: map[int64]*[store.StateCount]int64{}}
	rows, err := s.query("SELECT endpoint, state, count(*), max(id), min(id) FROM delivery GROUP BY 1, 2")
	if err != nil {
		return err
	}
	sum.Low = sum.Last + 1
	for _, row := range rows {
		endpoint, state := row[0].(int64), row[1].(int64)
		if sum.Counts[endpoint] == nil {
			sum.Counts[endpoint] = new([store.StateCount]int64)
		}
		sum.Counts[endpoint][state] = row[2].(int64)
		sum.Last = max(sum.Last, row[3].(int64))
		if state == store.StateRunning {
			sum.Low = min(sum.Low, row[4].(int64))
		}
	}
	for _, n := range sum.Counts {
		r.count(n)
	}
	row, err := s.queryRow("SELECT count(*) FROM delivery WHERE id < ?", s.stored.from())
	if err != nil {
		return err
	}
	r.Vanished = max(0, s.stored.sum()-int(row[0].(int64)))
	return s.exec("INSERT OR REPLACE INTO summary (id, value) VALUES (1, ?)", sum.encode())
}

// layouts returns the layouts of the tables of the newest schema. Their rows may have the columns of any version.
func layouts() ([]*salvage.Table, error) {
	var all []*salvage.Table
	for version := 1; version <= len(migrations); version++ {
		conn, err := (&sqlite.Driver{}).Open(":memory:")
		if err != nil {
			return nil, err
		}
		w := &writer{conn: conn}
		err = w.migrate(migrations[:version])
		if err == nil {
			all, err = w.layouts(all)
		}
		if err := errors.Join(err, w.close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// layouts returns the layouts of the tables of w. It adds the numbers of columns that rows had in earlier versions, from before.
func (w *writer) layouts(before []*salvage.Table) (now []*salvage.Table, err error) {
	tables, err := w.query("SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		l := &salvage.Table{Name: t[0].(string), Index: t[1].(int64) != 0, Counts: map[int]bool{}}
		for _, b := range before {
			if b.Name == l.Name {
				l.Counts = b.Counts
			}
		}
		columns, err := w.query(`SELECT name, type, "notnull", pk FROM pragma_table_info(?) ORDER BY cid`, l.Name)
		if err != nil {
			return nil, err
		}
		for _, c := range columns {
			l.Columns = append(l.Columns, salvage.Column{
				Name: c[0].(string), Kind: c[1].(string), Required: c[2].(int64) != 0, Key: c[3].(int64) != 0 && !l.Index,
			})
		}
		l.Counts[len(l.Columns)] = true
		now = append(now, l)
	}
	return now, nil
}

func checkContent(header, body []byte, encoding int64) error {
	if _, err := store.UnpackHeader(header); err != nil {
		return err
	}
	_, err := store.UnpackBody(body, encoding)
	return err
}

const (
	ContentLostReason = "its content was lost when the database was damaged"
	recordLostReason  = "its record was lost when the database was damaged"
	unknownEndReason  = "its record was lost when the database was damaged; whether it was handled is not known"
)
