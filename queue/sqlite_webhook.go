package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

// webhooks finds the delivery that has a Webhook-Id. It is kept in memory, about 40 bytes for each delivery: an index on disk would be
// written at random pages, which costs more than all the rest of a delivery does.
type webhooks struct {
	newest map[int64]int64 // hash of endpoint and Webhook-Id: key of the newest delivery that was stored with them
	from   int64           // no finished delivery with a key from here on is missing
	read   bool            // no unfinished one is
	undo   []replaced      // of the transaction under way
}

type replaced struct {
	hash, key int64
	was       bool
}

func newWebhooks() webhooks { return webhooks{newest: map[int64]int64{}, from: math.MaxInt64} }

func (w *webhooks) set(hash, key int64) {
	old, was := w.newest[hash]
	w.undo = append(w.undo, replaced{hash, old, was})
	w.newest[hash] = key
}

// settle ends a transaction: what it set stays, or is taken back.
func (w *webhooks) settle(committed bool) {
	for i := len(w.undo) - 1; i >= 0 && !committed; i-- {
		if u := w.undo[i]; u.was {
			w.newest[u.hash] = u.key
		} else {
			delete(w.newest, u.hash)
		}
	}
	w.undo = w.undo[:0]
}

// remove forgets a delivery that is no longer stored.
func (w *webhooks) remove(hash, key int64) {
	if w.newest[hash] == key {
		delete(w.newest, hash)
	}
}

// storedWebhookID is a Webhook-Id as it is kept: a very long one ends in a hash of the whole.
func storedWebhookID(id string) string {
	if len(id) <= maxName {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	end := "..." + hex.EncodeToString(sum[:])
	return cut(id, maxName-len(end)) + end
}

// webhookHash is what stands for a stored Webhook-Id of an endpoint.
func webhookHash(endpoint, webhookID string) int64 {
	h := sha256.New()
	h.Write([]byte(endpoint))
	h.Write([]byte{0})
	h.Write([]byte(webhookID))
	var sum [sha256.Size]byte
	return int64(binary.BigEndian.Uint64(h.Sum(sum[:0])))
}

// readWebhooks reads those deliveries into e.webhooks that an arrival may be a duplicate of and that were stored before this process.
func (e *sqliteEngine) readWebhooks(since time.Time) error {
	w := &e.webhooks
	add := func(where string, args ...any) error {
		rows, err := e.w.query("SELECT id, endpoint, webhook_id FROM delivery WHERE webhook_id IS NOT NULL AND replay_of IS NULL AND "+where, args...)
		if err != nil {
			return fmt.Errorf("read the Webhook-Ids that were stored before: %w", err)
		}
		for _, row := range rows {
			hash := webhookHash(e.names[row[1].(int64)], row[2].(string))
			w.newest[hash] = max(w.newest[hash], row[0].(int64))
		}
		return nil
	}
	if !w.read {
		// What was merged counts as unfinished while the last of its burst is.
		if err := add(`run_at IS NOT NULL`); err != nil {
			return err
		}
		if err := add(`state >= 4 AND state = 6
			AND burst IN (SELECT burst FROM delivery WHERE run_at IS NOT NULL AND burst IS NOT NULL)`); err != nil {
			return err
		}
		w.read = true
	}
	if from := keyAt(since); !since.IsZero() && from < w.from {
		if err := add("id >= ? AND id < ?", from, w.from); err != nil {
			return err
		}
		w.from = from
	}
	return nil
}

// findFirst looks for the delivery that an arrival is a duplicate of, and counts it there. Without one, the arrival becomes the one that
// later ones are duplicates of.
func (e *sqliteEngine) findFirst(a *arrival, endpoint int64) (found bool, err error) {
	if err := e.readWebhooks(a.since); err != nil {
		return false, err
	}
	hash := webhookHash(a.d.Endpoint, a.d.WebhookID)
	if key, ok := e.webhooks.newest[hash]; ok {
		row, err := e.w.row.queryRow(key)
		if err != nil {
			return false, err
		}
		if row != nil {
			first := e.delivery(row)
			if row[colEndpoint].(int64) != endpoint || first.WebhookID != a.d.WebhookID {
				return false, nil // two ids with one hash: the earlier one keeps it
			}
			counts := first.State != Dead && first.State != Discarded && !a.since.IsZero() && !first.Received.Before(a.since)
			unfinished := !first.State.Finished()
			if first.State == Merged && !counts {
				last, err := e.w.survivor.queryRow(key)
				if err != nil {
					return false, err
				}
				unfinished = last != nil && last[1] != nil && !stateNames[last[1].(int64)].Finished()
			}
			if unfinished || counts {
				first.Duplicates++
				a.first = &first
				return true, e.w.duplicate.exec(row[colID])
			}
		}
	}
	e.webhooks.set(hash, idKey(a.d.id))
	return false, nil
}
