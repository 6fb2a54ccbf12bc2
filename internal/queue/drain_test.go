package queue

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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
