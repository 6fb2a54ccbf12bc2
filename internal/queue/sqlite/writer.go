package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// writer is one connection of the driver. For the one that writes, prepare adds its statements.
type writer struct {
	conn  driver.Conn
	level string // the current PRAGMA synchronous

	begin, commit            *statement
	insert, content, attempt *statement
	finish, start, discard   *statement
	row, duplicate, replays  *statement
	debounced, merge, burst  *statement
	survivor                 *statement
	removals                 [3]*statement
	mark                     *statement
	summary                  *statement

	prepared []*statement
}

// migrate applies the missing migrations, each in its own transaction.
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
		{&w.start, "UPDATE delivery SET state = {running}, attempts = attempts + 1, started = ?, debounce = NULL WHERE id = ? AND state IN ({waiting}, {retrying})"},
		{&w.discard, "UPDATE delivery SET state = {discarded}, reason = ?, run_at = NULL, debounce = NULL WHERE id = ?"},
		{&w.debounced, "SELECT " + columns + " FROM delivery d WHERE d.endpoint = ? AND d.debounce = ?"},
		{&w.merge, "UPDATE delivery SET state = {merged}, merged_into = ?, run_at = NULL, debounce = NULL WHERE id = ?"},
		{&w.burst, "UPDATE delivery SET merged_into = ?1 WHERE burst = (SELECT burst FROM delivery WHERE id = ?1) AND id < ?1"},
		{&w.survivor, "SELECT max(s.id), s.state FROM delivery d JOIN delivery s ON s.burst = d.burst WHERE d.id = ?"},
		{&w.removals[0], "DELETE FROM delivery WHERE id = ?"},
		{&w.removals[1], "DELETE FROM content WHERE id = ?"},
		{&w.removals[2], "DELETE FROM attempt WHERE delivery = ?"},
		{&w.mark, "SELECT version, value FROM mark WHERE key = ?"},
		{&w.summary, "INSERT OR REPLACE INTO summary (id, value) VALUES (1, ?)"},
	} {
		var err error
		if *s.to, err = prepare(w.conn, store.NumberStates(s.query)); err != nil {
			return err
		}
		w.prepared = append(w.prepared, *s.to)
	}
	return nil
}

// close closes the statements and the connection. SQLite does not close a connection that has open statements.
func (w *writer) close() error {
	var err error
	for _, s := range w.prepared {
		err = errors.Join(err, s.s.Close())
	}
	return errors.Join(err, w.conn.Close())
}

// undo rolls back a failed transaction. After some errors SQLite has done so itself, and then ROLLBACK fails.
func (w *writer) undo() error {
	if err := w.exec("ROLLBACK"); err != nil && codeOf(err) != sqlite3.SQLITE_ERROR {
		return err
	}
	return nil
}

// setLevel sets PRAGMA synchronous. A change costs about a microsecond.
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

// remove deletes a delivery with its content and attempts.
func (w *writer) remove(key int64) error {
	for _, s := range w.removals {
		if err := s.exec(key); err != nil {
			return err
		}
	}
	return nil
}
