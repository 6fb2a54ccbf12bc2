package hubtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub/hubtest"
)

// client calls the API of a stand-in Hub.
type client struct {
	t     *testing.T
	url   string
	token string
}

// object is decoded JSON.
type object = map[string]any

func newServer(t *testing.T, options hubtest.Options) (*hubtest.Server, client) {
	t.Helper()
	s := hubtest.NewServer(options)
	t.Cleanup(s.Close)
	return s, client{t, s.URL, s.Accounts.AddToken(hubtest.Token{})}
}

// send returns the answer with its body, which is closed.
func (c client) send(method, path string, body any) (*http.Response, string, error) {
	c.t.Helper()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, sent)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// ok returns the decoded body of an answer that has to be 200.
func ok[T any](c client, method, path string, body any) T {
	c.t.Helper()
	resp, text, err := c.send(method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return decoded[T](c.t, text)
}

func decoded[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// refused checks that the answer has a status, and returns it.
func (c client) refused(status int, method, path string, body any) (http.Header, string) {
	c.t.Helper()
	resp, text, err := c.send(method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != status || resp.Header.Get("X-Request-Id") == "" {
		c.t.Errorf("%s %s: %s, X-Request-Id %q; want %d: %s", method, path, resp.Status, resp.Header.Get("X-Request-Id"), status, text)
	}
	return resp.Header, text
}

const webhooks = "/api/settings/webhooks"

var wanted = object{
	"url":     "https://example.com/hook",
	"watched": []any{object{"type": "user", "name": "julien-c"}, object{"type": "bucket", "name": "me/data"}},
	"domains": []any{"repo"},
	"secret":  "my-secret",
}

// with returns o with other values for some of its fields; nil removes one.
func with(o object, set object) object {
	all := object{}
	for k, v := range o {
		all[k] = v
	}
	for k, v := range set {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	return all
}

func webhookOf(c client, method, path string, body any) object {
	c.t.Helper()
	return ok[map[string]object](c, method, path, body)["webhook"]
}

func TestAWebhooksLife(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	if all := ok[[]object](c, "GET", webhooks, nil); all == nil || len(all) != 0 {
		t.Errorf("at first %v; want an empty array", all)
	}
	made := webhookOf(c, "POST", webhooks, wanted)
	id, _ := made["id"].(string)
	want := with(wanted, object{"id": id, "secret": nil, "hasSecret": true, "disabled": false})
	if diff := cmp.Diff(want, made); diff != "" || len(id) != 24 {
		t.Errorf("created %s", diff)
	}
	one := webhooks + "/" + id
	if diff := cmp.Diff(want, webhookOf(c, "GET", one, nil)); diff != "" {
		t.Error(diff)
	}
	// Without a secret in the update there is none afterwards; what is left out besides stays.
	want = with(want, object{"url": "http://127.0.0.1:1/new", "hasSecret": false, "watched": []any{}})
	if diff := cmp.Diff(want, webhookOf(c, "POST", one, object{"url": "http://127.0.0.1:1/new", "watched": []any{}})); diff != "" {
		t.Error(diff)
	}
	want["disabled"] = true
	if diff := cmp.Diff(want, webhookOf(c, "POST", one+"/disable", nil)); diff != "" {
		t.Error(diff)
	}
	want["disabled"] = false
	if diff := cmp.Diff(want, webhookOf(c, "POST", one+"/enable", nil)); diff != "" {
		t.Error(diff)
	}
	if err := s.Suspend(id); err != nil {
		t.Fatal(err)
	}
	want["disabled"] = "suspended-after-failure"
	if diff := cmp.Diff([]object{want}, ok[[]object](c, "GET", webhooks, nil)); diff != "" {
		t.Error(diff)
	}
	if w, err := s.Webhook(id); err != nil || w.URL != "http://127.0.0.1:1/new" || w.Secret != "" || w.Owner != "me" {
		t.Errorf("the Hub has %+v, %v", w, err)
	}
	ok[object](c, "DELETE", one, nil)
	c.refused(404, "GET", one, nil)
	if all := s.Webhooks(); len(all) != 0 {
		t.Errorf("deleted, and there are %v", all)
	}
	job := webhookOf(c, "POST", webhooks, with(wanted, object{"url": nil, "jobSourceId": "687f911eaea852de79c4a50a"}))
	if _, hasURL := job["url"]; hasURL || job["job"].(object)["flavor"] != "cpu-basic" {
		t.Errorf("a webhook of a Job: %v", job)
	}
}

func TestShapesInDoubt(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{API: hubtest.API{EchoSecret: true, KeepSecret: true, NeedDomains: true, KnownItems: true,
		BadRequest: 422, Errors: hubtest.ErrorList, Warning: "Storage; nearly full"}})
	if header, text := c.refused(422, "POST", webhooks, wanted); !strings.Contains(text, `{"error":["there is no user called`) ||
		!strings.Contains(header.Get("X-Error-Message"), "julien-c") || header.Get("X-HF-Warning") != "Storage; nearly full" {
		t.Errorf("an unknown user: %s with %v", text, header)
	}
	s.Accounts.AddUser("julien-c")
	known := with(wanted, object{"watched": []any{object{"type": "user", "name": "julien-c"}}})
	made := webhookOf(c, "POST", webhooks, known)
	if _, there := made["hasSecret"]; there || made["secret"] != "my-secret" {
		t.Errorf("want the secret in %v", made)
	}
	one := webhooks + "/" + made["id"].(string)
	if kept := webhookOf(c, "POST", one, with(known, object{"secret": nil})); kept["secret"] != "my-secret" {
		t.Errorf("want the secret kept in %v", kept)
	}
	c.refused(422, "POST", one, with(known, object{"domains": nil}))
}

func TestWhatTheAPIRefuses(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{API: hubtest.API{Errors: hubtest.ErrorObjects}})
	one := webhooks + "/" + webhookOf(c, "POST", webhooks, wanted)["id"].(string)
	for _, set := range []object{
		{"watched": nil},
		{"watched": []any{object{"type": "paper", "name": "me/data"}}},
		{"watched": []any{object{"type": "dataset", "name": ""}}},
		{"watched": []any{object{"type": "user", "name": "me/data"}}},
		{"domains": []any{"discussions"}},
		{"url": nil},
		{"url": "example.com"},
		{"jobSourceId": "687f911eaea852de79c4a50a"},
		{"secret": "gehéim"},
	} {
		if _, text := c.refused(400, "POST", webhooks, with(wanted, set)); !strings.HasPrefix(text, `{"errors":[{"message":"`) {
			t.Errorf("%v: %s", set, text)
		}
	}
	c.refused(400, "POST", webhooks, "a string")
	c.refused(404, "GET", webhooks+"/another", nil)
	c.refused(404, "POST", one+"/replay/another", nil)
	c.refused(404, "GET", "/api/nothing", nil)

	for name, test := range map[string]struct { // whoami, read and write are statuses
		token               string
		whoami, read, write int
	}{
		"none":          {"", 401, 401, 401},
		"unknown":       {"hf_unknown", 401, 401, 401},
		"read":          {s.Accounts.AddToken(hubtest.Token{Role: hubtest.Read}), 200, 200, 403},
		"webhooks read": {s.Accounts.AddToken(hubtest.Token{Permissions: []string{hubtest.ReadWebhooks}}), 200, 200, 403},
		"webhooks":      {s.Accounts.AddToken(hubtest.Token{Permissions: []string{hubtest.WriteWebhooks}}), 200, 200, 200},
		"content":       {s.Accounts.AddToken(hubtest.Token{Permissions: []string{hubtest.ReadContent}}), 200, 403, 403},
		"another user":  {s.Accounts.AddToken(hubtest.Token{User: "you"}), 200, 404, 404},
	} {
		t.Log("token:", name)
		c.token = test.token
		c.refused(test.whoami, "GET", "/api/whoami-v2", nil)
		c.refused(test.read, "GET", one, nil)
		c.refused(test.write, "POST", one, wanted)
	}
}

func TestWhoAmI(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{User: "jo"})
	org := s.Accounts.AddOrg("acme", "jo")
	c.token = s.Accounts.AddToken(hubtest.Token{Permissions: []string{hubtest.ReadWebhooks}})
	me := ok[object](c, "GET", "/api/whoami-v2", nil)
	user := s.Accounts.AddUser("jo")
	want := object{
		"type": "user", "id": user, "name": "jo", "fullname": "jo", "isPro": false, "canPay": false, "emailVerified": true,
		"orgs": []any{object{"type": "org", "id": org, "name": "acme", "fullname": "acme"}},
		"auth": object{"type": "access_token", "accessToken": object{
			"displayName": "fineGrained token", "role": "fineGrained", "createdAt": "1970-01-01T00:00:00.000Z",
			"fineGrained": object{"canReadGatedRepos": false, "global": []any{}, "scoped": []any{object{
				"entity":      object{"_id": user, "type": "user", "name": "jo"},
				"permissions": []any{"user.webhooks.read"},
			}}},
		}},
	}
	if diff := cmp.Diff(want, me); diff != "" {
		t.Error(diff)
	}
	s.Accounts.RevokeToken(c.token)
	if _, text := c.refused(401, "GET", "/api/whoami-v2", nil); text != `{"error":"Invalid credentials in Authorization header"}` {
		t.Error(text)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	s, c := newServer(t, hubtest.Options{Quota: 2, QuotaWindow: time.Minute, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	c.refused(200, "GET", webhooks, nil)
	mu.Lock()
	now = now.Add(5 * time.Second)
	mu.Unlock()
	if header, _ := c.refused(200, "GET", webhooks, nil); header.Get("RateLimit") != `"api";r=0;t=55` ||
		header.Get("RateLimit-Policy") != `"fixed window";"api";q=2;w=60` {
		t.Errorf("the last allowed request: %v", header)
	}
	if header, _ := c.refused(429, "GET", webhooks, nil); header.Get("RateLimit") != `"api";r=0;t=55` {
		t.Errorf("the first refused request: %v", header)
	}
	other := client{t, c.url, s.Accounts.AddToken(hubtest.Token{})}
	other.refused(200, "GET", webhooks, nil)
	mu.Lock()
	now = now.Add(55 * time.Second)
	mu.Unlock()
	c.refused(200, "GET", webhooks, nil)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	s.Faults.Inject(hubtest.Fault{Method: "GET", Path: webhooks, Requests: 1, Answer: hubtest.TooManyRequests(1500 * time.Millisecond)})
	s.Faults.Inject(hubtest.Fault{Path: webhooks + "*", Requests: 2, Answer: hubtest.Status(500)})
	removed := s.Faults.Inject(hubtest.Fault{Path: webhooks + "/*", Answer: hubtest.HTML(502)})
	c.refused(200, "GET", "/api/whoami-v2", nil)
	if header, _ := c.refused(429, "GET", webhooks, nil); header.Get("RateLimit") != `"api";r=0;t=2` || header.Get("Retry-After") != "2" {
		t.Errorf("429 with %v", header)
	}
	c.refused(500, "GET", webhooks, nil)
	if _, text := c.refused(500, "POST", webhooks+"/a/enable", nil); text != "{\"error\":\"Internal Server Error\"}\n" {
		t.Error(text)
	}
	if header, _ := c.refused(502, "GET", webhooks+"/a", nil); header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("HTML with %v", header)
	}
	c.refused(200, "GET", webhooks, nil)
	if met := removed(); met != 1 {
		t.Errorf("the fault met %d requests; want 1", met)
	}
	c.refused(404, "GET", webhooks+"/a", nil)

	// The Hub does it, and the answer is lost.
	s.Faults.Inject(hubtest.Fault{Method: "POST", Requests: 1, After: true, Answer: hubtest.Cut})
	if resp, text, err := c.send("POST", webhooks, wanted); err == nil {
		t.Errorf("%s: %s; want no answer", resp.Status, text)
	}
	if all := s.Webhooks(); len(all) != 1 {
		t.Errorf("there are %v; want the one whose creator got no answer", all)
	}

	s.Faults.Inject(hubtest.Fault{Answer: hubtest.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", c.url+webhooks, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	before := s.Requests.Count("POST", webhooks)
	go func() {
		defer cancel()
		if err := s.Requests.Wait(t.Context(), "POST", webhooks, before+1); err != nil {
			t.Error(err)
		}
	}()
	if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that hangs: %v", err)
	}
	s.Faults.Clear()
	c.refused(200, "GET", webhooks, nil)
}

// A request that hangs does not keep a Server from closing.
func TestCloseEndsRequests(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	s.Faults.Inject(hubtest.Fault{Answer: hubtest.Hang})
	failed := make(chan error, 1)
	go func() {
		_, _, err := c.send("GET", webhooks, nil)
		failed <- err
	}()
	check(t, s.Requests.Wait(t.Context(), "GET", webhooks, 1))
	s.Close()
	if err := <-failed; err == nil {
		t.Error("the request has an answer")
	}
}

func TestRequestLog(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	header, text := c.refused(200, "POST", webhooks+"?a=b", wanted)
	c.refused(404, "GET", webhooks+"/x%2Fy", nil)
	sent, _ := json.Marshal(wanted)
	got := s.Requests.All()
	if len(got) != 2 {
		t.Fatalf("%+v; want two", got)
	}
	started := got[0].Started
	if diff := cmp.Diff(hubtest.Request{ID: header.Get("X-Request-Id"), Method: "POST", Path: webhooks, Query: "a=b", Status: 200,
		Received: int64(len(sent)), Sent: int64(len(text)), Started: started, Ended: got[0].Ended}, got[0]); diff != "" || started.IsZero() {
		t.Error(diff)
	}
	if got[1].Path != webhooks+"/x/y" || got[1].Status != 404 {
		t.Errorf("%+v", got[1])
	}
	if received, sent := s.Requests.Bytes(); received != got[0].Received || sent != got[0].Sent+got[1].Sent {
		t.Errorf("%d bytes received, %d sent", received, sent)
	}
	if s.Requests.Count("GET", webhooks+"*") != 1 || s.Requests.Count("", webhooks) != 1 || s.Requests.Count("PUT", "") != 0 {
		t.Errorf("wrong counts of %+v", got)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Requests.Wait(impatient, "GET", "", 2); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait for a request that does not come: %v", err)
	}
	s.Requests.Reset()
	if s.Requests.Count("", "") != 0 {
		t.Error("requests after Reset")
	}
}

func TestReplayThroughTheAPI(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{Retry: hubtest.Backoff(0, 0, 1)})
	r := &receiver{answer: status(503)}
	receiving := newReceiver(t, r)
	id := webhookOf(c, "POST", webhooks, with(wanted, object{"url": receiving}))["id"].(string)
	d := send(t, s.Hub, id, "{}")
	wantState(t, d, hubtest.GivenUp)
	r.setAnswer(status(201))
	if got := ok[object](c, "POST", webhooks+"/"+id+"/replay/"+d.ID, nil); got["status"] != 201.0 {
		t.Errorf("replay: %v", got)
	}
	if err := s.Delete(id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Replay(t.Context(), d); err == nil {
		t.Error("a replay to a deleted webhook succeeds")
	}
}

// A webhook that is deleted or disabled gets no retries any more, and one that had its deliveries of the day no more of them.
func TestNoMoreDeliveries(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, hubtest.Options{PerDay: 2, Retry: hubtest.Backoff(time.Hour, time.Hour, 2)})
	r := &receiver{answer: status(500)}
	address := newReceiver(t, r)
	ends := []func(id string) error{s.Delete, s.Disable, s.Suspend}
	for _, end := range ends {
		id, err := s.Create(hubtest.Webhook{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		d, last, over := send(t, s.Hub, id, "{}"), send(t, s.Hub, id, "{}"), send(t, s.Hub, id, "{}")
		wantState(t, over, hubtest.OverLimit)
		if err := end(id); err != nil {
			t.Fatal(err)
		}
		wantState(t, d, hubtest.GivenUp)
		wantState(t, last, hubtest.GivenUp)
	}
}
