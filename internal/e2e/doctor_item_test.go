//go:build unix

package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// settle waits until the Hub has posted all that it has, and the hubhook has finished with what came of the repo.
func (c *consulted) settle(t *testing.T, p *program, repo string, state queue.State) {
	t.Helper()
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	pollFor(t, patience, "a delivery of "+repo+" is "+string(state), func() (bool, string) {
		list, err := p.inspector().List(t.Context(), queue.Filter{Repo: repo, State: state})
		return err == nil && len(list.Deliveries) > 0, ""
	})
}

// Why nothing comes from a repo: one case for each cause.
func TestDoctorSaysWhyNothingComes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "HUBHOOK_NO_TUNNEL=1", "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "WEBHOOK_SECRET="+strongSecret)
	h.work(t, "hubhook.yaml", `
endpoints:
  train: {run: "true"}
  filtered: {run: "true", if: 'branch("main")'}
  broken: {run: "false", attempts: 1}
  closed: {run: "true"}
`)
	p := h.serve(t, hubhook)
	calm := newHome(t) // where nothing is refused
	calm.env = append(calm.env, "HUBHOOK_NO_TUNNEL=1", "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "WEBHOOK_SECRET="+strongSecret)
	quiet := calm.serve(t, hubhook)
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	me := func(name string) []hubtest.Watched { return []hubtest.Watched{{Type: "dataset", Name: name}} }
	push := func(t *testing.T, c *consulted, repo, ref string) {
		t.Helper()
		if _, err := c.Repo(payload.Dataset, repo).Push(hubtest.Commit{Ref: ref, Files: []hubtest.File{{Path: "a.txt", Content: []byte("a")}}}); err != nil {
			t.Fatal(err)
		}
	}
	const one = "webhook " + theWebhook
	for _, test := range []struct {
		name    string
		webhook *hubtest.Webhook // nil: none
		private bool
		prepare func(t *testing.T, c *consulted, repo string)
		token   string // "" for the user's, "none", or the user that another one is of
		calm    bool   // beside a hubhook that refuses nothing
		item    string // with REPO for the repo's name; "" for dataset:REPO
		why     string
		want    map[string]string
	}{
		{name: "all well", webhook: &hubtest.Webhook{URL: "/webhooks/train"}, prepare: func(t *testing.T, c *consulted, repo string) {
			push(t, c, repo, "")
			c.settle(t, p, "dataset:"+repo, queue.Done)
		}, why: "ok it comes: the latest at", want: map[string]string{"dataset": "ok is there", "watched": "ok by 1 webhook of me", one: "ok", "deliveries": "ok 1 has come: 1 done", "quota": "ok of 1000"}},
		{name: "nothing yet", webhook: &hubtest.Webhook{URL: "/webhooks/train"}, why: "ok the first one comes with a push", want: map[string]string{"deliveries": "skip", "public URL": "skip"}},
		{name: "through its owner", webhook: &hubtest.Webhook{URL: "/webhooks/train", Watched: []hubtest.Watched{{Type: "user", Name: "me"}}}, why: "ok", want: map[string]string{"watched": "ok (user:me)"}},
		{name: "an owner", calm: true, webhook: &hubtest.Webhook{URL: "/webhooks/inbox", Watched: []hubtest.Watched{{Type: "user", Name: "me"}}}, item: "user:me", why: "ok", want: map[string]string{"user": "ok", "watched": "ok"}},
		{name: "an organization that is a user", item: "org:me", why: "fail did you mean user:me", want: map[string]string{"org": "fail", "watched": "fail none of the 0"}},

		{name: "no such repo", item: "dataset:me/none", why: "fail has no dataset:me/none", want: map[string]string{"dataset": "fail check its name"}},
		{name: "another type", item: "model:REPO", why: "fail did you mean dataset:", want: map[string]string{"model": "fail"}},
		{name: "private, and another's token", private: true, token: "you", why: "fail does not show it to this token", want: map[string]string{"dataset": "fail HF_TOKEN"}},
		{name: "private, and no token", private: true, token: "none", why: "fail only to those who have a token", want: map[string]string{"token": "skip", "watched": "skip"}},
		{name: "renamed", webhook: &hubtest.Webhook{URL: "/webhooks/train"}, prepare: func(t *testing.T, c *consulted, repo string) {
			if err := c.Repo(payload.Dataset, repo).Move("me/new"); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, why: "fail watches the old name", want: map[string]string{"dataset": "warn dataset:me/new now", "watched": "fail --watch dataset:me/new"}},
		{name: "not watched", webhook: &hubtest.Webhook{URL: "/webhooks/train", Watched: me("me/other")}, why: "fail none of the 1 webhooks of me watches", want: map[string]string{"watched": "fail hubhook serve --watch"}},
		{name: "no token", calm: true, webhook: &hubtest.Webhook{URL: "/webhooks/train"}, token: "none", why: "skip HF_TOKEN sets a token", want: map[string]string{"dataset": "ok", "watched": "skip no token"}},
		{name: "discussions alone", webhook: &hubtest.Webhook{URL: "/webhooks/train", Domains: []string{"discussion"}}, why: "fail no push", want: map[string]string{"watched": "fail --domain repo"}},
		{name: "no discussions", webhook: &hubtest.Webhook{URL: "/webhooks/train", Domains: []string{"repo"}}, why: "warn no discussion", want: map[string]string{"watched": "warn"}},
		{name: "disabled", webhook: &hubtest.Webhook{URL: "/webhooks/train"}, prepare: func(t *testing.T, c *consulted, _ string) {
			if err := c.Disable(theWebhook); err != nil {
				t.Fatal(err)
			}
		}, why: "fail it is disabled", want: map[string]string{one: "fail hubhook hub enable"}},
		{name: "suspended", webhook: &hubtest.Webhook{URL: "/webhooks/train"}, prepare: func(t *testing.T, c *consulted, _ string) {
			if err := c.Suspend(theWebhook); err != nil {
				t.Fatal(err)
			}
		}, why: "fail the Hub has suspended it", want: map[string]string{one: "fail hubhook hub enable"}},
		{name: "another URL", webhook: &hubtest.Webhook{URL: stranger.URL + "/hook"}, why: "fail something else answers there", want: map[string]string{one: "fail --url " + p.base}},
		{name: "a URL where nothing is", webhook: &hubtest.Webhook{URL: "http://127.0.0.1:1/hook"}, why: "fail nothing answers there", want: map[string]string{one: "fail"}},
		{name: "a Job", webhook: &hubtest.Webhook{Job: &hubtest.Job{DockerImage: "python"}}, why: "fail it starts a Job in python", want: map[string]string{one: "fail make another one"}},
		{name: "a wrong path", webhook: &hubtest.Webhook{URL: "/webhooks/trian"}, prepare: func(t *testing.T, c *consulted, repo string) {
			push(t, c, repo, "")
			pollFor(t, patience, "it is refused", func() (bool, string) { return len(c.Attempts()) > 0, "" })
		}, why: `fail no endpoint is called "trian"`, want: map[string]string{one: "fail /webhooks/", "refused": "fail with 404"}},
		{name: "a wrong secret", webhook: &hubtest.Webhook{URL: "/webhooks/closed", Secret: "0therSecret"}, prepare: func(t *testing.T, c *consulted, repo string) {
			push(t, c, repo, "")
			pollFor(t, patience, "it is refused", func() (bool, string) { return len(c.Attempts()) > 0, "" })
		}, why: "fail with 403: the secret is wrong", want: map[string]string{one: "ok", "refused": "fail make the secret"}},
		{name: "a filter", webhook: &hubtest.Webhook{URL: "/webhooks/filtered"}, prepare: func(t *testing.T, c *consulted, repo string) {
			push(t, c, repo, "dev")
			c.settle(t, p, "dataset:"+repo, queue.Skipped)
		}, why: "warn branch(", want: map[string]string{"deliveries": "warn the endpoint's filter (if) says no"}},
		{name: "a handler that fails", webhook: &hubtest.Webhook{URL: "/webhooks/broken"}, prepare: func(t *testing.T, c *consulted, repo string) {
			push(t, c, repo, "")
			c.settle(t, p, "dataset:"+repo, queue.Dead)
		}, why: "warn is dead: ", want: map[string]string{"deliveries": "warn hubhook deliveries replay"}},
		{name: "a Hub that fails", calm: true, webhook: &hubtest.Webhook{URL: "/webhooks/train"}, prepare: func(_ *testing.T, c *consulted, _ string) {
			c.Faults.Inject(hubtest.Fault{Path: "/api/*", Answer: hubtest.Status(500)})
		}, why: "warn 500", want: map[string]string{"token": "warn 500", "dataset": "warn 500", "watched": "warn 500"}},
		{name: "a Hub that hangs", calm: true, webhook: &hubtest.Webhook{URL: "/webhooks/train"}, prepare: func(_ *testing.T, c *consulted, _ string) {
			c.Faults.Inject(hubtest.Fault{Path: "/api/*", Answer: hubtest.Hang})
		}, why: "skip it can't be known without the Hub", want: map[string]string{"hub": "ok", "token": "warn no answer", "dataset": "skip", "watched": "skip"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := consult(t, h, p, hubtest.Options{Retry: hubtest.Backoff(1, 1, 1)})
			if test.calm {
				c.home, c.ours = calm, quiet.base
			}
			repo := "me/" + strings.Map(func(r rune) rune {
				if r < 'a' || r > 'z' {
					return '-'
				}
				return r
			}, strings.ToLower(test.name))
			if _, err := c.CreateRepo(payload.Dataset, repo, hubtest.RepoOptions{Private: test.private}); err != nil {
				t.Fatal(err)
			}
			if test.webhook != nil {
				w := *test.webhook
				if w.Watched == nil {
					w.Watched = me(repo)
				}
				c.webhook(t, w)
			}
			if test.prepare != nil {
				test.prepare(t, c, repo)
			}
			var variables []string
			switch test.token {
			case "":
			case "none":
				variables = []string{"HF_TOKEN="}
			default:
				variables = []string{"HF_TOKEN=" + c.Accounts.AddToken(hubtest.Token{User: test.token})}
			}
			item := "dataset:" + repo
			if test.item != "" {
				item = strings.ReplaceAll(test.item, "REPO", repo)
			}
			found := c.diagnose(t, variables, item)
			test.want["why"] = test.why
			wantFound(t, found, test.want)
		})
	}
}

// What keeps everything from coming: nothing runs, or something else is at the public URL.
func TestDoctorSaysThatNothingCanCome(t *testing.T) {
	t.Parallel()
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	h := newHome(t)
	h.env = append(h.env, "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "WEBHOOK_SECRET="+strongSecret, "HUBHOOK_PUBLIC_URL="+stranger.URL)
	p := h.serve(t, hubhook)
	c := consult(t, h, p, hubtest.Options{})
	if _, err := c.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{}); err != nil {
		t.Fatal(err)
	}
	c.webhook(t, hubtest.Webhook{URL: stranger.URL + "/webhooks/inbox", Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}}})
	found := c.diagnose(t, nil, "dataset:me/data")
	wantFound(t, found, map[string]string{"webhook " + theWebhook: "ok", "public URL": "fail does not lead to", "why": "fail " + stranger.URL + " does not lead to"})
	p.stop()
	found = c.diagnose(t, nil, "dataset:me/data")
	wantFound(t, found, map[string]string{"hubhook": "fail hubhook serve --watch dataset:me/data", "why": "fail no hubhook runs here", "deliveries": "skip"})

	// Beside one that follows the repo no webhook is missed.
	f := newHome(t)
	f.env = append(f.env, "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "WEBHOOK_SECRET="+strongSecret, "HF_ENDPOINT="+c.URL)
	q := f.serve(t, hubhook, "--follow", "dataset:me/data")
	q.poll("it follows", func() (bool, string) {
		all := q.status().Followed
		return len(all) == 1 && all[0].State == "following", ""
	})
	if err := c.Delete(theWebhook); err != nil {
		t.Fatal(err)
	}
	c.home = f
	found = c.diagnose(t, nil, "dataset:me/data")
	wantFound(t, found, map[string]string{"watched": "skip hubhook follows it", "webhook": "skip", "followed": "ok following since", "why": "ok nothing is in the way"})
	found = c.diagnose(t, nil)
	wantFound(t, found, map[string]string{"followed dataset:me/data": "ok following since"})
	q.stop()
}

func TestDoctorForPeopleAboutARepo(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for args, want := range map[string]string{
		"data":                         "want TYPE:NAME",
		"paper:me/data":                "unknown type",
		"dataset:me/data more":         "unexpected argument \"more\"",
		"dataset:me/data -- python":    "don't go together",
		"dataset:me/data dataset:me/x": "unexpected argument",
	} {
		if out, errs, status := h.runDoctor(t, strings.Fields(args)...); status != 2 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("doctor %s: status %d, %q, %q", args, status, out, errs)
		}
	}
}
