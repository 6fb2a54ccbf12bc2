// Package sqlite keeps the deliveries of one process in one SQLite file. It also backs such a file up, and recovers what can be read of
// a damaged one into a new database.
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

// DatabaseName is the name of the database file in the data directory.
const DatabaseName = "hubhook.db"

const (
	// defaultLogBytes is the size at which the writer starts the write-ahead log over, between two commits. The log file keeps its size
	// then, and a sync of a file that does not grow is cheaper.
	defaultLogBytes = 16 << 20
	// logParts is how many checkpoints the checkpointer makes, by estimate, while the log grows to that size. More of them leave less
	// for the writer to move.
	logParts = 4
)

// Config configures an Engine. All fields but Warn are for tests.
type Config struct {
	// Warn is called with each error of background work. It must neither block nor call the Engine.
	Warn func(error)
	// VFS is the name of a registered SQLite VFS. Default: the one of the operating system.
	VFS string
	// Synchronous is the PRAGMA synchronous of commits with arrivals. Default FULL: with less, a power cut may lose an accepted delivery.
	Synchronous string
	// LogBytes is the size at which the writer starts the write-ahead log over. Default 16 MiB.
	LogBytes int64

	splitRows int // 0 for defaultSplitRows
	partRows  int // 0 for defaultPartRows
}

var (
	_ store.Engine = (*Engine)(nil)
	_ store.Owning = (*Engine)(nil)
)

// Engine keeps deliveries in one SQLite file, which this process alone owns. One connection writes. It does not go through database/sql,
// whose pool costs a lone delivery as much time as the insert does.
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
	damaged atomic.Pointer[error] // a *DamagedError, after which nothing is stored; nil while no damage is known

	life  context.Context // ends the background work
	end   context.CancelFunc
	tasks sync.WaitGroup
}

func newFile(path string, cfg Config) *file {
	f := &file{cfg: cfg, path: path}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// Open opens the database at path. It creates the file if there is none, and migrates its schema. Deliveries that were running when an
// earlier process died become waiting again, or dead.
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
	// SQLite would create the file with a mode that others may read.
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

// dsn returns the data source name for the driver.
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

// Commit implements store.Engine. It syncs arrivals and discards. A batch of starts and outcomes alone is not synced: written pages
// survive the death of the process, and after a power cut these deliveries merely run again.
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
	if len(b.Arrivals)+len(b.Discards)+len(b.Alone) == 0 {
		level = "NORMAL"
	}
	last := e.lastEndpoint
	err := e.transaction(level, func() ([]byte, error) { return e.apply(b) })
	e.webhooks.settle(err == nil)
	e.marks.settle(e.broken != nil)
	if err != nil {
		e.dropNewEndpoints(last)
		return e.commitError(err)
	}
	for _, end := range b.Ends {
		delete(e.direct, store.Key(end.ID))
	}
	for _, a := range b.Arrivals {
		if a.First == nil && a.Stored.State == store.Running {
			e.direct[store.Key(a.Stored.ULID)] = struct{}{}
		}
	}
	e.noteWritten(b)
	return nil
}

// reopen opens the file again after a failed sync, because the system's cache may then differ from the disk. It removes the arrivals that
// Forget named, and puts the marks of failed commits back.
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
		// The connection is given up because it failed, so an error of closing it adds nothing.
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
		return e.marks.undoAll(e.w)
	})
}
