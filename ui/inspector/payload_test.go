package inspector

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

func TestADeliveryTellsWhatHappened(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "inbox", "synthetic_repo_content_update_main_model.json"))
	record, err := f.client.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if want := "some-user/some-repo: main moved, ce9a467 → 575db8b"; record.Summary != want {
		t.Errorf("summary %q, want %q", record.Summary, want)
	}
	links := []payload.Link{
		{Text: "model some-user/some-repo", URL: "https://huggingface.co/some-user/some-repo"},
		{Text: "commit 575db8b", URL: "https://huggingface.co/some-user/some-repo/commit/575db8b7a51b6f85eb06eee540738584589f131c"},
	}
	if diff := cmp.Diff(links, record.Links); diff != "" {
		t.Errorf("links: %s", diff)
	}
	_, body := f.request("GET", "/api/deliveries/"+id, "")
	if !strings.Contains(body, `,"duration_ms":0,"summary":"`) || !strings.Contains(body, `"}],"merged":[],"headers":{`) {
		t.Errorf("the fields are in another order: %s", body)
	}
	for _, unreadable := range []string{"{}", "not JSON"} {
		id := f.accept(queue.Arrival{Endpoint: "inbox", Body: []byte(unreadable)})
		if _, body := f.request("GET", "/api/deliveries/"+id, ""); !strings.Contains(body, `"summary":"","links":[],"merged":[]`) {
			t.Errorf("of %s: %s", unreadable, body)
		}
	}
}

func TestADeliveryNamesWhatWasMergedIntoIt(t *testing.T) {
	f := newFixture(t)
	var ids []string
	for range 3 {
		receipt, err := f.queue.Accept(t.Context(), queue.Arrival{Endpoint: "slow", Body: []byte("{}"), Burst: &queue.Burst{Key: "k", Wait: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, receipt.ID)
	}
	last, err := f.client.Get(t.Context(), ids[2])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids[:2], last.Merged); diff != "" {
		t.Errorf("merged: %s", diff)
	}
	if first, err := f.client.Get(t.Context(), ids[0]); err != nil || len(first.Merged) != 0 || first.State != string(queue.Merged) {
		t.Errorf("the first: %+v, %v", first, err)
	}
	for _, id := range ids[2:] {
		if err := f.client.Discard(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

func TestReadPayload(t *testing.T) {
	f := newFixture(t)
	read := func(body string) (reading api.Reading) {
		t.Helper()
		response, answer := f.request("POST", "/api/payload", `{"body": `+body+`}`)
		if response.StatusCode != 200 {
			t.Fatalf("status %d: %s", response.StatusCode, answer)
		}
		if err := json.Unmarshal([]byte(answer), &reading); err != nil {
			t.Fatal(err)
		}
		if reading.Links == nil {
			t.Errorf("links are null: %s", answer)
		}
		return reading
	}
	file := func(name string) string {
		body, err := os.ReadFile(filepath.Join("..", "..", "payload", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if got := read(file("real_discussion_create_pr_model.json")); got.Problem != "" || got.Summary != "openai-community/gpt2: pull request #19 opened: Update co2 emissions" ||
		len(got.Links) != 3 || got.Event != (api.Event{Scope: "discussion", Action: "create"}) || got.Repo != (api.Repo{Type: "model", Name: "openai-community/gpt2"}) {
		t.Errorf("a pull request: %+v", got)
	}
	if got := read(file("real_v2_repo_content_update_dataset.json")); !strings.Contains(got.Problem, "webhook.version: want 3 or later, have 2") || got.Event.Scope != "repo.content" {
		t.Errorf("a payload of version 2: %+v", got)
	}
	if got := read(`{"event": {"scope": "repo", "action": 1}, "repo": {"type": "model", "name": "me/<b>"}}`); got.Problem != "event.action: want a string, have a number" ||
		got.Summary != "" || got.Event != (api.Event{Scope: "repo", Action: ""}) || got.Repo != (api.Repo{Type: "model", Name: "me/<b>"}) {
		t.Errorf("without a usable action: %+v", got)
	}
	text := func(text string) (reading api.Reading) {
		t.Helper()
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		response, answer := f.request("POST", "/api/payload", `{"text": `+string(quoted)+`}`)
		if err := json.Unmarshal([]byte(answer), &reading); err != nil || response.StatusCode != 200 || reading.Links == nil {
			t.Fatalf("status %d, %v: %s", response.StatusCode, err, answer)
		}
		return reading
	}
	if got := text(file("real_discussion_create_pr_model.json")); got.Refused != "" || got.Problem != "" || got.Event != (api.Event{Scope: "discussion", Action: "create"}) {
		t.Errorf("a pull request as text: %+v", got)
	}
	for unfinished, want := range map[string]string{
		"{\n  \"event\": ,\n}": "line 2, column 12", "": "empty body", "[]": "array", `{}, "text": "x"`: "line 1, column 3", "\u2028": "line 1, column 1",
	} {
		if got := text(unfinished); !strings.Contains(got.Refused, want) {
			t.Errorf("%q: refused %q, want it to name %q", unfinished, got.Refused, want)
		}
	}
	response, body := f.request("POST", "/api/payload", `{"body": {}, "text": "{}"}`)
	if response.StatusCode != 422 {
		t.Errorf("both: status %d, want 422", response.StatusCode)
	}
	wantError(t, body)
	if list, _, err := f.queue.List(t.Context(), queue.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("%d deliveries are stored, %v", len(list), err)
	}
}
