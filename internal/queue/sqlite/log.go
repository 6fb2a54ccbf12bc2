package sqlite

import (
	"fmt"
	"net/url"

	"modernc.org/sqlite"

	"github.com/hubhook/hubhook/internal/queue/sqlite/salvage"
	"github.com/hubhook/hubhook/internal/queue/store"
)

// The write-ahead log. Under steady load a checkpoint beside the writer never lets the log start over, since new frames
// come in meanwhile; one by the writer makes all wait. So another connection does the bulk, and the writer what is left,
// once the log is long.

// noteWritten asks for a checkpoint when enough has been written since the last one.
func (e *Engine) noteWritten(b *store.Batch) {
	e.unwritten += 5 * salvage.LogFrameSize
	for _, a := range b.Arrivals {
		e.unwritten += 1024 + len(a.Header) + len(a.Body)
	}
	for _, k := range b.Ends {
		e.unwritten += 512 + len(k.Attempt.Output) + len(k.Attempt.Result)
	}
	if int64(e.unwritten) < e.cfg.LogBytes/logParts {
		return
	}
	e.unwritten = 0
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// checkpointer moves pages from the log into the database while others write.
func (e *Engine) checkpointer() {
	var w *writer
	defer func() {
		if w != nil {
			if err := w.close(); err != nil {
				e.cfg.Warn(fmt.Errorf("close %s after a checkpoint: %w", e.path, err))
			}
		}
	}()
	for {
		select {
		case <-e.life.Done():
			return
		case <-e.kick:
		}
		if err := e.checkpoint(&w); err != nil {
			e.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", e.path, err))
		}
	}
}

func (e *Engine) checkpoint(w **writer) error {
	e.ckpt.Lock()
	defer e.ckpt.Unlock()
	if *w == nil {
		conn, err := (&sqlite.Driver{}).Open(e.dsn(url.Values{"_pragma": {
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
	if frames := row[1].(int64); frames*salvage.LogFrameSize > e.cfg.LogBytes {
		e.restart.Store(true)
	}
	return nil
}

// emptyLog makes the log start over if it is long. A reader that is in its way keeps it from doing so until the next time.
func (e *Engine) emptyLog() {
	if !e.restart.Load() || !e.ckpt.TryLock() {
		return
	}
	defer e.ckpt.Unlock()
	e.restart.Store(false)
	if err := e.w.exec("PRAGMA busy_timeout = 20"); err != nil {
		e.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", e.path, err))
		return
	}
	if _, err := e.w.queryRow("PRAGMA wal_checkpoint(RESTART)"); err != nil {
		e.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", e.path, err))
	}
	if err := e.w.exec("PRAGMA busy_timeout = 5000"); err != nil {
		e.cfg.Warn(fmt.Errorf("move the write-ahead log into %s: %w", e.path, err))
	}
}

// check reads the database through after an unclean end, beside the work.
func (e *Engine) check() {
	db, err := e.reader()
	if err != nil {
		return // close came first
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

// checked says that a check could not be made, unless the database was closed meanwhile.
func (e *Engine) checked(err error) {
	if err == nil || e.life.Err() != nil {
		return
	}
	if err = fmt.Errorf("check %s after the last unclean end: %w", e.path, err); !e.showsDamage(err) {
		e.cfg.Warn(err)
	}
}
