package inspector

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

// keys returns the names of a JSON object's members.
func keys(t *testing.T, object json.RawMessage) []string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		t.Fatalf("%v in %s", err, object)
	}
	var names []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var deliveryKeys = []string{"attempts", "duplicates", "duration_ms", "endpoint", "event", "id", "merged_into", "reason", "received", "replay_of", "replays", "repo", "source", "state", "synthetic", "webhook_id"}

func TestList(t *testing.T) {
	f := newFixture(t)
	if response, body := f.request("GET", "/api/deliveries", ""); response.StatusCode != 200 || body != `{"deliveries":[],"next":null}`+"\n" {
		t.Errorf("without deliveries: status %d: %s", response.StatusCode, body)
	}
	content := f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	discussion := f.accept(arrival(t, "failing", "real_discussion_create_pr_model.json"))
	retrying := f.accept(arrival(t, "flaky", "real_repo_content_update_pr_ref_space.json"))

	response, body := f.request("GET", "/api/deliveries?endpoint=&state=&scope=&action=&repo=&q=&before=&limit=", "")
	if got := response.Header.Get("Content-Type"); response.StatusCode != 200 || got != "application/json; charset=utf-8" {
		t.Errorf("status %d, Content-Type %q", response.StatusCode, got)
	}
	var raw struct {
		Deliveries []json.RawMessage `json:"deliveries"`
		Next       json.RawMessage   `json:"next"`
	}
	if err := json.Unmarshal([]byte(body), &raw); err != nil {
		t.Fatal(err)
	}
	if len(raw.Deliveries) != 3 || string(raw.Next) != "null" {
		t.Fatalf("%d deliveries and next %s, want 3 and null", len(raw.Deliveries), raw.Next)
	}
	for i, object := range raw.Deliveries {
		want := deliveryKeys
		if i == 0 { // the newest is the one that is retrying
			want = slices.Sorted(slices.Values(append([]string{"run_at"}, deliveryKeys...)))
		}
		if diff := cmp.Diff(want, keys(t, object)); diff != "" {
			t.Errorf("fields of %s: %s", object, diff)
		}
	}
	var first struct {
		Received string  `json:"received"`
		RunAt    string  `json:"run_at"`
		Attempts float64 `json:"attempts"`
		Event    struct{ Scope, Action string }
		Repo     struct{ Type, Name string }
	}
	if err := json.Unmarshal(raw.Deliveries[0], &first); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{first.Received, first.RunAt} {
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", text); err != nil {
			t.Errorf("time %q, want RFC 3339 in UTC with milliseconds", text)
		}
	}
	if first.Event.Scope != "repo.content" || first.Event.Action != "update" || first.Repo.Type != "space" || first.Repo.Name == "" || first.Attempts != 1 {
		t.Errorf("the retrying one is %+v", first)
	}

	since := url.QueryEscape(time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	all := []string{retrying, discussion, content}
	for query, want := range map[string][]string{
		"":                        all,
		"endpoint=inbox":          {content},
		"state=dead":              {discussion},
		"state=retrying":          {retrying},
		"scope=repo":              {retrying, content},
		"action=create":           {discussion},
		"q=NO+SUCH":               {discussion},
		"q=" + content:            {content},
		"since=1h":                all,
		"since=" + since:          {},
		"replayed=false&limit=2":  {retrying, discussion},
		"scope=repo&state=done":   {content},
		"endpoint=nobody":         {},
		"limit=1000":              all,
		"before=&limit=1":         {retrying},
		"repo=" + "nobody%2Fhere": {},
	} {
		response, body := f.request("GET", "/api/deliveries?"+query, "")
		var list api.List
		if err := json.Unmarshal([]byte(body), &list); err != nil || response.StatusCode != 200 {
			t.Errorf("?%s: status %d, %v: %s", query, response.StatusCode, err, body)
			continue
		}
		got := []string{}
		for _, d := range list.Deliveries {
			got = append(got, d.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("?%s: %s", query, diff)
		}
	}
}

func TestListPages(t *testing.T) {
	f := newFixture(t)
	var want []string
	for range 7 {
		want = append([]string{f.accept(queue.Arrival{Endpoint: "inbox", Body: []byte("{}")})}, want...)
	}
	var got []string
	filter := queue.Filter{Limit: 3}
	for pages := 1; ; pages++ {
		list, err := f.client.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list.Deliveries {
			got = append(got, d.ID)
		}
		if list.Next == nil {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		filter.Before = *list.Next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestListRefusesWhatItDoesNotKnow(t *testing.T) {
	f := newFixture(t)
	for query, say := range map[string]string{
		"stat=dead":             `"stat"`,
		"state=broken":          "skipped",
		"limit=0":               "from 1 to 1000",
		"limit=1001":            "from 1 to 1000",
		"limit=ten":             `"ten"`,
		"since=yesterday":       "2h",
		"since=-2h":             "future",
		"replayed=true":         "false",
		"state=dead&state=done": "2 times",
		"before=%00nonsense":    "before",
		"token=" + testToken:    "unknown parameter",
	} {
		response, body := f.request("GET", "/api/deliveries?"+query, "")
		if response.StatusCode != 400 || !strings.Contains(body, strings.ReplaceAll(say, `"`, `\"`)) {
			t.Errorf("?%s: status %d: %s want 400 and %s", query, response.StatusCode, body, say)
		}
		wantError(t, body)
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2h":                        now.Add(-2 * time.Hour),
		"1h30m":                     now.Add(-90 * time.Minute),
		"2026-11-22T08:00:00Z":      time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC),
		"2026-11-22T08:00:00+02:00": time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("ParseSince(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "2", "-2h", "2026-11-22", "now"} {
		if got, err := ParseSince(text, now); err == nil {
			t.Errorf("ParseSince(%q) = %v, want an error", text, got)
		}
	}
}

func TestValuesAreWhatParseFilterReads(t *testing.T) {
	want := queue.Filter{
		Endpoint: "a/b", State: queue.Dead, Scope: "repo", Action: "update", Repo: "dataset:me/data", Query: "a&b=c",
		Since: time.Date(2026, 11, 22, 8, 0, 0, 123456789, time.UTC), Unreplayed: true, Before: "c+/=", Limit: 7,
	}
	got, err := parseFilter(values(want))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestGet(t *testing.T) {
	f := newFixture(t)
	sent := arrival(t, "failing", "real_discussion_create_pr_model.json")
	sent.Body = append([]byte(" {\"a\": \"\\u00e9é <b> \u2028 \"}\t\n"), sent.Body...)
	id := f.accept(sent)

	response, body := f.request("GET", "/api/deliveries/"+id, "")
	if response.StatusCode != 200 {
		t.Fatalf("status %d: %s", response.StatusCode, body)
	}
	want := slices.Sorted(slices.Values(append([]string{"summary", "links", "merged", "headers", "body", "attempt_list"}, deliveryKeys...)))
	if diff := cmp.Diff(want, keys(t, json.RawMessage(body))); diff != "" {
		t.Errorf("fields: %s", diff)
	}
	var raw struct {
		AttemptList []json.RawMessage `json:"attempt_list"`
	}
	if err := json.Unmarshal([]byte(body), &raw); err != nil || len(raw.AttemptList) != 1 {
		t.Fatalf("%v, attempts %s, want 1", err, raw.AttemptList)
	}
	if diff := cmp.Diff([]string{"duration_ms", "error", "n", "output", "result", "stack", "started"}, keys(t, raw.AttemptList[0])); diff != "" {
		t.Errorf("fields of an attempt: %s", diff)
	}

	record, err := f.client.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if record.Body != string(sent.Body) {
		t.Error("the body is not what was sent, byte for byte")
	}
	if diff := cmp.Diff(sent.Header, record.Headers); diff != "" {
		t.Errorf("headers: %s", diff)
	}
	if record.State != string(queue.Dead) || record.Reason != "no such <dataset>" || record.WebhookID != sent.WebhookID {
		t.Errorf("%+v", record.Delivery)
	}
	a := record.AttemptList[0]
	if a.N != 1 || a.Started.IsZero() || a.DurationMS == nil || a.Error != "no such <dataset>" || a.Output != "line one\nline two\n" {
		t.Errorf("attempt %+v", a)
	}

	for _, unknown := range []string{"01J9ZK0000000000000000000", "nonsense", "%00", strings.Repeat("x", 5000)} {
		response, body := f.request("GET", "/api/deliveries/"+unknown, "")
		if response.StatusCode != 404 {
			t.Errorf("GET an unknown delivery: status %d, want 404", response.StatusCode)
		}
		wantError(t, body)
	}
}

func TestGetShowsResultAndRunningAttempt(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "slow", "real_repo_content_update_bucket.json"))
	f.waitFor(id, queue.Running)
	record, err := f.client.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(record.AttemptList); n != 1 || record.AttemptList[0].DurationMS != nil {
		t.Errorf("attempts %+v, want one without an end", record.AttemptList)
	}
	f.release <- struct{}{}
	f.waitFor(id, queue.Done)
	if record, err = f.client.Get(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := string(record.AttemptList[0].Result); got != `{"trained":true}` {
		t.Errorf("result %s", got)
	}
}

func TestReplay(t *testing.T) {
	f := newFixture(t)
	sent := arrival(t, "inbox", "real_repo_content_update_bucket.json")
	id := f.accept(sent)
	edited := "{ \"event\":\t{\"scope\": \"repo\"},\n \"n\": 12345678901234567890.10 }"
	for body, want := range map[string]string{
		"":                                     string(sent.Body),
		"{}":                                   string(sent.Body),
		" {} \n":                               string(sent.Body),
		`{"body": ` + edited + `}`:             edited,
		`{"text": " {\"n\": 1.0,\n\"n\": 2}"}`: " {\"n\": 1.0,\n\"n\": 2}",
	} {
		response, answer := f.request("POST", "/api/deliveries/"+id+"/replay", body)
		var accepted map[string]string
		if err := json.Unmarshal([]byte(answer), &accepted); err != nil || response.StatusCode != 202 || len(accepted) != 1 {
			t.Fatalf("%q: status %d, %v: %s", body, response.StatusCode, err, answer)
		}
		record, err := f.client.Get(t.Context(), accepted["delivery"])
		if err != nil {
			t.Fatal(err)
		}
		if record.Body != want || record.ReplayOf != id || record.ID == id {
			t.Errorf("%q: stored %+v with the body %q, want a replay of %s with %q", body, record.Delivery, record.Body, id, want)
		}
	}
	record, err := f.client.Get(t.Context(), id)
	if err != nil || record.Replays != 5 {
		t.Errorf("%v, %d replays, want 5", err, record.Replays)
	}
	if newID, err := f.client.Replay(t.Context(), id, []byte(edited)); err != nil {
		t.Error(err)
	} else if record, err := f.client.Get(t.Context(), newID); err != nil || record.Body != edited {
		t.Errorf("the client's replay: %v, body %q", err, record.Body)
	}
}

func TestRequestBodiesThatAreRefused(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	replay, discard := "/api/deliveries/"+id+"/replay", "/api/deliveries/"+id+"/discard"
	for _, c := range []struct {
		path, body string
		status     int
		say        string
	}{
		{replay, `{"body": 3}`, 422, "body: want an object, have a number"},
		{replay, `{"body": null}`, 422, "body: want an object, have null"},
		{replay, `{"body": "{}"}`, 422, "body: want an object, have a string"},
		{replay, `{"Body": {}}`, 422, `unknown field "Body"`},
		{replay, `{"payload": {}}`, 422, `unknown field "payload"`},
		{replay, `[]`, 422, "the request body: want an object, have an array"},
		{replay, `{"body": {}`, 400, "not JSON"},
		{replay, `{"body": {}} {}`, 400, "not JSON"},
		{replay, `{"body": {}, "body": {}}`, 400, "body"},
		{replay, "{\"body\": {\"a\": \"\xff\"}}", 400, "UTF-8"},
		{replay, "body=%7B%7D", 400, "not JSON"},
		{replay, `{"body": {"a": "` + strings.Repeat("x", maxBody) + `"}}`, 413, "more than"},
		{replay, `{"body": {}, "text": "{}"}`, 422, "not both"},
		{replay, `{"text": "{\"a\": }"}`, 422, "text: not a JSON object: line 1, column 7"},
		{replay, `{"text": ""}`, 422, "text: "},
		{replay, `{"text": "` + strings.Repeat("x", 2*maxBody) + `"}`, 413, "more than"},
		{discard, `{"reason": "x"}`, 422, `unknown field "reason"`},
		{"/api/payload", ``, 422, "body is missing"},
		{"/api/payload", `{}`, 422, "body is missing"},
		{"/api/payload", `{"body": [{}]}`, 422, "body: want an object, have an array"},
		{"/api/payload", `{"body": null}`, 422, "body: want an object, have null"},
		{"/api/payload", `{"payload": {}}`, 422, `unknown field "payload"`},
		{"/api/payload", `{"body": {"a": }}`, 400, "not JSON"},
		{"/api/payload", `{"body": {"a": "` + strings.Repeat("x", maxBody) + `"}}`, 413, "more than"},
		{"/api/trigger", `{"scope": 1}`, 422, "scope: want a string, have a number"},
		{"/api/trigger", `{"scope": "repo", "set": ["a"]}`, 422, "set: want an object, have an array"},
		{"/api/trigger", `{"scope": "repo", "sets": {}}`, 422, `unknown field "sets"`},
		{"/api/trigger", ``, 422, "scope is missing"},
		{"/api/trigger", `{"scope": "` + strings.Repeat("x", maxTrigger) + `"}`, 413, "more than"},
	} {
		for _, chunked := range []bool{false, true} {
			response, body := f.request("POST", c.path, c.body, func(r *http.Request) {
				if chunked {
					r.ContentLength = -1
				}
			})
			if response.StatusCode != c.status || !strings.Contains(body, strings.ReplaceAll(c.say, `"`, `\"`)) {
				t.Errorf("POST %s %.40q: status %d: %s want %d and %q", c.path, c.body, response.StatusCode, body, c.status, c.say)
			}
			wantError(t, body)
		}
	}
	if list, _, err := f.queue.List(t.Context(), queue.Filter{}); err != nil || len(list) != 1 || list[0].State != queue.Done {
		t.Errorf("after the refusals: %+v, %v", list, err)
	}
}

// TestLargeBodyIsRefusedUnread announces a body and never sends it.
func TestLargeBodyIsRefusedUnread(t *testing.T) {
	f := newFixture(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /api/trigger HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", testToken, maxTrigger+1)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 413 {
		t.Errorf("status %d, want 413", response.StatusCode)
	}
}

func TestReplayOfALargePayload(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	large := `{"files":"` + strings.Repeat("x", 16<<20-12) + `"}`
	newID, err := f.client.Replay(t.Context(), id, []byte(large))
	if err != nil {
		t.Fatal(err)
	}
	if record, err := f.client.Get(t.Context(), newID); err != nil || record.Body != large {
		t.Errorf("%v, %d bytes, want the %d that were sent", err, len(record.Body), len(large))
	}
}

func TestDiscard(t *testing.T) {
	f := newFixture(t)
	running := f.accept(arrival(t, "slow", "real_repo_content_update_bucket.json"))
	f.waitFor(running, queue.Running)
	waits := f.accept(arrival(t, "flaky", "real_discussion_create_pr_model.json"))
	done := f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))

	for _, id := range []string{running, waits} {
		response, body := f.request("POST", "/api/deliveries/"+id+"/discard", "")
		if want := fmt.Sprintf(`{"delivery":%q,"state":"discarded"}`, id) + "\n"; response.StatusCode != 200 || body != want {
			t.Errorf("status %d: %s want 200 and %s", response.StatusCode, body, want)
		}
		if record, err := f.queue.Get(t.Context(), id); err != nil || record.State != queue.Discarded || record.Reason != discardReason {
			t.Errorf("%v: %+v, want it discarded", err, record)
		}
	}
	select {
	case <-f.cancelled:
	case <-time.After(patience):
		t.Error("the running handler was not cancelled")
	}
	for id, status := range map[string]int{done: 409, running: 409, "nonsense": 404} {
		response, body := f.request("POST", "/api/deliveries/"+id+"/discard", "{}")
		if response.StatusCode != status {
			t.Errorf("discard %s: status %d, want %d", id, response.StatusCode, status)
		}
		wantError(t, body)
	}
}

func TestTrigger(t *testing.T) {
	f := newFixture(t)
	response, body := f.request("POST", "/api/trigger", `{"endpoint": "inbox", "scope": "repo.content", "action": "update", "set": {"repo.name": "me/data", "repo.private": true}}`)
	var accepted api.Answer
	if err := json.Unmarshal([]byte(body), &accepted); err != nil || response.StatusCode != 202 {
		t.Fatalf("status %d, %v: %s", response.StatusCode, err, body)
	}
	if record, err := f.queue.Get(t.Context(), accepted.Delivery); err != nil || !record.Synthetic {
		t.Errorf("%v: %+v, want a sample", err, record)
	}
	want := api.Trigger{Endpoint: "inbox", Scope: "repo.content", Action: "update", Set: map[string]any{"repo.name": "me/data", "repo.private": true}}
	if diff := cmp.Diff([]api.Trigger{want}, f.triggers); diff != "" {
		t.Error(diff)
	}
	for request, status := range map[string]int{
		`{"endpoint": "nobody", "scope": "repo"}`: 404,
		`{"endpoint": "inbox", "scope": "moon"}`:  422,
	} {
		response, body := f.request("POST", "/api/trigger", request)
		if response.StatusCode != status {
			t.Errorf("%s: status %d, want %d", request, response.StatusCode, status)
		}
		wantError(t, body)
	}
}

func TestStatus(t *testing.T) {
	f := newFixture(t)
	f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	f.accept(arrival(t, "failing", "real_discussion_create_pr_model.json"))
	status, err := f.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Version != "1.2.3" || status.Tunnel == nil || status.Tunnel.Phase != "online" || status.Addresses.Public == "" || len(status.Endpoints) != 1 {
		t.Errorf("%+v", status)
	}
	if len(status.Counts) != len(queue.States()) || status.Counts[string(queue.Done)] != 1 || status.Counts[string(queue.Dead)] != 1 || status.Counts[string(queue.Running)] != 0 {
		t.Errorf("counts %v", status.Counts)
	}
	if status.CountsByEndpoint["inbox"][string(queue.Done)] != 1 || status.CountsByEndpoint["failing"][string(queue.Dead)] != 1 {
		t.Errorf("counts by endpoint %v", status.CountsByEndpoint)
	}
	_, body := f.request("GET", "/api/status", "")
	want := []string{"addresses", "counts", "counts_by_endpoint", "data", "endpoints", "followed", "loops", "pid", "program", "secret", "started", "tunnel", "upstreams", "version", "webhooks"}
	if diff := cmp.Diff(want, keys(t, json.RawMessage(body))); diff != "" {
		t.Errorf("fields: %s", diff)
	}
}

func TestErrorsOfTheQueueThatIsStopping(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	if err := f.queue.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	response, body := f.request("POST", "/api/deliveries/"+id+"/replay", "{}")
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q, want 503 and one", response.StatusCode, response.Header.Get("Retry-After"))
	}
	wantError(t, body)
}

// waitFor waits until the delivery has that state.
func (f *fixture) waitFor(id string, state queue.State) {
	f.t.Helper()
	watcher := f.queue.Watch(64)
	defer watcher.Close()
	record, err := f.queue.Get(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	timeout := time.After(patience)
	for got := record.State; got != state; {
		select {
		case c := <-watcher.C:
			if c.Delivery.ID == id {
				got = c.Delivery.State
			}
		case <-timeout:
			f.t.Fatalf("delivery %s is %s, want %s", id, got, state)
		}
	}
}

// fullDisk is a queue that can't store anything.
type fullDisk struct{ Queue }

func (fullDisk) Discard(context.Context, string, string) error {
	return errors.New("write to hubhook.db: database or disk is full")
}

func TestWhatCannotBeStoredIs503(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "slow", "real_repo_content_update_bucket.json"))
	f.inspector.config.Queue = fullDisk{f.queue}
	f.inspector.config.Replay = func(context.Context, string, []byte) (string, error) {
		return "", errors.New("store the delivery: database or disk is full")
	}
	for _, act := range []string{"replay", "discard"} {
		response, body := f.request("POST", "/api/deliveries/"+id+"/"+act, "{}")
		if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, Retry-After %q; want 503 and one", act, response.StatusCode, response.Header.Get("Retry-After"))
		}
		wantError(t, body)
	}
}
