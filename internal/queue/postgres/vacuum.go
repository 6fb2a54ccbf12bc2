package postgres

import (
	"context"
	"time"
)

const (
	// vacuumAfter is how many attempts may end in this process until it has the server vacuum their table. The server's own autovacuum
	// comes once a minute at most. Until then each claim goes through the index entries of all deliveries that have ended.
	vacuumAfter = 50_000
	vacuumLook  = time.Second // between looks whether there were so many
)

// keepVacuumed vacuums the table of unfinished deliveries whenever many attempts have ended.
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
