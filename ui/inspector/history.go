package inspector

import (
	"net/http"
	"sync"

	"github.com/hubhook/hubhook/internal/api"
)

// How many entries of each kind are kept, in memory and until the process ends.
const (
	maxRejected      = 200
	maxTunnelChanges = 100
)

// history keeps the newest entries of one kind.
type history[T any] struct {
	mu      sync.Mutex
	entries []T // oldest first
	total   int64
}

// add puts e behind the others and drops the oldest one beyond most. The caller holds the mutex.
func (h *history[T]) add(e T, most int) {
	h.entries = append(h.entries, e)
	h.entries = h.entries[max(0, len(h.entries)-most):]
}

// newest returns what is kept, newest first.
func (h *history[T]) newest() (entries []T, total int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries = make([]T, len(h.entries))
	for i, e := range h.entries {
		entries[len(entries)-1-i] = e
	}
	return entries, h.total
}

// Rejected notes and publishes that a request was refused at the front door. One that is like the one before but for its time is
// folded into it; r.Times counts for nothing. Like the other publishing methods it does not wait for those who watch.
func (in *Inspector) Rejected(r api.Rejected) {
	h := &in.rejected
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total++
	r.Times = 1
	if last := len(h.entries) - 1; last >= 0 && alike(h.entries[last], r) {
		r.Times += h.entries[last].Times
		h.entries[last] = r
	} else {
		h.add(r, maxRejected)
	}
	in.feed.publish("rejected", r) // with the mutex held, so that streams see the order of the list
}

// Tunnel notes and publishes a change of the tunnel's state, or what a check of it has found.
func (in *Inspector) Tunnel(c api.TunnelChange) {
	h := &in.tunnelChanges
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total++
	h.add(c, maxTunnelChanges)
	in.feed.publish("tunnel", c)
}

func (in *Inspector) listRejected(w http.ResponseWriter, r *http.Request) {
	entries, total := in.rejected.newest()
	writeJSON(w, http.StatusOK, api.RejectedList{Rejected: entries, Total: total})
}

func (in *Inspector) listTunnelChanges(w http.ResponseWriter, r *http.Request) {
	changes, _ := in.tunnelChanges.newest()
	writeJSON(w, http.StatusOK, api.TunnelChanges{Changes: changes})
}

// alike reports whether two requests differ in nothing but when and how often they came.
func alike(a, b api.Rejected) bool {
	a.Time, a.Times = b.Time, b.Times
	return a == b
}
