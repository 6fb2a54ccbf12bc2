package sqlite

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/datadir"
	"github.com/hubhook/hubhook/internal/text"
)

// openError adds to err which file could not be opened, and advice.
func (f *file) openError(err error) error {
	return fileError(fmt.Errorf("open database %s: %w", f.path, text.FileCause(err)), databaseAdvice(err))
}

// fileError adds a hint to err. Whatever code a full disk is reported with, the error is then an ErrDiskFull.
func fileError(err error, hint string) error {
	code := codeOf(err)
	// The -shm file cannot grow on a full disk either; that has a code of its own.
	if code&0xff == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_IOERR_SHMSIZE || datadir.IsFull(err) {
		err = store.DiskFull(err)
	}
	return text.WithHint(err, hint)
}

// databaseAdvice returns advice on a database that can't be used.
func databaseAdvice(err error) string {
	var newer *newerSchemaError
	if errors.As(err, &newer) {
		return "use that version of hubhook or a later one, or choose another data directory"
	}
	if codeOf(err) == sqlite3.SQLITE_IOERR_SHMSIZE {
		return "the disk is full; free some space"
	}
	switch codeOf(err) & 0xff {
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
	return datadir.Advice(err)
}

type newerSchemaError struct{ have, know int }

func (e *newerSchemaError) Error() string {
	return fmt.Sprintf("it was written by a later version of hubhook (schema %d, this one knows %d)", e.have, e.know)
}

func codeOf(err error) int {
	var se *sqlite.Error
	if errors.As(err, &se) {
		return se.Code()
	}
	return 0
}

func (f *file) commitError(err error) error {
	switch codeOf(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return f.setDamaged(err)
	case sqlite3.SQLITE_FULL:
		return fileError(fmt.Errorf("write to %s: %w", f.path, err), "free some space")
	}
	return fmt.Errorf("write to %s: %w", f.path, err)
}

// showsDamage reports whether an error of a reader says that the database is damaged. If so, nothing is stored from then on. The first
// such error is passed to Warn.
func (f *file) showsDamage(err error) bool {
	switch codeOf(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
	default:
		return false
	}
	damage := error(&DamagedError{path: f.path, err: err})
	if f.damaged.CompareAndSwap(nil, &damage) {
		f.cfg.Warn(damage)
	}
	return true
}

func (f *file) setDamaged(err error) error {
	err = &DamagedError{path: f.path, err: err}
	f.damaged.Store(&err)
	return err
}

const damagedAdvice = "stop hubhook and run: hubhook deliveries recover\nit saves what can be read into a new database, and keeps the damaged one"

// DamagedError says that the database is damaged. Nothing is stored in it any more.
type DamagedError struct {
	path string
	err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("database %s is damaged: %v", e.path, e.err)
}

// Hint returns what to do.
func (e *DamagedError) Hint() string { return damagedAdvice }

func (e *DamagedError) Unwrap() error { return e.err }

// Outage implements store.Engine.
func (e *Engine) Outage(err error) bool {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return true
	}
	switch codeOf(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
		sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return e.broken != nil
}

func (f *file) readError(doing string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%s from %s: %w", doing, f.path, err)
}

// lookError is readError for queries of a running server. If err shows damage, it returns the *DamagedError, and no more deliveries are
// accepted.
func (f *file) lookError(doing string, err error) error {
	err = f.readError(doing, err)
	if f.showsDamage(err) {
		return *f.damaged.Load()
	}
	return err
}
