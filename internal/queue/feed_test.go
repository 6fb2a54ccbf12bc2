package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store"
)

// downEngine is an engine that can't store anything for a while.
type downEngine struct {
	*sqlite.Engine
	err error
}

func (e *downEngine) Commit(b *store.Batch) error {
	if e.err != nil {
		return e.err
	}
	return e.Engine.Commit(b)
}

func (e *downEngine) Outage(err error) bool { return err == e.err }

// What the comment in Config allows callbacks to do.
func TestCallbacksMayReadWhatIsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f *fixture
		var waits *Receipt
		changes, commits, warnings := 0, 0, 0
		read := func() {
			if _, err := f.Oldest(t.Context()); err != nil {
				t.Error(err)
			}
			f.Watch(1).Close()
			if waits != nil {
				waits.Now()
			}
		}
		g := newGate()
		f = open(t, t.TempDir(), Config{
			Changed:   func(Change) { changes++; read() },
			Committed: func(int, int, time.Duration) { commits++; read() },
			Warn:      func(error) { warnings++; read() },
		})
		eng := &downEngine{Engine: f.eng.(*sqlite.Engine)}
		f.eng = eng
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle, Concurrency: 1}}); err != nil {
			t.Fatal(err)
		}
		runs := f.accept(Arrival{})
		waits = f.accept(Arrival{})
		eng.err = errors.New("nothing can be stored")
		if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); !errors.Is(err, eng.err) {
			t.Errorf("an arrival during the outage: %v", err)
		}
		eng.err = nil
		close(g.pass)
		<-runs.Done()
		<-waits.Done()
		f.end()
		if changes != 6 || commits == 0 || warnings != 1 {
			t.Errorf("%d changes, %d commits and %d warnings were told", changes, commits, warnings)
		}
	})
}

// While a callback takes its time, handlers end and arrivals are stored. Nobody is told of a delivery before Changed was.
func TestSlowCallback(t *testing.T) {
	var slow atomic.Bool
	told, pass := make(chan struct{}, 100), make(chan struct{})
	stored := make(chan int, 100)
	end := make(chan struct{})
	f := begin(t, Config{
		Changed: func(Change) {
			if slow.Load() {
				told <- struct{}{}
				<-pass
			}
		},
		Committed: func(n, _ int, _ time.Duration) { stored <- n },
	}, Endpoint{Handle: func(context.Context, *Claim) Outcome {
		<-end
		return Outcome{}
	}})
	first := f.accept(Arrival{})
	<-stored
	slow.Store(true)
	accepted := make(chan *Receipt)
	for range 2 {
		go func() { accepted <- f.accept(Arrival{}) }()
	}
	<-told
	for n := 0; n < 2; {
		n += <-stored
	}
	close(end)
	<-first.Done()
	if first.Now() != Done {
		t.Errorf("the first one is %s", first.Now())
	}
	select {
	case r := <-accepted:
		t.Errorf("the sender of %s goes on before Changed was told", r.ID)
	default:
	}
	close(pass)
	for range 2 {
		<-accepted
	}
	f.end()
}

// All changes are told, each delivery's in the order of its life, and watchers see the same.
func TestChangesInOrder(t *testing.T) { synctest.Test(t, testChangesInOrder) }

func testChangesInOrder(t *testing.T) {
	const senders, each = 8, 40
	var told []string
	lives := map[string]string{}
	step := func(c Change) string {
		switch {
		case c.New:
			return "new "
		case c.Attempt.Ended:
			return fmt.Sprintf("end%d ", c.Attempt.N)
		default:
			return fmt.Sprintf("start%d ", c.Attempt.N)
		}
	}
	f := begin(t, Config{Changed: func(c Change) {
		told = append(told, c.Delivery.ID+" "+step(c))
		lives[c.Delivery.ID] += step(c)
	}}, Endpoint{Concurrency: 2, Attempts: 2, FirstWait: time.Nanosecond, Handle: func(_ context.Context, c *Claim) Outcome {
		time.Sleep(2 * quickHandler)
		if c.Attempt == 1 {
			return Outcome{Error: "no"}
		}
		return Outcome{}
	}})
	w := f.Watch(10 * senders * each)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range each {
				f.accept(Arrival{})
			}
		})
	}
	all.Wait()
	eventuallyFinished(t, f)
	f.end()
	if len(lives) != senders*each {
		t.Errorf("%d of %d deliveries were told of", len(lives), senders*each)
	}
	for id, life := range lives {
		if life != "new start1 end1 start2 end2 " {
			t.Errorf("the life of %s is told as %s", id, life)
		}
	}
	i := 0
	for c := range w.C {
		if seen := c.Delivery.ID + " " + step(c); i >= len(told) || seen != told[i] {
			t.Fatalf("change %d that a watcher sees is %s", i, seen)
		}
		i++
	}
	if i != len(told) {
		t.Errorf("a watcher sees %d of %d changes", i, len(told))
	}
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
