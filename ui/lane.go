package ui

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// laneLimit is how many bytes of event lines may wait for a slow writer; some ten thousand lines.
	laneLimit = 2 << 20
	// laneReserve is kept for what is rarer and matters more: the banner, warnings, the tunnel's state.
	laneReserve = 64 << 10
	// laneKeep is the largest buffer that is kept for the next burst.
	laneKeep = 256 << 10
	// lanePace is the least time between two writes: under load, lines go out in batches and cost no system call each.
	lanePace = 10 * time.Millisecond
)

// A lane carries lines to one writer and never makes the caller wait for it. What doesn't fit is left out and counted. Its goroutine
// lives while there is something to write.
type lane struct {
	w io.Writer
	// tally writes that n lines were left out before the given line; line is nil if none follows yet.
	tally func(dst []byte, n int, line []byte) []byte
	// broke is told once when writing begins to fail.
	broke func(error)

	closing chan struct{} // closed by close: write what is left without pausing

	mu      sync.Mutex
	pending []byte
	lines   int    // in pending, those counted by a tally in it included
	leftOut int    // lines since the last tally
	spare   []byte // the buffer that was written last
	idle    chan struct{}
	torn    bool // the last line was cut off, and the next must not begin in its middle
	running bool
	closed  bool
	err     error // of the last write, nil after one that succeeded
}

func newLane(w io.Writer, tally func([]byte, int, []byte) []byte) *lane {
	return &lane{w: w, tally: tally, closing: make(chan struct{})}
}

// full reports whether a line of events would be left out; it counts it then.
func (l *lane) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) < laneLimit {
		return false
	}
	l.leftOut++
	return true
}

// put hands over whole lines. Those of an event are left out when limit bytes wait already.
func (l *lane) put(text []byte, lines, limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.pending)+len(text) > limit {
		l.leftOut += lines
		return
	}
	if l.leftOut > 0 {
		l.pending = l.tally(l.pending, l.leftOut, text)
		l.lines += l.leftOut
		l.leftOut = 0
	} else {
		l.pending = append(l.pending, text...)
	}
	l.lines += lines
	if !l.running {
		l.running = true
		l.idle = make(chan struct{})
		go l.run()
	}
}

// run writes until nothing is left.
func (l *lane) run() {
	for {
		l.mu.Lock()
		if len(l.pending) == 0 {
			l.running = false
			close(l.idle)
			l.mu.Unlock()
			return
		}
		if l.leftOut > 0 && l.err == nil {
			before := len(l.pending)
			l.pending = l.tally(l.pending, l.leftOut, nil)
			if len(l.pending) > before {
				l.lines += l.leftOut
				l.leftOut = 0
			}
		}
		if l.torn {
			l.pending = append([]byte{'\n'}, l.pending...)
			l.torn = false
		}
		batch, lines := l.pending, l.lines
		l.pending, l.lines = l.spare[:0], 0
		l.mu.Unlock()

		n, err := l.w.Write(batch)
		if err == nil && n < len(batch) {
			err = io.ErrShortWrite
		}
		l.wrote(batch, lines, n, err)

		pause := time.NewTimer(lanePace)
		select {
		case <-pause.C:
		case <-l.closing:
			pause.Stop()
		}
	}
}

func (l *lane) wrote(batch []byte, lines, n int, err error) {
	l.mu.Lock()
	first := err != nil && l.err == nil
	l.err = err
	if err != nil {
		l.leftOut += lines
		if n = min(n, len(batch)); n > 0 {
			l.torn = batch[n-1] != '\n'
		} else {
			l.torn = batch[0] == '\n' // it was torn already
		}
	}
	l.spare = nil
	if cap(batch) <= laneKeep {
		l.spare = batch
	}
	l.mu.Unlock()
	if first && l.broke != nil {
		l.broke(err)
	}
}

// close takes no further line and waits until all that was handed over is written. When ctx ends first, the writer is stuck: the
// goroutine ends as soon as its Write returns.
func (l *lane) close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	idle := l.idle
	l.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("writing the last lines: %w", context.Cause(ctx))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return fmt.Errorf("writing the last lines: %w", l.err)
	}
	return nil
}
