package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	leadFor   = 10 * time.Second // how long a leader stays so that the database does not hear of
	leadEvery = 3 * time.Second  // how often a leader renews that, and the others ask
)

// Marks returns the stored marks whose keys begin with prefix, by key. Their Version is what the next mark in their place says.
func (q *Queue) Marks(ctx context.Context, prefix string) ([]Mark, error) {
	return q.eng.Marks(ctx, prefix)
}

// SetMark stores a mark, synced, without a delivery. The errors are ErrMarkMoved, ErrStopping, ctx's, and what kept the mark from being
// stored. After all but the first two it may be stored: set again, it is then refused as ErrMarkMoved.
func (q *Queue) SetMark(ctx context.Context, m Mark) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pending := &pendingMark{Mark: m, ready: make(chan struct{})}
	q.mu.Lock()
	if q.stopping {
		q.mu.Unlock()
		return ErrStopping
	}
	q.commits.next.marks = append(q.commits.next.marks, pending)
	if err := q.commits.await(ctx, pending.ready); err != nil {
		return err
	}
	return pending.err
}

// Lead calls work while this process leads a task, until ctx ends. Where several processes share the deliveries, one of them leads
// a task at a time. If it dies, another one leads within leadFor and leadEvery. The context that work gets ends when this process is
// no longer the leader. What work then still commits is refused, if its marks have keys that begin with the task's name and a slash.
func (q *Queue) Lead(ctx context.Context, task string, work func(context.Context)) {
	shared, ok := q.eng.(store.Sharing)
	if !ok {
		work(ctx)
		<-ctx.Done()
		return
	}
	l := &leadership{q: q, shared: shared, task: task, token: store.NewToken()}
	l.run(ctx, work)
}

// leadership is this process's part in who leads a task.
type leadership struct {
	q      *Queue
	shared store.Sharing
	task   string
	token  int64
	failed bool // the last question failed, and a warning said so
}

func (l *leadership) run(ctx context.Context, work func(context.Context)) {
	ask := time.NewTicker(leadEvery)
	defer ask.Stop()
	var stop context.CancelFunc // nil while another process leads
	var done chan struct{}
	end := func() {
		if stop != nil {
			stop()
			<-done
			stop = nil
		}
	}
	defer func() {
		end()
		// The context has ended, and the others should not wait for the end of the lease.
		free, cancel := context.WithTimeout(context.WithoutCancel(ctx), leadEvery)
		defer cancel()
		if err := l.shared.Resign(free, l.task, l.token); err != nil {
			l.q.feed.warn(err)
		}
	}()
	for {
		leads, err := l.shared.Lead(ctx, l.task, l.token, leadFor)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// Without an answer the work goes on. If another process leads by now, what this one stores is refused.
			if !l.failed {
				l.q.feed.warn(fmt.Errorf("%w; it is asked again every %s", err, leadEvery))
			}
		case leads && stop == nil:
			inner, cancel := context.WithCancel(ctx)
			stop, done = cancel, make(chan struct{})
			go func() {
				defer close(done)
				work(inner)
			}()
		case !leads:
			end()
		}
		l.failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ask.C:
		}
	}
}
