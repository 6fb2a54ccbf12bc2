package queue

import (
	"bytes"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// entry is a delivery in a dueHeap, or the ticket of a series.
type entry struct {
	store.Due
	line   *line
	task   *task // nil if its content is not in memory
	ticket bool  // it stands for its series
	index  *int  // the heap keeps its index here; nil if nobody needs it
}

func (e *entry) before(o *entry) bool {
	if e.At != o.At {
		return e.At < o.At
	}
	return bytes.Compare(e.ID[:], o.ID[:]) < 0
}

// dueHeap has deliveries that wait for their next attempt. The one that is due first is at index 0.
type dueHeap []entry

func (h *dueHeap) push(e entry) {
	*h = append(*h, entry{})
	h.set(len(*h)-1, e)
	h.up(len(*h) - 1)
}

// set puts an entry at an index.
func (h dueHeap) set(i int, e entry) {
	h[i] = e
	if e.index != nil {
		*e.index = i
	}
}

func (h dueHeap) swap(i, j int) {
	e := h[i]
	h.set(i, h[j])
	h.set(j, e)
}

func (h *dueHeap) pop() entry { return h.remove(0) }

func (h *dueHeap) remove(i int) entry {
	s := *h
	last := len(s) - 1
	e := s[i]
	s.set(i, s[last])
	s[last] = entry{}
	*h = s[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	return e
}

// find returns the index of a delivery, -1 if it is not there.
func (h dueHeap) find(id ulid.ULID) int {
	return slices.IndexFunc(h, func(e entry) bool { return e.ID == id })
}

func (h dueHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h dueHeap) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
