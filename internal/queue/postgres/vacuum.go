package postgres

import (
	"context"
	"time"
)

const (
	// When vacuumAfter attempts have ended in this process, it has the server vacuum the table of unfinished deliveries. Until a vacuum,
	// each claim reads the index entries of all deliveries that have ended. Autovacuum comes once a minute at most.
	vacuumAfter = 50_000
	vacuumLook  = time.Second // between looks whether there were so many
)

// keepVacuumed runs vacuum whenever vacuumAfter attempts have ended.
func (e *Engine) keepVacuumed() {
	tick := time.NewTicker(vacuumLook)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-e.life.Done():
			return
		case <-tick.C:
		}
		if e.ended.Load() < vacuumAfter {
			continue
		}
		e.ended.Store(0)
		err := e.vacuum()
		if err != nil && !failing && e.life.Err() == nil {
			e.cfg.Warn(err)
		}
		failing = err != nil
	}
}

func (e *Engine) vacuum() error {
	ctx, cancel := context.WithTimeout(e.life, readFor)
	defer cancel()
	_, err := e.readers.Exec(ctx, query("vacuum"))
	return e.failed("vacuum the table of unfinished deliveries", err)
}
