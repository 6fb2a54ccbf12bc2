package queue

import (
	"github.com/oklog/ulid/v2"
)

// wait lets callers wait for the end of an attempt.
type wait struct {
	done      chan struct{}
	report    Report // set before done is closed
	elsewhere bool   // another process handled it, and told no result; set before done is closed
	sender    any    // Arrival.Sender

	// Guarded by Queue.mu.
	asking  int  // calls of Outcome that wait for it
	passing bool // nobody but calls of Outcome waits for it
}

func newWait() *wait { return &wait{done: make(chan struct{})} }

func (w *wait) end(r Report) {
	w.report = r
	close(w.done)
}

// waits has the waits of deliveries that do not run here, by ID. While a delivery runs here, its task has its wait.
type waits map[ulid.ULID]*wait

// take removes and returns the wait of a delivery that starts here, nil if there is none.
func (ws waits) take(id ulid.ULID) *wait {
	w := ws[id]
	if w != nil {
		w.passing = false
		delete(ws, id)
	}
	return w
}

// of returns the wait of a delivery that is unfinished, for the sender of a duplicate.
func (ws waits) of(id ulid.ULID) *wait {
	w := ws[id]
	if w == nil {
		w = newWait()
		ws[id] = w
	}
	w.passing = false
	return w
}

// ask returns the wait of a delivery for a call of Outcome, which calls leave when it no longer waits.
func (ws waits) ask(id ulid.ULID) *wait {
	w := ws[id]
	if w == nil {
		w = newWait()
		w.passing = true
		ws[id] = w
	}
	w.asking++
	return w
}

// leave ends what ask began. It removes a wait that ask made and nobody needs any more. If the delivery does not end here, nothing else
// would remove it.
func (ws waits) leave(id ulid.ULID, w *wait) {
	w.asking--
	if ws[id] == w {
		ws.forget(id)
	}
}

// forget removes the wait of a delivery if nobody needs it.
func (ws waits) forget(id ulid.ULID) {
	if w := ws[id]; w != nil && w.passing && w.asking == 0 {
		delete(ws, id)
	}
}

// end tells those who wait for a delivery how it ended.
func (ws waits) end(id ulid.ULID, r Report) {
	if w := ws[id]; w != nil {
		delete(ws, id)
		w.end(r)
	}
}

// endElsewhere tells those who wait for a delivery how it ended in another process.
func (ws waits) endElsewhere(id ulid.ULID, r Report) {
	if w := ws[id]; w != nil {
		w.elsewhere = true
		ws.end(id, r)
	}
}
