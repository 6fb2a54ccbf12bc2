package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

func sample(t *testing.T, scope payload.Scope, set map[string]any) *payload.Payload {
	t.Helper()
	p, err := payload.Sample(scope, "", set)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheDefaultKeyOfABurst(t *testing.T) {
	base := map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data"}
	with := func(field string, value any) map[string]any {
		set := map[string]any{field: value}
		for k, v := range base {
			if _, there := set[k]; !there {
				set[k] = v
			}
		}
		return set
	}
	first := burstKey(sample(t, payload.ScopeRepoContent, base))
	for name, same := range map[string]*payload.Payload{
		"another commit": sample(t, payload.ScopeRepoContent, with("repo.headSha", strings.Repeat("1", 40))),
		"another owner":  sample(t, payload.ScopeRepoContent, with("repo.private", true)),
	} {
		if key := burstKey(same); key != first {
			t.Errorf("%s: key %s; want that of the same ref, %s", name, key, first)
		}
	}
	for name, other := range map[string]*payload.Payload{
		"repo":       sample(t, payload.ScopeRepoContent, with("repo.name", "me/other")),
		"type":       sample(t, payload.ScopeRepoContent, with("repo.type", payload.Model)),
		"scope":      sample(t, payload.ScopeRepoConfig, base),
		"branch":     sample(t, payload.ScopeRepoContent, with("updatedRefs.0.ref", "refs/heads/dev")),
		"discussion": sample(t, payload.ScopeDiscussion, base),
	} {
		if key := burstKey(other); key == first {
			t.Errorf("another %s has the same key, %s", name, key)
		}
	}
	refs := func(names ...string) *payload.Payload {
		p := &payload.Payload{}
		for _, name := range names {
			p.UpdatedRefs = append(p.UpdatedRefs, payload.Ref{Ref: name})
		}
		return p
	}
	if burstKey(refs("a", "b")) != burstKey(refs("b", "a")) {
		t.Error("the order of the refs counts")
	}
	if burstKey(refs("a", "b")) == burstKey(refs(`a" "b`)) {
		t.Error("two refs and one that looks like them have the same key")
	}
}

func TestAKeyFunctionIsAskedBeforeTheDeliveryIsStored(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}})
	byName := func(p *payload.Payload) string { return p.Repo.Name }
	e, err := newEndpoint("train", triggerTraining, []Option{SerialBy(byName), Debounce(time.Minute, time.Hour, byName)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(body string, mayBeHeld bool) queue.Arrival {
		p, unusable := payload.Parse([]byte(body))
		a := newArrival("train", nil, []byte(body), p, unusable)
		s.askKeys(&a, e, mayBeHeld)
		return a
	}
	if a := ask(push, true); a.SerialKey != "me/data" || a.Burst == nil || *a.Burst != (queue.Burst{Key: "me/data", Wait: time.Minute, MaxWait: time.Hour}) {
		t.Errorf("serial key %q, burst %+v", a.SerialKey, a.Burst)
	}
	if a := ask(push, false); a.SerialKey != "me/data" || a.Burst != nil {
		t.Errorf("a replay has serial key %q and burst %+v; want only the former", a.SerialKey, a.Burst)
	}
	if a := ask(`{"hello":"world"}`, true); a.SerialKey != "" || a.Burst != nil || a.Dead == "" {
		t.Errorf("what is no event has serial key %q and burst %+v", a.SerialKey, a.Burst)
	}
	e.debounce.key = func(*payload.Payload) string { return "" }
	if a := ask(push, true); a.Burst != nil {
		t.Errorf("an empty key makes the burst %+v", a.Burst)
	}
}

func TestAKeyFunctionThatPanicsLeavesTheDeliveryDeadWithTheStack(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}})
	panicking := func(*payload.Payload) string { panic("no key, s3cret") }
	s.Handle("serial", triggerTraining, SerialBy(panicking))
	s.Handle("burst", triggerTraining, Debounce(time.Minute, 0, panicking))
	web := serve(t, s)
	for _, endpoint := range []string{"serial", "burst"} {
		got := post(t, web.URL+"/webhooks/"+endpoint, push, "X-Webhook-Secret", "s3cret", "Webhook-Id", "w")
		if got.status != 200 || !got.is(map[string]string{"delivery": "*", "state": "dead", "error": "*"}) || !strings.Contains(got.body, "panicked: no key, [secret]") {
			t.Errorf("%s: answer %d %s", endpoint, got.status, got.body)
		}
		r := record(t, s, got.header.Get("Hubhook-Delivery"))
		if r.State != queue.Dead || r.Attempts != 0 || string(r.Body) != push {
			t.Errorf("%s: stored as %s after %d attempts", endpoint, r.State, r.Attempts)
		}
		stacked := slices.ContainsFunc(r.AttemptList, func(a queue.Attempt) bool { return strings.Contains(a.Stack, "burst_test.go") })
		if !stacked {
			t.Errorf("%s: no attempt has the stack: %+v", endpoint, r.AttemptList)
		}
		if again := post(t, web.URL+"/webhooks/"+endpoint, push, "X-Webhook-Secret", "s3cret", "Webhook-Id", "w"); again.header.Get("Hubhook-Delivery") == r.ID {
			t.Errorf("%s: sent again, it is a duplicate of a dead one", endpoint)
		}
	}
}

func TestTheLastOfABurstRunsForAll(t *testing.T) {
	var out bytes.Buffer
	s := newServer(t, Config{Output: &out})
	seen := make(chan Delivery, 10)
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		d, _ := DeliveryFrom(ctx)
		seen <- d
		return nil, nil
	}, Debounce(time.Second, 0, nil))
	web := httptest.NewServer(handler(t, s))
	url := web.URL + "/webhooks/train"
	var ids []string
	for i := range 3 {
		a := post(t, url, push, "Webhook-Id", fmt.Sprint(i))
		if a.status != 202 || !a.is(map[string]string{"delivery": "*", "state": "waiting"}) {
			t.Errorf("answer %d %s; want 202 waiting", a.status, a.body)
		}
		ids = append(ids, a.header.Get("Hubhook-Delivery"))
	}
	other := post(t, url, strings.Replace(push, "me/data", "me/other", 1)).header.Get("Hubhook-Delivery")
	post(t, url, push, "Webhook-Id", "0") // the Hub did not get its answer

	last := until(t, s, ids[2], queue.Done)
	until(t, s, other, queue.Done)
	for _, id := range ids[:2] {
		if r := record(t, s, id); r.State != queue.Merged || r.MergedInto != last.ID || r.Attempts != 0 {
			t.Errorf("an earlier one is %s into %q after %d attempts", r.State, r.MergedInto, r.Attempts)
		}
	}
	for range 2 {
		switch d := <-seen; {
		case d.ID == last.ID && !slices.Equal(d.Merged, ids[:2]):
			t.Errorf("the handler was told that %v were merged; want %v", d.Merged, ids[:2])
		case d.ID == other && len(d.Merged) > 0:
			t.Errorf("another repo's is said to have been merged with %v", d.Merged)
		}
	}
	replay, err := s.replay(t.Context(), ids[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	if until(t, s, replay, queue.Done); len(seen) != 1 {
		t.Errorf("%d runs for the replay", len(seen))
	}

	metrics := scrape(t, s)
	if want := `hubhook_deliveries_total{endpoint="train",state="merged"} 2`; !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s", want)
	}
	web.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids[:2] {
		line := regexp.MustCompile(`(?m)^<-- train  merged into ` + ids[i+1] + ` +` + id + `$`)
		if n := len(line.FindAllString(out.String(), -1)); n != 1 {
			t.Errorf("%d lines say that %s was merged into %s; want 1:\n%s", n, id, ids[i+1], &out)
		}
	}
}

func TestAKeyKeepsDeliveriesApart(t *testing.T) {
	s := newServer(t, Config{ReplyWithin: 10 * time.Second})
	open := make(chan struct{})
	s.Handle("train", gate(open), SerialBy(func(p *payload.Payload) string { return p.Repo.Name }))
	web := serve(t, s)
	url := web.URL + "/webhooks/train"
	named := func(name string) string { return strings.Replace(push, "me/data", name, 1) }
	first := later(t, url, push)
	id := one(t, s, "train")
	until(t, s, id, queue.Running)
	held := post(t, url, push)
	if held.status != 202 || !held.is(map[string]string{"delivery": "*", "state": "waiting"}) {
		t.Errorf("one whose key runs already is answered %d %s; want 202 waiting, at once", held.status, held.body)
	}
	other := later(t, url, named("me/other"))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if list, _, err := s.queue.Load().List(t.Context(), queue.Filter{State: queue.Running}); err != nil || len(list) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("one with another key does not run beside it")
		}
	}
	if r := record(t, s, held.header.Get("Hubhook-Delivery")); r.State != queue.Waiting {
		t.Errorf("it is %s beside another one with its key", r.State)
	}
	close(open)
	for _, a := range []reply{<-first, <-other} {
		if a.status != 200 {
			t.Errorf("answer %d %s", a.status, a.body)
		}
	}
	until(t, s, held.header.Get("Hubhook-Delivery"), queue.Done)
}

// With Answer "handled" the sender of one that is merged waits for the one that runs in its place.
func TestASenderIsAnsweredForTheOneThatWasMerged(t *testing.T) {
	s := newServer(t, Config{Answer: "handled"})
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		d, _ := DeliveryFrom(ctx)
		return d.ID, nil
	}, Debounce(time.Second, 0, nil))
	web := serve(t, s)
	first := later(t, web.URL+"/webhooks/train", push)
	one(t, s, "train")
	second := post(t, web.URL+"/webhooks/train", push)
	ran := fmt.Sprintf("%q", second.header.Get("Hubhook-Delivery"))
	if second.status != 200 || second.body != ran {
		t.Errorf("the last one: answer %d %s", second.status, second.body)
	}
	if a := <-first; a.status != 200 || a.body != ran {
		t.Errorf("the one before: answer %d %s; want 200 and the result %s", a.status, a.body, ran)
	}
}
