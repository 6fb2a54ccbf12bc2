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

// ledger is the connection that writes, with the summary that its transactions store. One goroutine uses it at a time: the one that may
// commit.
type ledger struct {
	file  *file
	known *known

	w            *writer // nil after reopen failed
	summary      summary
	sinceSummary int   // commits since the summary was last stored
	broken       error // a sync failed: what is on disk is unknown until reopen succeeds
	lastEndpoint int64 // the greatest number of an endpoint
}

// connect opens the connection that writes, and migrates the schema.
func (l *ledger) connect(empty bool) error {
	conn, err := (&sqlite.Driver{}).Open(l.file.dsn(url.Values{"_error_rc": {"1"}}))
	if err != nil {
		return err
	}
	l.w = &writer{conn: conn}
	pragmas := []string{"PRAGMA busy_timeout = 5000"}
	if empty {
		// An empty file has nothing that a journal on disk could restore, and syncing one takes most of the time of a first start.
		pragmas = append(pragmas, "PRAGMA journal_mode = MEMORY")
	}
	for _, q := range append(pragmas,
		"PRAGMA auto_vacuum = INCREMENTAL", // takes effect only before the first table is created
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = "+l.file.cfg.Synchronous,
		"PRAGMA wal_autocheckpoint = 0",
		"PRAGMA fullfsync = 1", // otherwise macOS syncs to the drive's cache only
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

// recoverInterrupted changes the deliveries that were running when the last process died. They become waiting and due at once, or dead
// if they were interrupted too often. It also stores that the database is open, so that the next Open knows of an unclean end.
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

// transact runs change in a transaction that also stores the summary. level is the PRAGMA synchronous of its commit. After an error, the
// summary is as it was before.
func (l *ledger) transact(level string, change func() error) error {
	return l.transaction(level, func() ([]byte, error) {
		if err := change(); err != nil {
			return nil, err
		}
		return l.encodeSummary(), nil
	})
}

// transaction is transact where change itself returns the encoded summary to store, nil for none.
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

// readSummary reads the summary and the names of endpoints, and counts the deliveries that the stored summary leaves out.
func (l *ledger) readSummary() error {
	l.summary = summary{Clean: true, Counts: map[int64]*[store.StateCount]int64{}}
	l.lastEndpoint = 0
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
		names[id], l.lastEndpoint = row[1].(string), max(l.lastEndpoint, id)
		l.countsOf(id)
	}
	l.known.setEndpoints(names)
	l.known.publish(&l.summary)
	return nil
}

// countsOf returns the counts of an endpoint. The caller may change them.
func (l *ledger) countsOf(endpoint int64) *[store.StateCount]int64 {
	n := l.summary.Counts[endpoint]
	if n == nil {
		n = new([store.StateCount]int64)
		l.summary.Counts[endpoint] = n
	}
	return n
}

// encodeSummary returns the summary to store in the current transaction. It counts all deliveries that are stored by now.
func (l *ledger) encodeSummary() []byte {
	l.summary.Base, l.sinceSummary = l.summary.Last+1, 0
	return l.summary.encode()
}

// endpoint returns the number of an endpoint. It stores the endpoint if it is new.
func (l *ledger) endpoint(name string) (int64, error) {
	id, ok := l.known.endpoint(name)
	if ok {
		return id, nil
	}
	id = l.lastEndpoint + 1
	if err := l.w.exec("INSERT INTO endpoint (id, name) VALUES (?, ?)", id, name); err != nil {
		return 0, err
	}
	l.known.addEndpoint(id, name)
	l.lastEndpoint = id
	return id, nil
}

// dropNewEndpoints drops the endpoints that a failed transaction added after last, so that the next one adds them again.
func (l *ledger) dropNewEndpoints(last int64) {
	if l.lastEndpoint != last {
		l.lastEndpoint = last
		l.known.dropEndpointsAfter(last)
	}
}
