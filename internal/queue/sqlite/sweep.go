package sqlite

import (
	"context"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Sweep implements store.Engine. It removes up to r.Rows deliveries. If much of the file is free, it also returns 64 free pages to the
// file system. It writes nothing if there is nothing to do, so that an idle queue leaves the disk alone.
func (ch *changes) Sweep(_ context.Context, r store.Retention) (more bool, err error) {
	if ch.ledger.broken != nil || ch.file.damaged.Load() != nil {
		return false, nil // the commit or the reader that met the error has reported it
	}
	old, err := ch.oldDeliveries(r)
	if err != nil {
		return false, ch.file.commitError(err)
	}
	vacuum, err := ch.worthVacuum()
	if err != nil {
		return false, ch.file.commitError(err)
	}
	more = len(old) == r.Rows || vacuum
	if len(old) == 0 && !vacuum {
		return more, nil
	}
	err = ch.ledger.transact("NORMAL", func() error {
		for _, d := range old {
			if err := ch.ledger.w.remove(d.key); err != nil {
				return err
			}
			ch.ledger.countsOf(d.endpoint)[d.state]--
		}
		if vacuum {
			return ch.ledger.w.exec("PRAGMA incremental_vacuum(64)")
		}
		return nil
	})
	if err != nil {
		return false, ch.file.commitError(err)
	}
	for _, d := range old {
		ch.webhooks.remove(webhookHash(ch.known.name(d.endpoint), d.webhookID), d.key)
	}
	return more, nil
}

// oldDelivery is a delivery to remove.
type oldDelivery struct {
	key, endpoint, state int64
	webhookID            string
}

// mergedForGood excludes deliveries that were merged into one that is not finished yet.
const mergedForGood = `(state <> {merged} OR
	(SELECT s.state FROM delivery s WHERE s.burst = delivery.burst ORDER BY s.id DESC LIMIT 1) >= {done})`

// oldDeliveries returns up to r.Rows deliveries to remove. Those beyond the age limit come first, then those beyond the count, each oldest
// first.
func (ch *changes) oldDeliveries(r store.Retention) (old []oldDelivery, err error) {
	excess := int64(-r.Count)
	for _, c := range ch.ledger.summary.Counts {
		excess += c[store.StateDone] + c[store.StateSkipped] + c[store.StateMerged] + c[store.StateDiscarded]
	}
	add := func(query string, args ...any) error {
		rows, err := ch.ledger.w.query(store.NumberStates(query), args...)
		for _, row := range rows {
			d := oldDelivery{key: row[0].(int64), endpoint: row[1].(int64), state: row[2].(int64)}
			d.webhookID, _ = row[3].(string)
			if d.state != store.StateDead {
				excess--
			}
			old = append(old, d)
		}
		return err
	}
	if err := add("SELECT id, endpoint, state, webhook_id FROM delivery WHERE id < ? AND state >= {done} AND "+mergedForGood+" ORDER BY id LIMIT ?",
		store.KeyAt(r.Before), int64(r.Rows)); err != nil {
		return nil, err
	}
	if n := min(excess, int64(r.Rows-len(old))); n > 0 {
		if err := add("SELECT id, endpoint, state, webhook_id FROM delivery WHERE id >= ? AND state IN ({done}, {skipped}, {merged}, {discarded}) AND "+mergedForGood+" ORDER BY id LIMIT ?",
			store.KeyAt(r.Before), n); err != nil {
			return nil, err
		}
	}
	return old, nil
}

// worthVacuum reports whether at least 4 MiB and a quarter of the file are free.
func (ch *changes) worthVacuum() (bool, error) {
	free, err := ch.ledger.w.queryRow("PRAGMA freelist_count")
	if err != nil {
		return false, err
	}
	all, err := ch.ledger.w.queryRow("PRAGMA page_count")
	if err != nil {
		return false, err
	}
	n := free[0].(int64)
	return n >= 1024 && n >= all[0].(int64)/4, nil
}
