package follow

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

func TestRepo(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		w.client = w.clientWith(w.hub.Accounts.AddToken(hubtest.Token{}))
		r := w.repo(payload.Dataset, "me/data")
		w.follow("dataset:me/data")
		w.run()
		w.pass(5 * time.Second)
		w.want() // the first look

		first := r.Head()
		w.push(r, "")
		second := r.Head()
		w.push(r, "")
		w.must(r.CreateBranch("dev", ""))
		w.must(r.CreateTag("v1", second))
		w.pass(time.Minute)
		p := w.want("repo.content/update me/data refs/heads/main:moved refs/heads/dev:new refs/tags/v1:new")[0]
		if main := p.UpdatedRefs[0]; main.OldSHA.Hex != first || main.NewSHA.Hex != r.Head() || p.Repo.HeadSHA != r.Head() {
			t.Errorf("main goes from %v to %v, headSha %s", main.OldSHA, main.NewSHA, p.Repo.HeadSHA)
		}
		if p.Repo.ID != r.ID() || p.Repo.Private || p.Repo.URL.Web != "http://hub.test/datasets/me/data" || p.Webhook.Version != 3 {
			t.Errorf("the repo is %+v, the webhook %+v", p.Repo, p.Webhook)
		}
		w.must(r.DeleteBranch("dev"))
		w.must(r.DeleteTag("v1"))
		w.pass(time.Minute)
		w.want("repo.content/update me/data refs/heads/dev:gone refs/tags/v1:gone")

		// What happened while nobody looked arrives once.
		w.end()
		w.push(r, "")
		w.must(r.Move("me/other"))
		w.run()
		w.pass(2 * time.Minute)
		all := w.want("repo/move me/data", "repo.content/update me/other refs/heads/main:moved")
		if all[0].MovedTo.Name != "me/other" {
			t.Errorf("it moved to %+v", all[0].MovedTo)
		}
		w.restart()
		w.pass(2 * time.Minute)
		w.want()
		w.must(r.Delete())
		w.pass(3 * time.Minute)
		w.want("repo/delete me/other")
		if v := w.f.Followed()[0]; v.State != Gone || v.Error == "" || v.Hint == "" {
			t.Errorf("its state is %+v", v)
		}
		w.restart()
		w.pass(time.Hour)
		w.want()
		w.repo(payload.Dataset, "me/data") // another one
		w.pass(time.Hour)
		w.want("repo/create me/data")
		if v := w.f.Followed()[0]; v.State != Following || v.Error != "" {
			t.Errorf("its state is %+v", v)
		}
	})
}

func TestVisibility(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		w.client = w.clientWith(w.hub.Accounts.AddToken(hubtest.Token{}))
		r := w.repo(payload.Space, "me/app")
		w.follow("space:me/app")
		w.run()
		w.pass(5 * time.Second)
		for _, private := range []bool{true, false, true} {
			w.must(r.SetPrivate(private))
			w.pass(time.Minute)
			p := w.want("repo.config/update me/app")[0]
			if p.Repo.Private != private || p.Repo.Subdomain != "me-app" || p.UpdatedConfig == nil {
				t.Errorf("it is %+v, %s", p.Repo, p.Raw())
			}
		}
	})
}

// Without the token that it had, hubhook sees a private repo no more. That is no deletion, and what happens meanwhile arrives once there is a token again.
func TestTheTokenIsGone(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		token := w.hub.Accounts.AddToken(hubtest.Token{})
		w.client = w.clientWith(token)
		r := w.repo(payload.Dataset, "me/data")
		b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{Private: true})
		w.must(err)
		w.must(r.SetPrivate(true))
		w.follow("dataset:me/data", "bucket:me/b")
		w.run()
		w.pass(5 * time.Second)
		w.end()
		w.client = w.clientWith("")
		w.run()
		w.pass(time.Hour)
		w.want()
		for _, v := range w.f.Followed() {
			if v.State != Failing || !strings.Contains(v.Error, "it was private when it was last seen") || !strings.Contains(v.Hint, "HF_TOKEN") {
				t.Errorf("it is %+v", v)
			}
		}
		w.end()
		w.push(r, "")
		w.client = w.clientWith(token)
		w.run()
		w.pass(time.Minute)
		w.want("repo.content/update me/data refs/heads/main:moved")
		w.must(b.Delete()) // with a token that is one
		w.pass(5 * time.Minute)
		w.want("repo/delete me/b")
	})
}

// A repo that was made private looks like one that was deleted to all but its owner. So they get no deletion, and what happened meanwhile arrives
// once the repo is there again.
func TestMadePrivate(t *testing.T) {
	for name, token := range map[string]*hubtest.Token{
		"no token": nil, "another user's": {User: "other"}, "fine-grained": {Permissions: []string{hubtest.ReadWebhooks}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, hubtest.Options{}, func(w *world) {
				if token != nil {
					w.client = w.clientWith(w.hub.Accounts.AddToken(*token))
				}
				r := w.repo(payload.Dataset, "me/data")
				b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
				w.must(err)
				w.follow("dataset:me/data", "bucket:me/b")
				w.run()
				w.pass(5 * time.Second)
				w.must(r.SetPrivate(true))
				w.must(b.SetPrivate(true))
				w.push(r, "")
				w.pass(time.Hour)
				w.want()
				for _, v := range w.f.Followed() {
					if v.State != Failing || !strings.Contains(v.Error, "it may have been made private") || !strings.Contains(v.Hint, "a token of me") {
						t.Errorf("it is %+v", v)
					}
				}
				w.must(r.SetPrivate(false))
				w.must(b.SetPrivate(false))
				w.pass(10 * time.Minute)
				w.want("repo.content/update me/data refs/heads/main:moved")
				w.must(w.hub.Bucket("me/b").Delete())
				_, err = w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
				w.must(err)
				w.pass(10 * time.Minute)
				w.want("repo/delete me/b", "repo/create me/b") // the new one proves it
			})
		})
	}
}

// A repo that was deleted and made again between two looks is another one.
func TestRepoMadeAnew(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		r := w.repo(payload.Model, "me/m")
		w.follow("model:me/m")
		w.run()
		w.pass(5 * time.Second)
		w.must(r.Delete())
		w.repo(payload.Model, "me/m")
		w.pass(time.Minute)
		w.want("repo/delete me/m", "repo/create me/m")
	})
}

// The same change, made again later, is no duplicate of the first.
func TestWebhookIDs(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		r := w.repo(payload.Model, "me/m")
		w.must(r.CreateTag("a", ""))
		w.follow("model:me/m")
		w.run()
		w.pass(5 * time.Second)
		ids := map[string]bool{}
		for i := range 3 {
			w.must(r.DeleteTag("a"))
			w.pass(time.Minute)
			w.must(r.CreateTag("a", ""))
			w.pass(time.Minute)
			w.mu.Lock()
			for _, d := range w.delivered {
				ids[d.WebhookID] = true
				if !strings.HasPrefix(d.WebhookID, "follow-") {
					t.Errorf("a Webhook-Id is %s", d.WebhookID)
				}
			}
			w.mu.Unlock()
			if len(ids) != 2*(i+1) {
				t.Fatalf("%d changes have %d Webhook-Ids", 2*(i+1), len(ids))
			}
		}
		w.events()
	})
}

func TestEndpoints(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		r := w.repo(payload.Model, "me/m")
		b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
		w.must(err)
		w.follow("model:me/m", "bucket:me/b")
		w.names = []string{"two", "one"}
		w.items = append(w.items, Item{Endpoint: "three", Repo: w.items[0].Repo})
		w.run()
		w.pass(5 * time.Second)
		w.push(r, "")
		w.must(b.Upload(hubtest.File{Path: "f", Content: []byte("1")}))
		w.pass(time.Minute)
		var got []string
		w.mu.Lock()
		for _, d := range w.delivered {
			p, _ := payload.Parse(d.Body)
			got = append(got, d.Endpoint+" "+string(p.Repo.Type))
		}
		w.mu.Unlock()
		w.events()
		slices.Sort(got)
		if want := "[one bucket one model three model two bucket two model]"; fmt.Sprint(got) != want {
			t.Errorf("deliveries went to %v, want %s", got, want)
		}
		// An endpoint that comes later begins with a first look.
		w.mu.Lock()
		w.names = []string{"two", "one", "late"}
		w.mu.Unlock()
		w.pass(2 * time.Minute)
		w.want()
		w.must(b.Upload(hubtest.File{Path: "f", Content: []byte("2")}))
		w.pass(time.Minute)
		if n := len(w.events()); n != 3 {
			t.Errorf("%d deliveries for 3 endpoints", n)
		}
	})
}

// The payloads have the shape of the Hub's own.
func TestShapes(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		w.client = w.clientWith(w.hub.Accounts.AddToken(hubtest.Token{}))
		_, err := w.hub.Create(hubtest.Webhook{URL: "http://127.0.0.1:1/", Watched: []hubtest.Watched{{Type: "user", Name: "me"}}, Domains: []string{"repo"}})
		w.must(err)
		r := w.repo(payload.Space, "me/app")
		b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
		w.must(err)
		w.follow("space:me/app", "bucket:me/b")
		w.run()
		w.pass(5 * time.Second)
		skip := len(w.hub.Deliveries())
		for _, change := range []func() error{
			func() error { _, err := r.Push(hubtest.Commit{Files: []hubtest.File{file("a", "1")}}); return err },
			func() error { return r.CreateTag("v1", "") },
			func() error { return r.DeleteTag("v1") },
			func() error { return r.SetPrivate(true) },
			func() error { return r.Move("me/moved") },
			r.Delete,
			func() error { return b.Upload(file("f", "1")) },
			func() error { return b.Remove("f") },
			func() error { return b.SetPrivate(true) },
			func() error { return b.Move("me/c") },
			b.Delete,
		} {
			w.must(change())
			w.pass(2 * time.Minute)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		theirs := w.hub.Deliveries()[skip:]
		if len(w.delivered) != len(theirs) {
			t.Fatalf("%d deliveries; the Hub made %d", len(w.delivered), len(theirs))
		}
		for i, d := range w.delivered {
			if ours, hubs := shape(t, d.Body), shape(t, theirs[i].Body); ours != hubs {
				t.Errorf("our payload has the shape\n%s\nthe Hub's\n%s", ours, hubs)
			}
		}
	})
}

func TestTroubleIsSaidOnceAndPasses(t *testing.T) {
	for name, c := range map[string]struct {
		fault hubtest.Fault
		says  string
	}{
		"500":  {hubtest.Fault{Answer: hubtest.Status(500)}, "the Hub answered 500"},
		"429":  {hubtest.Fault{Answer: hubtest.TooManyRequests(20 * time.Second)}, "the Hub answered 429"},
		"HTML": {hubtest.Fault{Answer: hubtest.HTML(200)}, "not JSON"},
		"hang": {hubtest.Fault{Answer: hubtest.Hang}, "no answer"},
		"401":  {hubtest.Fault{Answer: hubtest.Status(401)}, "not found"},
		"cut":  {hubtest.Fault{Answer: hubtest.Cut}, "refs"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, hubtest.Options{}, func(w *world) {
				r, other := w.repo(payload.Model, "me/m"), w.repo(payload.Model, "me/other")
				w.follow("model:me/m", "model:me/other")
				w.run()
				w.pass(5 * time.Second)
				w.shown = nil
				c.fault.Path = "/api/models/me/m*"
				remove := w.hub.Faults.Inject(c.fault)
				w.push(r, "")
				w.push(other, "")
				w.pass(10 * time.Minute)
				for _, p := range w.events() {
					if name != "401" && p.Repo.Name != "me/other" {
						t.Errorf("delivered was %s", p.Raw())
					}
				}
				failing := 0
				for _, v := range w.shown {
					if v.State == Failing {
						failing++
						t.Log(v.Error, "/", v.Hint)
						if v.Hint == "" || v.Item != "model:me/m" {
							t.Errorf("it fails without a hint: %+v", v)
						}
					}
				}
				if failing != 1 {
					t.Errorf("it is said %d times: %+v", failing, w.shown)
				}
				if n := remove(); n > 20 {
					t.Errorf("the Hub was asked %d times in 10 minutes", n)
				}
				w.pass(20 * time.Minute)
				if name != "401" {
					w.want("repo.content/update me/m refs/heads/main:moved")
				}
				if v := w.f.Followed()[0]; v.State != Following || v.Error != "" || v.Deliveries == 0 {
					t.Errorf("it does not recover: %+v", v)
				}
			})
		})
	}
}

// Requests are spread over the time between two looks, and stay within the budget.
func TestRequests(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		for i := range 100 {
			name := fmt.Sprintf("me/m%d", i)
			w.repo(payload.Model, name)
			w.follow("model:" + name)
		}
		w.run()
		w.pass(time.Minute)
		w.hub.Requests.Reset()
		w.pass(time.Hour)
		if n := w.hub.Requests.Count("", ""); n < 11_900 || n > 12_100 {
			t.Errorf("%d requests for 100 repos in an hour, want two a minute for each", n)
		}
		busiest := map[int64]int{}
		for _, r := range w.hub.Requests.All() {
			busiest[r.Started.Unix()]++
		}
		for at, n := range busiest {
			if n > 10 {
				t.Errorf("%d requests within one second, %d", n, at)
			}
		}
		w.end()
		w.budget = 500
		w.run()
		if w.f.Every() != 150*time.Second {
			t.Errorf("with 500 requests in 5 minutes each repo is looked at every %s", w.f.Every())
		}
	})
}
