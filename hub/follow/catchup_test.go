package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// behind is a world whose Hub has a webhook for a repo, which posts or does not.
type behind struct {
	*world
	repo    *hubtest.Repo
	posted  []post // what the Hub has delivered
	watched []CatchUpItem
	c       *CatchUp
	warned  []string
	made    int // of the Hub's deliveries, those that the test has taken
}

type post struct {
	at time.Time
	p  *payload.Payload
}

// catchingUp runs a test in a world with a watched repo, of which the first look has been made.
func catchingUp(t *testing.T, test func(w *behind)) {
	t.Helper()
	inWorld(t, hubtest.Options{}, func(w *world) {
		b := &behind{world: w, repo: w.repo(payload.Dataset, "me/data")}
		b.watched = []CatchUpItem{{"inbox", hub.Watched{Type: "dataset", Name: "me/data"}}}
		b.begin()
		b.pass(time.Second)
		b.want()
		test(b)
	})
}

// begin begins to catch up, as a new process.
func (b *behind) begin() {
	ctx, cancel := context.WithCancel(b.Context())
	b.c = NewCatchUp(CatchUpConfig{
		Hub: b.client, Store: remembering{&memory{w: b.world, die: cancel, versions: map[string]int64{}}, b}, Task: "keep",
		Items: func() []CatchUpItem { return b.watched },
		Warn:  func(err error) { b.warned = append(b.warned, err.Error()) },
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.c.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
}

// again ends the process and begins another one, a moment after what was before.
func (b *behind) again() {
	b.end()
	b.pass(time.Millisecond)
	b.begin()
}

// remembering is a Past.
type remembering struct {
	*memory
	b *behind
}

func (r remembering) Brought(_ context.Context, _ string, repo hub.RepoID, since time.Time) (all []*payload.Payload, err error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	for _, p := range slices.Backward(r.b.posted) {
		if !p.at.Before(since) && p.p.Repo.Name == repo.Name {
			all = append(all, p.p)
		}
	}
	return all, nil
}

// payload makes what the Hub posts of a change of main.
func (b *behind) payload(from, to string) *payload.Payload {
	b.Helper()
	body, err := json.Marshal(map[string]any{
		"event":       map[string]string{"action": "update", "scope": "repo.content"},
		"repo":        map[string]any{"type": "dataset", "name": "me/data"},
		"updatedRefs": []map[string]string{{"ref": "refs/heads/main", "oldSha": from, "newSha": to}},
	})
	b.must(err)
	p, err := payload.Parse(body)
	b.must(err)
	return p
}

// move moves main to a new commit, or to one that it was at, "" for a new one, and returns what the Hub posts.
func (b *behind) move(to string) *payload.Payload {
	b.Helper()
	from := b.repo.Head()
	if to == "" {
		b.push(b.repo, "")
		to = b.repo.Head()
	} else {
		b.must(b.repo.SetRefs(hubtest.Ref{Name: "refs/heads/main", Commit: to}))
	}
	return b.payload(from, to)
}

// post lets a delivery of the Hub arrive, unless catching up was faster.
func (b *behind) post(p *payload.Payload) (duplicate bool) {
	b.Helper()
	id, err := b.c.Caught(b.Context(), "inbox", p)
	b.must(err)
	if id == "" {
		b.mu.Lock()
		b.posted = append(b.posted, post{time.Now(), p})
		b.mu.Unlock()
	}
	return id != ""
}

func TestCatchUp(t *testing.T) {
	catchingUp(t, func(w *behind) {
		// What the Hub has delivered is not delivered again, in whatever order it came.
		one, two := w.move(""), w.move("")
		w.post(two)
		w.post(one)
		w.c.Wake()
		w.pass(time.Minute)
		w.want()

		// While nothing arrived there were two pushes and a tag.
		first := w.repo.Head()
		w.end()
		lost := []*payload.Payload{w.move(""), w.move("")}
		w.must(w.repo.CreateTag("v1", ""))
		w.begin()
		w.pass(settleTime - time.Second)
		w.want() // the Hub's own delivery comes first, if it does
		w.pass(2 * time.Second)
		p := w.want("repo.content/update me/data refs/heads/main:moved refs/tags/v1:new")[0]
		if main := p.UpdatedRefs[0]; main.OldSHA.Hex != first || main.NewSHA.Hex != w.repo.Head() {
			t.Errorf("main goes from %s to %s", main.OldSHA, main.NewSHA)
		}
		w.again()
		w.pass(time.Hour)
		w.want()

		// The Hub brings late what it could not bring before.
		if w.post(lost[0]) {
			t.Error("a commit that was not delivered counts as delivered")
		}
		if !w.post(lost[1]) {
			t.Error("what was delivered comes twice")
		}
		// What comes back to that commit afterwards is something new.
		at := w.repo.Head()
		away, back := w.move(""), w.move(at)
		if w.post(away) || w.post(back) {
			t.Error("a change back to what was delivered counts as delivered")
		}
		if !w.post(lost[1]) {
			t.Error("what was delivered comes twice after that")
		}
		w.pass(LateFor)
		if w.post(lost[1]) {
			t.Error("it counts as delivered for ever")
		}
		w.pass(time.Hour)
		w.want()
	})
}

// The Hub delivers a push that is under way while a look sees it.
func TestCatchUpWaitsForTheHub(t *testing.T) {
	catchingUp(t, func(w *behind) {
		p := w.move("")
		w.c.Wake()
		w.pass(settleTime / 2)
		w.post(p)
		w.pass(time.Minute)
		w.want()
		// Of two changes after that the second one is lost, by which main comes back to where it was.
		at := w.repo.Head()
		w.post(w.move(""))
		w.move(at)
		w.c.Wake()
		w.pass(time.Minute)
		if p := w.want("repo.content/update me/data refs/heads/main:moved")[0]; p.UpdatedRefs[0].NewSHA.Hex != at {
			t.Errorf("main is at %s, not %s", p.UpdatedRefs[0].NewSHA, at)
		}
	})
}

func TestCatchUpOtherEvents(t *testing.T) {
	catchingUp(t, func(w *behind) {
		w.client = w.clientWith(w.hub.Accounts.AddToken(hubtest.Token{}))
		w.again()
		w.must(w.repo.Move("me/other"))
		w.move("")
		w.c.Wake()
		w.pass(time.Minute)
		w.want("repo/move me/data", "repo.content/update me/other refs/heads/main:moved")
		w.must(w.repo.Delete())
		w.c.Wake()
		w.pass(time.Minute)
		w.want("repo/delete me/other")
		w.again()
		w.pass(2 * time.Hour)
		w.want()
	})
}

// Without a token a private repo hides itself. That is no deletion.
func TestCatchUpWithoutTheToken(t *testing.T) {
	catchingUp(t, func(w *behind) {
		anyone := w.client
		w.client = w.clientWith(w.hub.Accounts.AddToken(hubtest.Token{}))
		w.must(w.repo.SetPrivate(true))
		w.again()
		w.pass(time.Minute)
		w.want("repo.config/update me/data")
		w.client = anyone
		w.again()
		w.pass(time.Hour)
		w.want()
		if len(w.warned) != 1 || !strings.Contains(w.warned[0], "it was private when it was last seen") {
			t.Errorf("it says %q", w.warned)
		}
	})
}

// What fails is told once and tried again; what can't be caught up is told once.
func TestCatchUpFails(t *testing.T) {
	catchingUp(t, func(w *behind) {
		w.watched = append(w.watched, CatchUpItem{"inbox", hub.Watched{Type: "kernel", Name: "me/k"}}, CatchUpItem{"inbox", hub.Watched{Type: "bucket", Name: "me/b"}})
		w.hub.Faults.Inject(hubtest.Fault{Path: "/api/datasets/me/data", Requests: 20, Answer: hubtest.Status(http.StatusInternalServerError)})
		w.move("")
		w.c.Wake()
		w.pass(2 * time.Hour)
		w.want("repo.content/update me/data refs/heads/main:moved")
		if len(w.warned) != 3 {
			t.Errorf("it says %q", w.warned)
		}
	})
}

// Whatever happens to the process and its store, in whatever order the Hub's deliveries come or are lost: the last commit of main arrives, and
// however often the process dies, catching up delivers it once.
func TestCatchUpMissesNothing(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			catchingUp(t, func(w *behind) {
				r := rand.New(rand.NewPCG(seed, 1))
				w.at = func(int) fate {
					if r.IntN(3) > 0 {
						return fine
					}
					return []fate{lostBefore, lostAfter, diesBefore, diesAfter, takenBefore}[r.IntN(5)]
				}
				here := []string{w.repo.Head()}
				told := w.repo.Head() // where the newest news says main is, if the Hub's come at once
				var late []*payload.Payload
				came := map[string]bool{} // late, since the last look
				for range 12 {
					to := ""
					if r.IntN(3) == 0 {
						to = here[r.IntN(len(here))]
					}
					if to != w.repo.Head() {
						p := w.move(to)
						here = append(here, w.repo.Head())
						if r.IntN(2) == 0 {
							if !w.post(p) {
								told = w.repo.Head()
							}
						} else if r.IntN(2) == 0 {
							late = append(late, p)
						}
					}
					if len(late) > 0 && r.IntN(3) == 0 {
						w.post(late[0])
						came[late[0].UpdatedRefs[0].NewSHA.Hex] = true
						late = late[1:]
					}
					if r.IntN(2) == 0 {
						w.again()
						for range 40 {
							w.pass(15 * time.Second)
							w.mu.Lock()
							dead := w.c.c.Store.(remembering).dead
							w.mu.Unlock()
							if dead {
								w.again()
							}
						}
						events := w.events()
						if len(events) > 1 {
							t.Fatalf("delivered is %q", says(events))
						}
						for _, p := range events {
							if ref := p.UpdatedRefs[0]; ref.NewSHA.Hex != w.repo.Head() || ref.NewSHA == ref.OldSHA {
								t.Fatalf("delivered is %s", p.Raw())
							}
							told = w.repo.Head()
						}
						// Late news of a commit can't be told from news that it is there once more.
						if told != w.repo.Head() && !came[w.repo.Head()] {
							t.Fatalf("main is at %s, and nothing told it: the last news is %s", w.repo.Head(), told)
						}
						told, came = w.repo.Head(), map[string]bool{}
						w.at = func(int) fate { return fine }
					}
				}
			})
		})
	}
}

func TestLastTold(t *testing.T) {
	for _, c := range []struct {
		was, now string
		changes  []refChange // newest first
		past     []string
		want     string
	}{
		{"a", "a", nil, nil, "a"},
		{"a", "b", nil, nil, "a"},
		{"a", "b", []refChange{{"a", "b"}}, nil, "b"},
		{"a", "c", []refChange{{"a", "b"}, {"b", "c"}}, nil, "c"},
		{"a", "c", []refChange{{"a", "b"}}, nil, "b"},
		{"a", "c", []refChange{{"b", "c"}}, nil, "c"},             // one between is missing
		{"a", "a", []refChange{{"a", "b"}}, nil, "b"},             // the way back is missing
		{"a", "a", []refChange{{"b", "a"}, {"a", "b"}}, nil, "a"}, // it was told
		{"a", "a", []refChange{{"b", "a"}, {"a", "b"}, {"b", "a"}, {"a", "b"}}, nil, "a"},
		{"a", "a", []refChange{{"a", "b"}, {"b", "a"}, {"a", "b"}}, nil, "b"},
		{"", "", []refChange{{"a", ""}, {"", "a"}}, nil, ""}, // it came and went
		{"a", "", []refChange{{"a", ""}}, nil, ""},
		{"a", "b", []refChange{{"a", "b"}, {"a", "b"}}, nil, "b"},             // told by two webhooks
		{"a", "a", []refChange{{"a", "b"}, {"a", "b"}, {"b", "a"}}, nil, "b"}, // in doubt once more
		{"c", "c", []refChange{{"a", "c"}}, nil, "c"},                         // older than was
		{"c", "c", []refChange{{"c", "d"}, {"a", "c"}}, nil, "d"},
		{"c", "b", []refChange{{"a", "b"}}, []string{"a"}, "c"},   // it was at b before c
		{"a", "b", []refChange{{"c", "d"}, {"a", "b"}}, nil, "d"}, // two ways back are missing
		{"a", "d", []refChange{{"c", "d"}, {"a", "b"}}, nil, "d"},
		{"c", "d", []refChange{{"x", "d"}, {"a", "b"}}, []string{"a"}, "d"},
		{"c", "c", []refChange{{"a", "b"}}, []string{"a"}, "c"},
		{"c", "c", []refChange{{"a", "new"}}, []string{"a"}, "new"}, // made since c, so it is not late
		{"c", "c", []refChange{{"a", "b"}, {"a", "new"}}, []string{"a"}, "new"},
		{"c", "a", []refChange{{"a", "new"}, {"x", "a"}}, []string{"a"}, "new"}, // the second way back is missing
		{"c", "c", []refChange{{"new", "b"}, {"a", "new"}}, []string{"a"}, "b"},
		{"a", "a", []refChange{{"b", "c"}, {"c", "b"}}, nil, "c"}, // the ways there and back are missing
	} {
		if got := lastTold(c.was, c.now, c.past, c.changes, func(commit string) bool { return commit == "new" }); got != c.want {
			t.Errorf("from %q, now %q, told %v: %q, want %q", c.was, c.now, c.changes, got, c.want)
		}
	}
}

// Without the store a delivery does not count as delivered.
func TestCaughtWithoutTheStore(t *testing.T) {
	catchingUp(t, func(w *behind) {
		w.c.c.Store.(remembering).dead = true
		if id, err := w.c.Caught(w.Context(), "inbox", w.payload("a", "b")); id != "" || !errors.Is(err, errDied) {
			t.Errorf("it says %q, %v", id, err)
		}
		synctest.Wait()
	})
}
