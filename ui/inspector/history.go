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

// add appends e, and drops the oldest entry if there are more than most. The caller holds the mutex.
func (h *history[T]) add(e T, most int) {
	h.entries = append(h.entries, e)
	h.entries = h.entries[max(0, len(h.entries)-most):]
}

// newest returns the entries, newest first.
func (h *history[T]) newest() (entries []T, total int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries = make([]T, len(h.entries))
	for i, e := range h.entries {
		entries[len(entries)-1-i] = e
	}
	return entries, h.total
}

// Rejected records and publishes a request that an endpoint refused. If the request differs from the one before in time alone, the two
// become one entry; r.Times is ignored. Like the other publishing methods, it does not wait for readers.
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
	in.feed.publish(api.EventRejected, r) // under the mutex, so that streams have the order of the list
}

// Tunnel records and publishes a change of the tunnel's state, or the result of a check.
func (in *Inspector) Tunnel(c api.TunnelChange) {
	h := &in.tunnelChanges
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total++
	h.add(c, maxTunnelChanges)
	in.feed.publish(api.EventTunnel, c)
}

func (in *Inspector) listRejected(w http.ResponseWriter, r *http.Request) {
	entries, total := in.rejected.newest()
	writeJSON(w, http.StatusOK, api.RejectedList{Rejected: entries, Total: total})
}

func (in *Inspector) listTunnelChanges(w http.ResponseWriter, r *http.Request) {
	changes, _ := in.tunnelChanges.newest()
	writeJSON(w, http.StatusOK, api.TunnelChanges{Changes: changes})
}

// alike reports whether two requests differ only in when and how often they came.
func alike(a, b api.Rejected) bool {
	a.Time, a.Times = b.Time, b.Times
	return a == b
}
