//go:build unix

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// Every known body of the Hub goes the whole way: the edge, the real SDK, admission, disk, a user's own handler.
func TestEveryPayloadThroughTheEdge(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	h := newHome(t)
	p, public := viaEdge(t, h, edge, bot, "--secret", secret)
	client := publicClient(t, edge)

	old := 0
	for name, body := range payloads(t) {
		var sent struct {
			Event   json.RawMessage
			Repo    struct{ Type, Name string }
			Webhook struct{ Version int }
		}
		if err := json.Unmarshal([]byte(body), &sent); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a := post(t, client, public+"/webhooks/trigger_training", body, "X-Webhook-Secret", secret, "Webhook-Id", name)
		if a.status != http.StatusOK || a.delivery() == "" {
			t.Errorf("%s: answer %d %s, Hubhook-Delivery %q; want 200 and an ID", name, a.status, a.body, a.delivery())
			continue
		}
		r := p.settled(a.delivery(), queue.Done, queue.Dead)
		if r.Body != body {
			t.Errorf("%s: stored with another body than was sent", name)
		}
		if got := r.Headers["X-Webhook-Secret"]; !slices.Equal(got, []string{"[secret]"}) || r.WebhookID != name || r.Endpoint != "trigger_training" {
			t.Errorf("%s: stored with X-Webhook-Secret %q, Webhook-Id %q, endpoint %q", name, got, r.WebhookID, r.Endpoint)
		}
		if sent.Webhook.Version != 3 {
			old++
			if r.State != string(queue.Dead) || r.Reason == "" || r.Attempts != 0 {
				t.Errorf("%s: of version %d, stored as %s with reason %q after %d attempts; want dead with a reason and none", name, sent.Webhook.Version, r.State, r.Reason, r.Attempts)
			}
			if !a.says(t, map[string]string{"delivery": a.delivery(), "state": "dead", "error": r.Reason}) {
				t.Errorf("%s: answer %s; want the dead delivery and its reason", name, a.body)
			}
			continue
		}
		var event struct{ Scope, Action string }
		if err := json.Unmarshal(sent.Event, &event); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.State != string(queue.Done) || r.Attempts != 1 {
			t.Errorf("%s: %s (%s) after %d attempts; want done after 1", name, r.State, r.Reason, r.Attempts)
		}
		if !a.says(t, map[string]string{"scope": event.Scope, "action": event.Action, "repo": sent.Repo.Name}) {
			t.Errorf("%s: answer %s; want what the handler returned", name, a.body)
		}
		if r.Event.Scope != event.Scope || r.Event.Action != event.Action || r.Repo.Type != sent.Repo.Type || r.Repo.Name != sent.Repo.Name {
			t.Errorf("%s: listed as %+v of %+v", name, r.Event, r.Repo)
		}
	}
	if old == 0 {
		t.Error("no payload of version 2 was among them")
	}
}

func TestABodyOf15MiBThroughTheEdge(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	p, public := viaEdge(t, newHome(t), edge, bot, "--secret", secret)

	head, tail := strings.TrimSuffix(strings.TrimSpace(push(t)), "}")+`,"futureField":"`, `"}`
	body := head + noise(15<<20-len(head)-len(tail)) + tail
	if len(body) != 15<<20 {
		t.Fatalf("the body has %d bytes", len(body))
	}

	a := post(t, publicClient(t, edge), public+"/webhooks/trigger_training", body, "X-Webhook-Secret", secret)
	if !a.ok() || a.delivery() == "" {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	if r := p.settled(a.delivery(), queue.Done, queue.Dead); r.State != string(queue.Done) || r.Body != body {
		t.Errorf("%s (%s), stored with %d bytes, the same: %v", r.State, r.Reason, len(r.Body), r.Body == body)
	}
}

// noise returns a text of n characters that hardly compresses.
func noise(n int) string {
	var b strings.Builder
	for x := uint64(1); b.Len() < n; {
		x = x*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()[:n]
}

// The answers of an endpoint, as in the table of docs/deliveries.md.
func TestAnswers(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--secret", secret, "--no-tunnel", "--reply-within", "400ms")
	body := push(t)
	send := func(endpoint string, headers ...string) answer {
		t.Helper()
		return p.post(endpoint, body, append(headers, "X-Webhook-Secret", secret)...)
	}
	for _, test := range []struct {
		name, endpoint string
		status         int
		fields         map[string]string // but for delivery
		state          queue.State
	}{
		{"nothing returned", "nothing", 200, nil, queue.Done},
		{"no handler", "kept", 200, nil, queue.Done},
		{"running", "single", 202, map[string]string{"state": "running"}, queue.Running},
		{"waiting", "single", 202, map[string]string{"state": "waiting"}, queue.Waiting},
		{"retrying", "failing", 202, map[string]string{"state": "retrying", "error": "boom"}, queue.Retrying},
		{"dead", "hopeless", 200, map[string]string{"state": "dead", "error": "boom"}, queue.Dead},
		{"panic", "panicking", 200, map[string]string{"state": "dead", "error": "panic: oh no"}, queue.Dead},
		{"skipped", "picky", 200, map[string]string{"state": "skipped", "reason": "*"}, queue.Skipped},
	} {
		a := send(test.endpoint)
		want := test.fields
		if want != nil {
			want["delivery"] = a.delivery()
		}
		if a.status != test.status || a.delivery() == "" || !a.says(t, want) {
			t.Errorf("%s: answer %d %s; want %d %v", test.name, a.status, a.body, test.status, want)
			continue
		}
		if r := p.record(a.delivery()); r.State != string(test.state) {
			t.Errorf("%s: stored as %s (%s); want %s", test.name, r.State, r.Reason, test.state)
		}
	}

	first := send("slow", "Webhook-Id", "one")
	again := send("slow", "Webhook-Id", "one")
	if first.status != 200 || again.status != 200 || !again.says(t, map[string]string{"delivery": first.delivery(), "state": "duplicate"}) {
		t.Errorf("a duplicate is answered %d %s; want 200, duplicate and the ID of the first, %s", again.status, again.body, first.delivery())
	}
	if other := send("nothing", "Webhook-Id", "one"); other.delivery() == first.delivery() {
		t.Error("the same Webhook-Id on another endpoint is no duplicate, but was answered as one")
	}
	if starts, _ := h.handled(t); starts[first.delivery()] != 1 {
		t.Errorf("the handler of a delivery with a duplicate started %d times; want once", starts[first.delivery()])
	}

	panicked := p.list("panicking")[0]
	if list := p.record(panicked.ID).AttemptList; len(list) != 1 || !strings.Contains(list[0].Stack, "bot/main.go") {
		t.Errorf("the attempt that panicked has no stack of the handler: %+v", list)
	}
	recovered := send("recovering")
	if r := p.settled(recovered.delivery(), queue.Done, queue.Dead); r.State != string(queue.Done) || r.Attempts != 2 {
		t.Errorf("a delivery whose first attempt failed is %s after %d attempts; want done after 2", r.State, r.Attempts)
	}
	for n, status := range map[int]int{1: 202, 2: 0} { // the second result came too late for an answer
		e := p.await("attempt", patience, func(e event) bool { return e.Type == "attempt" && e.Delivery == recovered.delivery() && e.N == n })
		if e.Status != status {
			t.Errorf("the line of attempt %d has status %d; want %d", n, e.Status, status)
		}
	}
	if e := p.await("delivery", patience, func(e event) bool { return e.Type == "delivery" && e.ID == recovered.delivery() }); e.State != "running" || e.Attempts != 1 {
		t.Errorf("the line of a delivery that started at once has state %q and %d attempts; want running and 1", e.State, e.Attempts)
	}

	h.open(t)
	for _, d := range p.list("single") {
		p.settled(d.ID, queue.Done)
	}
	p.stop()
}

// The secret is on no screen and in no file, however it was sent.
func TestSecretsAreLeftNowhere(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--secret", secret)
	body := push(t)
	for _, send := range []func() answer{
		func() answer { return p.post("hopeless", body, "X-Webhook-Secret", secret) },
		func() answer {
			return p.post("trigger_training?secret="+secret, body, "X-Original-Url", "https://example.com/webhooks/x?secret="+secret, "Referer", secret)
		},
		func() answer { return p.post("none", body, "X-Webhook-Secret", secret) },
		func() answer { return p.post("trigger_training?secret="+secret, "[]") },
	} {
		send()
	}
	p.finished(patience)
	data := p.ready.Data
	p.kill() // the files of a running process are still there
	for _, o := range []*output{p.out, p.errs} {
		if strings.Contains(o.String(), secret) {
			t.Errorf("the secret was printed:\n%s", o)
		}
	}
	files := 0
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("the secret is in %s", path)
		}
		info, infoErr := d.Info()
		if infoErr == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v; others must not read payloads", path, info.Mode())
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("the data directory %s has %d files: %v", data, files, err)
	}
}
