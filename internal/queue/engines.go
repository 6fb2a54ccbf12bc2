package queue

import (
	"context"

	"github.com/hubhook/hubhook/internal/queue/postgres"
	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/datadir"
)

// Names from the store and the engines, so that users of a queue need to import this package alone.
type (
	State           = store.State
	Delivery        = store.Delivery
	Record          = store.Record
	Attempt         = store.Attempt
	Filter          = store.Filter
	Counts          = store.Counts
	TimeSeriesQuery = store.TimeSeriesQuery
	TimeStep        = store.TimeStep
	Mark            = store.Mark
	LockedError     = datadir.LockedError
	DirectoryView   = datadir.View
	BackupConfig    = sqlite.BackupConfig
	BackupReport    = sqlite.BackupReport
	RecoverConfig   = sqlite.RecoverConfig
	Recovery        = sqlite.Recovery
)

// The states of a delivery, as package store describes them.
const (
	Waiting   = store.Waiting
	Running   = store.Running
	Retrying  = store.Retrying
	Done      = store.Done
	Dead      = store.Dead
	Skipped   = store.Skipped
	Merged    = store.Merged
	Discarded = store.Discarded
)

// The errors that an engine returns too. Test with errors.Is.
var (
	ErrNotFound  = store.ErrNotFound
	ErrDiskFull  = store.ErrDiskFull
	ErrMarkMoved = store.ErrMarkMoved
)

// States returns all states, in the order of a delivery's life.
func States() []State { return store.States() }

// LookAt looks at a data directory without changing it, as datadir.Look says.
func LookAt(dir string) (DirectoryView, error) { return datadir.Look(dir) }

// Ping connects to a PostgreSQL database and goes away again, as postgres.Ping says.
func Ping(ctx context.Context, url string) (version string, err error) {
	return postgres.Ping(ctx, url)
}

// ReadMarks reads marks of a PostgreSQL database without opening a queue, as postgres.ReadMarks says.
func ReadMarks(ctx context.Context, url, prefix string) ([]Mark, error) {
	return postgres.ReadMarks(ctx, url, prefix)
}

// Backup writes a copy of a data directory's database, as sqlite.Backup says.
func Backup(ctx context.Context, c BackupConfig) (*BackupReport, error) { return sqlite.Backup(ctx, c) }

// Recover makes a new database of all that can be read of a damaged one, as sqlite.Recover says.
func Recover(ctx context.Context, c RecoverConfig) (*Recovery, error) { return sqlite.Recover(ctx, c) }

// LockDirectory takes the lock of a data directory, for work on what else is in it. Call unlock at the end. If another process holds the lock,
// the error is a *LockedError.
func LockDirectory(dir string) (unlock func() error, err error) {
	lock, err := datadir.Lock(dir)
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}
