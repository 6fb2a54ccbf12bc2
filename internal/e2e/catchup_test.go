//go:build unix

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/hubhook/hubhook/payload"
)

// What happened on the Hub while hubhook was killed, or while the webhook was suspended, arrives once by catching up, although the Hub has given
// its deliveries up, or made none. If the Hub brings it after all, it is a duplicate.
func TestCatchUpAfterDeathAndSuspension(t *testing.T) {
	t.Parallel()
	k := newKept(t, hubtest.Options{Retry: hubtest.Backoff(20*time.Millisecond, 50*time.Millisecond, 3)})
	repo, err := k.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	must(t, err)
	n := 0
	push := func() {
		t.Helper()
		n++
		_, err := repo.Push(hubtest.Commit{Files: []hubtest.File{{Path: "a", Content: fmt.Append(nil, n)}}})
		must(t, err)
	}
	// lost waits until the Hub has given up its newest deliveries, and returns them.
	lost := func(count int) []*hubtest.Delivery {
		t.Helper()
		all := k.Deliveries()
		all = all[len(all)-count:]
		for _, d := range all {
			if state, err := d.Wait(t.Context()); err != nil || state != hubtest.GivenUp {
				t.Fatalf("the delivery %s is %s, %v", d.ID, state, err)
			}
		}
		return all
	}
	by := func(p *program, source api.Source) (some []api.Delivery) {
		p.t.Helper()
		for _, d := range p.list("") {
			if d.Source == source {
				some = append(some, d)
			}
		}
		return some
	}
	brings := func(p *program, count int, want string) api.Delivery {
		t.Helper()
		pollFor(t, patience, want+" arrives", func() (bool, string) { return len(by(p, api.CatchUp)) >= count, fmt.Sprint(p.list("")) })
		newest := by(p, api.CatchUp)[0]
		event, err := payload.Parse([]byte(p.record(newest.ID).Body))
		must(t, err)
		var refs []string
		for _, ref := range event.UpdatedRefs {
			refs = append(refs, ref.Ref)
		}
		if got := strings.Join(refs, " "); got != want || event.Repo.HeadSHA != repo.Head() {
			t.Errorf("it tells of %s, head %s; want %s, %s", got, event.Repo.HeadSHA, want, repo.Head())
		}
		return newest
	}
	repeats := func(d *hubtest.Delivery, first string) {
		t.Helper()
		a, err := k.Replay(t.Context(), d)
		if err != nil || !a.Succeeded() {
			t.Fatalf("the Hub's delivery: %v, %v", a, err)
		}
		if says := string(a.Body); strings.Contains(says, `"duplicate"`) != (first != "") || !strings.Contains(says, first) {
			t.Errorf("the Hub's delivery is answered %s, and the first one is %q", says, first)
		}
	}

	flags := []string{"--port", "0", "--watch", "dataset:me/data", "--catch-up"}
	start := func() *program {
		looks := k.Requests.Count("GET", "/api/datasets/me/data/refs")
		p := k.home.serve(t, hubhook, flags...)
		k.only(t, "https://"+k.edge.Domain()+"/webhooks/inbox", true)
		pollFor(t, patience, "the look after the first one", func() (bool, string) {
			now := k.Requests.Count("GET", "/api/datasets/me/data/refs")
			return now >= looks+2, fmt.Sprint(now - looks)
		})
		return p
	}
	p := start()
	push()
	pollFor(t, patience, "the Hub's own delivery arrives", func() (bool, string) { return len(by(p, api.Hub)) == 1, fmt.Sprint(p.list("")) })

	p.kill()
	push()
	push()
	must(t, repo.CreateBranch("dev", ""))
	away := lost(3)
	p = start()
	first := brings(p, 1, "refs/heads/main refs/heads/dev")
	repeats(away[1], first.ID)
	repeats(away[2], first.ID)
	repeats(away[0], "") // its commit was not told by itself

	must(t, k.Suspend(k.Webhooks()[0].ID))
	push()        // the Hub sends nothing of it
	k.edge.Drop() // the way is proven again, so hubhook ends the suspension
	brings(p, 2, "refs/heads/main")
	k.only(t, "https://"+k.edge.Domain()+"/webhooks/inbox", true)
	if all := by(p, api.CatchUp); len(all) != 2 {
		t.Errorf("by catching up came %+v", all)
	}
	p.stop()
}

// Of two processes on a database one catches up. It is killed, and what happens on the Hub until the other one takes over, of which the Hub's deliveries
// are lost, arrives once: by the other one.
func TestCatchUpGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	k := newKept(t, hubtest.Options{Retry: hubtest.Backoff(20*time.Millisecond, 50*time.Millisecond, 2)})
	k.home.useDatabase(t, pgserver.Database(t))
	repo, err := k.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	must(t, err)
	bucket, err := k.CreateBucket("me/files", hubtest.RepoOptions{})
	must(t, err)
	change := func(n int) {
		t.Helper()
		_, err := repo.Push(hubtest.Commit{Files: []hubtest.File{{Path: "a", Content: fmt.Append(nil, n)}}})
		must(t, err)
		must(t, bucket.Upload(hubtest.File{Path: "a", Content: fmt.Append(nil, n)}))
	}
	start := func() *program { // nobody listens at the public URL
		return k.home.serve(t, hubhook, "--port", "0", "--public-url", "https://hooks.example.com", "--watch", "dataset:me/data", "--watch", "bucket:me/files", "--catch-up")
	}
	looked := func(least int) {
		t.Helper()
		pollFor(t, patience, "there was a look", func() (bool, string) {
			refs, feeds := k.Requests.Count("GET", "/api/datasets/me/data/refs"), k.Requests.Count("GET", "/api/buckets/me/files/events")
			return refs >= least && feeds >= least, fmt.Sprintf("%d looks at refs, %d at the feed", refs, feeds)
		})
	}
	first := start()
	looked(2) // the second one begins once the first one is stored
	second := start()
	refs := k.Requests.Count("GET", "/api/datasets/me/data/refs")
	first.kill()
	change(1)
	change(2)
	second.poll("all was caught up with", func() (bool, string) {
		list := second.list("")
		return len(list) >= 2, fmt.Sprint(list)
	})
	looked(refs + 1)
	told := map[string]bool{}
	for _, d := range second.list("") {
		event, err := payload.Parse([]byte(second.record(d.ID).Body))
		must(t, err)
		if d.Source != api.CatchUp || told[d.Repo.Type] || event.Repo.HeadSHA != "" && event.Repo.HeadSHA != repo.Head() {
			t.Errorf("delivered is %+v, %s", d, event.Raw())
		}
		told[d.Repo.Type] = true
	}
	if len(told) != 2 {
		t.Errorf("told were %v", told)
	}
	second.stop()
}
