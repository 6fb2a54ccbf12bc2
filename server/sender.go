package server

import (
	"sync"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/ui"
)

// sender is who posted a delivery and waits for an answer. The line on the screen about the outcome names the status of the answer that
// told it. The outcome and the answer come from different goroutines, in any order, and the later of the two has the line shown.
type sender struct {
	mu       sync.Mutex
	answered bool
	status   int         // of an answer that told an outcome which is not shown yet, 0 for none
	outcome  *ui.Outcome // not shown yet, as its answer is not written
}

// takeOutcome keeps v until the sender is answered. If that has happened it returns true, and v has the status.
func (f *sender) takeOutcome(v *ui.Outcome) (show bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.answered && f.outcome == nil {
		f.outcome = v
		return false
	}
	v.Status, f.status = f.status, 0
	return true
}

// takeAnswer notes that the sender has its answer. It returns the outcome that has waited for that, nil if there is none yet.
func (f *sender) takeAnswer(status int) *ui.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered = true
	v := f.outcome
	if v == nil {
		f.status = status
		return nil
	}
	f.outcome, v.Status = nil, status
	return v
}

// answered says that an answer to f was written. status is that of an answer which told the outcome of the delivery, and 0 for one that did
// not, or that nobody got.
func (s *Server) answered(f *sender, status int) {
	if f == nil {
		return
	}
	if v := f.takeAnswer(status); v != nil {
		s.screen.Outcome(*v)
	}
}

// showOutcome shows how an attempt has ended, or a delivery without one: at once, or, where a sender may be told of it, once that has its
// answer.
func (s *Server) showOutcome(c *queue.Change) {
	v := s.viewOutcome(c)
	f, _ := c.Sender.(*sender)
	if a, inMemory := c.Value.(*arrival); inMemory { // with later attempts, too
		f = a.sender
	}
	if f == nil || !s.answerTells(c.Delivery.State, v.N) || f.takeOutcome(&v) {
		s.screen.Outcome(v)
	}
}

// answerTells reports whether an answer may tell that a delivery is in state after so many attempts. One that says of a delivery that it
// is not handled is a refusal, which has a line of its own.
func (s *Server) answerTells(state queue.State, attempts int) bool {
	if s.settings.Answer == answerHandled {
		return state == queue.Done || state == queue.Skipped
	}
	return attempts <= 1
}
