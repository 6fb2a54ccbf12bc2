package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// drainGrace is the time that a cancelled handler has to return.
const drainGrace = 2 * time.Second

// Drain ends the work. Nothing more is accepted or started. Handlers that run may end until ctx does; then their contexts end
// too, with the cause ErrStopping. A handler that returns an error after that, or does not return within two more seconds, has
// not failed: its delivery waits for the next start of the process. Drain returns when all outcomes are stored. Its error says
// which could not be, or which handlers did not return.
func (q *Queue) Drain(ctx context.Context) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return store.ErrClosed
	}
	first := !q.stopping
	q.stopping = true
	q.commits.sweeping = false
	if first && q.started {
		q.mu.Unlock()
		q.source.stop()
		q.mu.Lock()
	}
	drained := q.runner.drain()
	q.mu.Unlock()

	select {
	case <-drained:
	case <-ctx.Done():
		q.endLife(ErrStopping)
		grace := time.NewTimer(drainGrace)
		defer grace.Stop()
		select {
		case <-drained:
		case <-grace.C:
		}
	}
	lost := q.runner.giveUp()
	// The outcomes are stored even though ctx has ended.
	stored := q.commits.flush(context.WithoutCancel(ctx))
	q.mu.Lock()
	if n := len(q.commits.next.ends); n > 0 {
		attempts := "1 attempt"
		if n > 1 {
			attempts = fmt.Sprintf("%d attempts", n)
		}
		stored = fmt.Errorf("store how %s ended: nothing can be stored; what was handled runs again %s", attempts, q.source.runsAgain())
	}
	q.mu.Unlock()
	return errors.Join(lost, stored)
}

// Close closes the database and gives the data directory back. Without a Drain before it, it drains with a context that has
// ended already.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	drained := q.stopping && q.runner.active == 0
	q.mu.Unlock()
	var err error
	if !drained {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		err = q.Drain(ended)
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return err
	}
	q.closed = true
	q.commits.awaitIdle()
	q.mu.Unlock()
	q.feed.tell()
	q.feed.close()
	q.endLife(ErrStopping)
	close(q.commits.quit)
	q.tasks.Wait()
	err = errors.Join(err, q.eng.Close())
	if q.lock != nil {
		err = errors.Join(err, q.lock.Close())
	}
	return err
}
