package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// beginQuick starts a queue whose one handler at a time has shown that it is quick, and then waits at a gate.
func beginQuick(t *testing.T) (*fixture, *gate) {
	t.Helper()
	g := newGate()
	shown := 0
	f := begin(t, Config{}, Endpoint{Concurrency: 1, Handle: func(ctx context.Context, c *Claim) Outcome {
		if shown++; shown <= quickAfter {
			return Outcome{}
		}
		return g.handle(ctx, c)
	}})
	for range quickAfter {
		<-f.accept(Arrival{Body: []byte("{}")}).Done()
	}
	return f, g
}

func TestQuickHandlersGetDeliveriesThatAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := beginQuick(t)
		var receipts []*Receipt
		for _, body := range []string{"a", "b", "c"} {
			r := f.accept(Arrival{Body: []byte(body)})
			if r.State != Running {
				t.Errorf("%s is stored as %s; want running", body, r.State)
			}
			receipts = append(receipts, r)
		}
		for _, r := range receipts {
			g.pass <- Outcome{}
			<-r.Done()
			if rec := f.get(r.ID); rec.State != Done || rec.Attempts != 1 || len(rec.AttemptList) != 1 {
				t.Errorf("afterwards: %+v", rec)
			}
		}
		if g.seen() != "a b c" {
			t.Errorf("they ran as %s; want a b c", g.seen())
		}
		f.end()
	})
}

// A handler that turns out slow keeps nothing in the state running that does not run.
func TestWhatIsReadyWaitsWhenHandlersTurnSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := beginQuick(t)
		first := f.accept(Arrival{Body: []byte("slow")})
		second := f.accept(Arrival{Body: []byte("next"), WebhookID: "w"})
		third := f.accept(Arrival{Body: []byte("gone")})
		time.Sleep(2 * readyFor)
		synctest.Wait()
		if second.Now() != Waiting || first.Now() != Running {
			t.Errorf("by now: %s, %s; want running, waiting", first.Now(), second.Now())
		}
		if rec := f.get(second.ID); rec.State != Waiting || rec.Attempts != 0 || len(rec.AttemptList) != 0 || !rec.RunAt.IsZero() {
			t.Errorf("handed back: %+v", rec)
		}
		if r := f.accept(Arrival{Body: []byte("later")}); r.State != Waiting {
			t.Errorf("a later one is stored as %s; want waiting", r.State)
		}
		if dup := f.accept(Arrival{WebhookID: "w"}); !dup.Duplicate || dup.ID != second.ID {
			t.Errorf("a duplicate gets %+v", dup)
		}
		if err := f.Discard(t.Context(), third.ID, "by hand"); err != nil {
			t.Error(err)
		}
		if counts, err := f.Counts(t.Context()); err != nil || counts["inbox"][Waiting] != 2 || counts["inbox"][Running] != 1 {
			t.Errorf("counts: %v, %v", counts, err)
		}
		for range 3 {
			g.pass <- Outcome{}
		}
		<-second.Done()
		if second.Report().State != Done {
			t.Errorf("the second one ended as %+v", second.Report())
		}
		synctest.Wait()
		if g.seen() != "slow next later" {
			t.Errorf("they ran as %s", g.seen())
		}
		f.end()
	})
}

func TestDrainHandsBackWhatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := beginQuick(t)
		f.accept(Arrival{Body: []byte("runs")})
		ready := f.accept(Arrival{Body: []byte("ready")})
		drained := make(chan error, 1)
		go func() { drained <- f.Drain(t.Context()) }()
		synctest.Wait()
		g.pass <- Outcome{}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if rec := f.get(ready.ID); rec.State != Waiting || rec.Attempts != 0 || len(rec.AttemptList) != 0 {
			t.Errorf("after Drain: %+v", rec)
		}
		f.close()
	})
}

// A delivery that is discarded while it is ready does not come back.
func TestDiscardOfOneThatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := beginQuick(t)
		f.accept(Arrival{Body: []byte("runs")})
		ready := f.accept(Arrival{Body: []byte("ready")})
		if err := f.Discard(t.Context(), ready.ID, "by hand"); err != nil {
			t.Fatal(err)
		}
		<-ready.Done()
		time.Sleep(2 * readyFor)
		g.pass <- Outcome{}
		synctest.Wait()
		if rec := f.get(ready.ID); rec.State != Discarded || g.seen() != "runs" {
			t.Errorf("after Discard: %+v; ran: %s", rec, g.seen())
		}
		f.end()
	})
}
