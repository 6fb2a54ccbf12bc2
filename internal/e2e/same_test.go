//go:build unix

package e2e_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/ui/inspector"
)

// fields reads a JSON object field by field.
func fields(t *testing.T, text string) map[string]string {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%q is no object of JSON: %v", text, err)
	}
	got := make(map[string]string, len(all))
	for name, value := range all {
		got[name] = string(value)
	}
	return got
}

// A delivery is the same object wherever hubhook shows it.
func TestADeliveryIsOneObjectEverywhere(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--no-tunnel")
	opened := make(chan struct{})
	type told struct{ name, data string }
	events := make(chan told, 100)
	go p.inspector().Stream(t.Context(), func(e inspector.StreamEvent) { // it ends with the test
		switch e.Name {
		case "open":
			close(opened)
		case "delivery", "attempt":
			events <- told{e.Name, string(e.Data)}
		}
	})
	<-opened

	// kept has no handler, so its deliveries don't change after their arrival.
	id := p.post("kept", push(t), "Webhook-Id", "wh-1").delivery()
	p.await("delivery", patience, func(e event) bool { return e.Type == "delivery" && e.ID == id })
	line := fields(t, p.line("delivery", id))
	streamed := fields(t, (<-events).data)
	listed := fields(t, firstOf(t, p.inspected("/api/deliveries?endpoint=kept")))
	shown := fields(t, p.command("deliveries", "show", "--json", id))
	ofLists := fields(t, p.command("deliveries", "list", "--json", "--endpoint", "kept"))

	want := []string{"attempts", "duplicates", "duration_ms", "endpoint", "event", "id", "merged_into", "reason", "received", "replay_of", "replays", "repo",
		"source", "state", "synthetic", "webhook_id"}
	if names := slices.Sorted(maps.Keys(listed)); !slices.Equal(names, want) {
		t.Errorf("listed with the fields %q, want %q", names, want)
	}
	if listed["id"] != `"`+id+`"` || listed["webhook_id"] != `"wh-1"` || listed["source"] != `"hub"` || listed["state"] != `"done"` {
		t.Errorf("listed as %v", listed)
	}
	for _, name := range []string{"type", "time"} {
		if line[name] == "" {
			t.Errorf("the line of --json has no %s", name)
		}
		delete(line, name)
	}
	for _, name := range []string{"summary", "links", "merged", "headers", "body", "attempt_list"} {
		if shown[name] == "" {
			t.Errorf("show --json has no %s", name)
		}
		delete(shown, name)
	}
	for where, got := range map[string]map[string]string{"the line of --json": line, "the stream": streamed, "show --json": shown, "list --json": ofLists} {
		for _, name := range want {
			if got[name] != listed[name] {
				t.Errorf("%s has %s %s, the list %s", where, name, got[name], listed[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s has the fields %q, want %q", where, slices.Sorted(maps.Keys(got)), want)
		}
	}

	// An attempt: --json says the same of its end as the stream, and adds the status of the answer.
	id = p.post("overdue", push(t)).delivery()
	p.await("attempt", patience, func(e event) bool { return e.Type == "attempt" && e.Delivery == id })
	line = fields(t, p.line("attempt", id))
	for name, want := range map[string]string{"type": `"attempt"`, "status": "200"} {
		if line[name] != want {
			t.Errorf("the attempt's line has %s %s, want %s", name, line[name], want)
		}
	}
	for _, name := range []string{"type", "time", "status"} {
		delete(line, name)
	}
	for e := range events {
		if e.name != "attempt" || strings.Contains(e.data, `"duration_ms":null`) {
			continue
		}
		if streamed := fields(t, e.data); !maps.Equal(line, streamed) {
			t.Errorf("--json says %v of the attempt, the stream %v", line, streamed)
		}
		break
	}
}

// line returns the line of --json of that type about a delivery.
func (p *program) line(kind, id string) string {
	p.t.Helper()
	lines, _ := p.out.since(0)
	for _, line := range lines {
		if e := fields(p.t, line); e["type"] == `"`+kind+`"` && (e["id"] == `"`+id+`"` || e["delivery"] == `"`+id+`"`) {
			return line
		}
	}
	p.t.Fatalf("--json has no %s of %s", kind, id)
	return ""
}

// inspected returns the inspector's answer to a request.
func (p *program) inspected(path string) string {
	p.t.Helper()
	address, token, _ := strings.Cut(p.ready.InspectorURL, "/?token=")
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, address+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := p.client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		p.t.Fatalf("GET %s: %s %s (%v)", path, response.Status, body, err)
	}
	return string(body)
}

// command returns the output of a hubhook command about this program.
func (p *program) command(args ...string) string {
	p.t.Helper()
	out, err := exec.CommandContext(p.t.Context(), hubhook, append(args, "--server", p.ready.InspectorURL)...).Output()
	if err != nil {
		p.t.Fatalf("hubhook %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// firstOf returns the first delivery of a list.
func firstOf(t *testing.T, list string) string {
	t.Helper()
	var page struct{ Deliveries []json.RawMessage }
	if err := json.Unmarshal([]byte(list), &page); err != nil || len(page.Deliveries) == 0 {
		t.Fatalf("a list without deliveries: %s (%v)", list, err)
	}
	return string(page.Deliveries[0])
}
