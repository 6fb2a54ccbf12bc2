package queue

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
			synctest.Wait()                             // a sleep alone orders nothing for the race detector
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
