//go:build unix

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/hubhook/hubhook/ui/inspector"
)

// The flags of a program that shares its deliveries. Each has a port and a data directory of its own.
func sharing(flags ...string) []string {
	return append([]string{"--port", "0", "--no-tunnel"}, flags...)
}

// follow keeps the latest state of each delivery on a program's stream.
func (p *program) follow() (told func(id string) (api.Delivery, bool)) {
	p.t.Helper()
	var mu sync.Mutex
	latest := map[string]api.Delivery{}
	ctx, stop := context.WithCancelCause(context.Background())
	ended := errors.New("the test has ended")
	opened, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- p.inspector().Stream(ctx, func(e inspector.StreamEvent) {
			switch e.Name {
			case "open":
				close(opened)
			case "delivery":
				var d api.Delivery
				if err := json.Unmarshal(e.Data, &d); err != nil {
					p.t.Errorf("the stream has the delivery %s: %v", e.Data, err)
				}
				mu.Lock()
				latest[d.ID] = d
				mu.Unlock()
			}
		})
	}()
	p.t.Cleanup(func() {
		stop(ended)
		if err := <-done; !errors.Is(err, ended) && !errors.Is(err, io.EOF) { // the program may have been stopped before
			p.t.Errorf("the stream: %v", err)
		}
	})
	select {
	case <-opened:
	case <-time.After(patience):
		p.t.Fatal("the stream does not open")
	}
	return func(id string) (api.Delivery, bool) {
		mu.Lock()
		defer mu.Unlock()
		d, ok := latest[id]
		return d, ok
	}
}

// The other processes show the deliveries that one accepts, at once in the stream too, and can replay them.
func TestProcessesShareTheLog(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.useDatabase(t, pgserver.Database(t))
	a, b := h.serve(t, bot, sharing()...), h.serve(t, bot, sharing()...)
	other := h.serve(t, hubhook, append([]string{"serve", "other"}, sharing()...)...)
	if a.ready.Data == b.ready.Data {
		t.Errorf("both processes have the data directory %s", a.ready.Data)
	}
	told := b.follow()
	body := push(t)

	answered := a.post("trigger_training", body, "Webhook-Id", "shared-1", "X-Test", "kept")
	if answered.status != http.StatusOK || !strings.Contains(answered.body, "repo.content") {
		t.Fatalf("answer %d %s; want 200 and what the handler returned", answered.status, answered.body)
	}
	id := answered.delivery()
	b.poll("the other process's stream tells that it is done", func() (bool, string) {
		d, ok := told(id)
		return ok && d.State == string(queue.Done) && d.Endpoint == "trigger_training" && d.WebhookID == "shared-1", fmt.Sprintf("%+v", d)
	})
	for name, p := range map[string]*program{"that accepted it": a, "beside it": b, "without its endpoint": other} {
		if list := p.list(""); len(list) != 1 || list[0].ID != id || list[0].State != string(queue.Done) || list[0].Attempts != 1 {
			t.Errorf("the list of the process %s is %+v; want delivery %s, done after one attempt", name, list, id)
		}
		r := p.record(id)
		if r.Body != body || !slices.Equal(r.Headers["X-Test"], []string{"kept"}) || len(r.AttemptList) != 1 || r.AttemptList[0].Error != "" {
			t.Errorf("the process %s has the record %+v; want body, headers and one attempt", name, r)
		}
	}
	if counts := other.counts(); counts[queue.Done] != 1 {
		t.Errorf("counts %v; want one done", counts)
	}

	again, err := b.inspector().Replay(t.Context(), id, nil)
	must(t, err)
	if r := a.settled(again, queue.Done, queue.Dead); r.State != string(queue.Done) || r.ReplayOf != id {
		t.Errorf("the replay is %s, of %q; want done, of %s", r.State, r.ReplayOf, id)
	}
	var refused *inspector.StatusError
	if _, err := other.inspector().Replay(t.Context(), id, nil); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Errorf("a process that does not serve the endpoint replays it: %v; want 409", err)
	}
	list := h.run(t, hubhook, "deliveries", "list", "--server", other.ready.InspectorURL)
	if status := list.exit(); status != 0 || !strings.Contains(list.out.String(), id) || !strings.Contains(list.out.String(), again) {
		t.Errorf("hubhook deliveries list: status %d\n%s%s\nwant %s and %s", status, list.out, list.errs, id, again)
	}
	for _, p := range []*program{a, b, other} {
		p.stop()
	}
}

// discardWithin is how soon a handler is cancelled by a discard in another process.
const discardWithin = 5 * time.Second

// Another process can discard a delivery that runs or waits in one, even if it does not serve the endpoint.
func TestDiscardedFromAnotherProcess(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.useDatabase(t, pgserver.Database(t))
	a := h.serve(t, bot, sharing("--reply-within", "0")...)
	other := h.serve(t, hubhook, append([]string{"serve", "other"}, sharing()...)...)
	body := push(t)
	// One at a time, so that the start of each shows the end of the one before.
	ids := []string{a.post("single", body).delivery(), a.post("single", body).delivery(), a.post("single", body).delivery()}
	started := func(id string) func() (bool, string) {
		return func() (bool, string) {
			starts, _ := h.handled(t)
			return starts[id] == 1, fmt.Sprint(starts)
		}
	}
	a.poll("the first one starts", started(ids[0]))
	must(t, other.inspector().Discard(t.Context(), ids[1])) // waits
	discarded := time.Now()
	must(t, other.inspector().Discard(t.Context(), ids[0])) // runs
	pollFor(t, 2*discardWithin, "its handler is cancelled", started(ids[2]))
	t.Logf("the handler was cancelled %v after the discard", time.Since(discarded))
	for _, p := range []*program{a, other} {
		for _, id := range ids[:2] {
			if r := p.record(id); r.State != string(queue.Discarded) {
				t.Errorf("delivery %s is %s (%s); want discarded", id, r.State, r.Reason)
			}
		}
	}
	h.open(t)
	a.settled(ids[2], queue.Done)
	starts, ends := h.handled(t)
	if starts[ids[1]] != 0 || ends[ids[0]] != 0 || ends[ids[2]] != 1 {
		t.Errorf("handlers started %v and came to their end %v; want the waiting one never started, and none but the last come to its end", starts, ends)
	}
	var refused *inspector.StatusError
	if err := other.inspector().Discard(t.Context(), ids[2]); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Errorf("discard of one that is done: %v; want 409", err)
	}
}

// The Hub's retries reach any process. Whichever process accepts a Webhook-Id first, the delivery is handled once.
func TestDuplicatesAcrossProcesses(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.useDatabase(t, pgserver.Database(t))
	programs := []*program{h.serve(t, bot, sharing()...), h.serve(t, bot, sharing()...)}
	body := push(t)
	const webhooks = 50
	for n := range webhooks {
		webhookID := fmt.Sprintf("twice-%d", n)
		var answers [4]answer
		var posts sync.WaitGroup
		for i := range answers {
			posts.Go(func() { answers[i] = programs[i%2].post("nothing", body, "Webhook-Id", webhookID) })
		}
		posts.Wait()
		id := answers[0].delivery()
		firsts := 0
		for i, a := range answers {
			switch {
			case !a.ok() || a.delivery() != id:
				t.Fatalf("answer %d to %s is %d %s, delivery %q; want 2xx and delivery %s", i, webhookID, a.status, a.body, a.delivery(), id)
			case !a.says(t, map[string]string{"delivery": id, "state": "duplicate"}):
				firsts++
			}
		}
		if firsts != 1 {
			t.Errorf("%d of %d answers to %s are not those to a duplicate; want one", firsts, len(answers), webhookID)
		}
	}
	if counts := programs[0].finished(patience); counts[queue.Done] != webhooks {
		t.Errorf("%v are stored; want %d done", counts, webhooks)
	}
	starts, _ := h.handled(t)
	for id, n := range starts {
		if n != 1 {
			t.Errorf("delivery %s was handled %d times", id, n)
		}
	}
	if len(starts) != webhooks {
		t.Errorf("%d deliveries were handled; want %d", len(starts), webhooks)
	}
	// Handled by now, and still the same: the window outlives the process that opened it.
	programs[0].kill()
	if a := programs[1].post("nothing", body, "Webhook-Id", "twice-0"); !a.says(t, map[string]string{"delivery": "*", "state": "duplicate"}) {
		t.Errorf("answer %d %s; want a duplicate", a.status, a.body)
	}
}

// Deliveries with one key run one at a time, whichever processes accept and run them. Deliveries with other keys run beside them.
func TestSerialKeysAcrossProcesses(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW=20ms")
	h.useDatabase(t, pgserver.Database(t))
	programs := []*program{h.serve(t, bot, sharing()...), h.serve(t, bot, sharing()...)}
	body := push(t)
	const keys, each = 3, 15
	keyOf := map[string]int{}
	var mu sync.Mutex
	var posts sync.WaitGroup
	for n := range keys * each {
		posts.Go(func() {
			key := n % keys
			a := programs[n/keys%2].post("keyed", strings.ReplaceAll(body, "some-user/some-repo", fmt.Sprintf("me/repo-%d", key)))
			mu.Lock()
			defer mu.Unlock()
			keyOf[a.delivery()] = key
		})
	}
	posts.Wait()
	if counts := programs[0].finished(2 * patience); counts[queue.Done] != keys*each {
		t.Fatalf("%v are stored; want %d done", counts, keys*each)
	}
	running := map[int]string{}
	most := 0
	for _, line := range h.logged(t) {
		what, id := line[0], line[1]
		key, ok := keyOf[id]
		if !ok {
			t.Fatalf("delivery %s was handled, and was no answer's", id)
		}
		switch {
		case what == "end":
			delete(running, key)
		case running[key] != "":
			t.Errorf("delivery %s started while %s with the same key ran", id, running[key])
		default:
			running[key] = id
		}
		most = max(most, len(running))
	}
	if most < 2 {
		t.Errorf("never did two deliveries with different keys run at once")
	}
}

// Any process can make a retry. The process of the first attempt may be gone by then.
func TestRetriesGoOnElsewhere(t *testing.T) {
	t.Parallel()
	database := pgserver.Database(t)
	failing, healthy := newHome(t), newHome(t)
	failing.env = append(failing.env, "BOT_FAILS=1")
	failing.useDatabase(t, database)
	healthy.useDatabase(t, database)
	a, b := failing.serve(t, bot, sharing()...), healthy.serve(t, bot, sharing()...)
	answered := a.post("moody", push(t))
	if answered.status != http.StatusAccepted || !answered.says(t, map[string]string{"delivery": "*", "state": "retrying"}) {
		t.Fatalf("answer %d %s; want 202 retrying", answered.status, answered.body)
	}
	id := answered.delivery()
	a.stop()
	r := b.settled(id, queue.Done, queue.Dead)
	if r.State != string(queue.Done) || r.Attempts != 2 || len(r.AttemptList) != 2 || r.AttemptList[0].Error != "boom" || r.AttemptList[1].Error != "" {
		t.Errorf("it is %s after %d attempts %+v; want done after one that failed and one that did not", r.State, r.Attempts, r.AttemptList)
	}
	if starts, ends := healthy.handled(t); starts[id] != 1 || ends[id] != 1 {
		t.Errorf("the other process started it %d times and ended it %d times; want once", starts[id], ends[id])
	}
}
