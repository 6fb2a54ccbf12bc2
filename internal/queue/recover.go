package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// Names beside hubhook.db. What is being recovered has the first suffix until it is whole and synced; then it is renamed
// to the second with the time, and from there on takes hubhook.db's place, whoever finds it. What was damaged keeps the
// third with the same time.
const (
	recoveringSuffix = ".recovering"
	recoveredSuffix  = ".recovered-"
	damagedSuffix    = ".damaged-"
)

// besideDatabase are the endings of the files that make up a database.
var besideDatabase = []string{"-wal", "-shm", ""}

const (
	contentLostReason = "its content was lost when the database was damaged"
	recordLostReason  = "its record was lost when the database was damaged"
	unknownEndReason  = "its record was lost when the database was damaged; whether it was handled is not known"
)

// RecoverConfig says what Recover is to do.
type RecoverConfig struct {
	// Dir is the data directory.
	Dir string
	// Progress is told how many pages of how many have been read. Default: nobody is told.
	Progress func(done, total int)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Recovery says what Recover found and did.
type Recovery struct {
	// Sound: nothing is damaged, and nothing was changed. The fields after Unfinished are empty then.
	Sound      bool
	Database   string // path of hubhook.db
	Deliveries int    // in it
	Unfinished int    // of those; they run at the next start

	Kept         string   // path of the damaged file; what was beside it has the same name with -wal and -shm
	BadPages     int      // of that file, as far as could be seen
	LostContent  []string // IDs of deliveries without headers and body
	Died         []string // those among them that were unfinished, and are dead now
	LostAttempts []string // IDs of deliveries that had more attempts than are left
	Rebuilt      []string // IDs of deliveries whose record was lost, and which were put together from the rest
	Renamed      []string // endpoints whose name was lost, by the name that they have now
	Vanished     int      // deliveries of which nothing is left, as far as the counts that were kept tell; they may lack the last few before an unclean end
}

// Recover makes a new database of all that can be read of a damaged one. The damaged file is kept beside it. No process may
// have the queue open; otherwise the error is a *LockedError. If Recover is killed, the damaged file is still in its place,
// or the next Recover or Open ends what was begun.
func Recover(ctx context.Context, c RecoverConfig) (*Recovery, error) {
	if c.Progress == nil {
		c.Progress = func(int, int) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	path := filepath.Join(c.Dir, databaseName)
	if err := anyDatabase(c.Dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	r, err := recoverDatabase(ctx, path, c)
	if err != nil {
		err = fmt.Errorf("recover %s: %w", path, err)
	}
	return r, errors.Join(err, lock.Close())
}

// anyDatabase says that there is none in dir, so that asking for one makes nothing there.
func anyDatabase(dir string) error {
	found, err := filepath.Glob(filepath.Join(escapeGlob(dir), databaseName+"*"))
	if err == nil && len(found) > 0 {
		return nil
	}
	return noDatabase(dir)
}

// escapeGlob makes a pattern of path that matches it alone.
func escapeGlob(path string) string {
	return strings.NewReplacer(`*`, `[*]`, `?`, `[?]`, `[`, `[[]`).Replace(path)
}

func recoverDatabase(ctx context.Context, path string, c RecoverConfig) (*Recovery, error) {
	if err := finishRecovery(path); err != nil {
		return nil, err
	}
	pages, err := openPages(path)
	if err != nil {
		return nil, &advised{cause(err), dirAdvice(err)}
	}
	r, made, err := salvageDatabase(ctx, path, pages, c)
	if err := errors.Join(err, pages.close()); err != nil || r.Sound {
		return r, err
	}
	stamp := c.Now().UTC().Format("20060102T150405Z")
	r.Kept = path + damagedSuffix + stamp
	if err := os.Rename(made, path+recoveredSuffix+stamp); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := finishRecovery(path); err != nil {
		return nil, err
	}
	return r, nil
}

// finishRecovery puts a database that was recovered in its place, if there is one that is not there yet.
func finishRecovery(path string) error {
	found, err := filepath.Glob(escapeGlob(path+recoveredSuffix) + "*")
	if err != nil || len(found) == 0 {
		return err
	}
	recovered := found[0]
	kept := path + damagedSuffix + strings.TrimPrefix(recovered, path+recoveredSuffix)
	// The log first: it must never meet the new database.
	for _, end := range besideDatabase {
		if err := os.Rename(path+end, kept+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the damaged %s: %w", path+end, cause(err))
		}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Rename(recovered, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// salvageDatabase makes a database of what can be read of pages, and returns its path. If all is sound it makes none.
func salvageDatabase(ctx context.Context, path string, pages *pageFile, c RecoverConfig) (r *Recovery, made string, err error) {
	if v := pages.userVersion(); v > len(migrations) {
		err := &newerSchemaError{have: v, know: len(migrations)}
		return nil, "", &advised{err, databaseAdvice(err)}
	}
	if !pages.walDamaged {
		if r, err := inspect(ctx, path); err == nil {
			return r, "", nil
		} else if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
	}
	recovering := path + recoveringSuffix
	remove := func() error {
		for _, end := range besideDatabase {
			if err := os.Remove(recovering + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	if err := remove(); err != nil { // what a killed one left
		return nil, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(salvageError(err), remove())
		}
	}()
	s, err := newSalvage(recovering, pages)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		err = errors.Join(err, s.close())
		if err == nil {
			err = syncFile(recovering)
		}
	}()
	if err := s.read(ctx, c.Progress); err != nil {
		return nil, "", err
	}
	r, err = s.finish(c.Now())
	if err != nil {
		return nil, "", err
	}
	r.Database = path
	return r, recovering, nil
}

// salvageError adds advice to what kept a new database from being written.
func salvageError(err error) error {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) || errors.Is(err, context.Canceled) {
		return err
	}
	return &advised{err, databaseAdvice(err)}
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// inspect reads the whole database as SQLite does. The error says what of it is not sound.
func inspect(ctx context.Context, path string) (_ *Recovery, err error) {
	query := url.Values{"mode": {"ro"}, "_pragma": {"query_only(1)"}}
	if log, err := os.Stat(path + "-wal"); err != nil || log.Size() == 0 {
		query.Set("immutable", "1") // so that SQLite makes no files beside it
	}
	_, noShared := os.Stat(path + "-shm")
	db, err := sql.Open("sqlite", (&sqliteEngine{path: path}).dsn(query))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	defer func() {
		err = errors.Join(err, db.Close())
		if noShared != nil {
			os.Remove(path + "-shm") // made for this look alone; who opens the database next makes it anew
		}
	}()
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&found); err != nil {
		return nil, err
	}
	if found != "ok" {
		return nil, errors.New(found)
	}
	var text []byte
	if err := db.QueryRowContext(ctx, "SELECT value FROM summary").Scan(&text); err != nil {
		return nil, err
	}
	var kept summary
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, err
	}
	counts, err := countRows(ctx, db, 0)
	if err != nil {
		return nil, err
	}
	newest, err := countRows(ctx, db, kept.from())
	if err != nil {
		return nil, err
	}
	for endpoint, n := range newest {
		if kept.Counts[endpoint] == nil {
			kept.Counts[endpoint] = new([stateCount]int64)
		}
		for state := range n {
			kept.Counts[endpoint][state] += n[state]
		}
	}
	r := &Recovery{Sound: true, Database: path}
	for endpoint, n := range kept.Counts {
		if counts[endpoint] == nil {
			counts[endpoint] = new([stateCount]int64)
		}
		if *n != *counts[endpoint] {
			return nil, errors.New("the counts kept are not those of the rows")
		}
		r.count(n)
	}
	if len(counts) > len(kept.Counts) {
		return nil, errors.New("the counts kept lack an endpoint")
	}
	rows, err := db.QueryContext(ctx, "SELECT header, body, encoding FROM content")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var header, body sql.RawBytes
		var encoding int64
		if err := rows.Scan(&header, &body, &encoding); err != nil {
			return nil, err
		}
		if err := checkContent(header, body, encoding); err != nil {
			return nil, err
		}
	}
	return r, rows.Err()
}

func (r *Recovery) count(states *[stateCount]int64) {
	for state, n := range states {
		r.Deliveries += int(n)
		if state < stateDone {
			r.Unfinished += int(n)
		}
	}
}

// querier is *sql.DB as far as it is needed here.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// countRows counts the deliveries by endpoint and state.
func countRows(ctx context.Context, db querier, from int64) (map[int64]*[stateCount]int64, error) {
	counts := map[int64]*[stateCount]int64{}
	rows, err := db.QueryContext(ctx, "SELECT endpoint, state, count(*) FROM delivery WHERE id >= ? GROUP BY 1, 2", from)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var endpoint, state, n int64
		if err := rows.Scan(&endpoint, &state, &n); err != nil {
			return nil, err
		}
		if state < 0 || state >= stateCount {
			return nil, fmt.Errorf("there is no state %d", state)
		}
		if counts[endpoint] == nil {
			counts[endpoint] = new([stateCount]int64)
		}
		counts[endpoint][state] = n
	}
	return counts, rows.Err()
}

func checkContent(header, body []byte, encoding int64) error {
	if _, err := unpackHeader(header); err != nil {
		return err
	}
	_, err := unpackBody(body, encoding)
	return err
}

// layout is what the rows of a table look like.
type layout struct {
	table   string
	columns []layoutColumn
	counts  map[int]bool // how many columns its rows may have: a version of the schema may have added some
	index   bool         // its rows are entries of an index, WITHOUT ROWID
	insert  map[int]*statement
}

type layoutColumn struct {
	name     string
	kind     string // INTEGER, TEXT or BLOB
	required bool
	key      bool // the row's key stands for it
}

// layouts returns the layouts of the tables, those that the newest schema has.
func layouts() ([]*layout, error) {
	var all []*layout
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

// layouts brings what an earlier version of the schema has up to date.
func (w *writer) layouts(before []*layout) (now []*layout, err error) {
	tables, err := w.query("SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		l := &layout{table: t[0].(string), index: t[1].(int64) != 0, counts: map[int]bool{}, insert: map[int]*statement{}}
		for _, b := range before {
			if b.table == l.table {
				l.counts = b.counts
			}
		}
		columns, err := w.query(`SELECT name, type, "notnull", pk FROM pragma_table_info(?) ORDER BY cid`, l.table)
		if err != nil {
			return nil, err
		}
		for _, c := range columns {
			l.columns = append(l.columns, layoutColumn{
				name: c[0].(string), kind: c[1].(string), required: c[2].(int64) != 0, key: c[3].(int64) != 0 && !l.index,
			})
		}
		l.counts[len(l.columns)] = true
		now = append(now, l)
	}
	return now, nil
}

// fits reports whether r can be a row of the table.
func (l *layout) fits(r row) bool {
	if r.index != l.index || !l.counts[len(r.values)] {
		return false
	}
	for i, v := range r.values {
		c := l.columns[i]
		if v == nil {
			if c.required && !c.key {
				return false
			}
			continue
		}
		switch v.(type) {
		case int64:
			if c.kind != "INTEGER" || c.key {
				return false
			}
		case string:
			if c.kind != "TEXT" {
				return false
			}
		case []byte:
			if c.kind != "BLOB" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// salvage is a new database that is made of a damaged one.
type salvage struct {
	*writer
	pages   *pageFile
	layouts []*layout
	lost    map[int64]bool  // keys of contents that were found and can't be unpacked
	due     map[int64]dueAt // by key, from an index: which deliveries are unfinished
	ended   map[int64]int64 // by key, from an index: in which state those ended that are not done
	names   map[int64]string
	kept    summary
	any     bool
	unsure  bool // the page that is being read may no longer count
}

type dueAt struct{ endpoint, at int64 }

func newSalvage(path string, pages *pageFile) (_ *salvage, err error) {
	s := &salvage{pages: pages, lost: map[int64]bool{}, due: map[int64]dueAt{}, ended: map[int64]int64{}, names: map[int64]string{}}
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
	conn, err := (&sqlite.Driver{}).Open((&sqliteEngine{path: path}).dsn(url.Values{"_error_rc": {"1"}}))
	if err != nil {
		return nil, err
	}
	s.writer = &writer{conn: conn}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// The file is synced as a whole at the end, and thrown away if it doesn't come to that.
	for _, q := range []string{"PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -64000"} {
		if err := s.exec(q); err != nil {
			return nil, err
		}
	}
	if err := s.migrate(migrations); err != nil {
		return nil, err
	}
	for _, l := range s.layouts {
		for n := range l.counts {
			var names []string
			for _, c := range l.columns[:n] {
				names = append(names, c.name)
			}
			q := fmt.Sprintf("INSERT OR IGNORE INTO %s (%s) VALUES (?%s)", l.table, strings.Join(names, ", "), strings.Repeat(",?", n-1))
			if l.insert[n], err = prepare(conn, q); err != nil {
				return nil, err
			}
			s.prepared = append(s.prepared, l.insert[n])
		}
	}
	return s, s.exec("BEGIN")
}

// read copies what can be read: first from pages that count, then from those of which that is not known, which may hold
// what was removed or has changed since.
func (s *salvage) read(ctx context.Context, progress func(done, total int)) error {
	var unsurePages []uint32
	total := int(s.pages.count)
	for n := uint32(1); n <= s.pages.count; n++ {
		if n%64 == 1 {
			progress(int(n-1), total)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		switch s.pages.liveness(n) {
		case live:
			if err := s.pages.rows(n, s.keep); err != nil {
				return err
			}
		case unsure:
			unsurePages = append(unsurePages, n)
		}
	}
	s.unsure = true
	for _, n := range unsurePages {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.pages.rows(n, s.keep); err != nil {
			return err
		}
	}
	progress(total, total)
	if !s.any {
		return &advised{errors.New("no page of it is one of hubhook's database: nothing is left to save"),
			"move the file away, and restore a backup if you have one; hubhook begins with an empty database where there is none"}
	}
	return nil
}

// keep stores a row in the new database, if it is one of ours.
func (s *salvage) keep(r row) error {
	for _, l := range s.layouts {
		if !l.fits(r) {
			continue
		}
		s.any = true
		values := slices.Clone(r.values)
		for i, c := range l.columns[:len(values)] {
			if c.key {
				values[i] = r.key
			}
		}
		switch l.table {
		case "delivery":
			if !plausible(r) {
				return nil
			}
		case "content":
			header, _ := values[1].([]byte)
			body, _ := values[2].([]byte)
			if checkContent(header, body, values[3].(int64)) != nil {
				s.lost[r.key] = true
				return nil
			}
		case "summary":
			if text, ok := values[1].([]byte); ok {
				// One that can't be read is worth nothing, and is made anew.
				_ = json.Unmarshal(text, &s.kept)
			}
			return nil
		}
		args := make([]any, len(values))
		for i, v := range values {
			args[i] = v
		}
		return l.insert[len(values)].exec(args...)
	}
	s.keepEntry(r)
	return nil
}

// plausible reports whether a row can be that of a delivery: its state is one, and its key is of its time or later.
func plausible(r row) bool {
	state, received := r.values[2].(int64), r.values[3].(int64)
	return r.key > 0 && state >= 0 && state < stateCount && keyAt(time.Unix(0, received)) <= r.key
}

// keepEntry notes what an index says that a lost row of its table said: the names of endpoints, and what is unfinished.
func (s *salvage) keepEntry(r row) {
	if !r.index {
		return
	}
	number := func(i int) (n int64, ok bool) { n, ok = r.values[i].(int64); return n, ok }
	// Each ends in the row's key.
	switch n := len(r.values); {
	case n == 2: // of endpoint (name)
		name, ok := r.values[0].(string)
		if id, ok2 := number(1); ok && ok2 {
			s.names[id] = name
		}
	case n == 3 && !s.unsure: // of delivery_unusual (state, id)
		state, ok := number(0)
		id, ok2 := number(1)
		if key, ok3 := number(2); ok && ok2 && ok3 && id == key && state > stateDone && state < stateCount {
			s.ended[key] = state
		}
	case n == 4 && !s.unsure: // of delivery_due (endpoint, run_at, id)
		endpoint, ok := number(0)
		at, ok2 := number(1)
		id, ok3 := number(2)
		if key, ok4 := number(3); ok && ok2 && ok3 && ok4 && id == key {
			s.due[key] = dueAt{endpoint, at}
		}
	}
}

// finish completes the new database and says what it holds.
func (s *salvage) finish(now time.Time) (*Recovery, error) {
	r := &Recovery{}
	for _, step := range []func(*Recovery) error{s.nameEndpoints, s.rebuild, s.catchUp, s.nameLosses, s.nameEndpoints} {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	if err := s.summarize(r, now); err != nil {
		return nil, err
	}
	r.BadPages = len(s.pages.badPages)
	return r, s.exec("COMMIT")
}

// nameEndpoints makes sure that each endpoint that a delivery has is there.
func (s *salvage) nameEndpoints(r *Recovery) error {
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

// rebuild makes records for deliveries of which the rest is there.
func (s *salvage) rebuild(r *Recovery) error {
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
		endpoint := int64(0) // of which nothing is known
		if len(known) == 1 {
			endpoint = known[0][0].(int64)
		}
		state, reason, runAt := int64(stateDead), any(unknownEndReason), any(nil)
		attempts, err := s.query("SELECT n, error IS NULL FROM attempt WHERE delivery = ? ORDER BY n DESC LIMIT 1", key)
		if err != nil {
			return err
		}
		n := int64(0)
		if len(attempts) > 0 {
			n = attempts[0][0].(int64)
			if attempts[0][1].(int64) != 0 {
				state, reason = stateDone, nil
			}
		}
		if d, ok := s.due[key]; ok {
			state, reason, runAt, endpoint = stateWaiting, nil, d.at, d.endpoint
		} else if ended, ok := s.ended[key]; ok {
			state, reason = ended, recordLostReason
		}
		webhookID, err := s.webhookID(key)
		if err != nil {
			return err
		}
		received := time.UnixMilli(key >> clockBits).UnixNano()
		if err := s.exec("INSERT INTO delivery (id, endpoint, state, received, attempts, run_at, webhook_id, reason) VALUES (?,?,?,?,?,?,?,?)",
			key, endpoint, state, received, n, runAt, webhookID, reason); err != nil {
			return err
		}
		r.Rebuilt = append(r.Rebuilt, idFromKey(key).String())
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
func (s *salvage) webhookID(key int64) (any, error) {
	rows, err := s.query("SELECT header FROM content WHERE id = ?", key)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	packed, _ := rows[0][0].([]byte)
	header, err := unpackHeader(packed)
	if err != nil {
		return nil, err
	}
	return text(storedWebhookID(header.Get("Webhook-Id"))), nil
}

// catchUp brings records up to date that come from an older copy of their page than their attempts. What may not have
// ended runs again.
func (s *salvage) catchUp(*Recovery) error {
	stale, err := s.query(`SELECT d.id, d.state, a.n, a.error IS NULL FROM delivery d JOIN attempt a ON a.delivery = d.id
		WHERE a.n = (SELECT max(n) FROM attempt WHERE delivery = d.id) AND a.n >= d.attempts + (d.state <> ?)`, int64(stateRunning))
	if err != nil {
		return err
	}
	for _, row := range stale {
		state, runAt := row[1].(int64), any(nil)
		switch {
		case state >= stateDone:
		case row[3].(int64) != 0:
			state = stateDone
		default:
			state, runAt = stateWaiting, int64(0)
		}
		if err := s.exec("UPDATE delivery SET state = ?, attempts = ?, run_at = ? WHERE id = ?", state, row[2], runAt, row[0]); err != nil {
			return err
		}
	}
	return nil
}

// nameLosses says which deliveries have lost their content or attempts. One that is unfinished can't run without its content.
func (s *salvage) nameLosses(r *Recovery) error {
	ids := func(query string, args ...any) (ids []string, err error) {
		rows, err := s.query(query, args...)
		for _, row := range rows {
			ids = append(ids, idFromKey(row[0].(int64)).String())
		}
		return ids, err
	}
	const noContent = " FROM delivery WHERE id NOT IN (SELECT id FROM content)"
	var err error
	if r.LostContent, err = ids("SELECT id" + noContent + " ORDER BY id"); err != nil {
		return err
	}
	if r.Died, err = ids("SELECT id"+noContent+" AND state < ? ORDER BY id", int64(stateDone)); err != nil {
		return err
	}
	if err := s.exec("UPDATE delivery SET state = ?, reason = ?, run_at = NULL WHERE state < ? AND id NOT IN (SELECT id FROM content)",
		int64(stateDead), contentLostReason, int64(stateDone)); err != nil {
		return err
	}
	// One that runs has no attempt yet that has ended.
	r.LostAttempts, err = ids(`SELECT d.id FROM delivery d LEFT JOIN attempt a ON a.delivery = d.id AND a.n <= d.attempts
		WHERE d.attempts > 0 AND d.state <> ? GROUP BY d.id HAVING count(a.n) < d.attempts - (d.state = ?) ORDER BY d.id`,
		int64(stateDiscarded), int64(stateRunning))
	return err
}

// summarize stores what is kept beside the deliveries.
func (s *salvage) summarize(r *Recovery, now time.Time) error {
	sum := summary{Last: max(s.kept.Last, keyAt(now)), Clean: true, Counts: map[int64]*[stateCount]int64{}}
	rows, err := s.query("SELECT endpoint, state, count(*), max(id), min(id) FROM delivery GROUP BY 1, 2")
	if err != nil {
		return err
	}
	sum.Low = sum.Last + 1
	for _, row := range rows {
		endpoint, state := row[0].(int64), row[1].(int64)
		if sum.Counts[endpoint] == nil {
			sum.Counts[endpoint] = new([stateCount]int64)
		}
		sum.Counts[endpoint][state] = row[2].(int64)
		sum.Last = max(sum.Last, row[3].(int64))
		if state == stateRunning {
			sum.Low = min(sum.Low, row[4].(int64))
		}
	}
	for _, n := range sum.Counts {
		r.count(n)
	}
	row, err := s.queryRow("SELECT count(*) FROM delivery WHERE id < ?", s.kept.from())
	if err != nil {
		return err
	}
	r.Vanished = max(0, s.kept.sum()-int(row[0].(int64)))
	return s.exec("INSERT OR REPLACE INTO summary (id, value) VALUES (1, ?)", sum.encode())
}
