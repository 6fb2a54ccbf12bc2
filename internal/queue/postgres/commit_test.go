package postgres

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Each of two processes commits the end of its own delivery together with a repeat of the other's. They must not wait for each other until
// the server detects the deadlock, which takes it a second.
func TestCommitsDoNotBlockEachOther(t *testing.T) {
	dir := t.TempDir()
	var sides [2]*storetest.Bench
	for i := range sides {
		b := &storetest.Bench{T: t, Dir: dir, Now: time.Now()}
		e := openTest(t, databaseOf(t, dir), Config{tries: 900 * time.Millisecond})
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		b.Engine, sides[i] = e, b
	}
	repeats := map[string]int{}
	for round := range 20 {
		webhook := func(side int) string { return fmt.Sprintf("%d-%d", round, side) }
		var firsts [2]*store.Arrival
		for i, b := range sides {
			firsts[i] = b.Store(func(a *store.Arrival) {
				a.Stored.State, a.Stored.WebhookID, a.Dedupe, a.Stored.Token = store.Running, webhook(i), true, store.NewToken()
			})
			repeats[firsts[i].Stored.ID] = 2
		}
		var commits sync.WaitGroup
		var errs [2]error
		for i, b := range sides {
			again := func(id string) *store.Arrival {
				return b.Arrive(func(a *store.Arrival) {
					a.Stored.State, a.Stored.WebhookID, a.Dedupe, a.Since = store.Running, id, true, b.Now.Add(-time.Hour)
				})
			}
			end := b.End(firsts[i], store.Done, "")
			end.Token = firsts[i].Stored.Token
			both := &store.Batch{Ends: []*store.End{end}, Arrivals: []*store.Arrival{again(webhook(1 - i)), again(webhook(i))}}
			commits.Go(func() { errs[i] = b.Commit(both) })
		}
		commits.Wait()
		for _, err := range errs {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
	for id, want := range repeats {
		parsed, _ := store.ParseID(id)
		r, err := sides[0].Get(t.Context(), parsed)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != store.Done || r.Duplicates != want {
			t.Errorf("delivery %s is %s with %d duplicates; want done, with %d", id, r.State, r.Duplicates, want)
		}
	}
}

func TestTheClockThatIsKnownStaysUntilItIsWrong(t *testing.T) {
	sent := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &clock{}
	for _, a := range []struct {
		what        string
		took, there time.Duration // there is the server's clock at the answer, since sent
		want        time.Duration
	}{
		{"a quick answer tells", time.Millisecond, 3 * time.Second, 3*time.Second - 500*time.Microsecond},
		{"a slow one that fits changes nothing", 2 * time.Second, 3500 * time.Millisecond, 3*time.Second - 500*time.Microsecond},
		{"nor does one at its edge", 2 * time.Second, 3*time.Second - 500*time.Microsecond, 3*time.Second - 500*time.Microsecond},
		{"one that does not fit tells", 2 * time.Second, 6 * time.Second, 5 * time.Second},
		{"backwards too", 2 * time.Millisecond, -time.Hour, -time.Hour - time.Millisecond},
	} {
		c.note(sent, a.took, sent.Add(a.there).UnixNano())
		if c.skew() != a.want {
			t.Errorf("%s: the server's clock is %v ahead; want %v", a.what, c.skew(), a.want)
		}
	}
}
