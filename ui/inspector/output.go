package inspector

import (
	"maps"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

const (
	outputPause = 50 * time.Millisecond // between two looks at what was printed
	maxPiece    = 16 << 10              // bytes of one event "output"
	maxPieces   = 64 << 10              // bytes of all that come from one look, so that deliveries are not crowded out
)

// Output is what an attempt prints while it runs.
type Output interface {
	// Next returns the next piece that it has not returned yet, of whole characters and at most the given number of bytes, and false
	// if there is none. It may go past some where the attempt prints faster than Next is called. It must be quick.
	Next(most int) (piece api.OutputEvent, ok bool)
}

// Printed says that o has more to tell. It does not wait for those who watch, and forgets about it where there are none.
func (in *Inspector) Printed(o Output) { in.feed.outputs.add(o) }

// outputs are those that have more to tell. There are some only while there are streams.
type outputs struct {
	mu      sync.Mutex
	waiting map[Output]struct{}
	wake    chan struct{} // has one token when there is something waiting; nil without a stream
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

// open begins to take what add brings, and wakes through wake. A nil wake ends it.
func (s *outputs) open(wake chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake, s.waiting = wake, map[Output]struct{}{}
}

// take returns what waits.
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

// giveBack lets those that may have more wait on, unless wake, by which they were taken, is not the one to tell any more.
func (s *outputs) giveBack(wake chan struct{}, left map[Output]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == wake {
		maps.Copy(s.waiting, left)
	}
}

// tellOutputs publishes a piece of each output that has more, and reports whether some may have still more.
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
			f.send("output", data)
		}
		f.mu.Unlock()
	}
	if len(taken) == 0 {
		return false
	}
	f.outputs.giveBack(w.printed, taken)
	return true
}

// showRunning fills in what the attempts of r that run in this process have printed so far.
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
