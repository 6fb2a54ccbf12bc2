// Package sqlite keeps the deliveries of one process in one SQLite file. It also writes backups of such a file, and makes a new database
// of what can be read of a damaged one.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// DatabaseName is that of the database in the data directory.
const DatabaseName = "hubhook.db"

const (
	// defaultLogBytes is the size of the write-ahead log from which the writer empties it between two commits. A log that
	// has been this long is written over from its beginning, which also makes a sync cheaper than one that makes a file grow.
	defaultLogBytes = 16 << 20
	// logParts is in how many parts, by estimate, another connection moves a log of that length into the database. It
	// bounds how much the writer has left to do itself.
	logParts = 4
)

// Config says how an Engine is to be. All but Warn is for tests.
type Config struct {
	// Warn is told what went wrong in the background. It must neither block nor call the Engine.
	Warn func(error)
	// VFS is the name of a registered layer under SQLite. Default: the system's.
	VFS string
	// Synchronous is the level of syncing where deliveries arrive. Default FULL: with less, an answered delivery may be lost.
	Synchronous string
	// LogBytes is the size of the write-ahead log from which the writer empties it. Default 16 MiB.
	LogBytes int64

	splitRows int // 0 for defaultSplitRows
	partRows  int // 0 for defaultPartRows
}

var (
	_ store.Engine = (*Engine)(nil)
	_ store.Owning = (*Engine)(nil)
)

// Engine is the engine on one SQLite file, which this process alone owns. One connection writes, outside of database/sql, whose pool
// costs a lone delivery as much as the insert does.
type Engine struct {
	*file
	*known
	*reads
	*ledger
	*changes
	*log
}

// file is the database as a file on disk.
type file struct {
	cfg     Config
	path    string
	damaged atomic.Pointer[error] // why nothing is stored in it any more; nil while it is sound

	life  context.Context // of what runs in the background
	end   context.CancelFunc
	tasks sync.WaitGroup
}

func newFile(path string, cfg Config) *file {
	f := &file{cfg: cfg, path: path}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// Open opens the database at path, makes it if there is none, brings its schema up to date, and has what was
// running when an earlier process died wait to run again.
func Open(ctx context.Context, path string, cfg Config) (_ *Engine, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Synchronous == "" {
		cfg.Synchronous = "FULL"
	}
	if cfg.LogBytes == 0 {
		cfg.LogBytes = defaultLogBytes
	}
	if cfg.splitRows == 0 {
		cfg.splitRows = defaultSplitRows
	}
	if cfg.partRows == 0 {
		cfg.partRows = defaultPartRows
	}
	e := &Engine{file: newFile(path, cfg), known: &known{}}
	e.reads = &reads{file: e.file, known: e.known}
	e.ledger = &ledger{file: e.file, known: e.known}
	e.changes = &changes{file: e.file, known: e.known, ledger: e.ledger, direct: map[int64]struct{}{}, webhooks: newWebhooks()}
	e.log = &log{file: e.file, ledger: e.ledger, kick: make(chan struct{}, 1)}
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
		cfg.Warn(err)
	}
	e.tasks.Go(e.checkpointer)
	if unclean {
		e.tasks.Go(e.check)
	}
	return e, nil
}

// dsn returns the name of the database for the driver.
func (f *file) dsn(query url.Values) string {
	if f.cfg.VFS != "" {
		query.Set("vfs", f.cfg.VFS)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(f.path), RawQuery: query.Encode()}
	if !filepath.IsAbs(f.path) {
		u = url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(f.path)}).EscapedPath(), RawQuery: query.Encode()}
	}
	return u.String()
}

// Close implements store.Engine.
func (e *Engine) Close() error {
	readers := e.reads.take(true)
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
		err = errors.Join(err, e.transact(e.cfg.Synchronous, func() error {
			e.summary.Clean = true
			return nil
		}))
	}
	return errors.Join(err, e.w.close())
}

// Commit implements store.Engine. Arrivals are synced; starts and outcomes alone are not, since the death of the process loses
// no page that was written, and after a power cut they would merely happen again.
func (e *Engine) Commit(b *store.Batch) error {
	if b.Empty() {
		return nil
	}
	if p := e.damaged.Load(); p != nil {
		return *p
	}
	if err := e.reopen(); err != nil {
		return err
	}
	e.emptyLog()
	level := e.cfg.Synchronous
	if len(b.Arrivals)+len(b.Discards) == 0 {
		level = "NORMAL"
	}
	greatest := e.greatest
	err := e.transaction(level, func() ([]byte, error) { return e.apply(b) })
	e.webhooks.settle(err == nil)
	if err != nil {
		e.unmake(greatest)
		return e.commitError(err)
	}
	for _, k := range b.Ends {
		delete(e.direct, store.Key(k.ID))
	}
	for _, a := range b.Arrivals {
		if a.First == nil && a.Stored.State == store.Running {
			e.direct[store.Key(a.Stored.ULID)] = struct{}{}
		}
	}
	e.noteWritten(b)
	return nil
}

// reopen opens the file anew after a failed sync: what the system still holds of it may not be what is on disk.
func (e *Engine) reopen() error {
	if e.broken == nil {
		return nil
	}
	e.ckpt.Lock()
	defer e.ckpt.Unlock()
	if readers := e.reads.take(false); readers != nil {
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
	return e.transact(e.cfg.Synchronous, func() error {
		for _, id := range e.forgotten {
			key := store.Key(id)
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
