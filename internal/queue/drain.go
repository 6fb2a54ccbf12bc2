package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Drain ends the work: nothing more is accepted or started, and handlers that run may end until ctx does. Then their
// contexts end too, with the cause ErrStopping; one that returns an error after that, or does not return within two more
// seconds, has not failed: its delivery waits for the next start of the process. Drain returns once all that is stored;
// an error says what could not be, or which handlers did not return.
func (q *Queue) Drain(ctx context.Context) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return store.ErrClosed
	}
	first := !q.stopping
	q.stopping = true
	q.sweeping = false
	if first && q.started && q.shared != nil {
		q.mu.Unlock()
		q.stopClaiming()
		q.mu.Lock()
	}
	for _, l := range q.lines {
		q.handBackReady(l, q.now())
	}
	if q.drained == nil {
		q.drained = make(chan struct{})
	}
	drained := q.drained
	if q.active == 0 {
		close(drained)
		q.drained = nil
	}
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
	lost := q.giveUp()
	// The outcomes are stored even though ctx has ended.
	stored := q.flush(context.WithoutCancel(ctx))
	q.mu.Lock()
	if n := len(q.next.ends); n > 0 {
		attempts, again := "1 attempt", "after a restart"
		if n > 1 {
			attempts = fmt.Sprintf("%d attempts", n)
		}
		if q.shared != nil {
			again = "elsewhere or after a restart"
		}
		stored = fmt.Errorf("store how %s ended: nothing can be stored; what was handled runs again %s", attempts, again)
	}
	q.mu.Unlock()
	return errors.Join(lost, stored)
}

// giveUp hands the deliveries of handlers that did not return back to the next start.
func (q *Queue) giveUp() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	var ids []string
	for id, t := range q.running {
		if t.ended {
			continue
		}
		t.ended = true
		ids = append(ids, id.String())
		k := q.judge(t, Outcome{Error: handedBackText}, now, true)
		q.conclude(t, k, Report{State: t.State, Reason: t.Reason})
	}
	if ids == nil {
		return nil
	}
	slices.Sort(ids)
	return fmt.Errorf("end the handlers: those of %s did not return after their context had ended; the deliveries will run again",
		strings.Join(ids, ", "))
}

// Close closes the database and gives the data directory back. Without a Drain before it, it is one whose context has
// ended already.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	drained := q.stopping && q.active == 0
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
	for q.committing {
		q.free.Wait()
	}
	for w := range q.watchers {
		q.unwatch(w)
	}
	q.mu.Unlock()
	q.endLife(ErrStopping)
	close(q.quit)
	q.tasks.Wait()
	err = errors.Join(err, q.eng.Close())
	if q.lock != nil {
		err = errors.Join(err, q.lock.Close())
	}
	return err
}
