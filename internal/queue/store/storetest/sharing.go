package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// sharedCases are what every engine does the same way if several processes share its deliveries.
var sharedCases = map[string]func(t *testing.T, p *processes){
	"each delivery is claimed once":                shareClaims,
	"a lease ends unless it is renewed":            shareLeases,
	"an old token changes nothing":                 shareTokens,
	"one at a time runs of a serial key":           shareSeries,
	"one of a burst is left, whoever stores":       shareBursts,
	"of one Webhook-Id, one is stored":             shareDedupe,
	"a claim that was discarded elsewhere is lost": shareDiscard,
	"others hear of changes":                       shareTell,
	"suspects are claimed only when asked for":     shareSuspects,
	"a claim says what is left":                    sharePending,
	"one leads, and the next fences it off":        shareLead,
	"commits of one process go beside each other":  shareWriters,
}

// RunShared runs the cases for engines whose deliveries several processes share. open opens one more engine on the same database
// in dir. A lease of 0 is the usual one.
func RunShared(t *testing.T, open func(t *testing.T, dir string, lease time.Duration) store.Engine) {
	for what, test := range sharedCases {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			test(t, &processes{T: t, open: func(lease time.Duration) *Bench {
				b := &Bench{T: t, Dir: dir, Now: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
				b.Engine = open(t, dir, lease)
				t.Cleanup(func() {
					if err := b.Engine.Close(); err != nil {
						t.Error(err)
					}
				})
				return b
			}})
		})
	}
}

// processes share a database.
type processes struct {
	*testing.T
	open func(lease time.Duration) *Bench // one more
}

// ClaimUpTo claims up to n deliveries of inbox.
func (b *Bench) ClaimUpTo(n int) (claimed []*store.Stored, left store.Remaining) {
	b.Helper()
	claimed, left, err := b.Engine.(store.Sharing).Claim(b.Context(), []store.Want{{Endpoint: "inbox", N: n}})
	b.Must(err)
	return claimed, left
}

// ended is the end of a claim.
func ended(c *store.Stored, to store.State) *store.End {
	k := &store.End{ID: c.ULID, Endpoint: c.Endpoint, From: store.Running, To: to, Attempts: c.Attempts, Token: c.Token, RunAt: c.Received}
	k.Attempt = store.Attempt{N: c.Attempts, Started: c.Started, Ended: true}
	return k
}

func (b *Bench) Ends(ks ...*store.End) {
	b.Helper()
	b.Must(b.Commit(&store.Batch{Ends: ks}))
}

func idsOf(claimed []*store.Stored) (ids []string) {
	for _, c := range claimed {
		ids = append(ids, c.ID)
	}
	return ids
}

func shareClaims(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	var wanted []string
	for range 40 {
		wanted = append(wanted, one.Store(nil).Stored.ID)
	}
	if got, left := one.ClaimUpTo(3); !slices.Equal(idsOf(got), wanted[:3]) || !left.Due["inbox"] || left.Waiting != 37 {
		t.Errorf("claimed %v, left %+v; want the oldest three, %v", idsOf(got), left, wanted[:3])
	}
	var mu sync.Mutex
	var got []string
	tokens := map[int64]bool{}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			b := []*Bench{one, two}[i%2]
			for {
				claimed, _, err := b.Engine.(store.Sharing).Claim(t.Context(), []store.Want{{Endpoint: "inbox", N: 2}})
				if err != nil {
					t.Error(err)
				}
				if len(claimed) == 0 {
					return
				}
				mu.Lock()
				got = append(got, idsOf(claimed)...)
				for _, c := range claimed {
					tokens[c.Token] = true
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(got)
	if !slices.Equal(got, wanted[3:]) || len(tokens) != len(got) {
		t.Errorf("%d deliveries were claimed with %d tokens, want %d of each", len(got), len(tokens), len(wanted)-3)
	}
}

func shareLeases(t *testing.T, p *processes) {
	const lease = 400 * time.Millisecond
	one, two := p.open(lease), p.open(lease)
	direct := one.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 })
	one.Store(nil)
	claimed, _ := one.ClaimUpTo(1)
	kept := store.Lease{ID: claimed[0].ULID, Token: claimed[0].Token}
	var gone []store.LostLease
	for deadline := time.Now().Add(20 * time.Second); two.State(direct) == store.Running; time.Sleep(lease / 8) {
		if time.Now().After(deadline) {
			t.Fatal("nobody takes over a claim whose lease has ended")
		}
		var err error
		if gone, err = one.Engine.(store.Sharing).Renew(t.Context(), []store.Lease{kept}); err != nil || gone != nil {
			t.Fatalf("a claim that is renewed is lost: %v, %v", gone, err)
		}
		if _, err := two.Engine.(store.Sharing).Renew(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := two.Engine.(store.Sharing).Claim(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	r, err := two.Get(t.Context(), direct.Stored.ULID)
	one.Must(err)
	if r.State != store.Waiting || len(r.AttemptList) != 1 || r.AttemptList[0].Error != store.InterruptedText {
		t.Errorf("the one that was taken over is %+v", r)
	}
	again, _ := two.ClaimUpTo(1)
	if len(again) != 1 || again[0].ULID != direct.Stored.ULID || again[0].Attempts != 2 || again[0].Interruptions != 1 || again[0].Failures != 0 {
		t.Fatalf("it is claimed as %+v", again)
	}
	gone, err = one.Engine.(store.Sharing).Renew(t.Context(), []store.Lease{{ID: direct.Stored.ULID, Token: 77}, kept})
	if err != nil || len(gone) != 1 || gone[0] != (store.LostLease{ID: direct.Stored.ULID}) {
		t.Errorf("lost are %v, %v", gone, err)
	}
	// One that is about to be stored is not lost.
	gone, err = one.Engine.(store.Sharing).Renew(t.Context(), []store.Lease{{ID: one.Arrive(nil).Stored.ULID, Token: 5}})
	if err != nil || gone != nil {
		t.Errorf("lost are %v, %v", gone, err)
	}
}

func shareTokens(t *testing.T, p *processes) {
	const lease = 150 * time.Millisecond
	one, two := p.open(lease), p.open(lease)
	stale := one.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 })
	two.InterruptAll()
	if claimed, _ := two.ClaimUpTo(1); len(claimed) != 1 {
		t.Fatalf("claimed %v", claimed)
	}
	other := one.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 78 })
	late, good := one.End(stale, store.Done, ""), one.End(other, store.Done, "")
	late.Token, good.Token = 77, 78
	one.Ends(late, good)
	if !late.Lost || good.Lost || two.State(stale) != store.Running || two.State(other) != store.Done {
		t.Errorf("the late one is lost: %v, and %s; the other lost: %v, and %s", late.Lost, two.State(stale), good.Lost, two.State(other))
	}
	if r, err := two.Get(t.Context(), stale.Stored.ULID); err != nil || len(r.AttemptList) != 2 || r.AttemptList[0].Error != store.InterruptedText {
		t.Errorf("a late outcome changed the attempts: %+v, %v", r, err)
	}
}

// InterruptAll waits until the engine has noticed that all claims were interrupted.
func (b *Bench) InterruptAll() {
	b.Helper()
	Eventually(b.T, func() bool {
		_, err := b.Engine.(store.Sharing).Renew(b.Context(), nil)
		b.Must(err)
		_, _, err = b.Engine.(store.Sharing).Claim(b.Context(), nil)
		b.Must(err)
		counts, err := b.Counts(b.Context())
		b.Must(err)
		return counts["inbox"][store.Running] == 0
	})
}

func shareSeries(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	with := func(key int64) func(*store.Arrival) { return func(a *store.Arrival) { a.Stored.Serial = key } }
	a1, a2, b1, plain := one.Store(with(1)), one.Store(with(1)), two.Store(with(2)), one.Store(nil)
	if a1.Behind || !a2.Behind || b1.Behind {
		t.Errorf("behind are %v, %v, %v", a1.Behind, a2.Behind, b1.Behind)
	}
	first, left := one.ClaimUpTo(10)
	if got, want := idsOf(first), []string{a1.Stored.ID, b1.Stored.ID, plain.Stored.ID}; !sameIDs(got, want) || left.Due["inbox"] {
		t.Fatalf("claimed %v, left %+v; want %v", got, left, want)
	}
	if more, _ := two.ClaimUpTo(10); more != nil {
		t.Errorf("of keys that are held, %v is claimed", idsOf(more))
	}
	// A retry that waits does not hold its key. When it is due, it goes before the later delivery.
	k := ended(first[slices.IndexFunc(first, func(c *store.Stored) bool { return c.ULID == a1.Stored.ULID })], store.Retrying)
	k.RunAt = time.Now().Add(time.Hour)
	one.Ends(k)
	second, _ := two.ClaimUpTo(10)
	if len(second) != 1 || second[0].ULID != a2.Stored.ULID || second[0].Serial != 1 {
		t.Fatalf("after the first has failed, %v is claimed", idsOf(second))
	}
	a3 := one.Store(with(1))
	if !a3.Behind {
		t.Error("another one with its key runs, but it is not behind")
	}
	// Discarding the one that runs frees the key.
	one.Must(one.Commit(&store.Batch{Discards: []*store.Discard{{ID: a2.Stored.ULID}}}))
	third, _ := one.ClaimUpTo(10)
	if len(third) != 1 || third[0].ULID != a3.Stored.ULID {
		t.Errorf("after the second was discarded, %v is claimed", idsOf(third))
	}
	// So does the end of a lease. The next to run is the one that is due first.
	quick := p.open(150 * time.Millisecond)
	c1, c2 := quick.Store(with(3)), quick.Store(with(3))
	if got, _ := quick.ClaimUpTo(10); len(got) != 1 || got[0].ULID != c1.Stored.ULID {
		t.Fatalf("claimed %v", idsOf(got))
	}
	Eventually(t, func() bool {
		_, err := quick.Engine.(store.Sharing).Renew(t.Context(), nil)
		quick.Must(err)
		got, _ := quick.ClaimUpTo(10)
		if len(got) == 1 && got[0].ULID != c1.Stored.ULID {
			t.Fatalf("claimed %v before the one that was interrupted", idsOf(got))
		}
		return len(got) == 1
	})
	if b := one.State(c2); b != store.Waiting {
		t.Errorf("the one behind is %s", b)
	}
}

// sameIDs compares without regard to order.
func sameIDs(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func shareBursts(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	of := func(a *store.Arrival) {
		a.Stored.WebhookID, a.Dedupe = a.Stored.ID, true
		a.Burst = &store.Burst{Key: 9, Wait: time.Millisecond, MaxWait: time.Minute}
	}
	// Two processes at once, with some in one batch.
	var all sync.WaitGroup
	var mu sync.Mutex
	var ids []string
	for i, b := range []*Bench{one, two} {
		b.Now = b.Now.Add(time.Duration(i) * 500 * time.Millisecond) // no id twice
		all.Go(func() {
			for range 10 {
				arrivals := []*store.Arrival{b.Arrive(of), b.Arrive(nil), b.Arrive(of)}
				if err := b.Commit(&store.Batch{Arrivals: arrivals}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				ids = append(ids, arrivals[0].Stored.ID, arrivals[2].Stored.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	merged, waiting := one.Listed(store.Filter{State: store.Merged}), one.Listed(store.Filter{State: store.Waiting})
	if len(merged) != 39 || len(waiting) != 21 {
		t.Fatalf("%d are merged, %d wait", len(merged), len(waiting))
	}
	var last *store.Stored
	claimed, _ := two.ClaimUpTo(100)
	for _, c := range claimed {
		if slices.Contains(ids, c.ID) {
			if last != nil {
				t.Fatalf("two of the burst are left: %s, %s", last.ID, c.ID)
			}
			last = c
		}
	}
	if last == nil || !sameIDs(append(last.Merged, last.ID), ids) {
		t.Fatalf("merged into the last one are %+v", last)
	}
	for _, id := range merged {
		parsed, _ := store.ParseID(id)
		if r, err := one.Get(t.Context(), parsed); err != nil || r.MergedInto != last.ID {
			t.Errorf("%s is merged into %s, %v", id, r.MergedInto, err)
		}
	}
	// While the last one runs, a merged one is as good as unfinished; a new one begins a new burst.
	dup := one.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = merged[0], true })
	if dup.First == nil || dup.First.ID != merged[0] {
		t.Errorf("the same again is a duplicate of %v", dup.First)
	}
	if next := one.Store(of); next.Merged != nil {
		t.Errorf("one that runs was merged: %v", next.Merged)
	}
	two.Ends(ended(last, store.Done))
	if again := one.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = merged[0], true }); again.First != nil {
		t.Errorf("when all is done, the same again is a duplicate of %v", again.First)
	}
}

func shareDedupe(t *testing.T, p *processes) {
	all := []*Bench{p.open(0), p.open(0), p.open(0)}
	for round := range 20 {
		same := fmt.Sprint("same", round)
		arrivals := make([]*store.Arrival, len(all))
		var done sync.WaitGroup
		for i, b := range all {
			b.Now = b.Now.Add(time.Duration(i) * 300 * time.Millisecond)
			done.Go(func() {
				other := b.Arrive(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = fmt.Sprint("other", round), true })
				arrivals[i] = b.Arrive(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = same, true })
				both := []*store.Arrival{other, arrivals[i]}
				if i%2 == 1 {
					slices.Reverse(both)
				}
				if err := b.Commit(&store.Batch{Arrivals: both}); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		var stored, first []string
		for _, a := range arrivals {
			if a.First == nil {
				stored = append(stored, a.Stored.ID)
			} else {
				first = append(first, a.First.ID)
			}
		}
		if len(stored) != 1 || len(first) != 2 || first[0] != stored[0] || first[1] != stored[0] {
			t.Fatalf("stored are %v, the others are duplicates of %v", stored, first)
		}
	}
}

// shareWriters has one process store the same Webhook-Ids in all commits that may be under way at once, with the ends of what it stored before.
func shareWriters(t *testing.T, p *processes) {
	b := p.open(0)
	writers := b.Engine.(store.Sharing).Writers()
	const rounds = 30
	arrivals := make([][]*store.Arrival, writers)
	for round := range rounds {
		for w := range writers {
			arrivals[w] = append(arrivals[w], b.Arrive(func(a *store.Arrival) {
				a.Stored.State, a.Stored.Token, a.Stored.WebhookID, a.Dedupe = store.Running, int64(100*round+w), fmt.Sprint("same", round), true
				a.Since = b.Now.Add(-time.Hour) // it may have ended before the same comes again
			}))
		}
	}
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() {
			var ends []*store.End
			for round, a := range arrivals[w] {
				if err := b.Commit(&store.Batch{Arrivals: []*store.Arrival{a}, Ends: ends}); err != nil {
					t.Error(err)
				}
				ends = nil
				if a.First == nil {
					end := b.End(a, store.Done, "")
					end.Token = int64(100*round + w)
					ends = append(ends, end)
				}
			}
			if err := b.Commit(&store.Batch{Ends: ends}); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	for round := range rounds {
		stored := ""
		for w := range writers {
			switch a := arrivals[w][round]; {
			case a.First != nil:
			case stored != "":
				t.Errorf("both %s and %s of round %d are stored", stored, a.Stored.ID, round)
			default:
				stored = a.Stored.ID
			}
		}
		for w := range writers {
			if first := arrivals[w][round].First; first != nil && first.ID != stored {
				t.Errorf("round %d has a duplicate of %s, and %s is stored", round, first.ID, stored)
			}
		}
	}
	if counts, err := b.Counts(t.Context()); err != nil || counts["inbox"][store.Done] != rounds || counts["inbox"][store.Running] != 0 {
		t.Errorf("counts are %v, %v; want %d done", counts, err, rounds)
	}
}

func shareDiscard(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	runs := one.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 })
	x := &store.Discard{ID: runs.Stored.ULID, Reason: "by hand"}
	two.Must(two.Commit(&store.Batch{Discards: []*store.Discard{x}}))
	if x.Before != store.Running || x.After == nil || x.After.State != store.Discarded {
		t.Errorf("discarding met %q and left %+v", x.Before, x.After)
	}
	gone, err := one.Engine.(store.Sharing).Renew(t.Context(), []store.Lease{{ID: runs.Stored.ULID, Token: 77}})
	if err != nil || len(gone) != 1 || gone[0] != (store.LostLease{ID: runs.Stored.ULID, Discarded: true, Reason: "by hand"}) {
		t.Errorf("lost are %+v, %v", gone, err)
	}
	// How it went on until then is kept, whoever discarded it.
	k := one.End(runs, store.Discarded, "by hand")
	k.From, k.Token, k.Attempt.Error = store.Discarded, 77, "cancelled"
	one.Ends(k)
	if r, err := two.Get(t.Context(), runs.Stored.ULID); err != nil || k.Lost || r.State != store.Discarded || r.Reason != "by hand" || len(r.AttemptList) != 1 || r.AttemptList[0].Error != "cancelled" {
		t.Errorf("the discarded one is %+v, %v; its end was lost: %v", r, err, k.Lost)
	}
	counts, err := two.Counts(t.Context())
	two.Must(err)
	if counts["inbox"][store.Running] != 0 || counts["inbox"][store.Discarded] != 1 {
		t.Errorf("counted are %v", counts)
	}
}

func shareTell(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	type news struct {
		ids []ulid.ULID
		due bool
	}
	follow := func(b *Bench) chan news {
		heard := make(chan news, 100)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.Engine.(store.Sharing).Follow(ctx, func(ids []ulid.ULID, due bool) { heard <- news{ids, due} })
		}()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
		if n := <-heard; n.ids != nil {
			t.Errorf("at first it hears %v", n)
		}
		return heard
	}
	own, others := follow(one), follow(two)
	// A process knows of others once it renews its claims.
	if _, err := one.Engine.(store.Sharing).Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var ids []ulid.ULID
	for range 750 { // more than one notification has room for
		ids = append(ids, one.Arrive(nil).Stored.ULID)
	}
	one.Engine.(store.Sharing).Tell(ids, true)
	var got []ulid.ULID
	for len(got) < len(ids) {
		n := <-others
		got = append(got, n.ids...)
		if !n.due {
			t.Error("it hears that nothing is due")
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("heard of %d, told of %d", len(got), len(ids))
	}
	two.Engine.(store.Sharing).Tell(ids[:1], false)
	if n := <-own; len(n.ids) != 1 || n.ids[0] != ids[0] || n.due {
		t.Errorf("heard %v; a process must not hear itself", n)
	}
	ds, err := two.Engine.(store.Sharing).Deliveries(t.Context(), []ulid.ULID{ids[0], one.Store(nil).Stored.ULID})
	if err != nil || len(ds) != 1 || ds[0].Endpoint != "inbox" {
		t.Errorf("the deliveries are %v, %v", ds, err)
	}
}

func shareSuspects(t *testing.T, p *processes) {
	b := p.open(150 * time.Millisecond)
	bad, fine := b.Store(nil), b.Store(nil)
	for range store.AloneAfter {
		if claimed, _ := b.ClaimUpTo(1); len(claimed) != 1 || claimed[0].ULID != bad.Stored.ULID {
			t.Fatalf("claimed %v", idsOf(claimed))
		}
		b.InterruptAll()
	}
	claimed, left := b.ClaimUpTo(10)
	if got := idsOf(claimed); len(got) != 1 || got[0] != fine.Stored.ID || !left.Suspects["inbox"] {
		t.Errorf("claimed %v, left %+v", got, left)
	}
	b.Ends(ended(claimed[0], store.Done))
	claimed, left, err := b.Engine.(store.Sharing).Claim(t.Context(), []store.Want{{Endpoint: "inbox", N: 1, Suspects: true}})
	if err != nil || len(claimed) != 1 || claimed[0].ULID != bad.Stored.ULID || left.Suspects["inbox"] {
		t.Errorf("of the suspects, claimed %v, left %+v, %v", idsOf(claimed), left, err)
	}
}

func sharePending(t *testing.T, p *processes) {
	b := p.open(0)
	old := b.Store(func(a *store.Arrival) { a.Stored.Endpoint = "other" })
	b.Store(nil)
	retries := b.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 })
	k := b.End(retries, store.Retrying, "no")
	k.Token, k.RunAt = 77, time.Now().Add(time.Hour).Truncate(time.Microsecond)
	b.Ends(k)
	claimed, left := b.ClaimUpTo(5)
	if len(claimed) != 1 || left.Due["inbox"] || left.Waiting != 1 || !left.Next.Equal(k.RunAt) {
		t.Errorf("claimed %v, left %+v; the next is due at %v", idsOf(claimed), left, k.RunAt)
	}
	if got := left.Oldest["other"]; len(left.Oldest) != 1 || got.Sub(old.Stored.Received).Abs() > time.Millisecond {
		t.Errorf("the oldest that waits was received at %v, want %v", left.Oldest, old.Stored.Received)
	}
}
