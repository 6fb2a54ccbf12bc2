package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// What waits at an endpoint that is no longer served stays, and is handled in order once it is served again. What runs goes on.
func TestUnserve(t *testing.T) {
	onBoth(t, func(t *testing.T, begin func(...Endpoint) *fixture) {
		g := newGate()
		inbox := Endpoint{Name: "inbox", Concurrency: 1, Attempts: 5, FirstWait: time.Millisecond, Handle: g.handle}
		f := begin(inbox)
		rs := f.acceptAll("a b c")
		storetest.Eventually(t, func() bool { return g.seen() == "a" })
		if err := f.Unserve("inbox"); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"unserve": f.Unserve("inbox"), "change": f.Change(inbox), "unknown": f.Unserve("unknown")} {
			if !errors.Is(err, ErrNotServed) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); !errors.Is(err, ErrNotServed) {
			t.Errorf("accepted: %v", err)
		}
		g.pass <- Outcome{Error: "failed"}
		<-rs[0].Done()
		storetest.Eventually(t, func() bool { return f.get(rs[0].ID).State == Retrying })
		if err := f.Discard(t.Context(), rs[2].ID, "not wanted"); err != nil {
			t.Error(err)
		}
		if state := f.get(rs[1].ID).State; state != Waiting {
			t.Errorf("the second one is %s", state)
		}
		if err := f.Serve(inbox, false); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			g.pass <- Outcome{}
		}
		for _, r := range rs[:2] {
			storetest.Eventually(t, func() bool { return f.get(r.ID).State == Done })
		}
		if seen := g.seen(); len(strings.Fields(seen)) != 3 || strings.Contains(seen, "c") {
			t.Errorf("handled %q", seen)
		}
		f.end()
	})
}

// A retry that is due while its endpoint is gone waits for as long as that takes, also over the end of the process.
func TestUnserveHoldsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		inbox := Endpoint{Name: "inbox", Attempts: 2, Handle: g.handle}
		f := begin(t, Config{}, inbox)
		r := f.acceptAll("a")[0]
		g.pass <- Outcome{Error: "failed"}
		synctest.Wait()
		if err := f.Unserve("inbox"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if rec := f.get(r.ID); rec.State != Retrying || g.seen() != "a" {
			t.Errorf("after an hour it is %s, and handled: %q", rec.State, g.seen())
		}
		f.end()
		f = open(t, f.dir, Config{})
		if err := f.Start(nil); err != nil {
			t.Fatal(err)
		}
		if rec := f.get(r.ID); rec.State != Retrying {
			t.Errorf("after a restart it is %s", rec.State)
		}
		if err := f.Serve(inbox, false); err != nil {
			t.Fatal(err)
		}
		g.pass <- Outcome{}
		eventuallyFinished(t, f)
		if rec := f.get(r.ID); rec.State != Done || rec.Attempts != 2 {
			t.Errorf("served again it is %+v", rec)
		}
		f.end()
	})
}

// New settings count from the next attempt on, and decide on what becomes of the one that runs.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := newGate(), newGate()
		f := begin(t, Config{}, Endpoint{Name: "inbox", Concurrency: 1, Handle: before.handle})
		rs := f.acceptAll("a b c d")
		synctest.Wait()
		if err := f.Change(Endpoint{Name: "inbox", Concurrency: 3, Attempts: 2, Handle: after.handle}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if before.seen() != "a" || len(strings.Fields(after.seen())) != 2 {
			t.Errorf("with three handlers: %q and %q", before.seen(), after.seen())
		}
		if err := f.Change(Endpoint{Name: "inbox", Concurrency: 1, Attempts: 2, Handle: after.handle}); err != nil {
			t.Fatal(err)
		}
		after.pass <- Outcome{}
		synctest.Wait()
		if n := len(strings.Fields(after.seen())); n != 2 {
			t.Errorf("with one handler while two run, %d have begun", n)
		}
		before.pass <- Outcome{Error: "failed"}
		synctest.Wait()
		if rec := f.get(rs[0].ID); rec.State != Retrying {
			t.Errorf("with two attempts, the first that failed is %s", rec.State)
		}
		close(after.pass)
		eventuallyFinished(t, f)
		if rec := f.get(rs[0].ID); rec.State != Done || before.seen() != "a" {
			t.Errorf("at the end it is %s; the handler before had %q", rec.State, before.seen())
		}
		if err := f.Change(Endpoint{Name: "inbox"}); err != nil {
			t.Fatal(err)
		}
		if r := f.accept(Arrival{}); r.State != Done {
			t.Errorf("without a handler it is stored as %s", r.State)
		}
		f.end()
		if err := f.Change(Endpoint{Name: "inbox"}); !errors.Is(err, ErrStopping) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// What waits when an endpoint loses its handler stays for the next one, also over the end of the process: it was never handled.
func TestChangeToNoHandler(t *testing.T) {
	onBoth(t, func(t *testing.T, begin func(...Endpoint) *fixture) {
		before, after := newGate(), newGate()
		f := begin(Endpoint{Name: "inbox", Concurrency: 1, Attempts: 5, FirstWait: time.Millisecond, Handle: before.handle})
		rs := f.acceptAll("a b")
		storetest.Eventually(t, func() bool { return before.seen() == "a" })
		if err := f.Change(Endpoint{Name: "inbox", Attempts: 5, FirstWait: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		before.pass <- Outcome{Error: "failed"}
		storetest.Eventually(t, func() bool { return f.get(rs[0].ID).State == Retrying })
		if r := f.accept(Arrival{}); r.State != Done {
			t.Errorf("one that arrives now is stored as %s", r.State)
		}
		if state := f.get(rs[1].ID).State; state != Waiting {
			t.Errorf("the one that waited is %s", state)
		}
		if err := f.Change(Endpoint{Name: "inbox", Attempts: 5, Handle: after.handle}); err != nil {
			t.Fatal(err)
		}
		close(after.pass)
		for _, r := range rs {
			storetest.Eventually(t, func() bool { return f.get(r.ID).State == Done })
		}
		if n := len(strings.Fields(after.seen())); n != 2 {
			t.Errorf("the next handler had %q", after.seen())
		}
		f.end()
	})
}

// Handlers that became ready behind a quick one begin at once where there are more of them.
func TestChangeBeginsWhatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := beginQuick(t)
		f.acceptAll("a b c")
		if err := f.Change(Endpoint{Name: "inbox", Concurrency: 3, Handle: func(ctx context.Context, c *Claim) Outcome { return g.handle(ctx, c) }}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(strings.Fields(g.seen())); n != 3 {
			t.Errorf("%q have begun", g.seen())
		}
		close(g.pass)
		f.end()
	})
}
