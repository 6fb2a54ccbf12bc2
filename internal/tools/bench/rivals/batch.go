package rivals

import (
	"context"
	"sync"
)

// mostBatched bounds the deliveries of one transaction.
const mostBatched = 256

// A batcher stores deliveries together with those that wait at the same time. None waits for company: a free writer stores what is there.
type batcher struct {
	waiting chan *waiter
	writers sync.WaitGroup
}

// A waiter is a delivery that is not stored yet.
type waiter struct {
	body   []byte
	stored chan error
}

func newBatcher(q Queue, writers int) *batcher {
	b := &batcher{waiting: make(chan *waiter, mostBatched)}
	for range writers {
		b.writers.Go(func() {
			for first := range b.waiting {
				b.write(q, first)
			}
		})
	}
	return b
}

// store returns once body is stored.
func (b *batcher) store(ctx context.Context, body []byte) error {
	w := &waiter{body: body, stored: make(chan error, 1)}
	select {
	case b.waiting <- w:
		return <-w.stored
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write stores first and what waits behind it.
func (b *batcher) write(q Queue, first *waiter) {
	batch := []*waiter{first}
	for more := true; more && len(batch) < mostBatched; {
		var w *waiter
		select {
		case w, more = <-b.waiting:
		default:
			more = false
		}
		if more {
			batch = append(batch, w)
		}
	}
	bodies := make([][]byte, len(batch))
	for i, w := range batch {
		bodies[i] = w.body
	}
	err := q.Store(context.Background(), bodies...)
	for _, w := range batch {
		w.stored <- err
	}
}

// close ends the writers. No request may be under way.
func (b *batcher) close() {
	close(b.waiting)
	b.writers.Wait()
}
