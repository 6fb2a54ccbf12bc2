package sqlite

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// abandoned copies a database in the state in which the death of its process would leave it.
func abandoned(t *testing.T, dir string) string {
	t.Helper()
	copied := t.TempDir()
	for _, name := range []string{DatabaseName, DatabaseName + "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// A commit that changes a delivery which the stored summary counts stores a new summary, even if the commit has arrivals.
func TestCountsOfOlderDeliveries(t *testing.T) {
	for name, change := range map[string]func(b *storetest.Bench, runs, waits *store.Arrival) *store.Batch{
		"end": func(b *storetest.Bench, runs, _ *store.Arrival) *store.Batch {
			return &store.Batch{Ends: []*store.End{b.End(runs, store.Done, "")}}
		},
		"discarding": func(_ *storetest.Bench, _, waits *store.Arrival) *store.Batch {
			return &store.Batch{Discards: []*store.Discard{{ID: waits.Stored.ULID, Reason: "by hand"}}}
		},
		"start": func(b *storetest.Bench, _, waits *store.Arrival) *store.Batch {
			return &store.Batch{Starts: []*store.Start{{ID: waits.Stored.ULID, Endpoint: "inbox", From: store.Waiting, At: b.Now}}}
		},
		"merging": func(b *storetest.Bench, _, _ *store.Arrival) *store.Batch {
			return &store.Batch{Arrivals: []*store.Arrival{b.Arrive(func(a *store.Arrival) { a.Burst = &store.Burst{Key: 1, Wait: time.Hour} })}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := openBench(t, Config{})
			runs, waits := b.Store(storetest.In(store.Running)), b.Store(nil)
			b.Store(func(a *store.Arrival) { a.Burst = &store.Burst{Key: 1, Wait: time.Hour} })
			rests := b.Store(storetest.In(store.Running))
			b.Must(b.Commit(&store.Batch{Ends: []*store.End{b.End(rests, store.Done, "")}})) // stores the summary, too
			last := b.Store(storetest.In(store.Running))
			changed := change(b, runs, waits)
			changed.Ends = append(changed.Ends, b.End(last, store.Done, ""))
			changed.Arrivals = append(changed.Arrivals, b.Arrive(storetest.In(store.Running)))
			b.Must(b.Commit(changed))
			if rec, err := Recover(t.Context(), RecoverConfig{Dir: abandoned(t, b.Dir)}); err != nil || !rec.Sound {
				t.Errorf("it is found to be %+v, %v", rec, err)
			}
		})
	}
}
