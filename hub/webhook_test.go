package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

const id = "654bbbc16f2ec14d77f109cc"

func TestList(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body string }{
		{"an array", string(fixture(t, "list.response.json"))},
		{"wrapped like the other answers", `{"webhooks": ` + string(fixture(t, "list.response.json")) + `}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, send([]byte(test.body)))
			webhooks, err := s.client(t, nil).Webhooks.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(webhooks) != 3 {
				t.Fatalf("got %d webhooks, want 3", len(webhooks))
			}
			first, last := webhooks[0], webhooks[2]
			if first.ID != id || first.State != hub.Enabled || !first.HasSecret || first.Secret != "" || first.Job != nil {
				t.Errorf("the first is %+v", first)
			}
			if want := []hub.Watched{{Type: "user", Name: "julien-c"}, {Type: "org", Name: "HuggingFaceH4"}}; !reflect.DeepEqual(first.Watched, want) {
				t.Errorf("it watches %v, want %v", first.Watched, want)
			}
			if webhooks[1].State != hub.Disabled || webhooks[1].HasSecret {
				t.Errorf("the second is %+v", webhooks[1])
			}
			if last.State != hub.Suspended || last.URL != "" || last.Job == nil || last.Job.DockerImage != "ubuntu" || len(last.Job.Command) != 3 {
				t.Errorf("the last is %+v", last)
			}
			if r := s.seen()[0]; r.method != "GET" || r.uri != "/api/settings/webhooks" || r.auth != "Bearer "+token {
				t.Errorf("the request was %+v", r)
			}
		})
	}
	s := newStub(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			w.Header().Set("Link", `</api/settings/webhooks?cursor=2>; rel="next"`)
		}
		fmt.Fprintf(w, `[{"id": "%d"}]`, n)
	})
	if webhooks, err := s.client(t, nil).Webhooks.List(t.Context()); err != nil || len(webhooks) != 2 || webhooks[1].ID != "2" {
		t.Errorf("two pages are %v, %v", webhooks, err)
	}
	s = newStub(t, send(fixture(t, "list.response.empty.json")))
	if webhooks, err := s.client(t, nil).Webhooks.List(t.Context()); err != nil || len(webhooks) != 0 {
		t.Errorf("an empty list is %v, %v", webhooks, err)
	}
}

func TestWebhookShapes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body      string
		state     hub.WebhookState
		secret    hub.Secret
		hasSecret bool
	}{
		{`{"webhook": {"id": "1"}}`, hub.Enabled, "", false},
		{`{"id": "1", "disabled": null, "watched": null}`, hub.Enabled, "", false},
		{`{"webhook": {"id": "1", "disabled": true, "secret": null, "hasSecret": true}}`, hub.Disabled, "", true},
		{`{"webhook": {"id": "1", "disabled": false, "secret": "s3cret"}}`, hub.Enabled, "s3cret", true},
		{`{"webhook": {"id": "1", "disabled": "suspended-after-failure", "hasSecret": "yes"}}`, hub.Suspended, "", false},
		{`{"webhook": {"id": "1", "disabled": "suspended-by-staff", "watched": {}}}`, hub.Suspended, "", false},
		{`{"webhook": {"id": "1", "disabled": "over-quota", "domains": "repo", "url": 7}}`, hub.Disabled, "", false},
		{`{"webhook": {"id": "1", "disabled": {"since": 1}}}`, hub.Disabled, "", false},
	} {
		s := newStub(t, send([]byte(test.body)))
		w, err := s.client(t, nil).Webhooks.Get(t.Context(), "1")
		if err != nil {
			t.Errorf("%s: %v", test.body, err)
		}
		if w.State != test.state || w.Secret != test.secret || w.HasSecret != test.hasSecret {
			t.Errorf("%s: got %s, secret %q, hasSecret %t", test.body, w.State, string(w.Secret), w.HasSecret)
		}
	}
	s := newStub(t, send([]byte(`{"webhook": {"url": "https://example.com"}}`)))
	if _, err := s.client(t, nil).Webhooks.Get(t.Context(), "1"); err == nil || !strings.Contains(err.Error(), "a webhook has no id") {
		t.Errorf("a webhook without an id: %v", err)
	}
}

// The requests are those of huggingface_hub, to the field.
func TestCreate(t *testing.T) {
	t.Parallel()
	people := []hub.Watched{{Type: "user", Name: "julien-c"}, {Type: "org", Name: "HuggingFaceH4"}}
	const url = "https://webhook.site/a2176e82-5720-43ee-9e06-f91cb4c91548"
	for _, test := range []struct {
		request, response string
		webhook           hub.NewWebhook
	}{
		{"create.request.url.json", "create.response.url.hasSecret.json", hub.NewWebhook{URL: url, Watched: people, Secret: "my-secret"}},
		{"create.request.url.json", "create.response.url.secret-echoed.json", hub.NewWebhook{URL: url, Watched: people, Domains: hub.Domains(), Secret: "my-secret"}},
		{"create.request.job.json", "create.response.job.json", hub.NewWebhook{Job: &hub.Job{SourceID: "687f911eaea852de79c4a50a"}, Watched: people, Secret: "my-secret"}},
		{"create.request.bucket.json", "create.response.url.hasSecret.json", hub.NewWebhook{
			URL: url, Watched: []hub.Watched{{Type: "bucket", Name: "some-user/some-bucket"}}, Domains: []hub.Domain{hub.RepoDomain}, Secret: "my-secret",
		}},
	} {
		s := newStub(t, send(fixture(t, test.response)))
		w, err := s.client(t, nil).Webhooks.Create(t.Context(), test.webhook)
		if err != nil {
			t.Errorf("%s: %v", test.request, err)
			continue
		}
		if w.ID != id || !w.HasSecret {
			t.Errorf("%s: got %+v", test.response, w)
		}
		var want map[string]any
		if err := json.Unmarshal(fixture(t, test.request), &want); err != nil {
			t.Fatal(err)
		}
		if r := s.seen()[0]; r.method != "POST" || r.uri != "/api/settings/webhooks" || !reflect.DeepEqual(r.body, want) {
			t.Errorf("%s: sent %s %s %v", test.request, r.method, r.uri, r.body)
		}
	}
}

func TestCreateRefused(t *testing.T) {
	t.Parallel()
	s := newStub(t, send(nil))
	c := s.client(t, nil)
	watched := []hub.Watched{{Type: "user", Name: "me"}}
	for _, w := range []hub.NewWebhook{
		{Watched: watched},
		{URL: "https://example.com"},
		{URL: "https://example.com", Job: &hub.Job{SourceID: "1"}, Watched: watched},
		{Job: &hub.Job{}, Watched: watched},
		{URL: "https://example.com", Watched: watched, Secret: "sécret"},
	} {
		if _, err := c.Webhooks.Create(t.Context(), w); err == nil {
			t.Errorf("%+v was sent", w)
		}
	}
	if n := len(s.seen()); n > 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestUpdateSendsBackWhatItRead(t *testing.T) {
	t.Parallel()
	read := `{"webhook": {"id": "1", "url": "https://old.example.com", "watched": [{"type": "kernel", "name": "me/k"}], "domains": ["repo", "billing"],
		"disabled": true, "hasSecret": true, "label": "mine", "options": {"deep": [1, 2]}}}`
	s := newStub(t, send([]byte(read)))
	c := s.client(t, nil)
	w, err := c.Webhooks.Get(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	w.URL = "https://new.example.com"
	if _, err = c.Webhooks.Update(t.Context(), w); !errors.Is(err, hub.ErrSecretHidden) || text.Hint(err) == "" {
		t.Errorf("an update without the hidden secret: %v", err)
	}
	w.Secret = "s3cret"
	if _, err = c.Webhooks.Update(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(`{"url": "https://new.example.com", "watched": [{"type": "kernel", "name": "me/k"}], "domains": ["repo", "billing"],
		"secret": "s3cret", "label": "mine", "options": {"deep": [1, 2]}}`), &want); err != nil {
		t.Fatal(err)
	}
	if seen := s.seen(); len(seen) != 2 || seen[1].method != "POST" || seen[1].uri != "/api/settings/webhooks/1" || !reflect.DeepEqual(seen[1].body, want) {
		t.Errorf("sent %+v", seen)
	}
}

// A Job comes back as the Hub sent it, or is replaced by another.
func TestUpdateJob(t *testing.T) {
	t.Parallel()
	s := newStub(t, send(fixture(t, "create.response.job.json")))
	c := s.client(t, nil)
	w, err := c.Webhooks.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.Secret = "s3cret"
	if _, err := c.Webhooks.Update(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	w.Job.SourceID, w.Job.SecretValues = "2", map[string]hub.Secret{"KEY": "v4lue"}
	if _, err := c.Webhooks.Update(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	seen := s.seen()
	if job, _ := seen[1].body["job"].(map[string]any); job["flavor"] != "cpu-basic" {
		t.Errorf("the Job was sent back as %v", seen[1].body)
	}
	if body := seen[2].body; body["jobSourceId"] != "2" || body["job"] != nil || !reflect.DeepEqual(body["secrets"], map[string]any{"KEY": "v4lue"}) {
		t.Errorf("the other Job was sent as %v", body)
	}
}

func TestSwitchAndDelete(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "DELETE":
			w.Write([]byte("deleted"))
		case strings.HasSuffix(r.URL.Path, "/enable"):
			w.Write(fixture(t, "enable.response.json"))
		case strings.HasSuffix(r.URL.Path, "/disable"):
			w.Write(fixture(t, "disable.response.json"))
		default:
			w.Write(fixture(t, "replay.response.json"))
		}
	})
	c := s.client(t, nil)
	if w, err := c.Webhooks.Enable(t.Context(), id); err != nil || w.State != hub.Enabled {
		t.Errorf("enable: %v, %v", w.State, err)
	}
	if w, err := c.Webhooks.Disable(t.Context(), id); err != nil || w.State != hub.Disabled {
		t.Errorf("disable: %v, %v", w.State, err)
	}
	if status, err := c.Webhooks.Replay(t.Context(), id, "log/7"); err != nil || status != 200 {
		t.Errorf("replay: %d, %v", status, err)
	}
	if err := c.Webhooks.Delete(t.Context(), id); err != nil {
		t.Errorf("delete: %v", err)
	}
	var got []string
	for _, r := range s.seen() {
		got = append(got, r.method+" "+r.uri)
	}
	base := "/api/settings/webhooks/" + id
	if want := []string{"POST " + base + "/enable", "POST " + base + "/disable", "POST " + base + "/replay/log%2F7", "DELETE " + base}; !reflect.DeepEqual(got, want) {
		t.Errorf("sent %q", got)
	}
	for _, wrong := range []string{"", ".", ".."} {
		if err := c.Webhooks.Delete(t.Context(), wrong); err == nil {
			t.Errorf("deleted %q", wrong)
		}
	}
	if len(s.seen()) != 4 {
		t.Errorf("a call for no id was sent")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	s := newStub(t, send([]byte(`{"webhook": {"id": "1", "url": "https://me:passw0rd@example.com/hook?secret=qu3ry&a=b", "secret": "s3cret", "later": 1}}`)))
	w, err := s.client(t, nil).Webhooks.Get(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(asJSON), `"later":1`) || !strings.Contains(string(asJSON), `"hasSecret":true`) {
		t.Errorf("as JSON it is %s", asJSON)
	}
	for _, printed := range []string{string(asJSON), w.PlainURL(), fmt.Sprint(w.Secret), fmt.Sprintf("%#v %q", w.Secret, w.Secret)} {
		for _, secret := range []string{"passw0rd", "qu3ry", "s3cret"} {
			if strings.Contains(printed, secret) {
				t.Errorf("%s has a secret", printed)
			}
		}
	}
}

func TestParseWatched(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"dataset:me/data", "model:gpt2", "user:julien-c", "org:HuggingFaceH4", "bucket:me/b"} {
		if w, err := hub.ParseWatched(s); err != nil || w.String() != s {
			t.Errorf("%s: %v, %v", s, w, err)
		}
	}
	for _, s := range []string{"", "me/data", "dataset:", "repo:me/data", "user:me/data", "dataset:me/data/more", "dataset:../data", "dataset:me/", "org:a b", "bucket:b"} {
		if w, err := hub.ParseWatched(s); err == nil {
			t.Errorf("%q is %v", s, w)
		}
	}
}
