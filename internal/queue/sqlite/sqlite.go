// Package sqlite keeps the deliveries of one process in one SQLite file. It also writes backups of such a file, and makes a new database
// of what can be read of a damaged one.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/oklog/ulid/v2"
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

// Engine is the engine on one SQLite file, which this process alone owns. One connection writes, outside of
// database/sql, whose pool costs a lone delivery as much as the insert does.
type Engine struct {
	cfg  Config
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
	shown     map[int64]*[store.StateCount]int64 // counts as of the last commit
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
	e := &Engine{cfg: cfg, path: path, direct: map[int64]struct{}{}, kick: make(chan struct{}, 1), webhooks: newWebhooks()}
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
		cfg.Warn(err)
	}
	e.tasks.Go(e.checkpointer)
	if unclean {
		e.tasks.Go(e.check)
	}
	return e, nil
}

// dsn returns the name of the database for the driver.
func (e *Engine) dsn(query url.Values) string {
	if e.cfg.VFS != "" {
		query.Set("vfs", e.cfg.VFS)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(e.path), RawQuery: query.Encode()}
	if !filepath.IsAbs(e.path) {
		u = url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(e.path)}).EscapedPath(), RawQuery: query.Encode()}
	}
	return u.String()
}

// connect opens the writing connection and brings the schema up to date.
func (e *Engine) connect(empty bool) error {
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
		"PRAGMA synchronous = "+e.cfg.Synchronous,
		"PRAGMA wal_autocheckpoint = 0",
		"PRAGMA fullfsync = 1", // without it, macOS syncs to the drive's cache
		"PRAGMA checkpoint_fullfsync = 1",
		"PRAGMA cache_size = -8000",
	) {
		if err := e.w.exec(q); err != nil {
			return err
		}
	}
	e.w.level = e.cfg.Synchronous
	if err := e.w.migrate(migrations); err != nil {
		return err
	}
	return e.w.prepare()
}

// recoverInterrupted makes what was running when the last process died wait to run at once, or dead if that has happened
// too often. In the file, the summary is no longer that of an orderly end from here on.
func (e *Engine) recoverInterrupted() error {
	w := e.w
	running, err := w.query(store.NumberStates(`SELECT id, endpoint, attempts, interruptions, started FROM delivery
		INDEXED BY delivery_due WHERE state = {running} AND run_at IS NOT NULL
		UNION SELECT id, endpoint, attempts, interruptions, started FROM delivery WHERE state = {running} AND id >= ?`), e.summary.Low)
	if err != nil {
		return err
	}
	return e.transact("NORMAL", func() error {
		e.summary.Clean = false
		for _, row := range running {
			id, endpoint, n, interruptions := row[0].(int64), row[1].(int64), row[2].(int64), row[3].(int64)+1
			started, _ := row[4].(int64)
			counts := e.countsOf(endpoint)
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

func (e *Engine) Last() ulid.ULID {
	if e.summary.Last == 0 {
		return ulid.ULID{}
	}
	return store.FromKey(e.summary.Last)
}

// Close implements store.Engine.
func (e *Engine) Close() error {
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
		err = errors.Join(err, e.transact(e.cfg.Synchronous, func() error {
			e.summary.Clean = true
			return nil
		}))
	}
	return errors.Join(err, e.w.close())
}
