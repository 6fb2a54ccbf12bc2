package queue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// databaseName is that of the database in the data directory.
const databaseName = "hubhook.db"

const (
	// defaultWALBytes is the size of the write-ahead log from which the writer empties it between two commits. A log that
	// has been this long is written over from its beginning, which also makes a sync cheaper than one that makes a file grow.
	defaultWALBytes = 16 << 20
	// walParts is in how many parts, by estimate, another connection moves a log of that length into the database. It
	// bounds how much the writer has left to do itself.
	walParts = 4
	// walFrame is what a page takes in the log.
	walFrame = 4096 + 24
)

type sqliteConfig struct {
	warn func(error)
	vfs  string // name of a registered VFS, for tests; "" for the system's
	// synchronous is for the test that shows that FULL is needed; "" for FULL.
	synchronous string
	walBytes    int64 // 0 for defaultWALBytes
	splitRows   int   // 0 for defaultSplitRows
	partRows    int   // 0 for defaultPartRows
}

// sqliteEngine is the engine on one SQLite file, which this process alone owns. One connection writes, outside of
// database/sql, whose pool costs a lone delivery as much as the insert does.
type sqliteEngine struct {
	cfg  sqliteConfig
	path string

	// Of the goroutine that has the right to commit.
	w          *writer
	summary    summary
	direct     map[int64]struct{} // running deliveries that did not wait, and so are in no index
	commits    int                // since summary.Low was last brought up to date
	unsaid     int                // commits since the summary was last stored
	broken     error              // a sync failed: what is on disk is unknown until the file is opened anew
	forgotten  []ulid.ULID
	webhooks   webhooks
	preloading *preloading // nil without one, and once it was waited for
	unwritten  int         // bytes, by estimate, since the last kick of the checkpointer
	greatest   int64       // of the numbers that stand for endpoints

	mu        sync.Mutex
	readers   *sql.DB // nil until they are needed
	endpoints map[string]int64
	names     map[int64]string
	shown     map[int64]*[stateCount]int64 // counts as of the last commit
	low       int64
	closed    bool

	damaged atomic.Pointer[error]
	restart atomic.Bool   // the log is so long that the writer should empty it
	ckpt    sync.Mutex    // held during a checkpoint
	kick    chan struct{} // asks for a checkpoint
	life    context.Context
	end     context.CancelFunc
	tasks   sync.WaitGroup
}

// summary is what is kept beside the deliveries, in the same transactions, so that opening need not count them.
type summary struct {
	Last   int64                        `json:"last"`           // the greatest key ever
	Low    int64                        `json:"low"`            // no delivery before it runs without having waited
	Base   int64                        `json:"base,omitempty"` // as stored, Counts has no delivery from it on; 0: it has all
	Clean  bool                         `json:"clean"`          // closed in order
	Counts map[int64]*[stateCount]int64 `json:"counts"`
}

// summaryEvery is how many commits may go by without the summary, as long as they change nothing that the stored one counts: it is a page of
// its own, and one of three or four that a lone delivery writes. What has come since then is counted at the next start.
const summaryEvery = 16

// countNewer adds the deliveries from Base on, if there are any, of which rows are endpoint, state, number and greatest key.
func (s *summary) countNewer(rows [][]driver.Value) error {
	for _, row := range rows {
		endpoint, state := row[0].(int64), row[1].(int64)
		if state < 0 || state >= stateCount {
			return fmt.Errorf("there is no state %d", state)
		}
		if s.Counts[endpoint] == nil {
			s.Counts[endpoint] = new([stateCount]int64)
		}
		s.Counts[endpoint][state] += row[2].(int64)
		s.Last = max(s.Last, row[3].(int64))
	}
	return nil
}

// newer is the query for countNewer. Its argument is that of from.
const newer = "SELECT endpoint, state, count(*), max(id) FROM delivery WHERE id >= ? GROUP BY 1, 2"

// sum is how many deliveries Counts has.
func (s *summary) sum() (n int) {
	for _, states := range s.Counts {
		for _, count := range states {
			n += int(count)
		}
	}
	return n
}

// from is the key of the first delivery that the stored counts do not have.
func (s *summary) from() int64 {
	if s.Base == 0 {
		return math.MaxInt64
	}
	return s.Base
}

// writer is the connection that writes, with its statements.
type writer struct {
	conn  driver.Conn
	level string // its PRAGMA synchronous

	begin, commit            *statement
	insert, content, attempt *statement
	finish, start, discard   *statement
	row, duplicate, replays  *statement
	heldBack, merge, burst   *statement
	survivor                 *statement
	removals                 [3]*statement
	summary                  *statement

	prepared []*statement
}

// openSQLite opens the database at path, makes it if there is none, brings its schema up to date, and has what was
// running when an earlier process died wait to run again.
func openSQLite(ctx context.Context, path string, cfg sqliteConfig) (_ *sqliteEngine, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.synchronous == "" {
		cfg.synchronous = "FULL"
	}
	if cfg.walBytes == 0 {
		cfg.walBytes = defaultWALBytes
	}
	if cfg.splitRows == 0 {
		cfg.splitRows = defaultSplitRows
	}
	if cfg.partRows == 0 {
		cfg.partRows = defaultPartRows
	}
	e := &sqliteEngine{cfg: cfg, path: path, direct: map[int64]struct{}{}, kick: make(chan struct{}, 1), webhooks: newWebhooks()}
	e.life, e.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = e.openError(err)
			if e.w != nil {
				err = errors.Join(err, e.w.close())
			}
			e.end()
		}
	}()
	if err := finishRecovery(path); err != nil {
		return nil, err
	}
	// SQLite would make the file with the umask's mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, err
	}
	if err := e.connect(info.Size() == 0); err != nil {
		return nil, err
	}
	if err := e.readSummary(); err != nil {
		return nil, err
	}
	unclean := !e.summary.Clean
	if err := e.recoverInterrupted(); err != nil {
		return nil, err
	}
	if err := remoteWarning(filepath.Dir(path)); err != nil {
		cfg.warn(err)
	}
	e.tasks.Go(e.checkpointer)
	if unclean {
		e.tasks.Go(e.check)
	}
	return e, nil
}

// openError says which file could not be opened, why, and what to do.
func (e *sqliteEngine) openError(err error) error {
	return &advised{fmt.Errorf("open database %s: %w", e.path, cause(err)), databaseAdvice(err)}
}

// databaseAdvice says what to do about a database that can't be used.
func databaseAdvice(err error) string {
	var newer *newerSchemaError
	if errors.As(err, &newer) {
		return "use that version of hubhook or a later one, or choose another data directory"
	}
	if sqliteCode(err) == sqlite3.SQLITE_IOERR_SHMSIZE {
		return "the disk is full; free some space"
	}
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return "if it was a database of hubhook, hubhook deliveries recover saves what can be read; otherwise move it away, or choose another data directory"
	case sqlite3.SQLITE_CORRUPT:
		return damagedAdvice
	case sqlite3.SQLITE_FULL:
		return "the disk is full; free some space"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return "give this user the right to write to the file and its directory, or choose another data directory"
	case sqlite3.SQLITE_BUSY:
		return "another program has the file open; end it"
	}
	return dirAdvice(err)
}

type newerSchemaError struct{ have, know int }

func (e *newerSchemaError) Error() string {
	return fmt.Sprintf("it was written by a later version of hubhook (schema %d, this one knows %d)", e.have, e.know)
}

func sqliteCode(err error) int {
	var se *sqlite.Error
	if errors.As(err, &se) {
		return se.Code()
	}
	return 0
}

// dsn returns the name of the database for the driver.
func (e *sqliteEngine) dsn(query url.Values) string {
	if e.cfg.vfs != "" {
		query.Set("vfs", e.cfg.vfs)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(e.path), RawQuery: query.Encode()}
	if !filepath.IsAbs(e.path) {
		u = url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(e.path)}).EscapedPath(), RawQuery: query.Encode()}
	}
	return u.String()
}

// connect opens the writing connection and brings the schema up to date.
func (e *sqliteEngine) connect(empty bool) error {
	conn, err := (&sqlite.Driver{}).Open(e.dsn(url.Values{"_error_rc": {"1"}}))
	if err != nil {
		return err
	}
	e.w = &writer{conn: conn}
	pragmas := []string{"PRAGMA busy_timeout = 5000"}
	if empty {
		// Nothing is there that a journal on disk could bring back, and its syncs are most of what a first start takes.
		pragmas = append(pragmas, "PRAGMA journal_mode = MEMORY")
	}
	for _, q := range append(pragmas,
		"PRAGMA auto_vacuum = INCREMENTAL", // without effect unless it comes before the first table
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = "+e.cfg.synchronous,
		"PRAGMA wal_autocheckpoint = 0",
		"PRAGMA fullfsync = 1", // without it, macOS syncs to the drive's cache
		"PRAGMA checkpoint_fullfsync = 1",
		"PRAGMA cache_size = -8000",
	) {
		if err := e.w.exec(q); err != nil {
			return err
		}
	}
	e.w.level = e.cfg.synchronous
	if err := e.w.migrate(migrations); err != nil {
		return err
	}
	return e.w.prepare()
}

// migrate brings the schema up to date, each step in a transaction of its own.
func (w *writer) migrate(steps []string) error {
	row, err := w.queryRow("PRAGMA user_version")
	if err != nil {
		return err
	}
	have := int(row[0].(int64))
	if have > len(steps) {
		return &newerSchemaError{have: have, know: len(steps)}
	}
	for i, step := range steps[have:] {
		q := fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA user_version = %d; COMMIT", step, have+i+1)
		if err := w.exec(q); err != nil {
			return errors.Join(fmt.Errorf("bring the schema to version %d: %w", have+i+1, err), w.undo())
		}
	}
	return nil
}

func (w *writer) prepare() error {
	for _, s := range []struct {
		to    **statement
		query string
	}{
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.insert, `INSERT INTO delivery (id, endpoint, state, received, attempts, synthetic, started, run_at, replay_of,
			scope, action, repo_type, repo_name, webhook_id, reason, serial, debounce, burst)
			VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`},
		{&w.content, "INSERT INTO content (id, header, body, encoding) VALUES (?,?,?,?)"},
		{&w.row, "SELECT " + columns + " FROM delivery d WHERE d.id = ?"},
		{&w.duplicate, "UPDATE delivery SET duplicates = duplicates + 1 WHERE id = ?"},
		{&w.replays, "UPDATE delivery SET replays = replays + 1 WHERE id = ?"},
		{&w.attempt, `INSERT INTO attempt (delivery, n, started, duration, error, stack, output, result)
			VALUES (?,?,?,?,?,?,?,?)`},
		{&w.finish, `UPDATE delivery SET state = ?, reason = ?, failures = ?, attempts = ?, duration = ?, run_at = ?,
			started = coalesce(?, started) WHERE id = ?`},
		{&w.start, "UPDATE delivery SET state = 1, attempts = attempts + 1, started = ?, debounce = NULL WHERE id = ? AND state IN (0, 2)"},
		{&w.discard, "UPDATE delivery SET state = 7, reason = ?, run_at = NULL, debounce = NULL WHERE id = ?"},
		{&w.heldBack, "SELECT " + columns + " FROM delivery d WHERE d.endpoint = ? AND d.debounce = ?"},
		{&w.merge, "UPDATE delivery SET state = 6, merged_into = ?, run_at = NULL, debounce = NULL WHERE id = ?"},
		{&w.burst, "UPDATE delivery SET merged_into = ?1 WHERE burst = (SELECT burst FROM delivery WHERE id = ?1) AND id < ?1"},
		{&w.survivor, "SELECT max(s.id), s.state FROM delivery d JOIN delivery s ON s.burst = d.burst WHERE d.id = ?"},
		{&w.removals[0], "DELETE FROM delivery WHERE id = ?"},
		{&w.removals[1], "DELETE FROM content WHERE id = ?"},
		{&w.removals[2], "DELETE FROM attempt WHERE delivery = ?"},
		{&w.summary, "INSERT OR REPLACE INTO summary (id, value) VALUES (1, ?)"},
	} {
		var err error
		if *s.to, err = prepare(w.conn, s.query); err != nil {
			return err
		}
		w.prepared = append(w.prepared, *s.to)
	}
	return nil
}

// close closes the connection. SQLite keeps one open as long as it has statements.
func (w *writer) close() error {
	var err error
	for _, s := range w.prepared {
		err = errors.Join(err, s.s.Close())
	}
	return errors.Join(err, w.conn.Close())
}

// undo ends a transaction that failed. SQLite has ended some of them itself by then.
func (w *writer) undo() error {
	if err := w.exec("ROLLBACK"); err != nil && sqliteCode(err) != sqlite3.SQLITE_ERROR {
		return err
	}
	return nil
}

// setLevel sets what a commit waits for. Changing it costs about a microsecond.
func (w *writer) setLevel(level string) error {
	if w.level == level {
		return nil
	}
	if err := w.exec("PRAGMA synchronous = " + level); err != nil {
		return err
	}
	w.level = level
	return nil
}

func (e *sqliteEngine) readSummary() error {
	e.summary = summary{Clean: true, Counts: map[int64]*[stateCount]int64{}}
	e.endpoints, e.names, e.greatest = map[string]int64{}, map[int64]string{}, 0
	rows, err := e.w.query("SELECT value FROM summary")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := json.Unmarshal(row[0].([]byte), &e.summary); err != nil {
			return fmt.Errorf("read the summary: %w", err)
		}
	}
	if rows, err = e.w.query(newer, e.summary.from()); err == nil {
		err = e.summary.countNewer(rows)
	}
	if err != nil {
		return fmt.Errorf("count the newest deliveries: %w", err)
	}
	rows, err = e.w.query("SELECT id, name FROM endpoint")
	if err != nil {
		return err
	}
	for _, row := range rows {
		e.endpoints[row[1].(string)], e.names[row[0].(int64)] = row[0].(int64), row[1].(string)
		e.greatest = max(e.greatest, row[0].(int64))
	}
	for id := range e.names {
		e.countsOf(id)
	}
	e.publish()
	return nil
}

// countsOf returns the counts of an endpoint, to be changed.
func (e *sqliteEngine) countsOf(endpoint int64) *[stateCount]int64 {
	n := e.summary.Counts[endpoint]
	if n == nil {
		n = new([stateCount]int64)
		e.summary.Counts[endpoint] = n
	}
	return n
}

// publish makes the counts of the last commit those that readers get.
func (e *sqliteEngine) publish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shown == nil || len(e.shown) != len(e.summary.Counts) {
		e.shown = make(map[int64]*[stateCount]int64, len(e.summary.Counts))
	}
	for id, n := range e.summary.Counts {
		if e.shown[id] == nil {
			e.shown[id] = new([stateCount]int64)
		}
		*e.shown[id] = *n
	}
	e.low = e.summary.Low
}

// recoverInterrupted makes what was running when the last process died wait to run at once, or dead if that has happened
// too often. In the file, the summary is no longer that of an orderly end from here on.
func (e *sqliteEngine) recoverInterrupted() error {
	w := e.w
	running, err := w.query(`SELECT id, endpoint, attempts, interruptions, started FROM delivery
		INDEXED BY delivery_due WHERE state = 1 AND run_at IS NOT NULL
		UNION SELECT id, endpoint, attempts, interruptions, started FROM delivery WHERE state = 1 AND id >= ?`, e.summary.Low)
	if err != nil {
		return err
	}
	return e.transact("NORMAL", func() error {
		e.summary.Clean = false
		for _, row := range running {
			id, endpoint, n, interruptions := row[0].(int64), row[1].(int64), row[2].(int64), row[3].(int64)+1
			started, _ := row[4].(int64)
			counts := e.countsOf(endpoint)
			counts[stateRunning]--
			state, reason, runAt := int64(stateWaiting), any(nil), any(int64(0))
			if interruptions >= deadAfter {
				state, reason, runAt = stateDead, diedReason, nil
			}
			counts[state]++
			if err := w.exec("UPDATE delivery SET state = ?, reason = ?, run_at = ?, interruptions = ? WHERE id = ?",
				state, reason, runAt, interruptions, id); err != nil {
				return err
			}
			if err := w.attempt.exec(id, n, started, int64(0), interruptedText, nil, nil, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// transact runs change in a transaction that also stores the summary, and waits for what level says. If it fails, the
// summary is as it was.
func (e *sqliteEngine) transact(level string, change func() error) error {
	return e.transaction(level, func() ([]byte, error) {
		if err := change(); err != nil {
			return nil, err
		}
		return e.sumUp(e.summary.Last + 1), nil
	})
}

// sumUp returns the summary to be stored, which counts the deliveries before base: all that are stored by now.
func (e *sqliteEngine) sumUp(base int64) []byte {
	e.summary.Base, e.unsaid = base, 0
	return e.summary.encode()
}

// transaction is transact with the summary to store from change, nil for none.
func (e *sqliteEngine) transaction(level string, change func() (summary []byte, err error)) (err error) {
	before := e.summary
	before.Counts = make(map[int64]*[stateCount]int64, len(e.summary.Counts))
	for id, n := range e.summary.Counts {
		c := *n
		before.Counts[id] = &c
	}
	if err := e.w.setLevel(level); err != nil {
		return err
	}
	if err := e.w.begin.exec(); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		e.summary = before
		if sqliteCode(err) == sqlite3.SQLITE_IOERR_FSYNC {
			e.broken = err
		}
		if undo := e.w.undo(); undo != nil {
			e.broken = err
			err = errors.Join(err, undo)
		}
	}()
	sum, err := change()
	if err != nil {
		return err
	}
	if sum != nil {
		if err := e.w.summary.exec(sum); err != nil {
			return err
		}
	}
	if err := e.w.commit.exec(); err != nil {
		return err
	}
	e.publish()
	return nil
}

// commit implements engine. Arrivals are synced; starts and outcomes alone are not, since the death of the process loses
// no page that was written, and after a power cut they would merely happen again.
func (e *sqliteEngine) commit(b *batch) error {
	if b.empty() {
		return nil
	}
	if p := e.damaged.Load(); p != nil {
		return *p
	}
	if err := e.reopen(); err != nil {
		return err
	}
	e.emptyLog()
	level := e.cfg.synchronous
	if len(b.arrivals)+len(b.discards) == 0 {
		level = "NORMAL"
	}
	greatest := e.greatest
	err := e.transaction(level, func() ([]byte, error) { return e.apply(b) })
	e.webhooks.settle(err == nil)
	if err != nil {
		e.unmake(greatest)
		return e.commitError(err)
	}
	for _, k := range b.ends {
		delete(e.direct, idKey(k.id))
	}
	for _, a := range b.arrivals {
		if a.first == nil && a.d.State == Running {
			e.direct[idKey(a.d.id)] = struct{}{}
		}
	}
	e.noteWritten(b)
	return nil
}

func (e *sqliteEngine) commitError(err error) error {
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return e.setDamaged(err)
	case sqlite3.SQLITE_FULL:
		return &advised{fmt.Errorf("write to %s: %w", e.path, err), "free some space"}
	}
	return fmt.Errorf("write to %s: %w", e.path, err)
}

// showsDamage reports whether a reader's error says that the database is damaged. Then nothing is stored in it any more, and the first
// such error is warned of.
func (e *sqliteEngine) showsDamage(err error) bool {
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
	default:
		return false
	}
	damage := error(&damagedError{path: e.path, err: err})
	if e.damaged.CompareAndSwap(nil, &damage) {
		e.cfg.warn(damage)
	}
	return true
}

func (e *sqliteEngine) setDamaged(err error) error {
	err = &damagedError{path: e.path, err: err}
	e.damaged.Store(&err)
	return err
}

const damagedAdvice = "stop hubhook and run: hubhook deliveries recover\nit saves what can be read into a new database, and keeps the damaged one"

// damagedError says that the database can no longer be trusted.
type damagedError struct {
	path string
	err  error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("database %s is damaged: %v", e.path, e.err)
}

// Hint returns what to do.
func (e *damagedError) Hint() string { return damagedAdvice }

func (e *damagedError) Unwrap() error { return e.err }

func (e *sqliteEngine) outage(err error) bool {
	var damaged *damagedError
	if errors.As(err, &damaged) {
		return true
	}
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
		sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return e.broken != nil
}

// forget implements engine. Only where a sync failed may the log hold a commit that was refused.
func (e *sqliteEngine) forget(ids []ulid.ULID) {
	if e.broken != nil {
		e.forgotten = append(e.forgotten, ids...)
	}
}

// reopen opens the file anew after a failed sync: what the system still holds of it may not be what is on disk.
func (e *sqliteEngine) reopen() error {
	if e.broken == nil {
		return nil
	}
	e.ckpt.Lock()
	defer e.ckpt.Unlock()
	e.mu.Lock()
	readers := e.readers
	e.readers = nil
	e.mu.Unlock()
	if readers != nil {
		if err := readers.Close(); err != nil {
			return fmt.Errorf("reopen %s after a failed sync: %w", e.path, err)
		}
	}
	if e.w != nil {
		// An error of closing tells nothing new: the connection is given up because it failed.
		_ = e.w.close()
		e.w = nil
	}
	if err := e.connect(false); err != nil {
		if e.w != nil {
			err = errors.Join(err, e.w.close())
			e.w = nil
		}
		return fmt.Errorf("reopen %s after a failed sync: %w", e.path, err)
	}
	e.broken = nil
	if err := e.readSummary(); err != nil {
		e.broken = err
		return err
	}
	return e.transact(e.cfg.synchronous, func() error {
		for _, id := range e.forgotten {
			key := idKey(id)
			row, err := e.w.row.queryRow(key)
			if err != nil {
				return err
			}
			if row == nil {
				continue
			}
			e.countsOf(row[colEndpoint].(int64))[row[colState].(int64)]--
			if err := e.w.remove(key); err != nil {
				return err
			}
		}
		e.forgotten = nil
		return nil
	})
}

// remove deletes a delivery and all that is kept of it.
func (w *writer) remove(key int64) error {
	for _, s := range w.removals {
		if err := s.exec(key); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the changes of a batch, and returns the summary to be stored with them, nil for none.
func (e *sqliteEngine) apply(b *batch) (sum []byte, err error) {
	for _, k := range b.ends {
		if err := e.applyEnd(k); err != nil {
			return nil, err
		}
	}
	for _, d := range b.discards {
		if err := e.applyDiscard(d); err != nil {
			return nil, err
		}
	}
	for _, s := range b.starts {
		if err := e.applyStart(s); err != nil {
			return nil, err
		}
	}
	if e.commits++; e.commits >= 64 || len(e.direct) == 0 {
		e.commits = 0
		low := e.summary.Last + 1 // what arrives comes after it
		for key := range e.direct {
			low = min(low, key)
		}
		e.summary.Low = low
	}
	e.unsaid++
	whole := mergesOrRests(b)
	if !whole && (e.unsaid >= summaryEvery || e.changesCounted(b)) {
		// How what arrives ends changes nothing of it, so one after the other needs no other summary for a while.
		sum = e.sumUp(e.summary.Last + 1)
	}
	for _, a := range b.arrivals {
		if err := e.applyArrival(a); err != nil {
			return nil, err
		}
	}
	if whole {
		sum = e.sumUp(e.summary.Last + 1)
	}
	return sum, nil
}

// mergesOrRests reports whether the summary of a batch has to have its arrivals too: they may change what came before them, or there are
// none, and so no sender waits for it.
func mergesOrRests(b *batch) bool {
	return len(b.arrivals) == 0 || slices.ContainsFunc(b.arrivals, func(a *arrival) bool { return a.burst != nil })
}

// changesCounted reports whether a batch changes a delivery that the stored summary counts.
func (e *sqliteEngine) changesCounted(b *batch) bool {
	return len(b.starts)+len(b.discards) > 0 || slices.ContainsFunc(b.ends, func(k *ending) bool { return idKey(k.id) < e.summary.Base })
}

func (e *sqliteEngine) applyArrival(a *arrival) error {
	w, d, key := e.w, &a.d, idKey(a.d.id)
	a.first = nil
	endpoint, err := e.endpoint(d.Endpoint)
	if err != nil {
		return err
	}
	if a.dedupe {
		if dup, err := e.findFirst(a, endpoint); err != nil || dup {
			return err
		}
	}
	state := stateNumber(d.State)
	var started, runAt, replayOf, serial, debounce, burst any
	if a.burst != nil {
		if err := e.mergeBurst(a, endpoint); err != nil {
			return err
		}
		debounce, burst = a.burst.key, d.burst
	}
	if d.serial != 0 {
		serial = d.serial
	}
	switch d.State {
	case Running:
		started = d.started.UnixNano()
	case Waiting:
		runAt = d.Received.UnixNano()
		if a.burst != nil {
			runAt = a.runAt.UnixNano()
		}
	}
	if a.replayOf != (ulid.ULID{}) {
		replayOf = idKey(a.replayOf)
		if err := w.replays.exec(replayOf); err != nil {
			return err
		}
	}
	if err := w.insert.exec(key, endpoint, state, d.Received.UnixNano(), int64(d.Attempts), d.Synthetic, started, runAt,
		replayOf, text(d.Scope), text(d.Action), text(d.RepoType), text(d.RepoName), text(d.WebhookID), text(d.Reason),
		serial, debounce, burst); err != nil {
		return err
	}
	if err := w.content.exec(key, a.header, a.body, a.encoding); err != nil {
		return err
	}
	if a.stack != "" {
		if err := w.attempt.exec(key, int64(1), d.Received.UnixNano(), int64(0), text(d.Reason), a.stack, nil, nil); err != nil {
			return err
		}
	}
	e.countsOf(endpoint)[state]++
	e.summary.Last = max(e.summary.Last, key)
	return nil
}

// mergeBurst merges the delivery that is held back for an arrival's burst, if there is one, into the arrival, and says when
// the arrival is due.
func (e *sqliteEngine) mergeBurst(a *arrival, endpoint int64) error {
	key := idKey(a.d.id)
	a.merged, a.d.burst, a.runAt = nil, key, a.d.Received.Add(a.burst.wait)
	row, err := e.w.heldBack.queryRow(endpoint, a.burst.key)
	if err != nil || row == nil {
		return err
	}
	m := e.stored(row)
	m.State, m.MergedInto = Merged, a.d.ID
	a.merged, a.d.burst = m, m.burst
	if last := idFromKey(m.burst).Timestamp().Add(a.burst.maxWait); a.burst.maxWait > 0 && a.runAt.After(last) {
		a.runAt = last
	}
	counts := e.countsOf(endpoint)
	counts[stateWaiting]--
	counts[stateMerged]++
	return e.w.merge.exec(key, idKey(m.id))
}

func (e *sqliteEngine) applyStart(s *start) error {
	s.lost = false
	n, err := e.w.start.execCount(s.at.UnixNano(), idKey(s.id))
	if err != nil {
		return err
	}
	if n == 0 {
		s.lost = true
		return nil
	}
	if s.burst && s.from == Waiting {
		if err := e.w.burst.exec(idKey(s.id)); err != nil {
			return err
		}
	}
	endpoint, err := e.endpoint(s.endpoint)
	if err != nil {
		return err
	}
	counts := e.countsOf(endpoint)
	counts[stateNumber(s.from)]--
	counts[stateRunning]++
	return nil
}

func (e *sqliteEngine) applyEnd(k *ending) error {
	key := idKey(k.id)
	at := &k.attempt
	var runAt, started any
	if !k.runAt.IsZero() && !k.to.Finished() {
		runAt = k.runAt.UnixNano()
	}
	if at.N > 0 {
		started = at.Started.UnixNano()
	}
	if err := e.w.finish.exec(stateNumber(k.to), text(k.reason), int64(k.failures), int64(k.attempts), int64(at.Duration),
		runAt, started, key); err != nil {
		return err
	}
	if k.from != k.to {
		endpoint, err := e.endpoint(k.endpoint)
		if err != nil {
			return err
		}
		counts := e.countsOf(endpoint)
		counts[stateNumber(k.from)]--
		counts[stateNumber(k.to)]++
	}
	plain := k.to == Done && at.N == k.attempts && at.Error == "" && at.Stack == "" && at.Output == nil && at.Result == nil
	if at.N == 0 || plain { // the delivery's own row says all there is to say of a plain one
		return nil
	}
	return e.w.attempt.exec(key, int64(at.N), at.Started.UnixNano(), int64(at.Duration), text(at.Error), text(at.Stack),
		blob(at.Output), blob(at.Result))
}

func (e *sqliteEngine) applyDiscard(d *discarding) error {
	key := idKey(d.id)
	d.from, d.d = "", nil
	if !hasKey(d.id) {
		return nil
	}
	row, err := e.w.row.queryRow(key)
	if err != nil || row == nil {
		return err
	}
	del := e.stored(row)
	d.from, d.d = del.State, del
	if del.State.Finished() {
		return nil
	}
	counts := e.countsOf(row[colEndpoint].(int64))
	counts[row[colState].(int64)]--
	counts[stateDiscarded]++
	del.State, del.Reason, del.RunAt = Discarded, d.reason, time.Time{}
	return e.w.discard.exec(text(d.reason), key)
}

// endpoint returns the number that stands for an endpoint, a new one if need be.
func (e *sqliteEngine) endpoint(name string) (int64, error) {
	e.mu.Lock()
	id, ok := e.endpoints[name]
	e.mu.Unlock()
	if ok {
		return id, nil
	}
	id = e.greatest + 1
	if err := e.w.exec("INSERT INTO endpoint (id, name) VALUES (?, ?)", id, name); err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endpoints[name], e.names[id], e.greatest = id, name, id
	return id, nil
}

// unmake takes back the endpoints that a failed transaction made, those beyond greatest, so that they are made again.
func (e *sqliteEngine) unmake(greatest int64) {
	if e.greatest == greatest {
		return
	}
	e.greatest = greatest
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, name := range e.names {
		if id > greatest {
			delete(e.names, id)
			delete(e.endpoints, name)
		}
	}
}

func (e *sqliteEngine) last() ulid.ULID {
	if e.summary.Last == 0 {
		return ulid.ULID{}
	}
	return idFromKey(e.summary.Last)
}

func (e *sqliteEngine) discardAll(reason string) (int, error) {
	n := 0
	err := e.transact(e.cfg.synchronous, func() error {
		if err := e.w.exec("UPDATE delivery SET state = 7, reason = ?, run_at = NULL, debounce = NULL WHERE run_at IS NOT NULL", text(reason)); err != nil {
			return err
		}
		for _, c := range e.summary.Counts {
			for _, s := range []int{stateWaiting, stateRetrying} {
				n += int(c[s])
				c[stateDiscarded] += c[s]
				c[s] = 0
			}
		}
		return nil
	})
	if err != nil {
		return 0, e.commitError(err)
	}
	return n, nil
}

func (s *summary) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers only
	}
	return b
}

// close implements engine.
func (e *sqliteEngine) close() error {
	e.mu.Lock()
	e.closed = true
	readers := e.readers
	e.readers = nil
	e.mu.Unlock()
	e.end()
	e.tasks.Wait()
	var err error
	if readers != nil {
		err = readers.Close()
	}
	if e.w == nil {
		return err
	}
	if e.broken == nil && e.damaged.Load() == nil {
		err = errors.Join(err, e.transact(e.cfg.synchronous, func() error {
			e.summary.Clean = true
			return nil
		}))
	}
	return errors.Join(err, e.w.close())
}
