package follow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// watching runs a test in a world whose Hub has a webhook for an item, which posts only what the test lets arrive.
func watching(t *testing.T, item string, test func(w *behind)) {
	t.Helper()
	inWorld(t, hubtest.Options{ReplayWindow: 15 * time.Minute}, func(w *world) {
		b := &behind{world: w}
		watched, err := hub.ParseWatched(item)
		b.must(err)
		b.client = b.clientWith(b.hub.Accounts.AddToken(hubtest.Token{}))
		_, err = b.hub.Create(hubtest.Webhook{URL: "http://127.0.0.1:1/", Watched: []hubtest.Watched{{Type: watched.Type, Name: watched.Name}}, Domains: []string{"repo"}})
		b.must(err)
		b.watched = []CatchUpItem{{"inbox", watched}}
		test(b)
	})
}

// hubs returns what the Hub has to post since the last call, and changes make.
func (b *behind) hubs(changes ...error) (all []*payload.Payload) {
	b.Helper()
	for _, err := range changes {
		b.must(err)
	}
	made := b.hub.Deliveries()
	for _, d := range made[b.made:] {
		p, err := payload.Parse(d.Body)
		b.must(err)
		all = append(all, p)
	}
	b.made = len(made)
	return all
}

func file(path, content string) hubtest.File {
	return hubtest.File{Path: path, Content: []byte(content)}
}

func TestCatchUpWithABucket(t *testing.T) {
	watching(t, "bucket:me/b", func(w *behind) {
		b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
		w.must(err)
		w.must(b.Upload(file("old", "old")))
		w.begin()
		w.pass(time.Minute)
		w.want() // the first look
		w.hubs()

		// What the Hub has delivered is not delivered again. Of what is lost, the last change of each file arrives once.
		w.post(w.hubs(b.Upload(file("a", "1")))[0])
		lost := w.hubs(b.Upload(file("b", "1")), b.Upload(file("b", "2"), file("c", "1")), b.Remove("old"))
		w.c.Wake()
		w.pass(settleTime - time.Second)
		w.want()
		w.pass(2 * time.Second)
		p := w.want("repo.content/update me/b b:add c:add old:delete")[0]
		if p.UpdatedFilesTruncated || p.UpdatedFiles[0].XetHash != lost[1].UpdatedFiles[0].XetHash {
			t.Errorf("delivered is %s", p.Raw())
		}
		w.again()
		w.pass(2 * time.Hour)
		w.want()

		// The Hub brings late what it could not bring before: that is the same, unless it tells more.
		if w.post(lost[0]) {
			t.Error("a content that was not delivered counts as delivered")
		}
		if !w.post(lost[2]) {
			t.Error("a deletion that was delivered comes twice")
		}
		// What changes back afterwards is something new.
		if w.post(w.hubs(b.Upload(file("old", "3")))[0]) || w.post(w.hubs(b.Remove("old"))[0]) {
			t.Error("a file that is deleted once more counts as deleted already")
		}
		w.c.Wake()
		w.pass(time.Minute)
		w.want()

		// While hubhook is away for longer than the feed can replay, deletions can't be told.
		w.end()
		w.must(b.Remove("a"))
		w.must(b.Upload(file("d", "1")))
		w.pass(time.Hour)
		w.begin()
		w.pass(time.Minute)
		w.want("repo.content/update me/b d:add cut")

		w.must(b.SetPrivate(true))
		w.must(b.Move("me/c"))
		w.must(b.Delete())
		w.c.Wake()
		w.pass(time.Minute)
		w.want("repo/delete me/b")
	})
}

// Whatever of a bucket's deliveries is lost or late: its files are as the deliveries tell.
func TestCatchUpMissesNoFile(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			watching(t, "bucket:me/b", func(w *behind) {
				r := rand.New(rand.NewPCG(seed, 1))
				b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
				w.must(err)
				w.begin()
				w.pass(time.Minute)
				w.hubs()
				told := map[string]string{}
				tell := func(p *payload.Payload) {
					for _, f := range p.UpdatedFiles {
						if told[f.Path] = f.XetHash; f.Action == payload.FileDelete {
							delete(told, f.Path)
						}
					}
				}
				for range 12 {
					for range r.IntN(4) {
						w.pass(time.Duration(1+r.IntN(100)) * time.Second)
						path := string(rune('a' + r.IntN(3)))
						var changed error
						if files := b.Files(); len(files) > 0 && r.IntN(3) == 0 {
							changed = b.Remove(files[r.IntN(len(files))].Path)
						} else {
							changed = b.Upload(file(path, fmt.Sprint(r.Uint64())))
						}
						if p := w.hubs(changed)[0]; r.IntN(2) == 0 && !w.post(p) {
							tell(p)
						}
					}
					if r.IntN(3) == 0 {
						w.again()
					} else {
						w.c.Wake()
					}
					w.pass(time.Minute)
					for _, p := range w.events() {
						if p.UpdatedFilesTruncated {
							t.Fatalf("delivered is %s", p.Raw())
						}
						tell(p)
					}
					is := map[string]string{}
					for _, f := range b.Files() {
						is[f.Path] = f.XetHash
					}
					if !maps.Equal(told, is) {
						t.Fatalf("told is %v, and the bucket has %v", told, is)
					}
				}
			})
		})
	}
}

// All that a watched user has is caught up with: repos and buckets that were there, that have come, that have moved or are gone.
func TestCatchUpWithAUser(t *testing.T) {
	watching(t, "user:me", func(w *behind) {
		data, model := w.world.repo(payload.Dataset, "me/data"), w.world.repo(payload.Model, "me/model")
		w.world.repo(payload.Model, "other/model")
		b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
		w.must(err)
		w.begin()
		w.pass(time.Minute)
		w.want() // the first look
		w.hubs()
		w.end()

		push := func(r *hubtest.Repo) error {
			_, err := r.Push(hubtest.Commit{Files: []hubtest.File{file("a", fmt.Sprint(time.Now()))}})
			return err
		}
		w.post(w.hubs(push(data))[0])
		w.must(push(model))
		w.must(model.Move("me/moved"))
		w.must(b.Upload(file("f", "1")))
		w.world.repo(payload.Model, "me/model") // takes the name of the other one
		app := w.world.repo(payload.Space, "me/app")
		_, err = w.hub.CreateBucket("me/new", hubtest.RepoOptions{Private: true})
		w.must(err)
		w.must(w.hub.Bucket("me/new").Upload(file("g", "1")))
		w.begin()
		w.pass(time.Minute)
		w.want("repo.content/update me/b f:add", "repo/create me/new", "repo.content/update me/new g:add",
			"repo/move me/model", "repo.content/update me/moved refs/heads/main:moved", "repo/create me/model", "repo/create me/app")
		w.again()
		w.pass(time.Hour)
		w.want()
		w.hubs()

		// Of a new repo the Hub has delivered the creation, and no push.
		w.end()
		late := w.world.repo(payload.Dataset, "me/late")
		w.post(w.hubs()[0])
		w.must(push(late))
		w.must(app.Delete())
		w.must(data.Move("other/data"))
		w.begin()
		w.pass(2 * time.Hour)
		w.want("repo/move me/data", "repo.content/update me/late refs/heads/main:moved", "repo/delete me/app")
		w.again()
		w.pass(2 * time.Hour)
		w.want()
	})
}

// Of an owner with very many repos those are looked at that its listing shows to have changed.
func TestCatchUpWithALargeOwner(t *testing.T) {
	watching(t, "org:lab", func(w *behind) {
		var repos []*hubtest.Repo
		for i := range mostOwned + 1 {
			repos = append(repos, w.world.repo(payload.Dataset, fmt.Sprintf("lab/%d", i)))
		}
		w.begin()
		w.pass(time.Minute)
		w.hub.Requests.Reset()
		w.pass(time.Hour)
		if n := w.hub.Requests.Count(http.MethodGet, "/api/datasets/*"); n > 0 {
			t.Errorf("%d requests for repos that have not changed", n)
		}
		w.push(repos[7], "")
		w.pass(time.Hour)
		w.want("repo.content/update lab/7 refs/heads/main:moved")
		// The Hub does not tell the listing.
		w.hub.Faults.Inject(hubtest.Fault{Path: "/api/datasets", Requests: 3, Answer: hubtest.Status(http.StatusInternalServerError)})
		w.push(repos[8], "")
		w.pass(2 * time.Hour)
		w.want("repo.content/update lab/8 refs/heads/main:moved")
		if len(w.warned) != 1 || !strings.Contains(w.warned[0], "catch up with org:lab: list the datasets of lab") {
			t.Errorf("it says %q", w.warned)
		}
	})
}
