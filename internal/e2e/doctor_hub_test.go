//go:build unix

package e2e_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
)

// consulted is a Hub, and a home whose programs have a token of it. A hubhook runs in the home.
type consulted struct {
	*hubtest.Server
	*home
	token string
	ours  string // base URL of the hubhook
}

// consult returns a Hub of its own beside the hubhook p that runs in h.
func consult(t *testing.T, h *home, p *program, options hubtest.Options) *consulted {
	t.Helper()
	c := &consulted{Server: hubtest.NewServer(options), home: h, ours: p.base}
	t.Cleanup(c.Close)
	c.token = c.Accounts.AddToken(hubtest.Token{})
	return c
}

// diagnose returns what doctor finds with these variables beside those of the Hub.
func (c *consulted) diagnose(t *testing.T, variables []string, args ...string) map[string]api.Finding {
	t.Helper()
	found, _ := c.with(append([]string{"HF_ENDPOINT=" + c.URL, "HF_TOKEN=" + c.token}, variables...)...).diagnose(t, args...)
	for _, f := range found {
		if strings.Contains(f.Text+f.Fix, "hf_") {
			t.Errorf("a token is printed: %+v", f)
		}
	}
	return found
}

// webhook makes a webhook with the ID theWebhook. Its secret is the configured one, unless it has another or says "-".
func (c *consulted) webhook(t *testing.T, w hubtest.Webhook) {
	t.Helper()
	switch {
	case w.Secret == "-", w.Job != nil:
		w.Secret = ""
	case w.Secret == "":
		w.Secret = strongSecret
	}
	if strings.HasPrefix(w.URL, "/") {
		w.URL = c.ours + w.URL
	}
	w.ID = theWebhook
	if _, err := c.Create(w); err != nil {
		t.Fatal(err)
	}
}

const theWebhook = "654bbbc16f2ec14d77f109cc"

// with returns the home with other variables, which outweigh those it has.
func (h *home) with(variables ...string) *home {
	other := *h
	other.env = append(append([]string{}, h.env...), variables...)
	return &other
}

func TestDoctorLooksAtTheHub(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "HUBHOOK_NO_TUNNEL=1", "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "WEBHOOK_SECRET="+strongSecret)
	p := h.serve(t, hubhook)
	type set = func(*testing.T, *consulted) (variables []string)
	variables := func(list ...string) set { return func(*testing.T, *consulted) []string { return list } }
	token := func(role hubtest.Role, permissions ...string) set {
		return func(_ *testing.T, c *consulted) []string {
			return []string{"HF_TOKEN=" + c.Accounts.AddToken(hubtest.Token{Role: role, Permissions: permissions})}
		}
	}
	fault := func(path string, answer http.HandlerFunc) set {
		return func(_ *testing.T, c *consulted) []string {
			c.Faults.Inject(hubtest.Fault{Path: path, Answer: answer})
			return nil
		}
	}
	webhook := func(w hubtest.Webhook, after ...func(*hubtest.Hub, string) error) set {
		return func(t *testing.T, c *consulted) []string {
			w.Watched = []hubtest.Watched{{Type: "user", Name: "me"}}
			c.webhook(t, w)
			for _, do := range after {
				if err := do(c.Hub, theWebhook); err != nil {
					t.Fatal(err)
				}
			}
			return nil
		}
	}
	const one = "webhook " + theWebhook
	for _, test := range []struct {
		name    string
		prepare set
		args    []string
		want    map[string]string
	}{
		{"all well", webhook(hubtest.Webhook{URL: "/webhooks/inbox"}), nil, map[string]string{
			"hub": "ok tcp, http", "clock": "ok", "token": "ok from HF_TOKEN is of me; it may read and change", "webhooks": "ok me has 1 webhook", one: "ok " + p.base + "/webhooks/inbox", "rate limit": "ok of 1000"}},
		{"a secret is missing", webhook(hubtest.Webhook{URL: "/webhooks/inbox", Secret: "-"}), nil, map[string]string{one: "fail --secret"}},
		{"a wrong path", webhook(hubtest.Webhook{URL: "/train"}), nil, map[string]string{one: "fail --url " + p.base + "/webhooks/inbox"}},
		{"an unknown endpoint", webhook(hubtest.Webhook{URL: "/webhooks/inboxing"}), nil, map[string]string{one: `fail no endpoint is called "inboxing"`}},
		{"suspended", webhook(hubtest.Webhook{URL: "/webhooks/inbox"}, (*hubtest.Hub).Suspend), nil, map[string]string{one: "fail hubhook hub enable"}},
		{"disabled", webhook(hubtest.Webhook{URL: "/webhooks/inbox"}, (*hubtest.Hub).Disable), nil, map[string]string{one: "fail it is disabled"}},
		{"another tunnel", webhook(hubtest.Webhook{URL: "https://old.ngrok-free.app/webhooks/inbox"}), nil, map[string]string{one: "warn earlier tunnel"}},
		{"elsewhere", webhook(hubtest.Webhook{URL: "https://prod.example.com/hook"}), nil, map[string]string{"webhooks": "ok 1 of them not of this hubhook"}},
		{"a Job", webhook(hubtest.Webhook{Job: &hubtest.Job{DockerImage: "python"}}), nil, map[string]string{"webhooks": "ok 1 of them not"}},

		{"no token", variables("HF_TOKEN="), nil, map[string]string{"hub": "ok", "token": "skip HF_TOKEN sets one", "webhooks": "skip no token is set"}},
		{"no token, and one is needed", variables("HF_TOKEN="), []string{"--watch", "dataset:me/data"}, map[string]string{"token": "fail hf auth login"}},
		{"no token, and one is needed by a variable", variables("HF_TOKEN=", "HUBHOOK_WEBHOOK=654bbbc16f2ec14d77f109cc"), nil, map[string]string{"token": "fail hf auth login"}},
		{"a token in a file", func(t *testing.T, c *consulted) []string {
			h.work(t, "token", c.token+"\n")
			return []string{"HF_TOKEN=", "HF_TOKEN_PATH=token"}
		}, nil, map[string]string{"token": "ok from token is of me"}},
		{"a directory for a token", variables("HF_TOKEN=", "HF_TOKEN_PATH=."), nil, map[string]string{"token": "fail not a regular file", "webhooks": "skip"}},
		{"a wrong token", variables("HF_TOKEN=2nobodyKnowsThisToken"), nil, map[string]string{"token": "fail HF_TOKEN is wrong or was revoked", "webhooks": "skip"}},
		{"no right", token(hubtest.FineGrained, hubtest.ReadContent), nil, map[string]string{"token": "warn user.webhooks.read and user.webhooks.write", "webhooks": "warn 403"}},
		{"half the right", token(hubtest.FineGrained, hubtest.ReadWebhooks), nil, map[string]string{"token": "ok may read webhooks", "webhooks": "ok"}},
		{"half the right, and all is needed", token(hubtest.FineGrained, hubtest.ReadWebhooks), []string{"--watch", "user:me"}, map[string]string{"token": "fail user.webhooks.write", "webhooks": "ok"}},
		{"the right", token(hubtest.FineGrained, hubtest.WriteWebhooks), []string{"--watch", "user:me"}, map[string]string{"token": "ok read and change", "webhooks": "ok"}},
		{"a token to read", token(hubtest.Read), []string{"--watch", "user:me"}, map[string]string{"token": "fail may change nothing"}},

		{"a Hub that hangs", fault("", hubtest.Hang), nil, map[string]string{"hub": "warn no answer within", "clock": "skip", "token": "skip", "webhooks": "skip"}},
		{"an API that fails", fault("/api/*", hubtest.Status(500)), []string{"--watch", "user:me"}, map[string]string{"hub": "ok", "token": "fail 500", "webhooks": "fail 500"}},
		{"a Hub that fails", fault("", hubtest.Status(503)), nil, map[string]string{"hub": "warn status.huggingface.co", "token": "warn 503", "webhooks": "warn 503"}},
		{"a limit that is used up", fault("/api/*", hubtest.TooManyRequests(time.Minute)), nil, map[string]string{"token": "warn try again in 1m", "webhooks": "skip", "rate limit": "warn 0 requests are left"}},
		{"HTML", fault("/api/*", hubtest.HTML(200)), nil, map[string]string{"token": "warn page of HTML", "webhooks": "skip"}},
		{"a connection that is cut", fault("", hubtest.Cut), nil, map[string]string{"hub": "warn http: ", "token": "skip"}},
		{"no address", variables("HF_ENDPOINT=huggingface.co"), nil, map[string]string{"hub": "warn HF_ENDPOINT", "clock": "skip", "token": "skip", "webhooks": "skip", "rate limit": "skip"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := consult(t, h, p, hubtest.Options{Quota: 1000})
			found := c.diagnose(t, test.prepare(t, c), test.args...)
			wantFound(t, found, test.want)
			but := []string{"webhooks"}
			for name := range test.want {
				but = append(but, name)
			}
			notBad(t, found, but...)
		})
	}
}

// Of the webhooks that hubhook keeps doctor says what the running one says, and what the record of one that was killed says.
func TestDoctorAndKeptWebhooks(t *testing.T) {
	t.Parallel()
	k := newKept(t, hubtest.Options{})
	k.edge.AssignDomain("first.example.com")
	k.home.env = append(k.home.env, "WEBHOOK_SECRET="+strongSecret)
	p := k.home.start(t, hubhook, "--port", "0", "--watch", "dataset:me/data")
	p.awaitReady()
	w := k.only(t, "https://first.example.com/webhooks/inbox", true)
	p.poll("the webhook is active", func() (bool, string) {
		all := p.status().Webhooks
		return len(all) == 1 && all[0].State == "active", ""
	})
	found, _ := k.home.diagnose(t)
	wantFound(t, found, map[string]string{"token": "ok", "webhook " + w.ID: "ok hubhook keeps it for inbox: active since"})
	found, _ = k.home.with("HF_TOKEN=").diagnose(t)
	wantFound(t, found, map[string]string{"token": "fail --watch and --webhook need one"})
	if err := k.Suspend(w.ID); err != nil {
		t.Fatal(err)
	}
	found, _ = k.home.diagnose(t)
	// hubhook may have enabled it again by the time that doctor looks.
	if f := found["webhook "+w.ID]; f.Result != api.OK && !strings.Contains(f.Text, "suspended") {
		t.Errorf("a suspended webhook: %+v", f)
	}
	p.kill()
	found, _ = k.home.diagnose(t)
	if f := found["webhook "+w.ID]; !strings.Contains(f.Text, "hubhook keeps it while it runs") {
		t.Errorf("a webhook that is left: %+v", f)
	}
	if _, err := os.Stat(p.ready.Data); err != nil {
		t.Fatal(err)
	}
}
