package queue

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// fixture is a queue under test.
type fixture struct {
	*testing.T
	*Queue
	dir string
}

// open opens a queue in dir that is not started. What it warns of is an error of the test.
func open(t *testing.T, dir string, c Config) *fixture {
	t.Helper()
	c.Dir = dir
	if c.Warn == nil {
		c.Warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	if c.Rand == nil {
		c.Rand = func() float64 { return 1 }
	}
	q, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{T: t, Queue: q, dir: dir}
}

// begin opens and starts a queue with one endpoint, "inbox" unless it has a name.
func begin(t *testing.T, c Config, e Endpoint) *fixture {
	t.Helper()
	f := open(t, t.TempDir(), c)
	if e.Name == "" {
		e.Name = "inbox"
	}
	if err := f.Start([]Endpoint{e}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) accept(a Arrival) *Receipt {
	f.Helper()
	if a.Endpoint == "" {
		a.Endpoint = "inbox"
	}
	r, err := f.Accept(f.Context(), a)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) get(id string) *Record {
	f.Helper()
	r, err := f.Get(f.Context(), id)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// end drains and closes the queue.
func (f *fixture) end() {
	f.Helper()
	if err := f.Drain(f.Context()); err != nil {
		f.Error(err)
	}
	f.close()
}

func (f *fixture) close() {
	f.Helper()
	if err := f.Close(); err != nil {
		f.Error(err)
	}
}

// gate is a handler that waits to be let through, and notes who came.
type gate struct {
	mu   sync.Mutex
	came []string
	pass chan Outcome
}

func newGate() *gate { return &gate{pass: make(chan Outcome)} }

func (g *gate) handle(ctx context.Context, c *Claim) Outcome {
	g.mu.Lock()
	g.came = append(g.came, string(c.Body))
	g.mu.Unlock()
	select {
	case out := <-g.pass:
		return out
	case <-ctx.Done():
		return Outcome{Error: context.Cause(ctx).Error()}
	}
}

func (g *gate) seen() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.came, " ")
}

// eventuallyFinished waits, in a bubble's time, until nothing is unfinished.
func eventuallyFinished(t *testing.T, f *fixture) {
	t.Helper()
	for range 1000 {
		if unfinishedCount(t.Context(), f.Queue) == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatal("something is never finished")
}

// die ends a queue as the death of its process would: nothing of what runs is recorded. The database's own end is in
// order, which TestKilledUnderLoad does without.
func die(f *fixture) {
	f.mu.Lock()
	for _, task := range f.runner.running {
		task.ended = true
		f.runner.release(task)
	}
	clear(f.runner.running)
	f.mu.Unlock()
	f.close()
}
