package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/text"
)

// keptConfig is that of a server which something else forwards to, and which has a token of the Hub.
func keptConfig(t *testing.T, hub *hubtest.Server, public string) Config {
	c := runConfig(t)
	c.PublicURL = public
	c.Data = t.TempDir()
	env := map[string]string{"HF_ENDPOINT": hub.URL, "HF_TOKEN": hub.Accounts.AddToken(hubtest.Token{})}
	c.Getenv = func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	return c
}

func newHub(t *testing.T) *hubtest.Server {
	hub := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(hub.Close)
	return hub
}

// active waits until a server keeps a webhook for an endpoint.
func (r *running) active(t *testing.T, endpoint string) {
	t.Helper()
	r.wait(t, "webhook", func(l line) bool { return l.text("state") == keep.Active && l.text("endpoint") == endpoint })
}

// The options of endpoints have webhooks made and borrowed, as the settings do.
func TestWatchAndWebhookAsOptions(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	lent, err := hub.Create(hubtest.Webhook{URL: "https://own.example.com/x", Watched: []hubtest.Watched{{Type: "user", Name: "me"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, keptConfig(t, hub, "https://public.example.com"))
	s.Handle("train", nil, Watch("dataset:me/data", "org:us"))
	s.Handle("mirror", nil, Webhook(lent))
	s.Handle("plain", nil)
	r := start(t, s)
	r.active(t, "train")
	r.active(t, "mirror")
	for name, late := range map[string]Option{"train": Watch("user:me"), "plain": Webhook("654bbbc16f2ec14d77f109cc"), "new": Watch("dataset:me/data")} {
		if err := s.Replace(name, nil, late); err == nil || !strings.Contains(err.Error(), "replace endpoint "+name) || text.Hint(err) == "" {
			t.Errorf("the endpoint %s gets a webhook while the server runs: %v", name, err)
		}
	}
	if err := s.Replace("train", nil); err != nil {
		t.Error(err)
	}
	if err := s.Replace("train", nil, Watch("dataset:me/data", "org:us")); err != nil {
		t.Errorf("with the items that it had: %v", err)
	}
	all := hub.Webhooks()
	if len(all) != 2 || all[0].URL != "https://public.example.com/webhooks/mirror" || all[1].URL != "https://public.example.com/webhooks/train" || len(all[1].Watched) != 2 {
		t.Errorf("the Hub has %+v", all)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if all := hub.Webhooks(); all[0].URL != "https://own.example.com/x" {
		t.Errorf("afterwards the Hub has %+v", all)
	}
	for _, wrong := range []Option{Watch("data"), Webhook("")} {
		if wrong(&endpoint{}) == nil {
			t.Error("a wrong option is taken")
		}
	}
}

// A webhook that one server keeps is left to it by another one, which says so and changes nothing.
func TestTheSecondServerSaysSo(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	lent, err := hub.Create(hubtest.Webhook{URL: "https://own.example.com/x", Watched: []hubtest.Watched{{Type: "user", Name: "me"}}})
	if err != nil {
		t.Fatal(err)
	}
	var first *Server
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { first.public.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	public := front.URL
	first = newServer(t, keptConfig(t, hub, public))
	first.Handle("train", nil, Webhook(lent))
	a := start(t, first)
	a.active(t, "train")

	second := newServer(t, keptConfig(t, hub, "https://second.example.com"))
	second.Handle("train", nil, Webhook(lent))
	b := start(t, second)
	refused := b.wait(t, "webhook", func(l line) bool { return l.text("error") != "" })
	if !strings.Contains(refused.text("error"), "another hubhook keeps it, at "+public) || refused.text("hint") == "" {
		t.Errorf("the second one says %v", refused)
	}
	if all := hub.Webhooks(); all[0].URL != public+"/webhooks/train" {
		t.Errorf("the webhook posts to %s", all[0].URL)
	}
	if KeptElsewhere(nil)(t.Context(), public+"/webhooks/train", "another") {
		t.Error("it keeps a webhook that it does not know")
	}
}

// A secret that hubhook generated for a webhook locks nobody out whose URL was pasted by hand, and is accepted beside a configured one.
func TestAGeneratedSecretLocksNobodyOut(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	c := keptConfig(t, hub, "https://public.example.com")
	s := newServer(t, c)
	s.Handle("train", nil, Watch("dataset:me/data"))
	s.Handle("pasted", nil)
	r := start(t, s)
	r.active(t, "train")
	generated := hub.Webhooks()[0].Secret
	for _, post := range []struct{ endpoint, secret string }{{"train", ""}, {"train", generated}, {"train", "of a webhook made by hand"}, {"pasted", ""}} {
		if status := r.postWith(t, post.endpoint, post.secret); status != http.StatusOK {
			t.Errorf("to %s with the secret %q: %d", post.endpoint, post.secret, status)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	later := keptConfig(t, hub, "") // no URL, so the webhook keeps the old secret
	later.NoTunnel, later.Data, later.Secrets = true, c.Data, []string{"configured"}
	s = newServer(t, later)
	s.Handle("train", nil, Watch("dataset:me/data"))
	s.Handle("pasted", nil)
	r = start(t, s)
	r.wait(t, "ready", nil)
	for _, post := range []struct {
		endpoint, secret string
		want             int
	}{{"train", "configured", 200}, {"train", generated, 200}, {"train", "", 401}, {"train", "wrong", 403}, {"pasted", generated, 403}} {
		if status := r.postWith(t, post.endpoint, post.secret); status != post.want {
			t.Errorf("later, to %s with the secret %q: %d, want %d", post.endpoint, post.secret, status, post.want)
		}
	}
}

// postWith posts an event with a secret, "" for none, and returns the answer's status.
func (r *running) postWith(t *testing.T, endpoint, secret string) int {
	t.Helper()
	const event = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"me/data"}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.where.get().local+"/webhooks/"+endpoint, strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("X-Webhook-Secret", secret)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// An item or a webhook for an endpoint that is not there is a wrong setting, said before anything is opened.
func TestKeptForAnUnknownEndpoint(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Config){
		func(c *Config) { c.Watch = []string{"trian=dataset:me/data"} },
		func(c *Config) { c.Webhooks = []string{"trian=1"} },
		func(c *Config) { c.Webhooks = []string{"1"} }, // there are two endpoints
	} {
		c := keptConfig(t, newHub(t), "https://public.example.com")
		change(&c)
		s := newServer(t, c)
		s.Handle("train", nil)
		s.Handle("other", nil)
		var wrong *ConfigError
		if err := s.Run(context.Background()); !errors.As(err, &wrong) || !strings.Contains(text.Hint(err), "train, other") {
			t.Errorf("%v %v: %v", c.Watch, c.Webhooks, err)
		}
	}
}
