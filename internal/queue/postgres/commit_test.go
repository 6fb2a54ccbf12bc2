package postgres

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"
	"github.com/hubhook/hubhook/internal/testing/pgserver"

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

// TestEachFunctionStoresTheSame stores arrivals and ends by arrive_3, store_4 and commit_4: the only arrival of a batch, beside another, and
// beside a change that commit_4 alone knows.
func TestEachFunctionStoresTheSame(t *testing.T) {
	b, e := openBench(t, pgserver.Database(t), Config{})
	b.Store(nil) // the first one of an endpoint stores its name, too
	unknown := []*store.Discard{{ID: b.Ids.Next(b.Now)}}
	rows := func(a *store.Arrival) (all []string) {
		for _, query := range []string{
			"SELECT to_jsonb(d) - 'id' - 'received' - 'started' - 'webhook_id' FROM hubhook.delivery d WHERE id = $1",
			"SELECT to_jsonb(c) - 'id' FROM hubhook.content c WHERE id = $1",
			"SELECT to_jsonb(u) - 'id' - 'run_at' || jsonb_build_object('lease', u.lease > 0) FROM hubhook.unfinished u WHERE id = $1",
			"SELECT to_jsonb(a) - 'delivery' - 'started' FROM hubhook.attempt a WHERE delivery = $1",
			"SELECT jsonb_build_object('webhook', w.keep - d.received) FROM hubhook.webhook w JOIN hubhook.delivery d ON d.id = w.delivery WHERE w.delivery = $1",
		} {
			found, err := e.workers.Query(t.Context(), query, uuidOf(a.Stored.ULID))
			b.Must(err)
			some, err := pgx.CollectRows(found, pgx.RowTo[string])
			b.Must(err)
			all = append(all, some...)
		}
		return all
	}
	for _, test := range []struct {
		what   string
		tables int // that have a row of it
		change func(*store.Arrival)
	}{
		{"waits", 3, func(a *store.Arrival) {}},
		{"runs", 4, func(a *store.Arrival) {
			a.Stored.State, a.Stored.Token, a.Stored.WebhookID, a.Dedupe = store.Running, 77, a.Stored.ID, true
			a.Since = a.Stored.Received.Add(-2 * time.Hour).Truncate(time.Microsecond)
			a.Stored.Scope, a.Stored.Action, a.Stored.RepoType, a.Stored.RepoName = "repo.content", "update", "dataset", "me/da\x00ta"
			a.Header, a.Body, a.Encoding = []byte("header"), []byte("body"), 1
		}},
		{"is done", 2, func(a *store.Arrival) { a.Stored.State, a.Stored.Synthetic = store.Done, true }},
		{"is dead", 2, func(a *store.Arrival) { a.Stored.State, a.Stored.Reason = store.Dead, "no" }},
	} {
		alone, beside, general := b.Arrive(test.change), b.Arrive(test.change), b.Arrive(test.change)
		var counted []int
		count := func() { counted = append(counted, tallies(b, e)) }
		count()
		b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{alone}}))
		count()
		b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{beside, b.Arrive(test.change)}}))
		count()
		b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{general, b.Arrive(test.change)}, Discards: unknown}))
		count()
		want := rows(general)
		for by, a := range map[string]*store.Arrival{"arrive_3": alone, "store_4": beside} {
			if got := rows(a); !slices.Equal(got, want) || len(want) != test.tables {
				t.Errorf("one that %s is stored as %s by %s, and as %s by commit_4", test.what, got, by, want)
			}
		}
		for i, n := range []int{1, 2, 2} {
			if counted[i+1]-counted[i] != n {
				t.Errorf("with one that %s, %v are counted", test.what, counted)
			}
		}
	}
	for what, change := range map[string]func(*store.End){
		"is done": func(k *store.End) {},
		"has a result": func(k *store.End) {
			k.Attempt.Output, k.Attempt.Result = []byte("output"), []byte("{}")
		},
		"is skipped": func(k *store.End) { k.To, k.Reason, k.Attempts, k.Attempt.N = store.Skipped, "not \\wanted", 0, 0 },
		"is dead": func(k *store.End) {
			k.To, k.Reason, k.Failures, k.Attempt.Error, k.Attempt.Stack = store.Dead, "n\x00", 3, "no", "main.go"
		},
	} {
		run := func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 }
		plain, general := b.Store(run), b.Store(run)
		end := func(a *store.Arrival) []*store.End {
			k := b.End(a, store.Done, "")
			k.Token = a.Stored.Token
			change(k)
			return []*store.End{k}
		}
		before := tallies(b, e)
		b.Must(b.Commit(&store.Batch{Ends: end(plain)}))
		b.Must(b.Commit(&store.Batch{Ends: end(general), Discards: unknown}))
		got, want := rows(plain), rows(general)
		if !slices.Equal(got, want) {
			t.Errorf("one that %s is stored as %s by store_4, and as %s by commit_4", what, got, want)
		}
		if after := tallies(b, e); after != before {
			t.Errorf("with one that %s, %d and then %d are counted", what, before, after)
		}
	}
}

// tallies returns how many deliveries are counted.
func tallies(b *storetest.Bench, e *Engine) (n int) {
	b.Helper()
	b.Must(e.workers.QueryRow(b.Context(), "SELECT coalesce(sum(n), 0) FROM hubhook.tally").Scan(&n))
	return n
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

// While the first connection is lost, no commit tries the second one: each fails at once, as the first one's do.
func TestNobodyTakesTheSecondConnectionAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ws := newWriters(nil)
		ws.second.writer = &writer{}
		<-ws.first.turn
		taken := make(chan *commits, 1)
		go func() { taken <- ws.take() }()
		synctest.Wait()
		select {
		case <-taken:
			t.Fatal("a commit has taken the second connection")
		default:
		}
		ws.first.giveBack()
		if cs := <-taken; cs != ws.first {
			t.Error("a commit has not taken the first connection")
		}
	})
}
