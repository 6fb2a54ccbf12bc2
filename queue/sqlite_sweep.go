package queue

import "math"

// sweep implements engine: it removes up to r.rows deliveries, looks at as many entries of the dedupe table, and gives as
// many free pages back to the system if a good part of the file is free.
func (e *sqliteEngine) sweep(r retention) (more bool, err error) {
	if e.broken != nil || e.damaged.Load() != nil {
		return false, nil // said already, where it was met
	}
	err = e.transact("NORMAL", func() error {
		old, err := e.w.query("SELECT id, endpoint, state FROM delivery WHERE id < ? AND state >= 3 ORDER BY id LIMIT ?",
			keyAt(r.before), int64(r.rows))
		if err != nil {
			return err
		}
		excess := int64(-r.count)
		for _, c := range e.summary.Counts {
			excess += c[stateDone] + c[stateSkipped] + c[stateMerged] + c[stateDiscarded]
		}
		for _, row := range old {
			if row[2].(int64) != stateDead {
				excess--
			}
		}
		if n := min(excess, int64(r.rows-len(old))); n > 0 {
			many, err := e.w.query(`SELECT id, endpoint, state FROM delivery WHERE id >= ? AND state IN (3, 5, 6, 7)
				ORDER BY id LIMIT ?`, keyAt(r.before), n)
			if err != nil {
				return err
			}
			old = append(old, many...)
		}
		for _, row := range old {
			if err := e.w.remove(row[0].(int64)); err != nil {
				return err
			}
			e.countsOf(row[1].(int64))[row[2].(int64)]--
		}
		forgot, err := e.sweepWebhooks(r)
		if err != nil {
			return err
		}
		freed, err := e.sweepPages(r)
		if err != nil {
			return err
		}
		more = len(old) == r.rows || forgot || freed
		return nil
	})
	if err != nil {
		return false, e.commitError(err)
	}
	return more, nil
}

// sweepWebhooks removes the Webhook-Ids that can make nothing a duplicate any more from the next part of their table. It
// returns true until it has come to the table's end.
func (e *sqliteEngine) sweepWebhooks(r retention) (more bool, err error) {
	rows, err := e.w.query(`SELECT w.id, d.endpoint, d.state, d.received FROM webhook w LEFT JOIN delivery d ON d.id = w.delivery
		WHERE w.id >= ? ORDER BY w.id LIMIT ?`, e.webhookAt, int64(r.rows))
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row[2] != nil {
			unfinished := row[2].(int64) < stateDone
			if unfinished || row[3].(int64) >= r.dedupe(e.names[row[1].(int64)]).UnixNano() {
				continue
			}
		}
		if err := e.w.exec("DELETE FROM webhook WHERE id = ?", row[0]); err != nil {
			return false, err
		}
	}
	if len(rows) < r.rows {
		e.webhookAt = math.MinInt64
		return false, nil
	}
	e.webhookAt = rows[len(rows)-1][0].(int64) + 1
	return true, nil
}

// sweepPages gives free pages back to the system where more than a quarter of the file, and 4 MiB, is free.
func (e *sqliteEngine) sweepPages(r retention) (more bool, err error) {
	free, err := e.w.queryRow("PRAGMA freelist_count")
	if err != nil {
		return false, err
	}
	all, err := e.w.queryRow("PRAGMA page_count")
	if err != nil {
		return false, err
	}
	if n := free[0].(int64); n < 1024 || n < all[0].(int64)/4 {
		return false, nil
	}
	return true, e.w.exec("PRAGMA incremental_vacuum(200)")
}
