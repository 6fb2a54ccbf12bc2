package queue

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// onBoth runs a test with each engine. begin starts a queue with these endpoints; a second one has the deliveries of the first, once that
// has ended.
func onBoth(t *testing.T, test func(t *testing.T, begin func(...Endpoint) *fixture)) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		test(t, func(es ...Endpoint) *fixture {
			f := open(t, dir, Config{})
			if err := f.Start(es); err != nil {
				t.Fatal(err)
			}
			return f
		})
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgserver.Database(t)
		test(t, func(es ...Endpoint) *fixture { return join(t, url, Config{}, es...) })
	})
}

func (f *fixture) acceptAll(bodies string) (rs []*Receipt) {
	f.Helper()
	for _, body := range strings.Fields(bodies) {
		rs = append(rs, f.accept(Arrival{Body: []byte(body)}))
	}
	return rs
}

// What was not attempted waits with what it had, and the others of its endpoint behind it.
func TestPutBack(t *testing.T) {
	for name, back := range map[string]PutBack{"for a while": {After: 20 * time.Millisecond}, "until it is resumed": {}} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, begin func(...Endpoint) *fixture) {
				g := newGate()
				f := begin(Endpoint{Name: "inbox", Concurrency: 1, Attempts: 2, FirstWait: time.Millisecond, Handle: g.handle})
				rs := f.acceptAll("a b c")
				g.pass <- Outcome{PutBack: &back, Error: "is no failure"}
				if back.After == 0 {
					storetest.Eventually(t, func() bool { return f.get(rs[0].ID).State == Waiting })
					for i, r := range rs {
						if rec := f.get(r.ID); rec.State != Waiting || rec.Attempts != 0 || len(rec.AttemptList) != 0 || rec.Reason != "" {
							t.Errorf("%d waits as %+v", i, rec)
						}
					}
					if late := f.acceptAll("d")[0]; late.State != Waiting || !late.Postponed {
						t.Errorf("one that arrives is %+v", late)
					}
					f.Resume("inbox")
				} else {
					f.acceptAll("d")
				}
				for range 4 {
					g.pass <- Outcome{}
				}
				for _, r := range rs {
					<-r.Done()
					if rec := f.get(r.ID); rec.State != Done || rec.Attempts != 1 || len(rec.AttemptList) != 1 {
						t.Errorf("afterwards: %+v", rec)
					}
				}
				if g.seen() != "a a b c d" {
					t.Errorf("the order is %q", g.seen())
				}
				f.end()
			})
		})
	}
}

// A Resume that comes while the handler runs counts: nothing would come after it.
func TestPutBackAfterResume(t *testing.T) {
	onBoth(t, func(t *testing.T, begin func(...Endpoint) *fixture) {
		g := newGate()
		f := begin(Endpoint{Name: "inbox", Handle: g.handle})
		r := f.acceptAll("a")[0]
		storetest.Eventually(t, func() bool { return g.seen() == "a" })
		f.Resume("inbox")
		g.pass <- Outcome{PutBack: &PutBack{}}
		g.pass <- Outcome{}
		<-r.Done()
		f.end()
	})
}

// Failures before are kept, and those that were ready behind a quick handler keep their places.
func TestPutBackKeepsFailuresAndPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := beginQuick(t)
		rs := f.acceptAll("a b c")
		if rs[2].State != Running {
			t.Fatalf("the last one is %s", rs[2].State)
		}
		g.pass <- Outcome{PutBack: &PutBack{After: time.Minute}}
		synctest.Wait()
		if rs[0].Now() != Waiting || rs[2].Now() != Waiting {
			t.Errorf("by now: %s, %s", rs[0].Now(), rs[2].Now())
		}
		time.Sleep(time.Minute - time.Second)
		if synctest.Wait(); g.seen() != "a" {
			t.Errorf("too early: %q", g.seen())
		}
		time.Sleep(2 * time.Second)
		for range 3 {
			g.pass <- Outcome{}
		}
		<-rs[2].Done()
		if g.seen() != "a a b c" {
			t.Errorf("the order is %q", g.seen())
		}
		f.end()
	})
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Attempts: 3, Handle: g.handle})
		r := f.acceptAll("a")[0]
		for _, out := range []Outcome{{Error: "one"}, {PutBack: &PutBack{After: time.Hour}}, {Error: "two"}} {
			g.pass <- out
		}
		synctest.Wait()
		if rec := f.get(r.ID); rec.State != Retrying || rec.Attempts != 2 || len(rec.AttemptList) != 2 {
			t.Errorf("after two failures it is %+v", rec)
		}
		g.pass <- Outcome{Error: "three"}
		synctest.Wait()
		if rec := f.get(r.ID); rec.State != Dead {
			t.Errorf("after three failures it is %+v", rec)
		}
		f.end()
	})
}

func TestPause(t *testing.T) {
	onBoth(t, func(t *testing.T, begin func(...Endpoint) *fixture) {
		var handled atomic.Int32
		count := func(context.Context, *Claim) Outcome {
			handled.Add(1)
			return Outcome{}
		}
		f := begin(Endpoint{Name: "inbox", Handle: count}, Endpoint{Name: "other", Handle: count})
		f.Pause("inbox")
		f.Pause("unknown") // does nothing
		rs := f.acceptAll("a b")
		for _, r := range rs {
			if r.State != Waiting || !r.Postponed {
				t.Errorf("accepted while it is paused: %+v", r)
			}
		}
		if err := f.Discard(t.Context(), rs[1].ID, "not wanted"); err != nil {
			t.Error(err)
		}
		<-f.accept(Arrival{Endpoint: "other"}).Done() // goes on
		if n := handled.Load(); n != 1 {
			t.Errorf("%d were handled", n)
		}
		f.Resume("inbox")
		<-rs[0].Done()
		f.end()
	})
}

// What is stored when the process ends while its endpoint is paused runs after the next start, and that of an endpoint which becomes known
// later once it is.
func TestServeLater(t *testing.T) {
	onBoth(t, func(t *testing.T, begin func(...Endpoint) *fixture) {
		g := newGate()
		close(g.pass)
		f := begin()
		if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); err == nil {
			t.Error("an endpoint that is not served accepts")
		}
		inbox := Endpoint{Name: "inbox", Concurrency: 1, DedupeWindow: time.Hour, Handle: g.handle}
		if err := f.Serve(inbox, false); err != nil {
			t.Fatal(err)
		}
		if err := f.Serve(inbox, false); err == nil {
			t.Error("it is served twice")
		}
		<-f.acceptAll("first")[0].Done()
		f.Pause("inbox")
		f.acceptAll("a b")
		last := f.accept(Arrival{Body: []byte("c"), WebhookID: "w"})
		f.end()

		f = begin()
		if err := f.Serve(inbox, true); err != nil {
			t.Fatal(err)
		}
		if r := f.accept(Arrival{WebhookID: "w"}); !r.Duplicate {
			t.Errorf("its duplicate is %+v", r)
		}
		if rec := f.get(last.ID); rec.State != Waiting {
			t.Errorf("served but paused, it is %+v", rec)
		}
		f.Resume("inbox")
		storetest.Eventually(t, func() bool { return f.get(last.ID).State == Done })
		if got := strings.Fields(g.seen()); !slices.Equal(got, []string{"first", "a", "b", "c"}) {
			t.Errorf("handled %q", got)
		}
		f.end()
		if err := f.Serve(Endpoint{Name: "late"}, false); err == nil {
			t.Error("a queue that has ended serves one more")
		}
	})
}
