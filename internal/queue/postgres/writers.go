package postgres

import (
	"context"
	"errors"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// writers are the connections that store batches. The second is for what comes while the first is busy: on the server, two commits can share
// one sync.
type writers struct {
	first, second *commits
}

func newWriters(db *database) *writers { return &writers{newCommits(db), newCommits(db)} }

// Writers implements store.Sharing.
func (ws *writers) Writers() int { return 2 }

// Commit implements store.Engine.
func (ws *writers) Commit(b *store.Batch) error {
	if b.Empty() {
		return nil
	}
	if len(b.Starts) > 0 {
		return errors.New("start deliveries: where they are shared, claim does that")
	}
	cs := ws.take()
	defer cs.giveBack()
	ctx, cancel := context.WithTimeout(cs.db.life, cs.db.cfg.tries)
	defer cancel()
	// A sender who was told of a failure may send again. What it sent before must be gone by then, whichever connection stored it. Two
	// commits do not wait for each other here: each has removed its own first.
	if err := cs.settle(ctx); err != nil {
		return err
	}
	if other := ws.other(cs); other.isLate() {
		select {
		case <-other.turn:
		case <-ctx.Done():
			return cs.db.failed("store deliveries in the database", ctx.Err())
		}
		err := other.settle(ctx)
		other.giveBack()
		if err != nil {
			return err
		}
	}
	if err := cs.commit(ctx, b); err != nil {
		return err
	}
	cs.db.ended.Add(int64(len(b.Ends)))
	return nil
}

// take waits for a connection that nobody uses. It is the first one where both are free. While the first one is lost, its commits fail at
// once. The server may be away then, and a commit over the second one would take its whole limit to notice that.
func (ws *writers) take() *commits {
	select {
	case <-ws.first.turn:
		return ws.first
	default:
	}
	second := ws.second.turn
	for _, cs := range []*commits{ws.first, ws.second} {
		if w, _ := cs.takeWriter(); w == nil {
			second = nil
		}
	}
	select {
	case <-ws.first.turn:
		return ws.first
	case <-second:
		return ws.second
	}
}

func (ws *writers) other(cs *commits) *commits {
	if cs == ws.first {
		return ws.second
	}
	return ws.first
}

func (cs *commits) giveBack() { cs.turn <- struct{}{} }

// Forget implements store.Engine. Only arrivals of a commit without an answer may be stored although it failed.
func (ws *writers) Forget(ids []ulid.ULID) {
	ws.first.forget(ids)
	ws.second.forget(ids)
}
