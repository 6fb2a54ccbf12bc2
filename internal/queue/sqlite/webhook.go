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

// webhookSeed is this process's: who sends can't know which ids have the same hash.
var webhookSeed = maphash.MakeSeed()

// webhookHash is what stands for a stored Webhook-Id of an endpoint.
func webhookHash(endpoint, webhookID string) int64 {
	var h maphash.Hash
	h.SetSeed(webhookSeed)
	h.WriteString(endpoint)
	h.WriteByte(0)
	h.WriteString(webhookID)
	return int64(h.Sum64())
}

// load reads those deliveries that an arrival may be a duplicate of and that were stored before this process.
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
		// What was merged counts as unfinished while the last of its burst is.
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

// preloading is a load beside the work, for the first arrival, which need not wait as long then.
type preloading struct {
	done     chan struct{}
	webhooks webhooks // set before done is closed, and complete if err is nil
	err      error
}

// Preload begins to read what arrivals may be duplicates of that count those since then.
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

// readWebhooks makes e.webhooks hold what an arrival may be a duplicate of.
func (ch *changes) readWebhooks(since time.Time) error {
	if p := ch.preloading; p != nil {
		<-p.done
		ch.preloading = nil
		// Nothing has been looked for so far, so ch.webhooks is empty. What could not be read is read now.
		if p.err == nil && len(ch.webhooks.newest) == 0 {
			p.webhooks.undo = ch.webhooks.undo
			ch.webhooks = p.webhooks
		}
	}
	return ch.webhooks.load(context.Background(), ch.ledger.w, ch.known.name, since)
}

// findFirst looks for the delivery that an arrival is a duplicate of, and counts it there. Without one, the arrival becomes the one that
// later ones are duplicates of.
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
				return false, nil // two ids with one hash: the earlier one keeps it
			}
			became := first.State // of one that was merged: what became of the last of its burst
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
