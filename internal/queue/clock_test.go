package queue

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSteadyClock(t *testing.T) {
	machine := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &steadyClock{machine: func() time.Time { return machine }}
	began := c.now()
	for _, step := range []struct {
		set, want time.Duration // since began; the machine's clock and the steady one
	}{
		{time.Hour, time.Hour},
		{0, time.Hour},                             // set back
		{10 * time.Minute, 69 * time.Minute},       // goes on, a little slower
		{-time.Hour, 69 * time.Minute},             // set back once more
		{-50 * time.Minute, 78 * time.Minute},      // and goes on
		{2 * time.Hour, 2 * time.Hour},             // set forward
		{2*time.Hour + 1, 2*time.Hour + 1},         // as the machine's
		{2*time.Hour - 10, 2*time.Hour + 1},        // a moment back
		{2*time.Hour + 1_000, 2*time.Hour + 1_000}, // and there again
	} {
		machine = began.Add(step.set)
		if got := c.now().Sub(began); got != step.want {
			t.Errorf("with the machine's clock at %v it says %v; want %v", step.set, got, step.want)
		}
	}
}

// A clock that is set back or forward while deliveries wait, are retried and are kept.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		handle := func(_ context.Context, c *Claim) Outcome {
			if c.Attempt == 1 && c.WebhookID == "retries" {
				return Outcome{Error: "no luck"}
			}
			time.Sleep(time.Second)
			return Outcome{}
		}
		dir := t.TempDir()
		start := func() *fixture {
			f := open(t, dir, Config{Now: now, Keep: 24 * time.Hour})
			if err := f.Start([]Endpoint{{Name: "inbox", Handle: handle, Concurrency: 1, Attempts: 2, FirstWait: time.Minute, DedupeWindow: time.Hour}}); err != nil {
				t.Fatal(err)
			}
			return f
		}
		settled := func(f *fixture, when string, ids ...string) {
			t.Helper()
			for _, id := range ids {
				if r := f.get(id); r.State != Done {
					t.Errorf("%s: %s is %s", when, r.WebhookID, r.State)
				}
			}
		}
		jump.Store(int64(1000 * time.Hour))
		f := start()
		retries, runs, waits := f.accept(Arrival{WebhookID: "retries"}), f.accept(Arrival{WebhookID: "runs"}), f.accept(Arrival{WebhookID: "waits"})
		time.Sleep(100 * time.Millisecond)
		jump.Add(-int64(5 * time.Hour))
		late := f.accept(Arrival{WebhookID: "late"})
		if late.ID <= waits.ID {
			t.Errorf("after the clock was set back comes %s after %s", late.ID, waits.ID)
		}
		time.Sleep(2 * time.Minute)
		settled(f, "set back", retries.ID, runs.ID, waits.ID, late.ID)
		if r := f.accept(Arrival{WebhookID: "runs"}); !r.Duplicate {
			t.Error("after the clock was set back a repeat is no duplicate")
		}

		// Set forward: what waits for its retry runs, and the window is over.
		again := f.accept(Arrival{WebhookID: "retries", ReplayOf: retries.ID})
		time.Sleep(2 * time.Second)
		jump.Add(int64(8 * time.Hour))
		if r := f.accept(Arrival{WebhookID: "runs"}); r.Duplicate {
			t.Error("hours later a repeat is a duplicate")
		}
		time.Sleep(2 * time.Minute)
		settled(f, "set forward", again.ID)

		// What waits and is retried over a restart, before which the clock was set back.
		left := []string{f.accept(Arrival{WebhookID: "retries", ReplayOf: retries.ID}).ID, f.accept(Arrival{}).ID, f.accept(Arrival{}).ID}
		time.Sleep(100 * time.Millisecond)
		die(f)
		jump.Add(-int64(5 * time.Hour))
		f = start()
		if r := f.accept(Arrival{}); r.ID <= left[2] {
			t.Errorf("after a restart with the clock set back comes %s after %s", r.ID, left[2])
		}
		time.Sleep(6 * time.Minute)
		settled(f, "set back before a restart", left...)

		// Far forward: what is finished is too old.
		jump.Add(int64(40 * time.Hour))
		time.Sleep(time.Minute)
		if all := listAll(t, f.Queue); len(all) != 0 {
			t.Errorf("%d are left after their time", len(all))
		}
		f.end()
	})
}

// A handler that takes hours ends as any other, and so do those that came meanwhile.
func TestHandlerOfHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{Keep: time.Hour, KeepCount: 1}, Endpoint{Concurrency: 1, DedupeWindow: time.Hour, Handle: func(ctx context.Context, c *Claim) Outcome {
			if c.WebhookID == "long" {
				time.Sleep(5 * time.Hour)
			}
			return Outcome{}
		}})
		long, next := f.accept(Arrival{WebhookID: "long"}), f.accept(Arrival{WebhookID: "next"})
		time.Sleep(4 * time.Hour)
		if long.Now() != Running || next.Now() != Waiting {
			t.Errorf("after 4 hours they are %s and %s", long.Now(), next.Now())
		}
		if r := f.accept(Arrival{WebhookID: "long"}); !r.Duplicate {
			t.Error("a repeat of one that runs for longer than the window is no duplicate")
		}
		<-next.Done()
		if r := long.Report(); r.State != Done || next.Report().State != Done {
			t.Errorf("in the end they are %+v and %+v", r, next.Report())
		}
		f.end()
	})
}
