package inspector

import (
	"maps"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

const (
	outputPause = 50 * time.Millisecond // between two looks at the outputs
	maxPiece    = 16 << 10              // bytes of one event "output"
	maxPieces   = 64 << 10              // bytes of all pieces of one look, so that output does not crowd out deliveries
)

// Output is the text that a running attempt prints.
type Output interface {
	// Next returns the next piece, of whole characters and at most that many bytes, and false if there is none. It may skip text if the
	// attempt prints faster than Next is called. It must be quick.
	Next(most int) (piece api.OutputEvent, ok bool)
}

// Printed says that o has more text. It does not wait for readers, and does nothing if there are none.
func (in *Inspector) Printed(o Output) { in.feed.outputs.add(o) }

// outputs holds the outputs that have more text. It is empty while there is no stream.
type outputs struct {
	mu      sync.Mutex
	waiting map[Output]struct{}
	wake    chan struct{} // has one token when an output waits; nil without a stream
}

func (s *outputs) add(o Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		return
	}
	s.waiting[o] = struct{}{}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// open begins to accept outputs from add, and signals them on wake. A nil wake ends that.
func (s *outputs) open(wake chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake, s.waiting = wake, map[Output]struct{}{}
}

// take removes and returns the outputs that wait.
func (s *outputs) take() map[Output]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return nil
	}
	taken := s.waiting
	s.waiting = map[Output]struct{}{}
	return taken
}

// giveBack returns outputs that may have more text. If wake, the channel of the watch that took them, is no longer the current one, it
// drops them.
func (s *outputs) giveBack(wake chan struct{}, left map[Output]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == wake {
		maps.Copy(s.waiting, left)
	}
}

// tellOutputs publishes a piece of each output that has more text, and reports whether some may have still more.
func (f *feed) tellOutputs(w *watch) (more bool) {
	taken := f.outputs.take()
	room := maxPieces
	for o := range taken {
		if room < maxPiece {
			break
		}
		piece, ok := o.Next(maxPiece)
		if !ok {
			delete(taken, o)
			continue
		}
		room -= len(piece.Text)
		data := encoded(encode(piece))
		f.mu.Lock()
		if f.watching == w {
			f.send(api.EventOutput, data)
		}
		f.mu.Unlock()
	}
	if len(taken) == 0 {
		return false
	}
	f.outputs.giveBack(w.printed, taken)
	return true
}

// showRunning fills in the output so far of the attempts of r that run in this process.
func (in *Inspector) showRunning(r *api.Record, attempts []queue.Attempt) {
	if in.config.Output == nil {
		return
	}
	for i, a := range attempts {
		if !a.Ended {
			r.AttemptList[i].Output, r.AttemptList[i].OutputBytes = in.config.Output(r.ID, a.N)
		}
	}
}
