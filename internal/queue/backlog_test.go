package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

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
