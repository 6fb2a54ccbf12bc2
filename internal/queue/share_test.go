package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/jackc/pgx/v5"

	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// join opens and starts one of several queues on a database.
func join(t *testing.T, url string, c Config, es ...Endpoint) *fixture {
	t.Helper()
	return joinAt(t, nil, url, c, es...)
}

// joinAt is join with the clock of another queue. Each queue estimates the database's clock, on a busy machine with an error of milliseconds.
func joinAt(t *testing.T, clock func() time.Time, url string, c Config, es ...Endpoint) *fixture {
	t.Helper()
	c.Database = url
	if c.Warn == nil {
		c.Warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	q, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if clock != nil {
		q.now = clock
	}
	f := &fixture{T: t, Queue: q}
	for i := range es {
		if es[i].Name == "" {
			es[i].Name = "inbox"
		}
	}
	if err := f.Start(es); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSharedWorkGoesWhereHandlersAreFree(t *testing.T) {
	url := pgserver.Database(t)
	g := newGate()
	var elsewhere atomic.Int64
	here := join(t, url, Config{}, Endpoint{Concurrency: 1, Handle: g.handle})
	there := join(t, url, Config{}, Endpoint{Concurrency: 4, Handle: func(context.Context, *Claim) Outcome {
		elsewhere.Add(1)
		return Outcome{Result: []byte(`"there"`)}
	}})
	first := here.accept(Arrival{Body: []byte("1")})
	var rs []*Receipt
	for i := range 20 {
		rs = append(rs, here.accept(Arrival{Body: fmt.Append(nil, i)}))
	}
	for _, r := range rs {
		select {
		case <-r.Done(): // who waits here hears of what was done there
		case <-time.After(20 * time.Second):
			t.Fatalf("delivery %s, %s, is never done", r.ID, r.Now())
		}
		if got := r.Report(); got.State != Done || string(got.Result) != `"there"` {
			t.Errorf("a delivery that ran elsewhere is reported as %s with the result %s", got.State, got.Result)
		}
	}
	if n := elsewhere.Load(); n != 20 {
		t.Errorf("%d of 20 ran elsewhere", n)
	}
	if out, err := here.Outcome(t.Context(), rs[0].ID); err != nil || out.State != Done || string(out.Result) != `"there"` {
		t.Errorf("the outcome is %+v, %v", out, err)
	}
	if rec := there.get(first.ID); rec.State != Running {
		t.Errorf("seen from there, what runs here is %s", rec.State)
	}
	close(g.pass)
	<-first.Done()
	here.end()
	there.end()
}

func TestSharedDuplicates(t *testing.T) {
	url := pgserver.Database(t)
	g := newGate()
	here := join(t, url, Config{}, Endpoint{Handle: g.handle, DedupeWindow: time.Hour})
	there := join(t, url, Config{}, Endpoint{Handle: g.handle, DedupeWindow: time.Hour})
	first := here.accept(Arrival{WebhookID: "w"})
	if again := there.accept(Arrival{WebhookID: "w"}); !again.Duplicate || again.ID != first.ID || again.State != Running {
		t.Errorf("the same again elsewhere is %+v", again)
	}
	close(g.pass)
	<-first.Done()
	here.commits.flush(t.Context())
	if again := there.accept(Arrival{WebhookID: "w"}); !again.Duplicate || again.State != Done {
		t.Errorf("once it is done, the same again elsewhere is %+v", again)
	}
	here.end()
	there.end()
}

func TestSharedSeries(t *testing.T) {
	url := pgserver.Database(t)
	var mu sync.Mutex
	running := map[string]int{}
	var ran []string
	handle := func(_ context.Context, c *Claim) Outcome {
		key, _, _ := strings.Cut(string(c.Body), " ")
		mu.Lock()
		if running[key]++; running[key] > 1 {
			t.Errorf("two of %s run at a time", key)
		}
		ran = append(ran, string(c.Body))
		mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		running[key]--
		return Outcome{}
	}
	here := join(t, url, Config{}, Endpoint{Handle: handle})
	there := joinAt(t, here.now, url, Config{}, Endpoint{Handle: handle})
	const each = 12
	for i := range each {
		for _, key := range []string{"a", "b", "c"} {
			for n, f := range []*fixture{here, there} {
				f.accept(Arrival{Body: fmt.Appendf(nil, "%s %d", key, 2*i+n), SerialKey: key})
			}
		}
	}
	storetest.Eventually(t, func() bool { return unfinishedCount(t.Context(), here.Queue) == 0 })
	mu.Lock()
	defer mu.Unlock()
	if len(ran) != 6*each {
		t.Errorf("%d of %d ran", len(ran), 6*each)
	}
	for _, key := range []string{"a", "b", "c"} {
		mine := slices.DeleteFunc(slices.Clone(ran), func(s string) bool { return !strings.HasPrefix(s, key) })
		for i, s := range mine {
			if s != fmt.Sprintf("%s %d", key, i) {
				t.Errorf("the order of %s is %q", key, mine)
				break
			}
		}
	}
	here.end()
	there.end()
}

func TestSharedBurst(t *testing.T) {
	url := pgserver.Database(t)
	merged := make(chan []string, 2)
	handle := func(_ context.Context, c *Claim) Outcome {
		merged <- c.Merged
		return Outcome{}
	}
	here := join(t, url, Config{}, Endpoint{Handle: handle})
	there := join(t, url, Config{}, Endpoint{Handle: handle})
	burst := &Burst{Key: "k", Wait: 2 * time.Second}
	one := here.accept(Arrival{Burst: burst})
	two := there.accept(Arrival{Burst: burst})
	three := here.accept(Arrival{Burst: burst})
	if got, want := <-merged, []string{one.ID, two.ID}; !slices.Equal(got, want) {
		t.Errorf("merged are %v, want %v", got, want)
	}
	if out, err := there.Outcome(t.Context(), one.ID); err != nil || out.State != Done {
		t.Errorf("the outcome of the first is %+v, %v", out, err)
	}
	select {
	case <-two.Done():
		if two.Report().State != Merged {
			t.Errorf("who waits for the second is told %+v", two.Report())
		}
	case <-time.After(20 * time.Second):
		t.Error("who waits for the second is never told")
	}
	if rec := there.get(two.ID); rec.State != Merged || rec.MergedInto != three.ID {
		t.Errorf("the second is %+v", rec.Delivery)
	}
	here.end()
	there.end()
}

func TestSharedDiscardCancelsElsewhere(t *testing.T) {
	url := pgserver.Database(t)
	cause := make(chan error, 1)
	here := join(t, url, Config{}, Endpoint{Handle: func(ctx context.Context, _ *Claim) Outcome {
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return Outcome{}
	}})
	there := join(t, url, Config{}, Endpoint{Handle: newGate().handle})
	r := here.accept(Arrival{})
	if err := there.Discard(t.Context(), r.ID, "from there"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-cause:
		if !errors.Is(err, errDiscarded) {
			t.Errorf("the handler is cancelled with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler is never cancelled")
	}
	if r.Report().State != Discarded || r.Report().Reason != "from there" {
		t.Errorf("who waits is told %+v", r.Report())
	}
	storetest.Eventually(t, func() bool { return len(here.get(r.ID).AttemptList) == 1 })
	if rec := there.get(r.ID); rec.State != Discarded {
		t.Errorf("the delivery is %+v", rec.Delivery)
	}
	here.end()
	there.end()
}

func TestSharedWatch(t *testing.T) {
	url := pgserver.Database(t)
	here := join(t, url, Config{Changed: func(c Change) { t.Errorf("what another process did is shown as this one's: %+v", c) }}, Endpoint{Name: "other", Handle: newGate().handle})
	there := join(t, url, Config{}, Endpoint{Handle: func(context.Context, *Claim) Outcome { return Outcome{} }})
	w := here.Watch(100)
	// A process is told of others' changes once they know of it.
	r := there.accept(Arrival{})
	for end := time.After(30 * time.Second); ; {
		select {
		case c := <-w.C:
			if c.Delivery.State == Done {
				if _, ok := store.ParseID(c.Delivery.ID); !ok || c.Delivery.Endpoint != "inbox" {
					t.Errorf("the change is %+v", c)
				}
				w.Close()
				here.end()
				there.end()
				return
			}
		case <-end:
			t.Fatalf("delivery %s is never seen", r.ID)
		case <-time.After(time.Second):
			r = there.accept(Arrival{})
		}
	}
}

func TestSharedShutdownHandsBack(t *testing.T) {
	url := pgserver.Database(t)
	here := join(t, url, Config{}, Endpoint{Handle: newGate().handle})
	r := here.accept(Arrival{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := here.Drain(ended); err != nil {
		t.Error(err)
	}
	here.close()
	done := make(chan int, 1)
	there := join(t, url, Config{}, Endpoint{Handle: func(_ context.Context, c *Claim) Outcome {
		done <- c.Attempt
		return Outcome{}
	}})
	select {
	case n := <-done:
		if n != 2 {
			t.Errorf("it is attempt %d", n)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("what was handed back never runs")
	}
	storetest.Eventually(t, func() bool { return there.get(r.ID).State == Done })
	there.end()
}

// A delivery that is to start alone holds nothing up in a process that does not serve its endpoint: it is for others to start.
func TestSharedSuspectOfAnotherEndpoint(t *testing.T) {
	url := pgserver.Database(t)
	there := join(t, url, Config{}, Endpoint{Name: "other", Concurrency: 1, Handle: newGate().handle})
	there.accept(Arrival{Endpoint: "other"})
	left := there.accept(Arrival{Endpoint: "other"}) // waits, since the only handler is busy
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	storetest.Eventually(t, func() bool { // not at once, where it was claimed while the first one took the handler: then it is handed back
		tag, err := conn.Exec(t.Context(), "UPDATE hubhook.unfinished SET suspect = true WHERE state = 0")
		if err != nil {
			t.Error(err)
		}
		return tag.RowsAffected() == 1
	})
	here := join(t, url, Config{}, Endpoint{Handle: func(context.Context, *Claim) Outcome { return Outcome{} }})
	storetest.Eventually(t, func() bool { // it knows of the suspect, or of nothing that waits for it to start
		here.mu.Lock()
		defer here.mu.Unlock()
		return here.waiting == 1
	})
	r := here.accept(Arrival{SerialKey: "k"})
	select {
	case <-r.Done():
	case <-time.After(20 * time.Second):
		t.Errorf("delivery %s is %s, while %s of another endpoint waits to start alone", r.ID, r.Now(), left.ID)
	}
	here.end()
	if err := there.Discard(t.Context(), left.ID, "no need"); err != nil {
		t.Error(err)
	}
	there.close()
}
