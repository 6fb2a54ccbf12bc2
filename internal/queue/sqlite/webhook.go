package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/url"
	"time"

	"modernc.org/sqlite"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// webhooks finds the delivery with a given Webhook-Id. It is a map in memory, about 40 bytes for each delivery. An index on disk would
// write random pages, and that costs more than the rest of the delivery.
type webhooks struct {
	newest map[int64]int64 // from the hash of endpoint and Webhook-Id to the key of the newest delivery with them
	from   int64           // newest has all finished deliveries whose key is at least this
	read   bool            // newest has all unfinished deliveries of earlier processes
	undo   []replaced      // entries that the current transaction replaced
}

// replaced is an entry of newest before the current transaction.
type replaced struct {
	hash, key int64
	existed   bool
}

func newWebhooks() webhooks { return webhooks{newest: map[int64]int64{}, from: math.MaxInt64} }

func (w *webhooks) set(hash, key int64) {
	old, existed := w.newest[hash]
	w.undo = append(w.undo, replaced{hash, old, existed})
	w.newest[hash] = key
}

// settle ends a transaction: its entries stay if it was committed, and are undone otherwise.
func (w *webhooks) settle(committed bool) {
	for i := len(w.undo) - 1; i >= 0 && !committed; i-- {
		if u := w.undo[i]; u.existed {
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

// webhookSeed differs in each process, so that a sender can't know which ids have the same hash.
var webhookSeed = maphash.MakeSeed()

// webhookHash returns the hash of an endpoint and a stored Webhook-Id.
func webhookHash(endpoint, webhookID string) int64 {
	var h maphash.Hash
	h.SetSeed(webhookSeed)
	h.WriteString(endpoint)
	h.WriteByte(0)
	h.WriteString(webhookID)
	return int64(h.Sum64())
}

// load reads the deliveries of earlier processes that an arrival may be a duplicate of: all unfinished ones, and the finished ones that
// were received since then.
func (w *webhooks) load(ctx context.Context, conn *writer, name func(int64) string, since time.Time) error {
	add := func(where string, args ...any) error {
		n := 0
		err := conn.each("SELECT id, endpoint, webhook_id FROM delivery WHERE webhook_id IS NOT NULL AND replay_of IS NULL AND "+store.NumberStates(where), args, func(row []driver.Value) error {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			hash := webhookHash(name(row[1].(int64)), row[2].(string))
			w.newest[hash] = max(w.newest[hash], row[0].(int64))
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the Webhook-Ids that were stored before: %w", err)
		}
		return nil
	}
	if !w.read {
		// A merged delivery counts as unfinished while the last of its burst is unfinished.
		const unfinished = "FROM delivery INDEXED BY delivery_due WHERE run_at IS NOT NULL"
		if err := add("id IN (SELECT id " + unfinished + ")"); err != nil {
			return err
		}
		if err := add("state >= {dead} AND state = {merged} AND burst IN (SELECT burst " + unfinished + " AND burst IS NOT NULL)"); err != nil {
			return err
		}
		w.read = true
	}
	if from := store.KeyAt(since); !since.IsZero() && from < w.from {
		if err := add("id >= ? AND id < ?", from, w.from); err != nil {
			return err
		}
		w.from = from
	}
	return nil
}

// preloading is a load in the background, so that the first arrival waits less.
type preloading struct {
	done     chan struct{}
	webhooks webhooks // set before done is closed, and complete if err is nil
	err      error
}

// Preload implements store.Owning. It starts to read, in the background, what readWebhooks will need.
func (ch *changes) Preload(since time.Time) {
	p := &preloading{done: make(chan struct{}), webhooks: newWebhooks()}
	ch.preloading = p
	ch.file.tasks.Go(func() {
		defer close(p.done)
		conn, err := (&sqlite.Driver{}).Open(ch.file.dsn(url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "cache_size(-500)"}}))
		if err != nil {
			p.err = err
			return
		}
		w := &writer{conn: conn}
		p.err = errors.Join(p.webhooks.load(ch.file.life, w, ch.known.name, since), w.close())
	})
}

// readWebhooks reads into ch.webhooks all deliveries that an arrival may be a duplicate of.
func (ch *changes) readWebhooks(since time.Time) error {
	if p := ch.preloading; p != nil {
		<-p.done
		ch.preloading = nil
		// This is the first search, so ch.webhooks is empty. If the preload failed, load reads it all now.
		if p.err == nil && len(ch.webhooks.newest) == 0 {
			p.webhooks.undo = ch.webhooks.undo
			ch.webhooks = p.webhooks
		}
	}
	return ch.webhooks.load(context.Background(), ch.ledger.w, ch.known.name, since)
}

// findFirst looks for the delivery that an arrival is a duplicate of, and counts the duplicate there. If there is none, later arrivals
// with the same Webhook-Id become duplicates of this one.
func (ch *changes) findFirst(a *store.Arrival, endpoint int64) (found bool, err error) {
	if err := ch.readWebhooks(a.Since); err != nil {
		return false, err
	}
	hash := webhookHash(a.Stored.Endpoint, a.Stored.WebhookID)
	if key, ok := ch.webhooks.newest[hash]; ok {
		row, err := ch.ledger.w.row.queryRow(key)
		if err != nil {
			return false, err
		}
		if row != nil {
			first := ch.known.delivery(row)
			if row[colEndpoint].(int64) != endpoint || first.WebhookID != a.Stored.WebhookID {
				return false, nil // two Webhook-Ids with the same hash: the entry stays with the earlier one
			}
			became := first.State // for a merged delivery: the state of the last one of its burst
			if first.State == store.Merged {
				last, err := ch.ledger.w.survivor.queryRow(key)
				if err != nil {
					return false, err
				}
				if last != nil && last[1] != nil {
					became = store.StateNames[last[1].(int64)]
				}
			}
			recent := !a.Since.IsZero() && !first.Received.Before(a.Since)
			if !became.Finished() || recent && became != store.Dead && became != store.Discarded {
				first.Duplicates++
				a.First = &first
				return true, ch.ledger.w.duplicate.exec(row[colID])
			}
		}
	}
	ch.webhooks.set(hash, store.Key(a.Stored.ULID))
	return false, nil
}
