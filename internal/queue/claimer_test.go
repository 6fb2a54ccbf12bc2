package queue

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/postgres"
	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// openShared opens a queue that looks for work only where it has heard of some, so that a test does not end well because it waited.
func openShared(t *testing.T, url string, endpoint Endpoint) *Queue {
	t.Helper()
	return openSharedOn(t, url, func(eng sharedEngine) sharedEngine { return eng }, endpoint)
}

type sharedEngine interface {
	store.Engine
	store.Sharing
}

// openSharedOn is openShared with an engine around the usual one.
func openSharedOn(t *testing.T, url string, around func(sharedEngine) sharedEngine, endpoint Endpoint) *Queue {
	t.Helper()
	c := Config{Warn: func(err error) { t.Error(err) }}
	eng, err := postgres.Open(t.Context(), url, postgres.Config{Warn: c.Warn})
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(c.withDefaults(), around(eng), nil)
	q.source.(*claims).look = time.Hour
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := q.Start([]Endpoint{endpoint}); err != nil {
		t.Fatal(err)
	}
	return q
}

// What waited because all handlers were busy starts as soon as one is free, without waiting for the next look.
func TestAHandlerThatIsFreeTakesWhatWaits(t *testing.T) {
	goOn := make(chan struct{})
	var mu sync.Mutex
	var order []string
	q := openShared(t, pgserver.Database(t), Endpoint{Name: "inbox", Concurrency: 1, Handle: func(ctx context.Context, c *Claim) Outcome {
		mu.Lock()
		order = append(order, c.ID)
		mu.Unlock()
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return Outcome{}
	}})
	var want []string
	for round := range 3 {
		for range 2 {
			r, err := q.Accept(t.Context(), Arrival{Endpoint: "inbox", Body: []byte("{}")})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, r.ID)
		}
		for n := range 2 {
			storetest.Eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(order) == 2*round+n+1
			})
			goOn <- struct{}{}
		}
	}
	slices.Sort(order) // best effort, where one arrives just when another is looked for
	if !slices.Equal(order, want) {
		t.Errorf("handled %v; want %v", order, want)
	}
}

// afterArrivals calls hook when arrivals are stored and the queue has not heard of it yet.
type afterArrivals struct {
	sharedEngine
	hook func()
}

func (e *afterArrivals) Commit(b *store.Batch) error {
	err := e.sharedEngine.Commit(b)
	if len(b.Arrivals) > 0 {
		e.hook()
	}
	return err
}

// A claim may start a delivery, and its handler may end, before the queue hears that the delivery is stored. Its sender hears of that end.
func TestAClaimIsQuickerThanTheCommit(t *testing.T) {
	began, goOn := make(chan string), make(chan struct{})
	eng := &afterArrivals{hook: func() {}}
	around := func(s sharedEngine) sharedEngine { eng.sharedEngine = s; return eng }
	q := openSharedOn(t, pgserver.Database(t), around, Endpoint{Name: "inbox", Concurrency: 1, Handle: func(_ context.Context, c *Claim) Outcome {
		began <- c.ID
		<-goOn
		return Outcome{Result: []byte("handled")}
	}})
	accept := func() *Receipt {
		t.Helper()
		r, err := q.Accept(t.Context(), Arrival{Endpoint: "inbox", Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := accept()
	<-began
	eng.hook = func() {
		goOn <- struct{}{}
		<-first.Done()
		q.source.(*claims).lookSoon()
		id := <-began
		q.mu.Lock()
		w := q.runner.running[ulid.MustParseStrict(id)].wait
		q.mu.Unlock()
		goOn <- struct{}{}
		<-w.done
	}
	r := accept()
	select {
	case <-r.Done():
	default:
		t.Fatal("the delivery is handled, and its sender still waits")
	}
	if report := r.Report(); report.State != Done || string(report.Result) != "handled" {
		t.Errorf("its sender hears %s with result %q", report.State, report.Result)
	}
}

// A discard in one process ends the context of the handler in another one when that hears of it, which is before it renews its claims.
func TestADiscardElsewhereIsHeard(t *testing.T) {
	url := pgserver.Database(t)
	began, ended := make(chan struct{}), make(chan error, 1)
	runs := openShared(t, url, Endpoint{Name: "inbox", Handle: func(ctx context.Context, c *Claim) Outcome {
		close(began)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return Outcome{}
	}})
	other := openShared(t, url, Endpoint{Name: "other"})
	r, err := runs.Accept(t.Context(), Arrival{Endpoint: "inbox", Body: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	<-began
	if err := other.Discard(t.Context(), r.ID, "by hand"); err != nil {
		t.Fatal(err)
	}
	if cause := <-ended; cause != errDiscarded {
		t.Errorf("the handler's context ended because %v; want %v", cause, errDiscarded)
	}
}
