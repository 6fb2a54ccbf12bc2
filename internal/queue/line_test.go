package queue

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// TestLineAgainstModel does at random what a queue does with a line, and the same with a plain list of what waits.
func TestLineAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := &line{}
		var waits []entry // the model
		held := map[int64]bool{}
		var running []entry
		var ids store.IDSource
		now := int64(0)
		for range 300 {
			switch n := random.IntN(10); {
			case n < 4:
				e := entry{Due: store.Due{At: now + random.Int64N(20) - 5, ID: ids.Next(time.UnixMilli(now)), Serial: random.Int64N(4)}, line: l}
				if random.IntN(3) == 0 {
					e.Burst = 1
				}
				first := !slices.ContainsFunc(waits, func(w entry) bool { return w.Serial == e.Serial && w.before(&e) })
				if behind := l.push(e); behind != (e.Serial != 0 && (held[e.Serial] || !first)) {
					t.Fatalf("seed %d: %+v is behind others: %v", seed, e.Due, behind)
				}
				waits = append(waits, e)
			case n < 7:
				now++
				var want *entry
				for i := range waits {
					w := &waits[i]
					if w.At <= now && (w.Serial == 0 || !held[w.Serial]) && (want == nil || w.before(want)) {
						want = w
					}
				}
				got, ok := l.pop(now)
				if ok != (want != nil) || ok && got.ID != want.ID {
					t.Fatalf("seed %d: %+v starts, %v; want %+v", seed, got.Due, ok, want)
				}
				if ok {
					waits = slices.DeleteFunc(waits, func(w entry) bool { return w.ID == got.ID })
					held[got.Serial] = true
					running = append(running, got)
				}
			case n < 9 && len(running) > 0:
				e := running[0]
				running = running[1:]
				delete(held, e.Serial)
				l.release(e.Serial)
			case len(waits) > 0:
				w := waits[random.IntN(len(waits))]
				if e, ok := l.take(w.ID, w.Serial); !ok || e.ID != w.ID {
					t.Fatalf("seed %d: %+v can't be taken out", seed, w.Due)
				}
				waits = slices.DeleteFunc(waits, func(e entry) bool { return e.ID == w.ID })
			}
			if _, ok := l.take(ids.Next(time.UnixMilli(now)), random.Int64N(4)); ok {
				t.Fatalf("seed %d: what was never there was taken out", seed)
			}
		}
		for _, e := range running {
			l.release(e.Serial)
		}
		var order []int64
		for {
			e, ok := l.pop(now + 100)
			if !ok {
				break
			}
			order = append(order, e.At)
			l.release(e.Serial)
		}
		if len(order) != len(waits) || !slices.IsSortedFunc(order, cmp.Compare[int64]) {
			t.Fatalf("seed %d: %d of %d are left, in order %v", seed, len(order), len(waits), order)
		}
		if len(l.due)+len(l.series)+len(l.indexes) != 0 {
			t.Fatalf("seed %d: %d entries, %d series and %d indexes are left behind", seed, len(l.due), len(l.series), len(l.indexes))
		}
	}
}
