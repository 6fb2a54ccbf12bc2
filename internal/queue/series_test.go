package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

func TestSeriesRunsOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Handle: g.handle})
		accept := func(body, key string) *Receipt {
			r := f.accept(Arrival{Body: []byte(body), SerialKey: key})
			synctest.Wait()
			return r
		}
		a1, a2, b1, free := accept("a1", "a"), accept("a2", "a"), accept("b1", "b"), accept("free", "")
		a3 := accept("a3", "a")
		if g.seen() != "a1 b1 free" {
			t.Errorf("%q run beside each other", g.seen())
		}
		if a1.Postponed || b1.Postponed || free.Postponed || !a2.Postponed || !a3.Postponed {
			t.Errorf("held back are %v %v %v %v %v", a1.Postponed, a2.Postponed, a3.Postponed, b1.Postponed, free.Postponed)
		}
		if a2.Now() != Waiting {
			t.Errorf("the second of its series is %s", a2.Now())
		}
		if oldest, err := f.Oldest(t.Context()); err != nil || oldest["inbox"].IsZero() {
			t.Errorf("while they wait for their turn, the oldest are %v, %v", oldest, err)
		}
		if err := f.Discard(t.Context(), a2.ID, "no need"); err != nil {
			t.Error(err)
		}
		for range 3 {
			g.pass <- Outcome{}
		}
		synctest.Wait()
		if g.seen() != "a1 b1 free a3" {
			t.Errorf("the order is %q", g.seen())
		}
		close(g.pass)
		<-a3.Done()
		f.end()
	})
}

func TestRetryDoesNotHoldItsSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var came []string
		f := begin(t, Config{}, Endpoint{Attempts: 2, FirstWait: time.Minute, Handle: func(_ context.Context, c *Claim) Outcome {
			came = append(came, fmt.Sprintf("%s%d", c.Body, c.Attempt))
			if string(c.Body) == "bad" && c.Attempt == 1 {
				return Outcome{Error: "no"}
			}
			return Outcome{}
		}})
		f.accept(Arrival{Body: []byte("bad"), SerialKey: "k"})
		synctest.Wait()
		f.accept(Arrival{Body: []byte("good"), SerialKey: "k"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := strings.Join(came, " "); got != "bad1 good1 bad2" {
			t.Errorf("attempts come as %q", got)
		}
		f.end()
	})
}

func TestSeriesAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Handle: g.handle})
		for _, body := range strings.Fields("1 2 3") {
			f.accept(Arrival{Body: []byte(body), SerialKey: "k"})
			synctest.Wait()
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Drain(ended); err != nil { // hands the first one back
			t.Error(err)
		}
		f.close()

		g = newGate()
		f = open(t, f.dir, Config{})
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i, want := range []string{"1", "1 2", "1 2 3"} {
			if g.seen() != want {
				t.Errorf("after %d have ended, %q have come", i, g.seen())
			}
			g.pass <- Outcome{}
			synctest.Wait()
		}
		f.end()
	})
}

// One key with very many that wait must not be in the way of others, neither when they arrive nor when they start.
func TestManyOfOneSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Concurrency: 2, Handle: g.handle})
		for range 300 {
			f.accept(Arrival{SerialKey: "many"})
		}
		synctest.Wait()
		other := f.accept(Arrival{Body: []byte("other"), SerialKey: "few"})
		synctest.Wait()
		if got := g.seen(); got != " other" || other.Postponed {
			t.Errorf("%q run", got)
		}
		if n := len(f.source.(*backlog).lines["inbox"].due); n > 1 {
			t.Errorf("those that wait for one key are %d entries among those of others", n)
		}
		close(g.pass)
		eventuallyFinished(t, f)
		if n := len(f.source.(*backlog).lines["inbox"].series); n != 0 {
			t.Errorf("%d keys are remembered that nothing waits for", n)
		}
		f.end()
	})
}

func TestBurstRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type run struct {
			body   string
			at     time.Duration
			merged []string
		}
		var runs []run
		var zero time.Time
		f := begin(t, Config{}, Endpoint{Attempts: 2, FirstWait: time.Second, DedupeWindow: 0, Handle: func(_ context.Context, c *Claim) Outcome {
			runs = append(runs, run{string(c.Body), time.Since(zero), c.Merged})
			if c.Attempt == 1 {
				return Outcome{Error: "no"}
			}
			return Outcome{}
		}})
		zero = time.Now()
		burst := &Burst{Key: "k", Wait: time.Minute, MaxWait: 150 * time.Second}
		var rs []*Receipt
		for i := range 5 {
			rs = append(rs, f.accept(Arrival{Body: fmt.Append(nil, i), WebhookID: fmt.Sprint("w", i), Burst: burst}))
			if !rs[i].Postponed {
				t.Errorf("%d is not held back", i)
			}
			time.Sleep(40 * time.Second)
		}
		// The fifth was due at 150 s, while it would have been 160 s + its wait.
		alone := f.accept(Arrival{Body: []byte("alone"), Burst: burst})
		other := f.accept(Arrival{Body: []byte("other"), Burst: &Burst{Key: "other", Wait: time.Second}})
		time.Sleep(10 * time.Minute)
		synctest.Wait()

		ids := func(rs []*Receipt) (ids []string) {
			for _, r := range rs {
				ids = append(ids, r.ID)
			}
			return ids
		}
		var got []string
		for _, r := range runs {
			got = append(got, fmt.Sprintf("%s at %v with %d", r.body, r.at, len(r.merged)))
		}
		want := []string{
			"3 at 2m30s with 3", "3 at 2m31s with 3", // the first of the burst was received 150 s before
			"other at 3m21s with 0", "other at 3m22s with 0",
			"alone at 4m20s with 1", "alone at 4m21s with 1",
		}
		if !slices.Equal(got, want) {
			t.Errorf("the runs are %q, want %q", got, want)
		}
		if !slices.Equal(runs[0].merged, ids(rs[:3])) {
			t.Errorf("merged into the fourth are %v, want %v", runs[0].merged, ids(rs[:3]))
		}
		for i, r := range rs[:3] {
			rec := f.get(r.ID)
			if rec.State != Merged || rec.MergedInto != rs[3].ID || len(rec.AttemptList) != 0 {
				t.Errorf("%d is %+v", i, rec.Delivery)
			}
			if got := r.Report(); got.State != Merged || got.Reason != "merged into "+rs[i+1].ID {
				t.Errorf("who waited for %d is told %+v", i, got)
			}
			if out, err := f.Outcome(t.Context(), r.ID); err != nil || out.State != Done {
				t.Errorf("the outcome of %d is %+v, %v", i, out, err)
			}
		}
		if rec := f.get(alone.ID); rec.State != Done {
			t.Errorf("the first of the next burst is %+v", rec.Delivery)
		}
		if rec := f.get(other.ID); rec.State != Done {
			t.Errorf("the other burst is %+v", rec.Delivery)
		}
		f.end()
	})
}

func TestBurstAcrossRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		burst := &Burst{Key: "k", Wait: time.Minute}
		f := begin(t, Config{}, Endpoint{Handle: newGate().handle})
		first := f.accept(Arrival{Body: []byte("1"), WebhookID: "w1", Burst: burst})
		second := f.accept(Arrival{Body: []byte("2"), WebhookID: "w2", Burst: burst})
		f.end()

		merged := make(chan []string, 1)
		f = open(t, f.dir, Config{KeepCount: 1})
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: func(_ context.Context, c *Claim) Outcome {
			merged <- c.Merged
			return Outcome{}
		}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // what is merged is kept as long as the last of its burst is unfinished
		if again := f.accept(Arrival{WebhookID: "w1", Burst: burst}); !again.Duplicate || again.ID != first.ID {
			t.Errorf("the same again as one that was merged is %+v", again)
		}
		third := f.accept(Arrival{Body: []byte("3"), WebhookID: "w3", Burst: burst})
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if len(merged) > 0 {
			t.Error("a later one did not hold the burst back")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, want := <-merged, []string{first.ID, second.ID}; !slices.Equal(got, want) {
			t.Errorf("merged are %v, want %v", got, want)
		}
		if again := f.accept(Arrival{WebhookID: "w1", Burst: burst}); again.Duplicate {
			t.Error("the same again is a duplicate although the burst is done")
		}
		if got := f.get(third.ID).State; got != Done {
			t.Errorf("the last one is %s", got)
		}
		time.Sleep(2 * time.Minute)
		f.end()
	})
}

func TestDiscardedBurstGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		close(g.pass)
		f := begin(t, Config{}, Endpoint{Handle: g.handle})
		burst := &Burst{Key: "k", Wait: time.Minute}
		f.accept(Arrival{Body: []byte("1"), Burst: burst, SerialKey: "s"})
		last := f.accept(Arrival{Body: []byte("2"), Burst: burst, SerialKey: "s"})
		if err := f.Discard(t.Context(), last.ID, "by hand"); err != nil {
			t.Error(err)
		}
		f.accept(Arrival{Body: []byte("3"), Burst: burst, SerialKey: "s"})
		time.Sleep(2 * time.Minute)
		if g.seen() != "3" {
			t.Errorf("%q ran", g.seen())
		}
		counts, err := f.Counts(t.Context())
		if err != nil || counts["inbox"][Merged] != 1 || counts["inbox"][Discarded] != 1 || counts["inbox"][Done] != 1 || counts["inbox"][Waiting] != 0 {
			t.Errorf("counts are %v, %v", counts, err)
		}
		if l := f.source.(*backlog).lines["inbox"]; len(l.due)+len(l.series)+len(l.indexes) != 0 || f.waiting != 0 {
			t.Errorf("left in memory: %d due, %d series, %d spots, %d waiting", len(l.due), len(l.series), len(l.indexes), f.waiting)
		}
		f.end()
	})
}

// A start that was decided on before the delivery was merged or discarded must not bring it back.
func TestStartComesTooLate(t *testing.T) {
	f := begin(t, Config{}, Endpoint{Handle: newGate().handle})
	r := f.accept(Arrival{Burst: &Burst{Key: "k", Wait: time.Hour}})
	id, _ := store.ParseID(r.ID)
	if err := f.Discard(t.Context(), r.ID, "by hand"); err != nil {
		t.Error(err)
	}
	s := &store.Start{ID: id, Endpoint: "inbox", From: Waiting, At: time.Now(), Burst: true}
	if err := f.eng.Commit(&store.Batch{Starts: []*store.Start{s}}); err != nil || !s.Lost {
		t.Errorf("the start is %+v, %v", s, err)
	}
	if got := f.get(r.ID).State; got != Discarded {
		t.Errorf("the delivery is %s", got)
	}
	f.end()
}
