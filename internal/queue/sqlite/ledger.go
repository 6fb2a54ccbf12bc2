package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/oklog/ulid/v2"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// ledger is the connection that writes, with the counts that its transactions keep. It is used by whoever has the right to commit.
type ledger struct {
	file  *file
	known *known

	w        *writer // nil where the file could not be opened anew
	summary  summary
	unsaid   int   // commits since the summary was last stored
	broken   error // a sync failed: what is on disk is unknown until the file is opened anew
	greatest int64 // of the numbers that stand for endpoints
}

// connect opens the writing connection and brings the schema up to date.
func (l *ledger) connect(empty bool) error {
	conn, err := (&sqlite.Driver{}).Open(l.file.dsn(url.Values{"_error_rc": {"1"}}))
	if err != nil {
		return err
	}
	l.w = &writer{conn: conn}
	pragmas := []string{"PRAGMA busy_timeout = 5000"}
	if empty {
		// Nothing is there that a journal on disk could bring back, and its syncs are most of what a first start takes.
		pragmas = append(pragmas, "PRAGMA journal_mode = MEMORY")
	}
	for _, q := range append(pragmas,
		"PRAGMA auto_vacuum = INCREMENTAL", // without effect unless it comes before the first table
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = "+l.file.cfg.Synchronous,
		"PRAGMA wal_autocheckpoint = 0",
		"PRAGMA fullfsync = 1", // without it, macOS syncs to the drive's cache
		"PRAGMA checkpoint_fullfsync = 1",
		"PRAGMA cache_size = -8000",
	) {
		if err := l.w.exec(q); err != nil {
			return err
		}
	}
	l.w.level = l.file.cfg.Synchronous
	if err := l.w.migrate(migrations); err != nil {
		return err
	}
	return l.w.prepare()
}

// recoverInterrupted makes what was running when the last process died wait to run at once, or dead if that has happened
// too often. In the file, the summary is no longer that of an orderly end from here on.
func (l *ledger) recoverInterrupted() error {
	w := l.w
	running, err := w.query(store.NumberStates(`SELECT id, endpoint, attempts, interruptions, started FROM delivery
		INDEXED BY delivery_due WHERE state = {running} AND run_at IS NOT NULL
		UNION SELECT id, endpoint, attempts, interruptions, started FROM delivery WHERE state = {running} AND id >= ?`), l.summary.Low)
	if err != nil {
		return err
	}
	return l.transact("NORMAL", func() error {
		l.summary.Clean = false
		for _, row := range running {
			id, endpoint, n, interruptions := row[0].(int64), row[1].(int64), row[2].(int64), row[3].(int64)+1
			started, _ := row[4].(int64)
			counts := l.countsOf(endpoint)
			counts[store.StateRunning]--
			state, reason, runAt := int64(store.StateWaiting), any(nil), any(int64(0))
			if interruptions >= store.DeadAfter {
				state, reason, runAt = store.StateDead, store.DiedReason, nil
			}
			counts[state]++
			if err := w.exec("UPDATE delivery SET state = ?, reason = ?, run_at = ?, interruptions = ? WHERE id = ?",
				state, reason, runAt, interruptions, id); err != nil {
				return err
			}
			if err := w.attempt.exec(id, n, started, int64(0), store.InterruptedText, nil, nil, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Last implements store.Engine.
func (l *ledger) Last() ulid.ULID {
	if l.summary.Last == 0 {
		return ulid.ULID{}
	}
	return store.FromKey(l.summary.Last)
}

// transact runs change in a transaction that also stores the summary, and waits for what level says. If it fails, the
// summary is as it was.
func (l *ledger) transact(level string, change func() error) error {
	return l.transaction(level, func() ([]byte, error) {
		if err := change(); err != nil {
			return nil, err
		}
		return l.sumUp(l.summary.Last + 1), nil
	})
}

// transaction is transact with the summary to store from change, nil for none.
func (l *ledger) transaction(level string, change func() (summary []byte, err error)) (err error) {
	before := l.summary
	before.Counts = make(map[int64]*[store.StateCount]int64, len(l.summary.Counts))
	for id, n := range l.summary.Counts {
		c := *n
		before.Counts[id] = &c
	}
	if err := l.w.setLevel(level); err != nil {
		return err
	}
	if err := l.w.begin.exec(); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		l.summary = before
		if codeOf(err) == sqlite3.SQLITE_IOERR_FSYNC {
			l.broken = err
		}
		if undo := l.w.undo(); undo != nil {
			l.broken = err
			err = errors.Join(err, undo)
		}
	}()
	sum, err := change()
	if err != nil {
		return err
	}
	if sum != nil {
		if err := l.w.summary.exec(sum); err != nil {
			return err
		}
	}
	if err := l.w.commit.exec(); err != nil {
		return err
	}
	l.known.publish(&l.summary)
	return nil
}

// readSummary reads the counts and the endpoints' names.
func (l *ledger) readSummary() error {
	l.summary = summary{Clean: true, Counts: map[int64]*[store.StateCount]int64{}}
	l.greatest = 0
	rows, err := l.w.query("SELECT value FROM summary")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := json.Unmarshal(row[0].([]byte), &l.summary); err != nil {
			return fmt.Errorf("read the summary: %w", err)
		}
	}
	if rows, err = l.w.query(newer, l.summary.from()); err == nil {
		err = l.summary.countNewer(rows)
	}
	if err != nil {
		return fmt.Errorf("count the newest deliveries: %w", err)
	}
	rows, err = l.w.query("SELECT id, name FROM endpoint")
	if err != nil {
		return err
	}
	names := make(map[int64]string, len(rows))
	for _, row := range rows {
		id := row[0].(int64)
		names[id], l.greatest = row[1].(string), max(l.greatest, id)
		l.countsOf(id)
	}
	l.known.setEndpoints(names)
	l.known.publish(&l.summary)
	return nil
}

// countsOf returns the counts of an endpoint, to be changed.
func (l *ledger) countsOf(endpoint int64) *[store.StateCount]int64 {
	n := l.summary.Counts[endpoint]
	if n == nil {
		n = new([store.StateCount]int64)
		l.summary.Counts[endpoint] = n
	}
	return n
}

// sumUp returns the summary to be stored, which counts the deliveries before base: all that are stored by now.
func (l *ledger) sumUp(base int64) []byte {
	l.summary.Base, l.unsaid = base, 0
	return l.summary.encode()
}

// endpoint returns the number that stands for an endpoint, a new one if need be.
func (l *ledger) endpoint(name string) (int64, error) {
	id, ok := l.known.endpoint(name)
	if ok {
		return id, nil
	}
	id = l.greatest + 1
	if err := l.w.exec("INSERT INTO endpoint (id, name) VALUES (?, ?)", id, name); err != nil {
		return 0, err
	}
	l.known.addEndpoint(id, name)
	l.greatest = id
	return id, nil
}

// unmake takes back the endpoints that a failed transaction made, those beyond greatest, so that they are made again.
func (l *ledger) unmake(greatest int64) {
	if l.greatest != greatest {
		l.greatest = greatest
		l.known.dropEndpoints(greatest)
	}
}
