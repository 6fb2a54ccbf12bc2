// Package latest has a channel whose sender never waits.
package latest

import "sync"

// Chan is a bounded channel that drops its oldest values rather than its newest.
type Chan[T any] struct {
	// C is what to receive from. It is closed by Close.
	C <-chan T

	mu     sync.Mutex
	closed bool
	c      chan T
}

// New returns a channel for size values.
func New[T any](size int) *Chan[T] {
	c := make(chan T, size)
	return &Chan[T]{C: c, c: c}
}

// Send puts v in, or does nothing after Close.
func (l *Chan[T]) Send(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	for {
		select {
		case l.c <- v:
			return
		default:
		}
		select {
		case <-l.c:
		default:
		}
	}
}

// Close ends the channel. The values in it can still be received.
func (l *Chan[T]) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.c)
	}
}
