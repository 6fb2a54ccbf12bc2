package queue

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var warnings []error
		g := newGate()
		d := newDisk(t)
		dir := t.TempDir()
		warn := func(err error) { mu.Lock(); warnings = append(warnings, err); mu.Unlock() }
		f := &fixture{T: t, Queue: openOn(t, d, dir, sqlite.Config{Warn: warn}), dir: dir}
		if err := f.Start([]Endpoint{{Name: "inbox", Concurrency: 1, Handle: g.handle}}); err != nil {
			t.Fatal(err)
		}
		runs, waits := f.accept(Arrival{Body: []byte("runs")}), f.accept(Arrival{Body: []byte("waits")})
		fill := func(full bool) { d.mu.Lock(); d.full = full; d.mu.Unlock() }
		fill(true)
		big := Arrival{Endpoint: "inbox", Body: make([]byte, 100_000), Header: http.Header{"X": {strings.Repeat("y", 100_000)}}}
		if _, err := f.Accept(t.Context(), big); err == nil || !strings.Contains(err.Error(), "full") {
			t.Errorf("accepting on a full disk gives %v", err)
		}
		g.pass <- Outcome{Output: make([]byte, 100_000)} // can't be stored now
		time.Sleep(10 * time.Second)
		if g.seen() != "runs" {
			t.Errorf("while nothing can be stored, %q run", g.seen())
		}
		if runs.Report().State != Done {
			t.Errorf("the outcome is %+v", runs.Report())
		}
		fill(false)
		time.Sleep(10 * time.Second)
		if g.seen() != "runs waits" {
			t.Errorf("with room again, %q run", g.seen())
		}
		g.pass <- Outcome{}
		<-waits.Done()
		for _, r := range []*Receipt{runs, waits} {
			if rec := f.get(r.ID); rec.State != Done || rec.Attempts != 1 {
				t.Errorf("in the end it is %+v", rec.Delivery)
			}
		}
		if mu.Lock(); len(warnings) != 1 {
			t.Errorf("warnings are %v, want one", warnings)
		}
		mu.Unlock()
		f.end()
	})
}

func TestBadDeliveryAlone(t *testing.T) {
	f := begin(t, Config{}, Endpoint{})
	first := f.accept(Arrival{})
	f.mu.Lock()
	f.commits.busy = 1 // so that the next ones meet in one batch
	f.mu.Unlock()
	errs := make(chan error, 3)
	accept := func() {
		_, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"})
		errs <- err
	}
	for range 3 {
		go accept()
	}
	storetest.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.commits.next.arrivals) == 3 })
	f.mu.Lock()
	bad := f.commits.next.arrivals[1]
	bad.Arrival.Stored.ULID, _ = store.ParseID(first.ID) // can't be stored twice
	f.commits.passOn()
	f.mu.Unlock()
	failed := 0
	for range 3 {
		if err := <-errs; err != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d of a batch with one bad delivery failed, want that one", failed)
	}
	if counts, err := f.Counts(t.Context()); err != nil || counts["inbox"][Done] != 3 {
		t.Errorf("counts are %v, %v", counts, err)
	}
	f.end()
}

func TestCommittedCountsWhatACommitStored(t *testing.T) {
	type commit struct{ stored, changes int }
	var commits []commit
	f := begin(t, Config{Committed: func(stored, changes int, took time.Duration) {
		if took < 0 {
			t.Errorf("a commit took %v", took)
		}
		commits = append(commits, commit{stored, changes})
	}}, Endpoint{DedupeWindow: time.Hour})
	for range 2 {
		f.accept(Arrival{WebhookID: "w"})
	}
	f.end()
	if want := []commit{{1, 1}, {0, 1}}; !slices.Equal(commits, want) {
		t.Errorf("the commits of a delivery and its duplicate are %v; want %v", commits, want)
	}
}

// heldEngine has two writers. Commit tells what is in a batch, and waits.
type heldEngine struct {
	store.Engine
	store.Sharing
	batches chan string
	goOn    chan struct{}
}

func (e *heldEngine) Writers() int        { return 2 }
func (e *heldEngine) Skew() time.Duration { return 0 }
func (e *heldEngine) Last() ulid.ULID     { return ulid.ULID{} }
func (e *heldEngine) Outage(error) bool   { return false }

func (e *heldEngine) Tell([]ulid.ULID, bool) {}

func (e *heldEngine) Commit(b *store.Batch) error {
	e.batches <- fmt.Sprintf("%d arrivals, %d ends", len(b.Arrivals), len(b.Ends))
	<-e.goOn
	return nil
}

// TestCommitsBesideEachOther has an engine with two writers: what comes while a small commit is under way is committed beside it, ends by
// themselves. More than that waits, and so does what depends on other deliveries.
func TestCommitsBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &heldEngine{batches: make(chan string), goOn: make(chan struct{})}
		q := newQueue(Config{}.withDefaults(), e, nil)
		q.started = true
		g := newGate()
		q.runner.endpoints = map[string]*handlers{"inbox": {Endpoint: Endpoint{Name: "inbox", Handle: g.handle}.withDefaults()}}
		finish := func(n int) {
			for range n {
				g.pass <- Outcome{}
			}
			synctest.Wait()
		}
		var accepting sync.WaitGroup
		accept := func(a Arrival) {
			a.Endpoint = "inbox"
			accepting.Go(func() {
				if _, err := q.Accept(t.Context(), a); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-e.batches:
				if got != want {
					t.Errorf("a commit of %s, want %s", got, want)
				}
			default:
				t.Errorf("no commit, want one of %s", want)
			}
		}
		nothing := func(what string) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-e.batches:
				t.Errorf("a commit of %s %s", got, what)
			default:
			}
		}
		accept(Arrival{})
		expect("1 arrivals, 0 ends")
		accept(Arrival{})
		expect("1 arrivals, 0 ends")
		for range smallCommit + 1 {
			accept(Arrival{})
		}
		nothing("beside two others")
		e.goOn <- struct{}{}
		expect(fmt.Sprintf("%d arrivals, 0 ends", smallCommit+1))
		e.goOn <- struct{}{}
		e.goOn <- struct{}{}
		synctest.Wait()
		finish(smallCommit + 2) // one more runs
		time.Sleep(2 * lingerFor)
		expect(fmt.Sprintf("0 arrivals, %d ends", smallCommit+2))
		accept(Arrival{})
		expect("1 arrivals, 0 ends")
		accept(Arrival{SerialKey: "k"})
		finish(1)
		e.goOn <- struct{}{}
		nothing("of an arrival with a key, beside another")
		e.goOn <- struct{}{}
		expect("1 arrivals, 1 ends")
		accept(Arrival{})
		nothing("beside that of an arrival with a key")
		e.goOn <- struct{}{}
		expect("1 arrivals, 0 ends")
		e.goOn <- struct{}{}
		accepting.Wait()
		finish(2)
		time.Sleep(2 * lingerFor)
		expect("0 arrivals, 2 ends")
		e.goOn <- struct{}{}
		synctest.Wait()
		close(q.commits.quit)
		q.endLife(nil)
		q.tasks.Wait()
	})
}

// crossedEngine has two commits of one arrival each. The second is a duplicate of the first, and is through before it.
type crossedEngine struct {
	heldEngine
	first *store.Arrival // nil before the first commit
}

func (e *crossedEngine) Commit(b *store.Batch) error {
	if e.first == nil {
		e.first = b.Arrivals[0]
		<-e.goOn
		return nil
	}
	b.Arrivals[0].First = &e.first.Stored.Delivery
	return nil
}

// TestADuplicateIsThroughFirst checks that both senders hear of the end, if the repeat's commit is through before that of the delivery.
func TestADuplicateIsThroughFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &crossedEngine{heldEngine: heldEngine{goOn: make(chan struct{})}}
		q := newQueue(Config{}.withDefaults(), e, nil)
		q.started = true
		q.runner.endpoints = map[string]*handlers{"inbox": {Endpoint: Endpoint{Name: "inbox", Handle: newGate().handle}.withDefaults(), paused: true}}
		accept := func(got chan<- *Receipt) {
			r, err := q.Accept(t.Context(), Arrival{Endpoint: "inbox", WebhookID: "w"})
			if err != nil {
				t.Error(err)
			}
			got <- r
		}
		first, again := make(chan *Receipt, 1), make(chan *Receipt, 1)
		go accept(first)
		synctest.Wait()
		accept(again)
		close(e.goOn)
		receipts := []*Receipt{<-first, <-again}
		for _, r := range receipts {
			select {
			case <-r.Done():
				t.Error("a delivery that waits is at its end")
			default:
			}
		}
		q.mu.Lock()
		q.waits.end(e.first.Stored.ULID, Report{State: Discarded, Reason: "by hand"})
		q.mu.Unlock()
		for _, r := range receipts {
			if report := r.Report(); report.State != Discarded || report.Reason != "by hand" {
				t.Errorf("the end is %+v", report)
			}
		}
		close(q.commits.quit)
		q.endLife(nil)
		q.tasks.Wait()
	})
}

// TestWhatIsHandedBackIsNotOvertaken checks that nothing of its endpoint is claimed before a delivery that was handed back is stored as waiting,
// however long that takes.
func TestWhatIsHandedBackIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &heldEngine{batches: make(chan string, 1), goOn: make(chan struct{}, 1)}
		q := newQueue(Config{}.withDefaults(), e, nil)
		q.started = true
		g := newGate()
		q.runner.endpoints = map[string]*handlers{"inbox": {Endpoint: Endpoint{Name: "inbox", Handle: g.handle}.withDefaults()}}
		s := q.source.(*claims)
		wanted := func() int {
			q.mu.Lock()
			defer q.mu.Unlock()
			if s.hasDue("inbox", q.now()) != (len(s.wants(q.now())) == 0) {
				t.Error("an arrival may overtake it, or wait for nothing")
			}
			return len(s.wants(q.now()))
		}
		e.goOn <- struct{}{}
		if _, err := q.Accept(t.Context(), Arrival{Endpoint: "inbox"}); err != nil {
			t.Fatal(err)
		}
		if wanted() != 1 {
			t.Error("while a delivery runs, no other is wanted")
		}
		g.pass <- Outcome{PutBack: &PutBack{After: time.Second}}
		<-e.batches
		if got := <-e.batches; got != "0 arrivals, 1 ends" {
			t.Errorf("a commit of %s", got)
		}
		time.Sleep(time.Minute)
		if wanted() != 0 {
			t.Error("others are wanted before it is stored as waiting")
		}
		e.goOn <- struct{}{}
		synctest.Wait()
		if wanted() != 1 {
			t.Error("once it is stored as waiting, nothing is wanted")
		}
		close(q.commits.quit)
		q.endLife(nil)
		q.tasks.Wait()
	})
}
