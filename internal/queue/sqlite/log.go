package sqlite

import (
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/hubhook/hubhook/internal/queue/sqlite/salvage"
	"github.com/hubhook/hubhook/internal/queue/store"
)

// log keeps the write-ahead log short. A checkpoint by the writer makes every sender wait. A checkpoint by another connection never lets
// the log start over under steady load, because the writer appends frames meanwhile. So the checkpointer, on a connection of its own,
// moves most frames, and the writer moves the rest once the log is long.
type log struct {
	file   *file
	ledger *ledger

	appended int           // bytes appended since the last kick, by estimate
	kick     chan struct{} // asks the checkpointer for a checkpoint
	ckpt     sync.Mutex    // locked during a checkpoint
	restart  atomic.Bool   // the log is so long that the writer should start it over
}

// noteWritten asks for a checkpoint once enough was appended since the last one.
func (lg *log) noteWritten(b *store.Batch) {
	lg.appended += 5 * salvage.LogFrameSize
	for _, a := range b.Arrivals {
		lg.appended += 1024 + len(a.Header) + len(a.Body)
	}
	for _, m := range b.Marks() {
		lg.appended += 512 + len(m.Value)
	}
	for _, end := range b.Ends {
		lg.appended += 512 + len(end.Attempt.Output) + len(end.Attempt.Result)
	}
	if int64(lg.appended) < lg.file.cfg.LogBytes/logParts {
		return
	}
	lg.appended = 0
	select {
	case lg.kick <- struct{}{}:
	default:
	}
}

// checkpointer moves pages from the log into the database, beside the writer.
func (lg *log) checkpointer() {
	var w *writer
	defer func() {
		if w != nil {
			if err := w.close(); err != nil {
				lg.file.cfg.Warn(fmt.Errorf("close %s after a checkpoint: %w", lg.file.path, err))
			}
		}
	}()
	for {
		select {
		case <-lg.file.life.Done():
			return
		case <-lg.kick:
		}
		if err := lg.checkpoint(&w); err != nil {
			lg.file.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", lg.file.path, err))
		}
	}
}

func (lg *log) checkpoint(w **writer) error {
	lg.ckpt.Lock()
	defer lg.ckpt.Unlock()
	if *w == nil {
		conn, err := (&sqlite.Driver{}).Open(lg.file.dsn(url.Values{"_pragma": {
			"busy_timeout(5000)", "synchronous(FULL)", "checkpoint_fullfsync(1)", "cache_size(-500)",
		}}))
		if err != nil {
			return err
		}
		*w = &writer{conn: conn}
	}
	row, err := (*w).queryRow("PRAGMA wal_checkpoint(PASSIVE)")
	if err != nil {
		return err
	}
	if frames := row[1].(int64); frames*salvage.LogFrameSize > lg.file.cfg.LogBytes {
		lg.restart.Store(true)
	}
	return nil
}

// emptyLog starts the log over if it is long. A reader that still uses the log can prevent that; then a later commit tries again.
func (lg *log) emptyLog() {
	if !lg.restart.Load() || !lg.ckpt.TryLock() {
		return
	}
	defer lg.ckpt.Unlock()
	lg.restart.Store(false)
	if err := lg.ledger.w.exec("PRAGMA busy_timeout = 20"); err != nil {
		lg.file.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", lg.file.path, err))
		return
	}
	if _, err := lg.ledger.w.queryRow("PRAGMA wal_checkpoint(RESTART)"); err != nil {
		lg.file.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", lg.file.path, err))
	}
	if err := lg.ledger.w.exec("PRAGMA busy_timeout = 5000"); err != nil {
		lg.file.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", lg.file.path, err))
	}
}

// check checks the whole database after an unclean end, in the background.
func (e *Engine) check() {
	db, err := e.reader()
	if err != nil {
		return // Close came first
	}
	rows, err := db.QueryContext(e.life, "PRAGMA quick_check(1)")
	if err != nil {
		e.checked(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var found string
		if err := rows.Scan(&found); err != nil {
			e.checked(err)
			return
		}
		if found != "ok" {
			e.cfg.Warn(e.setDamaged(fmt.Errorf("a check after the last unclean end found: %s", found)))
			return
		}
	}
	e.checked(rows.Err())
}

// checked warns of an error that kept check from its end, unless Close caused it.
func (e *Engine) checked(err error) {
	if err == nil || e.life.Err() != nil {
		return
	}
	if err = fmt.Errorf("check %s after the last unclean end: %w", e.path, err); !e.showsDamage(err) {
		e.cfg.Warn(err)
	}
}
