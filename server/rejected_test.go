package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
	"github.com/hubhook/hubhook/ui/inspector"
)

// inspect reads a page of the running inspector's API into v.
func (r *running) inspect(t *testing.T, path string, v any) (body string) {
	t.Helper()
	address, err := inspector.ReadAddress(r.settings.Data)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodGet, address.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+address.Token)
	got := do(t, request)
	if got.status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, got.status, got.body)
	}
	if err := json.Unmarshal([]byte(got.body), v); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, got.body)
	}
	return got.body
}

// Whoever has the answer to a refused request finds it in the list.
func TestRefusedRequestsAreListedAtOnce(t *testing.T) {
	c := runConfig(t)
	c.Data, c.Secrets, c.MaxBody = t.TempDir(), []string{"old", "new"}, 1000
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	local := r.wait(t, "ready", nil).text("local_url")
	began := time.Now().Add(-time.Second)
	for i, test := range []struct {
		path, body, secret string
		status             int
		reason, words      string
	}{
		{"train", push, "", 401, "no_secret", "no secret was sent"},
		{"train", push, "guess", 403, "wrong_secret", "the secret is wrong"},
		{"train", `{"private":"words" nonsense`, "new", 422, "bad_json", "line 1, column 20"},
		{"trian", push, "old", 404, "unknown_endpoint", `"trian"`},
		{"train", strings.Repeat("x", 1001), "old", 413, "too_large", "1001 bytes"},
	} {
		got := post(t, local+"/webhooks/"+test.path, test.body, "X-Webhook-Secret", test.secret, "User-Agent", fmt.Sprintf("client/%d", i))
		if got.status != test.status {
			t.Fatalf("%s: answer %d %s", test.reason, got.status, got.body)
		}
		var list api.RejectedList
		body := r.inspect(t, "/api/rejected", &list)
		if len(list.Rejected) != i+1 || list.Total != int64(i+1) {
			t.Fatalf("%s: the list is %s", test.reason, body)
		}
		seen := list.Rejected[0]
		if seen.Endpoint != test.path || seen.Status != test.status || seen.Reason != test.reason || !strings.Contains(seen.Error, test.words) ||
			seen.Fix == "" || seen.UserAgent != fmt.Sprintf("client/%d", i) || seen.Times != 1 || seen.Time.Before(began) || seen.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("%s: %+v", test.reason, seen)
		}
		if !slices.Contains(refusalReasons, seen.Reason) {
			t.Errorf("hubhook_refused_total has no reason %q", seen.Reason)
		}
		for _, hidden := range []string{"words\" nonsense", "guess", "me/data"} {
			if strings.Contains(body, hidden) {
				t.Errorf("%s: the list tells %q: %s", test.reason, hidden, body)
			}
		}
	}
	for range 3 {
		post(t, local+"/webhooks/train", push, "User-Agent", "Hub")
	}
	var list api.RejectedList
	if body := r.inspect(t, "/api/rejected", &list); list.Rejected[0].Times != 3 || len(list.Rejected) != 6 || list.Total != 8 {
		t.Errorf("after three that are alike: %s", body)
	}
}

// A sender may put the secret where it does not belong. It shows up neither in an answer nor on the screen nor in the inspector.
func TestNoSecretIsToldOfARefusedRequest(t *testing.T) {
	const (
		secret = `pa$$ word/"quoted"+` // looks different in a URL and where it is quoted
		longer = secret + `longer`
	)
	c := runConfig(t)
	c.Data, c.Secrets = t.TempDir(), []string{secret, longer}
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	local := r.wait(t, "ready", nil).text("local_url")
	padding := strings.Repeat("x", maxShownName-5) // so that a cut would leave the secret's beginning
	agent := strings.Repeat("y", maxShownAgent-5)
	requests := []struct{ method, path, agent string }{
		{"POST", "train?secret=" + url.QueryEscape(secret[1:]), ""},
		{"POST", "train?token=" + url.QueryEscape(secret), secret},
		{"POST", "train/" + url.PathEscape(secret), "bot " + secret},
		{"POST", "train/" + url.PathEscape(longer), "bot " + longer},
		{"POST", "train&secret=" + url.PathEscape(secret), "x?secret=" + url.QueryEscape(secret)},
		{"POST", padding + url.PathEscape(secret), agent + secret},
		{"POST", "train/" + url.PathEscape(url.QueryEscape(secret)), "x/" + url.PathEscape(longer)},
		{"GET", "train?secret=" + url.QueryEscape(secret), "bot"},
	}
	traces := []string{"pa$$", "pa%24%24", "word", "quoted", "longer"}
	for _, request := range requests {
		q, err := http.NewRequest(request.method, local+"/webhooks/"+request.path, strings.NewReader(push))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("User-Agent", request.agent)
		got := do(t, q)
		if got.status < 400 {
			t.Errorf("%s: answer %d %s", request.path, got.status, got.body)
		}
		line, err := json.Marshal(r.wait(t, "rejected", nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, trace := range traces {
			if strings.Contains(got.body, trace) || strings.Contains(string(line), trace) {
				t.Errorf("%s: the answer is %s, the line %s", request.path, got.body, line)
			}
		}
	}
	var list api.RejectedList
	body := r.inspect(t, "/api/rejected", &list)
	if list.Total != int64(len(requests)) {
		t.Errorf("%d of %d requests are counted", list.Total, len(requests))
	}
	for _, trace := range traces {
		if strings.Contains(body, trace) {
			t.Errorf("the list tells %q: %s", trace, body)
		}
	}
	if !strings.Contains(body, masked) {
		t.Errorf("nothing is masked: %s", body)
	}
}

func TestTheTunnelsHistory(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	c := tunnelConfig(t, edge)
	c.Data, c.probeClient = t.TempDir(), edge.Client()
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	public := r.wait(t, "ready", nil).text("public_url")
	r.wait(t, "tunnel", phase(reachable))
	edge.Drop()
	r.wait(t, "tunnel", phase("online", "url changed"))
	r.wait(t, "tunnel", phase(reachable))
	var list api.TunnelChanges
	body := r.inspect(t, "/api/tunnel", &list)
	var phases []string
	for i, change := range list.Changes {
		phases = append([]string{change.Phase}, phases...)
		if change.Provider != "ngrok" || change.Time.IsZero() || i > 0 && change.Time.After(list.Changes[i-1].Time.Time) {
			t.Errorf("change %d is %+v", i, change)
		}
	}
	want := []string{"online", reachable, "reconnecting", "online", reachable}
	if !slices.Equal(slices.Compact(phases), want) || list.Changes[len(list.Changes)-1].URL != public {
		t.Errorf("phases %v, want %v: %s", phases, want, body)
	}
}

// The history of refusals is written while the inspector is opened, shown and closed.
func TestRefusalsWhileTheServerOpensAndCloses(t *testing.T) {
	c := runConfig(t)
	c.Data = t.TempDir()
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	local := r.wait(t, "ready", nil).text("local_url")
	refusing := make(chan struct{})
	go func() {
		defer close(refusing)
		for {
			resp, err := http.Post(local+"/webhooks/nobody", "application/json", strings.NewReader(push))
			if err != nil {
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	<-refusing
}
