package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// sharers open an engine on a database that others share, under the given lease.
var sharers = map[string]func(t *testing.T, dir string, lease time.Duration) engine{
	"postgres": func(t *testing.T, dir string, lease time.Duration) engine {
		return openTestPostgres(t, databaseOf(t, dir), postgresConfig{lease: lease})
	},
}

// conformSharing is what every engine does the same way whose deliveries several processes share.
var conformSharing = map[string]func(t *testing.T, p *processes){
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
}

func TestSharing(t *testing.T) {
	for name, open := range sharers {
		for what, test := range conformSharing {
			t.Run(name+"/"+what, func(t *testing.T) {
				dir := t.TempDir()
				p := &processes{T: t, open: func(lease time.Duration) *bench {
					b := &bench{T: t, dir: dir, now: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
					b.engine = open(t, dir, lease)
					t.Cleanup(func() {
						if err := b.engine.close(); err != nil {
							t.Error(err)
						}
					})
					return b
				}}
				test(t, p)
			})
		}
	}
}

// processes share a database.
type processes struct {
	*testing.T
	open func(lease time.Duration) *bench // one more
}

// claim claims up to n deliveries of inbox.
func (b *bench) claim(n int) (claimed []*stored, left pending) {
	b.Helper()
	claimed, left, err := b.engine.(sharing).claim(b.Context(), []want{{endpoint: "inbox", n: n}})
	b.must(err)
	return claimed, left
}

// ended is the end of a claim.
func ended(c *stored, to State) *ending {
	k := &ending{id: c.id, endpoint: c.Endpoint, from: Running, to: to, attempts: c.Attempts, token: c.token, runAt: c.Received}
	k.attempt = Attempt{N: c.Attempts, Started: c.started, Ended: true}
	return k
}

func (b *bench) ends(ks ...*ending) {
	b.Helper()
	b.must(b.commit(&batch{ends: ks}))
}

func idsOf(claimed []*stored) (ids []string) {
	for _, c := range claimed {
		ids = append(ids, c.ID)
	}
	return ids
}

func shareClaims(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	var wanted []string
	for range 40 {
		wanted = append(wanted, one.store(nil).d.ID)
	}
	if got, left := one.claim(3); !slices.Equal(idsOf(got), wanted[:3]) || !left.due["inbox"] || left.waiting != 37 {
		t.Errorf("claimed %v, left %+v; want the oldest three, %v", idsOf(got), left, wanted[:3])
	}
	var mu sync.Mutex
	var got []string
	tokens := map[int64]bool{}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			b := []*bench{one, two}[i%2]
			for {
				claimed, _, err := b.engine.(sharing).claim(t.Context(), []want{{endpoint: "inbox", n: 2}})
				if err != nil {
					t.Error(err)
				}
				if len(claimed) == 0 {
					return
				}
				mu.Lock()
				got = append(got, idsOf(claimed)...)
				for _, c := range claimed {
					tokens[c.token] = true
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
	direct := one.store(func(a *arrival) { a.d.State, a.d.token = Running, 77 })
	one.store(nil)
	claimed, _ := one.claim(1)
	kept := held{claimed[0].id, claimed[0].token}
	var gone []lost
	for deadline := time.Now().Add(20 * time.Second); two.state(direct) == Running; time.Sleep(lease / 8) {
		if time.Now().After(deadline) {
			t.Fatal("nobody takes over a claim whose lease has ended")
		}
		var err error
		if gone, err = one.engine.(sharing).renew(t.Context(), []held{kept}); err != nil || gone != nil {
			t.Fatalf("a claim that is renewed is lost: %v, %v", gone, err)
		}
		if _, err := two.engine.(sharing).renew(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := two.engine.(sharing).claim(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	r, err := two.get(t.Context(), direct.d.id)
	one.must(err)
	if r.State != Waiting || len(r.AttemptList) != 1 || r.AttemptList[0].Error != interruptedText {
		t.Errorf("the one that was taken over is %+v", r)
	}
	again, _ := two.claim(1)
	if len(again) != 1 || again[0].id != direct.d.id || again[0].Attempts != 2 || again[0].interruptions != 1 || again[0].failures != 0 {
		t.Fatalf("it is claimed as %+v", again)
	}
	gone, err = one.engine.(sharing).renew(t.Context(), []held{{direct.d.id, 77}, kept})
	if err != nil || len(gone) != 1 || gone[0] != (lost{id: direct.d.id}) {
		t.Errorf("lost are %v, %v", gone, err)
	}
	// One that is about to be stored is not lost.
	gone, err = one.engine.(sharing).renew(t.Context(), []held{{one.arrive(nil).d.id, 5}})
	if err != nil || gone != nil {
		t.Errorf("lost are %v, %v", gone, err)
	}
}

func shareTokens(t *testing.T, p *processes) {
	const lease = 150 * time.Millisecond
	one, two := p.open(lease), p.open(lease)
	stale := one.store(func(a *arrival) { a.d.State, a.d.token = Running, 77 })
	two.interruptAll()
	if claimed, _ := two.claim(1); len(claimed) != 1 {
		t.Fatalf("claimed %v", claimed)
	}
	other := one.store(func(a *arrival) { a.d.State, a.d.token = Running, 78 })
	late, good := one.end(stale, Done, ""), one.end(other, Done, "")
	late.token, good.token = 77, 78
	one.ends(late, good)
	if !late.lost || good.lost || two.state(stale) != Running || two.state(other) != Done {
		t.Errorf("the late one is lost: %v, and %s; the other lost: %v, and %s", late.lost, two.state(stale), good.lost, two.state(other))
	}
	if r, err := two.get(t.Context(), stale.d.id); err != nil || len(r.AttemptList) != 2 || r.AttemptList[0].Error != interruptedText {
		t.Errorf("a late outcome changed the attempts: %+v, %v", r, err)
	}
}

// interruptAll waits until all claims are found out as interrupted.
func (b *bench) interruptAll() {
	b.Helper()
	eventually(b.T, func() bool {
		_, err := b.engine.(sharing).renew(b.Context(), nil)
		b.must(err)
		_, _, err = b.engine.(sharing).claim(b.Context(), nil)
		b.must(err)
		counts, err := b.counts(b.Context())
		b.must(err)
		return counts["inbox"][Running] == 0
	})
}

func shareSeries(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	with := func(key int64) func(*arrival) { return func(a *arrival) { a.d.serial = key } }
	a1, a2, b1, plain := one.store(with(1)), one.store(with(1)), two.store(with(2)), one.store(nil)
	if a1.behind || !a2.behind || b1.behind {
		t.Errorf("behind are %v, %v, %v", a1.behind, a2.behind, b1.behind)
	}
	first, left := one.claim(10)
	if got, want := idsOf(first), []string{a1.d.ID, b1.d.ID, plain.d.ID}; !sameIDs(got, want) || left.due["inbox"] {
		t.Fatalf("claimed %v, left %+v; want %v", got, left, want)
	}
	if more, _ := two.claim(10); more != nil {
		t.Errorf("of keys that are held, %v is claimed", idsOf(more))
	}
	// A retry that waits holds nothing, and goes before the later one once it is due.
	k := ended(first[slices.IndexFunc(first, func(c *stored) bool { return c.id == a1.d.id })], Retrying)
	k.runAt = time.Now().Add(time.Hour)
	one.ends(k)
	second, _ := two.claim(10)
	if len(second) != 1 || second[0].id != a2.d.id || second[0].serial != 1 {
		t.Fatalf("after the first has failed, %v is claimed", idsOf(second))
	}
	a3 := one.store(with(1))
	if !a3.behind {
		t.Error("another one with its key runs, but it is not behind")
	}
	// Discarding the one that runs frees the key.
	one.must(one.commit(&batch{discards: []*discarding{{id: a2.d.id}}}))
	third, _ := one.claim(10)
	if len(third) != 1 || third[0].id != a3.d.id {
		t.Errorf("after the second was discarded, %v is claimed", idsOf(third))
	}
	// So does the end of a lease, and of what waits the oldest due is next.
	quick := p.open(150 * time.Millisecond)
	c1, c2 := quick.store(with(3)), quick.store(with(3))
	if got, _ := quick.claim(10); len(got) != 1 || got[0].id != c1.d.id {
		t.Fatalf("claimed %v", idsOf(got))
	}
	eventually(t, func() bool {
		_, err := quick.engine.(sharing).renew(t.Context(), nil)
		quick.must(err)
		got, _ := quick.claim(10)
		if len(got) == 1 && got[0].id != c1.d.id {
			t.Fatalf("claimed %v before the one that was interrupted", idsOf(got))
		}
		return len(got) == 1
	})
	if b := one.state(c2); b != Waiting {
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
	of := func(a *arrival) {
		a.d.WebhookID, a.dedupe = a.d.ID, true
		a.burst = &burst{key: 9, wait: time.Millisecond, maxWait: time.Minute}
	}
	// Two processes at once, with some in one batch.
	var all sync.WaitGroup
	var mu sync.Mutex
	var ids []string
	for i, b := range []*bench{one, two} {
		b.now = b.now.Add(time.Duration(i) * 500 * time.Millisecond) // no id twice
		all.Go(func() {
			for range 10 {
				arrivals := []*arrival{b.arrive(of), b.arrive(nil), b.arrive(of)}
				if err := b.commit(&batch{arrivals: arrivals}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				ids = append(ids, arrivals[0].d.ID, arrivals[2].d.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	merged, waiting := one.listed(Filter{State: Merged}), one.listed(Filter{State: Waiting})
	if len(merged) != 39 || len(waiting) != 21 {
		t.Fatalf("%d are merged, %d wait", len(merged), len(waiting))
	}
	var last *stored
	claimed, _ := two.claim(100)
	for _, c := range claimed {
		if slices.Contains(ids, c.ID) {
			if last != nil {
				t.Fatalf("two of the burst are left: %s, %s", last.ID, c.ID)
			}
			last = c
		}
	}
	if last == nil || !sameIDs(append(last.merged, last.ID), ids) {
		t.Fatalf("merged into the last one are %+v", last)
	}
	for _, id := range merged {
		parsed, _ := parseID(id)
		if r, err := one.get(t.Context(), parsed); err != nil || r.MergedInto != last.ID {
			t.Errorf("%s is merged into %s, %v", id, r.MergedInto, err)
		}
	}
	// While the last one runs, a merged one is as good as unfinished; a new one begins a new burst.
	dup := one.store(func(a *arrival) { a.d.WebhookID, a.dedupe = merged[0], true })
	if dup.first == nil || dup.first.ID != merged[0] {
		t.Errorf("the same again is a duplicate of %v", dup.first)
	}
	if next := one.store(of); next.merged != nil {
		t.Errorf("one that runs was merged: %v", next.merged)
	}
	two.ends(ended(last, Done))
	if again := one.store(func(a *arrival) { a.d.WebhookID, a.dedupe = merged[0], true }); again.first != nil {
		t.Errorf("when all is done, the same again is a duplicate of %v", again.first)
	}
}

func shareDedupe(t *testing.T, p *processes) {
	all := []*bench{p.open(0), p.open(0), p.open(0)}
	for round := range 20 {
		same := fmt.Sprint("same", round)
		arrivals := make([]*arrival, len(all))
		var done sync.WaitGroup
		for i, b := range all {
			b.now = b.now.Add(time.Duration(i) * 300 * time.Millisecond)
			done.Go(func() {
				other := b.arrive(func(a *arrival) { a.d.WebhookID, a.dedupe = fmt.Sprint("other", round), true })
				arrivals[i] = b.arrive(func(a *arrival) { a.d.WebhookID, a.dedupe = same, true })
				both := []*arrival{other, arrivals[i]}
				if i%2 == 1 {
					slices.Reverse(both)
				}
				if err := b.commit(&batch{arrivals: both}); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		var stored, first []string
		for _, a := range arrivals {
			if a.first == nil {
				stored = append(stored, a.d.ID)
			} else {
				first = append(first, a.first.ID)
			}
		}
		if len(stored) != 1 || len(first) != 2 || first[0] != stored[0] || first[1] != stored[0] {
			t.Fatalf("stored are %v, the others are duplicates of %v", stored, first)
		}
	}
}

func shareDiscard(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	runs := one.store(func(a *arrival) { a.d.State, a.d.token = Running, 77 })
	x := &discarding{id: runs.d.id, reason: "by hand"}
	two.must(two.commit(&batch{discards: []*discarding{x}}))
	if x.from != Running || x.d == nil || x.d.State != Discarded {
		t.Errorf("discarding met %q and left %+v", x.from, x.d)
	}
	gone, err := one.engine.(sharing).renew(t.Context(), []held{{runs.d.id, 77}})
	if err != nil || len(gone) != 1 || gone[0] != (lost{id: runs.d.id, discarded: true, reason: "by hand"}) {
		t.Errorf("lost are %+v, %v", gone, err)
	}
	// How it went on until then is kept, whoever discarded it.
	k := one.end(runs, Discarded, "by hand")
	k.from, k.token, k.attempt.Error = Discarded, 77, "cancelled"
	one.ends(k)
	if r, err := two.get(t.Context(), runs.d.id); err != nil || k.lost || r.State != Discarded || r.Reason != "by hand" || len(r.AttemptList) != 1 || r.AttemptList[0].Error != "cancelled" {
		t.Errorf("the discarded one is %+v, %v; its end was lost: %v", r, err, k.lost)
	}
	counts, err := two.counts(t.Context())
	two.must(err)
	if counts["inbox"][Running] != 0 || counts["inbox"][Discarded] != 1 {
		t.Errorf("counted are %v", counts)
	}
}

func shareTell(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	type news struct {
		ids []ulid.ULID
		due bool
	}
	follow := func(b *bench) chan news {
		heard := make(chan news, 100)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.engine.(sharing).follow(ctx, func(ids []ulid.ULID, due bool) { heard <- news{ids, due} })
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
	if _, err := one.engine.(sharing).renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var ids []ulid.ULID
	for range 3 * tellIDs {
		ids = append(ids, one.arrive(nil).d.id)
	}
	one.engine.(sharing).tell(ids, true)
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
	two.engine.(sharing).tell(ids[:1], false)
	if n := <-own; len(n.ids) != 1 || n.ids[0] != ids[0] || n.due {
		t.Errorf("heard %v; a process must not hear itself", n)
	}
	ds, err := two.engine.(sharing).deliveries(t.Context(), []ulid.ULID{ids[0], one.store(nil).d.id})
	if err != nil || len(ds) != 1 || ds[0].Endpoint != "inbox" {
		t.Errorf("the deliveries are %v, %v", ds, err)
	}
}

func shareSuspects(t *testing.T, p *processes) {
	b := p.open(150 * time.Millisecond)
	bad, fine := b.store(nil), b.store(nil)
	for range aloneAfter {
		if claimed, _ := b.claim(1); len(claimed) != 1 || claimed[0].id != bad.d.id {
			t.Fatalf("claimed %v", idsOf(claimed))
		}
		b.interruptAll()
	}
	claimed, left := b.claim(10)
	if got := idsOf(claimed); len(got) != 1 || got[0] != fine.d.ID || !left.suspects["inbox"] {
		t.Errorf("claimed %v, left %+v", got, left)
	}
	b.ends(ended(claimed[0], Done))
	claimed, left, err := b.engine.(sharing).claim(t.Context(), []want{{endpoint: "inbox", n: 1, suspects: true}})
	if err != nil || len(claimed) != 1 || claimed[0].id != bad.d.id || left.suspects["inbox"] {
		t.Errorf("of the suspects, claimed %v, left %+v, %v", idsOf(claimed), left, err)
	}
}

func sharePending(t *testing.T, p *processes) {
	b := p.open(0)
	old := b.store(func(a *arrival) { a.d.Endpoint = "other" })
	b.store(nil)
	retries := b.store(func(a *arrival) { a.d.State, a.d.token = Running, 77 })
	k := b.end(retries, Retrying, "no")
	k.token, k.runAt = 77, time.Now().Add(time.Hour).Truncate(time.Microsecond)
	b.ends(k)
	claimed, left := b.claim(5)
	if len(claimed) != 1 || left.due["inbox"] || left.waiting != 1 || !left.next.Equal(k.runAt) {
		t.Errorf("claimed %v, left %+v; the next is due at %v", idsOf(claimed), left, k.runAt)
	}
	if got := left.oldest["other"]; len(left.oldest) != 1 || got.Sub(old.d.Received).Abs() > time.Millisecond {
		t.Errorf("the oldest that waits was received at %v, want %v", left.oldest, old.d.Received)
	}
}
