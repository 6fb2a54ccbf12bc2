package queue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"

	"github.com/hubhook/hubhook/internal/queue/sqlite"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// fixture is a queue under test.
type fixture struct {
	*testing.T
	*Queue
	dir string
}

// open opens a queue in dir that is not started. What it warns of is an error of the test.
func open(t *testing.T, dir string, c Config) *fixture {
	t.Helper()
	c.Dir = dir
	if c.Warn == nil {
		c.Warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	if c.Rand == nil {
		c.Rand = func() float64 { return 1 }
	}
	q, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{T: t, Queue: q, dir: dir}
}

// begin opens and starts a queue with one endpoint, "inbox" unless it has a name.
func begin(t *testing.T, c Config, e Endpoint) *fixture {
	t.Helper()
	f := open(t, t.TempDir(), c)
	if e.Name == "" {
		e.Name = "inbox"
	}
	if err := f.Start([]Endpoint{e}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) accept(a Arrival) *Receipt {
	f.Helper()
	if a.Endpoint == "" {
		a.Endpoint = "inbox"
	}
	r, err := f.Accept(f.Context(), a)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) get(id string) *Record {
	f.Helper()
	r, err := f.Get(f.Context(), id)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// end drains and closes the queue.
func (f *fixture) end() {
	f.Helper()
	if err := f.Drain(f.Context()); err != nil {
		f.Error(err)
	}
	f.close()
}

func (f *fixture) close() {
	f.Helper()
	if err := f.Close(); err != nil {
		f.Error(err)
	}
}

// gate is a handler that waits to be let through, and notes who came.
type gate struct {
	mu   sync.Mutex
	came []string
	pass chan Outcome
}

func newGate() *gate { return &gate{pass: make(chan Outcome)} }

func (g *gate) handle(ctx context.Context, c *Claim) Outcome {
	g.mu.Lock()
	g.came = append(g.came, string(c.Body))
	g.mu.Unlock()
	select {
	case out := <-g.pass:
		return out
	case <-ctx.Done():
		return Outcome{Error: context.Cause(ctx).Error()}
	}
}

func (g *gate) seen() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.came, " ")
}

func TestDeliveryIsHandledAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type parsed struct{ n int }
		value := &parsed{7}
		f := begin(t, Config{}, Endpoint{Handle: func(ctx context.Context, c *Claim) Outcome {
			if c.Value != value || c.Attempt != 1 || string(c.Body) != "{}" || c.Header.Get("X") != "y" || c.State != Running {
				t.Errorf("the handler got %+v", c)
			}
			if _, ok := ctx.Deadline(); ok || ctx.Err() != nil {
				t.Error("the handler's context is the caller's")
			}
			time.Sleep(20 * time.Millisecond)
			return Outcome{Result: []byte(`{"ok":true}`), Output: []byte("hi")}
		}})
		r := f.accept(Arrival{Body: []byte("{}"), Header: http.Header{"X": {"y"}}, Scope: "repo", Value: value})
		if r.State != Running || r.Duplicate {
			t.Errorf("the receipt is %+v", r)
		}
		if rec := f.get(r.ID); rec.State != Running || len(rec.AttemptList) != 1 || rec.AttemptList[0].Ended {
			t.Errorf("while it runs it is %+v", rec)
		}
		if got := r.Report(); got.State != Done || string(got.Result) != `{"ok":true}` {
			t.Errorf("the report is %+v", got)
		}
		rec := f.get(r.ID) // at once: what was reported must be shown
		if rec.State != Done || rec.Duration != 20*time.Millisecond || rec.Attempts != 1 || string(rec.AttemptList[0].Output) != "hi" {
			t.Errorf("handled, it is %+v", rec)
		}
		f.end()
	})
}

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		handle   func(n int) Outcome
		attempts int
		state    State
		reason   string
		used     int
	}{
		"success later": {func(n int) Outcome {
			if n < 3 {
				return Outcome{Error: "not yet"}
			}
			return Outcome{}
		}, 5, Done, "", 3},
		"used up":              {func(int) Outcome { return Outcome{Error: "never"} }, 3, Dead, "never", 3},
		"final":                {func(int) Outcome { return Outcome{Error: "no use", Final: true} }, 3, Dead, "no use", 1},
		"skipped":              {func(int) Outcome { return Outcome{Skip: "not ours"} }, 3, Skipped, "not ours", 0},
		"panic":                {func(int) Outcome { panic("oh") }, 1, Dead, "panic: oh", 1},
		"end of the goroutine": {func(int) Outcome { runtime.Goexit(); return Outcome{} }, 1, Dead, "the handler ended its goroutine without returning", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := begin(t, Config{}, Endpoint{Attempts: c.attempts, Handle: func(_ context.Context, cl *Claim) Outcome { return c.handle(cl.Attempt) }})
				r := f.accept(Arrival{})
				<-r.Done()
				time.Sleep(time.Hour)
				rec := f.get(r.ID)
				if rec.State != c.state || rec.Reason != c.reason || rec.Attempts != c.used || len(rec.AttemptList) != c.used {
					t.Errorf("it is %+v with %d attempts kept", rec.Delivery, len(rec.AttemptList))
				}
				if name == "panic" && !strings.Contains(rec.AttemptList[0].Stack, "TestOutcomes") {
					t.Errorf("the stack of the panic is %q", rec.AttemptList[0].Stack)
				}
				if name == "skipped" && r.Report().Reason != "not ours" {
					t.Errorf("the report is %+v", r.Report())
				}
				f.end()
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	for _, random := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Duration
			zero := time.Now()
			f := begin(t, Config{Rand: func() float64 { return random }}, Endpoint{
				Attempts: 6, FirstWait: time.Minute, MaxWait: 5 * time.Minute,
				Handle: func(context.Context, *Claim) Outcome {
					at = append(at, time.Since(zero).Round(time.Second))
					return Outcome{Error: "no"}
				},
			})
			f.accept(Arrival{})
			time.Sleep(time.Hour)
			want := []time.Duration{0, 1, 3, 7, 12, 17} // minutes, at the most
			for i := range want {
				want[i] = time.Duration(float64(want[i]*time.Minute) * (1 + random) / 2)
			}
			if !reflect.DeepEqual(at, want) {
				t.Errorf("attempts begin at %v, want %v", at, want)
			}
			f.end()
		})
	}
}

func TestRetryBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{}, Endpoint{Concurrency: 1, Attempts: 2, FirstWait: time.Minute, Handle: func(_ context.Context, c *Claim) Outcome {
			if string(c.Body) == "bad" && c.Attempt == 1 {
				return Outcome{Error: "no"}
			}
			return Outcome{}
		}})
		bad := f.accept(Arrival{Body: []byte("bad")})
		<-bad.Done()
		good := f.accept(Arrival{})
		<-good.Done()
		if got := f.get(bad.ID); got.State != Retrying || !got.RunAt.After(time.Now()) {
			t.Errorf("the failed one is %+v", got.Delivery)
		}
		if good.Report().State != Done {
			t.Errorf("the one behind it is %+v", good.Report())
		}
		time.Sleep(2 * time.Minute)
		if got := f.get(bad.ID); got.State != Done || got.Attempts != 2 {
			t.Errorf("after its wait the failed one is %+v", got.Delivery)
		}
		f.end()
	})
}

func TestConcurrencyAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{MaxWaiting: 3}, Endpoint{Concurrency: 2, Handle: g.handle})
		var rs []*Receipt
		for _, body := range strings.Fields("a b c d e") {
			rs = append(rs, f.accept(Arrival{Body: []byte(body)}))
			synctest.Wait()
		}
		if g.seen() != "a b" || rs[1].State != Running || rs[2].State != Waiting {
			t.Errorf("with room for two, %q run; receipts %+v", g.seen(), rs)
		}
		if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); !errors.Is(err, ErrFull) {
			t.Errorf("one more than may wait gives %v", err)
		}
		for range 3 {
			g.pass <- Outcome{}
			synctest.Wait()
		}
		if g.seen() != "a b c d e" {
			t.Errorf("the order is %q", g.seen())
		}
		close(g.pass)
		<-rs[4].Done()
		if rec := f.get(rs[4].ID); rec.State != Done || len(rec.AttemptList) != 1 || string(rec.Body) != "e" {
			t.Errorf("the last one is %+v", rec)
		}
		f.end()
	})
}

func TestBacklogBeyondMemoryIsReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Concurrency: 1, Handle: func(ctx context.Context, c *Claim) Outcome {
			c.Body = c.Body[:1]
			return g.handle(ctx, c)
		}})
		size := maxKept/3 + 1
		for _, body := range strings.Fields("a b c d e f") {
			f.accept(Arrival{Body: []byte(body + strings.Repeat(" ", size))})
			synctest.Wait()
		}
		if f.source.(*backlog).kept > maxKept {
			t.Errorf("%d bytes are held", f.source.(*backlog).kept)
		}
		close(g.pass)
		synctest.Wait()
		eventuallyFinished(t, f)
		if g.seen() != "a b c d e f" {
			t.Errorf("the order is %q", g.seen())
		}
		if f.source.(*backlog).kept != 0 {
			t.Errorf("%d bytes are still held", f.source.(*backlog).kept)
		}
		f.end()
	})
}

// eventuallyFinished waits, in a bubble's time, until nothing is unfinished.
func eventuallyFinished(t *testing.T, f *fixture) {
	t.Helper()
	for range 1000 {
		if unfinishedCount(t.Context(), f.Queue) == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatal("something is never finished")
}

func TestDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Handle: g.handle, DedupeWindow: time.Hour})
		first := f.accept(Arrival{WebhookID: "w"})
		again := f.accept(Arrival{WebhookID: "w"})
		if !again.Duplicate || again.ID != first.ID || again.State != Running {
			t.Errorf("the second receipt is %+v", again)
		}
		select {
		case <-again.Done():
			t.Error("the duplicate of a running one is done before it")
		default:
		}
		replay := f.accept(Arrival{WebhookID: "w", ReplayOf: first.ID})
		none := f.accept(Arrival{})
		if replay.Duplicate || none.Duplicate {
			t.Error("a replay, or one without a Webhook-Id, is a duplicate")
		}
		g.pass <- Outcome{Result: []byte("1")}
		g.pass <- Outcome{Result: []byte("1")}
		g.pass <- Outcome{Result: []byte("1")}
		if r := again.Report(); r.State != Done || string(r.Result) != "1" {
			t.Errorf("the duplicate's report is %+v", r)
		}
		late := f.accept(Arrival{WebhookID: "w"})
		if !late.Duplicate || late.State != Done || late.Report().State != Done {
			t.Errorf("a duplicate of a finished one is %+v", late)
		}
		if d := f.get(first.ID); d.Duplicates != 2 || d.Replays != 1 {
			t.Errorf("the first one has %d duplicates and %d replays", d.Duplicates, d.Replays)
		}
		time.Sleep(time.Hour + time.Second)
		if r := f.accept(Arrival{WebhookID: "w"}); r.Duplicate {
			t.Error("after the window it is still a duplicate")
		}
		g.pass <- Outcome{}
		f.end()
	})
}

func TestDuplicatesAtOnce(t *testing.T) {
	var ran atomic.Int64
	f := begin(t, Config{}, Endpoint{Handle: func(context.Context, *Claim) Outcome { ran.Add(1); return Outcome{} }, DedupeWindow: time.Hour})
	var all sync.WaitGroup
	var firsts atomic.Int64
	ids := make([]string, 50)
	for i := range ids {
		all.Go(func() {
			r, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox", WebhookID: "w"})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = r.ID
			if !r.Duplicate {
				firsts.Add(1)
			}
			<-r.Done()
		})
	}
	all.Wait()
	f.end()
	if ran.Load() != 1 || firsts.Load() != 1 || len(slices.Compact(ids)) != 1 {
		t.Errorf("ran %d times, %d firsts, ids %v", ran.Load(), firsts.Load(), slices.Compact(ids))
	}
}

func TestDiscard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Concurrency: 1, Handle: g.handle})
		runs, waits := f.accept(Arrival{Body: []byte("runs")}), f.accept(Arrival{Body: []byte("waits")})
		for _, r := range []*Receipt{waits, runs} {
			if err := f.Discard(t.Context(), r.ID, "by hand"); err != nil {
				t.Fatal(err)
			}
			if got := r.Report(); got.State != Discarded || got.Reason != "by hand" {
				t.Errorf("the report is %+v", got)
			}
			if err := f.Discard(t.Context(), r.ID, "again"); !errors.Is(err, ErrFinished) {
				t.Errorf("discarding it again gives %v", err)
			}
		}
		synctest.Wait()
		rec := f.get(runs.ID)
		if rec.State != Discarded || rec.Reason != "by hand" || len(rec.AttemptList) != 1 || !rec.AttemptList[0].Ended ||
			rec.AttemptList[0].Error != errDiscarded.Error() {
			t.Errorf("discarded while it ran, it is %+v", rec)
		}
		if g.seen() != "runs" {
			t.Errorf("what ran is %q", g.seen())
		}
		if err := f.Discard(t.Context(), "01ARZ3NDEKTSV4RRFFQ69G5FAV", ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown id gives %v", err)
		}
		unreadable := f.accept(Arrival{Dead: "no event.action"})
		if got := unreadable.Report(); got.State != Dead || got.Reason != "no event.action" {
			t.Errorf("an unreadable one is %+v", got)
		}
		f.end()
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handle := func(ctx context.Context, c *Claim) Outcome {
			switch string(c.Body) {
			case "quick":
				time.Sleep(time.Second)
				return Outcome{}
			case "obedient":
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrStopping) {
					t.Errorf("the cause is %v", context.Cause(ctx))
				}
				return Outcome{Error: "cancelled"}
			}
			<-release
			return Outcome{}
		}
		dir := t.TempDir()
		f := open(t, dir, Config{})
		if err := f.Start([]Endpoint{{Name: "inbox", Concurrency: 3, Handle: handle}}); err != nil {
			t.Fatal(err)
		}
		var rs []*Receipt
		for _, body := range strings.Fields("quick obedient deaf waits") {
			rs = append(rs, f.accept(Arrival{Body: []byte(body)}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := f.Drain(ctx)
		if err == nil || !strings.Contains(err.Error(), rs[2].ID) || strings.Contains(err.Error(), rs[1].ID) {
			t.Errorf("draining gives %v; want the one that did not return named", err)
		}
		if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); !errors.Is(err, ErrStopping) {
			t.Errorf("accepting after it gives %v", err)
		}
		f.close()
		close(release)
		synctest.Wait()

		f = open(t, dir, Config{})
		for i, want := range []State{Done, Waiting, Waiting, Waiting} {
			if got := f.get(rs[i].ID); got.State != want || got.Reason != "" {
				t.Errorf("%d is %+v, want %s", i, got.Delivery, want)
			}
		}
		if got := f.get(rs[1].ID).AttemptList; len(got) != 1 || got[0].Error != handedBackText {
			t.Errorf("the attempts of one that was handed back are %+v", got)
		}
		ds, n, err := f.Unfinished(t.Context(), 2)
		if err != nil || n != 3 || len(ds) != 2 || ds[0].ID != rs[1].ID {
			t.Errorf("unfinished are %+v of %d, %v", ds, n, err)
		}
		var ran atomic.Int64
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: func(context.Context, *Claim) Outcome { ran.Add(1); return Outcome{} }}}); err != nil {
			t.Fatal(err)
		}
		eventuallyFinished(t, f)
		if ran.Load() != 3 {
			t.Errorf("%d of 3 ran after the restart", ran.Load())
		}
		f.end()
	})
}

func TestSuspectRunsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var ids []string
		again := func() (*fixture, *gate) {
			f, g := open(t, dir, Config{}), newGate()
			if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle}, {Name: "other", Handle: g.handle}}); err != nil {
				t.Fatal(err)
			}
			return f, g
		}
		f, _ := again()
		for _, body := range strings.Fields("s1 s2") {
			ids = append(ids, f.accept(Arrival{Body: []byte(body)}).ID)
		}
		synctest.Wait()
		die(f)
		for n := range store.AloneAfter - 1 {
			var g *gate
			f, g = again()
			synctest.Wait()
			if len(g.came) != 2 {
				t.Errorf("after %d interruptions %q run", n+1, g.seen())
			}
			die(f)
		}
		f, g := again()
		synctest.Wait()
		if g.seen() != "s1" {
			t.Errorf("after %d interruptions %q run, want s1 alone", store.AloneAfter, g.seen())
		}
		other := f.accept(Arrival{Endpoint: "other", Body: []byte("o")})
		if other.State != Waiting {
			t.Errorf("one that arrives beside it is %s", other.State)
		}
		time.Sleep(aloneFor + time.Millisecond) // the first one has lived long enough
		synctest.Wait()
		if g.seen() != "s1" {
			// s2 is to be alone too, and s1 still runs: nothing starts
			t.Errorf("after 5 s %q run, want s1", g.seen())
		}
		g.pass <- Outcome{}
		synctest.Wait()
		if g.seen() != "s1 s2" {
			t.Errorf("after the first one's end %q run, want s1 s2", g.seen())
		}
		g.pass <- Outcome{}
		synctest.Wait()
		if g.seen() != "s1 s2 o" {
			t.Errorf("in the end %q run", g.seen())
		}
		close(g.pass)
		eventuallyFinished(t, f)
		if rec := f.get(ids[0]); rec.State != Done || len(rec.AttemptList) != store.AloneAfter+1 {
			t.Errorf("the suspect is %+v", rec)
		}
		f.end()
	})
}

// die ends a queue as the death of its process would: nothing of what runs is recorded. The database's own end is in
// order, which TestKilledUnderLoad does without.
func die(f *fixture) {
	f.mu.Lock()
	for _, task := range f.runner.running {
		task.ended = true
		f.runner.release(task)
	}
	clear(f.runner.running)
	f.mu.Unlock()
	f.close()
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{}, Endpoint{Attempts: 2, Handle: func(_ context.Context, c *Claim) Outcome {
			if c.Attempt == 1 {
				return Outcome{Error: "no"}
			}
			return Outcome{}
		}})
		w, slow := f.Watch(100), f.Watch(1)
		f.accept(Arrival{})
		time.Sleep(time.Minute)
		f.accept(Arrival{Dead: "odd"})
		f.end()
		var got []string
		for c := range w.C {
			s := string(c.Delivery.State)
			if c.Attempt != nil {
				s += fmt.Sprintf("/%d/%v", c.Attempt.N, c.Attempt.Ended)
			}
			got = append(got, s)
		}
		want := "running running/1/false retrying/1/true running/2/false done/2/true dead"
		if strings.Join(got, " ") != want {
			t.Errorf("changes are %v, want %s", got, want)
		}
		if n := slow.Missed(); n != 5 {
			t.Errorf("a watcher that does not read missed %d, want 5", n)
		}
		if slow.Missed() != 0 {
			t.Error("what was missed is counted twice")
		}
		w.Close()
	})
}

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
	f.commits.busy = true // so that the next ones meet in one batch
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

func TestFreshStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := open(t, dir, Config{})
		g := newGate()
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle, Concurrency: 1}}); err != nil {
			t.Fatal(err)
		}
		f.accept(Arrival{})
		f.accept(Arrival{})
		f.close()
		f = open(t, dir, Config{})
		if n, err := f.DiscardUnfinished(t.Context(), "--fresh"); n != 2 || err != nil {
			t.Errorf("discarded %d, %v", n, err)
		}
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle}}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.DiscardUnfinished(t.Context(), ""); err == nil {
			t.Error("discarding all is possible after the start")
		}
		ds, _, err := f.List(t.Context(), Filter{State: Discarded})
		if err != nil || len(ds) != 2 || ds[0].Reason != "--fresh" {
			t.Errorf("discarded are %+v, %v", ds, err)
		}
		f.end()
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{Keep: time.Hour, KeepCount: 5}, Endpoint{})
		for range 20 {
			f.accept(Arrival{WebhookID: "w"})
		}
		time.Sleep(time.Minute)
		if counts, err := f.Counts(t.Context()); err != nil || counts["inbox"][Done] != 5 {
			t.Errorf("counts are %v, %v; want 5", counts, err)
		}
		time.Sleep(2 * time.Hour)
		if ds, _, err := f.List(t.Context(), Filter{}); err != nil || len(ds) != 0 {
			t.Errorf("after their time %d are left, %v", len(ds), err)
		}
		f.end()
	})
}

func TestAcceptErrors(t *testing.T) {
	f := open(t, t.TempDir(), Config{})
	if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); err == nil || !strings.Contains(err.Error(), "not started") {
		t.Errorf("accepting before the start gives %v", err)
	}
	for _, es := range [][]Endpoint{{{}}, {{Name: "a"}, {Name: "a"}}} {
		if err := f.Start(es); err == nil {
			t.Errorf("starting with %v is possible", es)
		}
	}
	if err := f.Start([]Endpoint{{Name: "inbox"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(nil); err == nil {
		t.Error("starting twice is possible")
	}
	if _, err := f.Accept(t.Context(), Arrival{Endpoint: "other"}); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("an endpoint that is not served gives %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Accept(ended, Arrival{Endpoint: "inbox"}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gives %v", err)
	}
	if _, _, err := f.List(t.Context(), Filter{Before: "x"}); err == nil {
		t.Error("any cursor will do")
	}
	if _, err := f.Get(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no id gives %v", err)
	}
	f.end()
	if _, err := f.Counts(t.Context()); err == nil {
		t.Error("a closed queue answers")
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing twice gives %v", err)
	}
}

func TestDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c%20#d", "e")
	f := open(t, dir, Config{})
	var locked *LockedError
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("a second process gets %v", err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "hubhook.db": 0o600, "hubhook.lock": 0o600} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v; want %v", name, fi.Mode(), err, want)
		}
	}
	f.close()
	if left, err := filepath.Glob(dir + "/*-wal"); err != nil || len(left) != 0 {
		t.Errorf("after the end there is %v, %v", left, err)
	}
	f = open(t, dir, Config{})
	f.close()

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a database, but long enough to look at: "+strings.Repeat("x", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	noDB := t.TempDir()
	if err := os.Rename(file, filepath.Join(noDB, "hubhook.db")); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	later := t.TempDir()
	f = open(t, later, Config{})
	run(t, f.Queue, "PRAGMA user_version = 99")
	f.close()
	for dir, want := range map[string][]string{
		noDB:                         {"hubhook.db", "not a database", "move it away"},
		inTheWay:                     {inTheWay, "a file is in the way"},
		filepath.Join(inTheWay, "x"): {inTheWay, "a file is in the way"},
		later:                        {"schema 99", "use that version"},
		"":                           {"no data directory"},
	} {
		_, err := Open(t.Context(), Config{Dir: dir})
		for _, part := range want {
			if err == nil || !strings.Contains(withHint(err), part) {
				t.Errorf("%q gives %v; want %q in it", dir, err, part)
			}
		}
	}
	if os.Getuid() != 0 {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{Dir: closed}); err == nil || !strings.Contains(withHint(err), "right to write") {
			t.Errorf("a directory that can't be written gives %v", err)
		}
	}
}

// withHint is what people see of an error.
func withHint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return err.Error() + "\n  hint: " + h.Hint()
	}
	return err.Error()
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

// The oldest one that waits is told by when it came, whatever is due before it: it is no retry, and runs no more once started.
func TestOldestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Handle: g.handle, Concurrency: 1, Attempts: 2, FirstWait: time.Hour})
		want := func(when ...time.Time) {
			t.Helper()
			oldest, err := f.Oldest(t.Context())
			if err != nil || len(oldest) != len(when) || len(when) > 0 && !oldest["inbox"].Equal(when[0]) {
				t.Errorf("the oldest are %v, %v; want %v", oldest, err, when)
			}
		}
		want()
		f.accept(Arrival{Body: []byte("1")})
		want()
		second := time.Now()
		f.accept(Arrival{Body: []byte("2")})
		time.Sleep(time.Minute)
		third := time.Now()
		f.accept(Arrival{Body: []byte("3")})
		want(second)
		g.pass <- Outcome{Error: "no"}
		synctest.Wait()
		want(third)
		for range 2 {
			g.pass <- Outcome{}
			synctest.Wait()
		}
		want() // the first one is retrying
		f.end()
		if _, err := f.Oldest(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// slowEngine is an engine whose next commit takes until the test lets it go on.
type slowEngine struct {
	*sqlite.Engine
	hold atomic.Bool
	pass chan struct{}
}

func (e *slowEngine) Commit(b *store.Batch) error {
	err := e.Engine.Commit(b)
	if e.hold.CompareAndSwap(true, false) {
		<-e.pass
	}
	return err
}

// A delivery whose handler returns while its discarding is being stored stays discarded, and is counted once.
func TestDiscardWhileTheHandlerReturns(t *testing.T) {
	for name, out := range map[string]Outcome{"done": {}, "retrying": {Error: "no"}, "dead": {Error: "no", Final: true}, "skipped": {Skip: "no"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				f := open(t, t.TempDir(), Config{})
				slow := &slowEngine{Engine: f.eng.(*sqlite.Engine), pass: make(chan struct{})}
				f.eng = slow
				if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle, Attempts: 2, FirstWait: time.Minute}}); err != nil {
					t.Fatal(err)
				}
				r := f.accept(Arrival{})
				synctest.Wait()
				slow.hold.Store(true)
				discarded := make(chan error)
				go func() { discarded <- f.Discard(t.Context(), r.ID, "by hand") }()
				synctest.Wait()
				g.pass <- out
				synctest.Wait()
				close(slow.pass)
				if err := <-discarded; err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // a retry would run now
				if rec := f.get(r.ID); rec.State != Discarded || rec.Reason != "by hand" || g.seen() != "" {
					t.Errorf("it is %s (%s), attempts %+v", rec.State, rec.Reason, rec.AttemptList)
				}
				counts, err := f.Counts(t.Context())
				if err != nil || counts["inbox"][Discarded] != 1 || len(counts["inbox"]) != 1 {
					t.Errorf("the counts are %v, %v", counts, err)
				}
				if r.Now() != Discarded {
					t.Errorf("its receipt says %s", r.Now())
				}
				f.end()
			})
		})
	}
}
