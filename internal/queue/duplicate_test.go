package queue

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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
