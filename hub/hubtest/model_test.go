package hubtest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// Deliveries tell all that changes: what they say, in the order in which they were made, leads to the refs and files that the Hub has at the
// end. Several goroutines change at once.
func TestDeliveriesTellAll(t *testing.T) {
	t.Parallel()
	h := watching(t, hubtest.Options{}, hubtest.Watched{Type: "user", Name: "me"})
	r := must(h.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{}))
	b := must(h.CreateBucket("me/files", hubtest.RepoOptions{}))
	start := r.Head()
	var changing sync.WaitGroup
	for worker := range 4 {
		changing.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for n := range 50 {
				name := fmt.Sprint("b", random.IntN(3))
				// Another goroutine may have deleted what one of these wants: then there is no change, and no event.
				switch random.IntN(8) {
				case 0, 1:
					r.Push(hubtest.Commit{Files: []hubtest.File{{Path: name, Content: fmt.Appendf(nil, "%d of %d", n, worker)}}})
				case 2:
					r.Push(hubtest.Commit{Ref: name})
				case 3:
					r.DeleteBranch(name)
				case 4:
					r.SetRefs(hubtest.Ref{Name: "refs/tags/" + name, Commit: "main"}, hubtest.Ref{Name: "refs/convert/" + name, Commit: start})
				case 5:
					r.Discuss(hubtest.DiscussionOptions{Title: "Pull", PullRequest: true})
				case 6:
					b.Upload(hubtest.File{Path: name, Content: fmt.Appendf(nil, "%d of %d", n, worker)})
				case 7:
					b.Remove(name)
				}
			}
		})
	}
	changing.Wait()

	refs, files := map[string]string{"refs/heads/main": start}, map[string]string{}
	for _, d := range h.Deliveries() {
		p := must(payload.Parse(d.Body))
		for _, ref := range p.UpdatedRefs {
			if refs[ref.Ref] != ref.OldSHA.Hex {
				t.Errorf("%s was %q, and the next event says %q", ref.Ref, refs[ref.Ref], ref.OldSHA.Hex)
			}
			if refs[ref.Ref] = ref.NewSHA.Hex; ref.NewSHA.Null {
				delete(refs, ref.Ref)
			}
		}
		for _, f := range p.UpdatedFiles {
			if files[f.Path] = f.XetHash; f.Action == payload.FileDelete {
				delete(files, f.Path)
			}
		}
		if len(p.UpdatedRefs) > 0 && p.Repo.HeadSHA != refs["refs/heads/main"] {
			t.Errorf("headSha %s; main is at %s", p.Repo.HeadSHA, refs["refs/heads/main"])
		}
	}
	has := map[string]string{}
	for _, ref := range r.Refs() {
		has[ref.Name] = ref.Commit
	}
	if diff := cmp.Diff(has, refs); diff != "" || len(refs) < 5 {
		t.Errorf("%d refs: %s", len(refs), diff)
	}
	holds := map[string]string{}
	for _, f := range b.Files() {
		holds[f.Path] = f.XetHash
	}
	if diff := cmp.Diff(holds, files); diff != "" {
		t.Errorf("files %v: %s", slices.Sorted(maps.Keys(files)), diff)
	}
	check(t, h.Wait(t.Context()))
}

// A client that follows a bucket and comes back with its cursor after each cut hears of every change once.
func TestFeedTellsAll(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	b := must(s.CreateBucket("me/data", hubtest.RepoOptions{}))
	const all = 200
	var changing sync.WaitGroup
	changing.Go(func() {
		for n := range all {
			if err := b.Upload(hubtest.File{Path: fmt.Sprint(n)}); err != nil {
				t.Error(err)
			}
			switch n % 20 {
			case 7:
				b.Feed.Cut()
			case 13:
				b.Feed.Reconnect()
			}
		}
	})
	defer changing.Wait()
	query := "?since=2000-01-01T00:00:00.000Z"
	for n := 0; n < all; {
		stream := follow(c, query)
		for open := true; open && n < all; {
			switch text := stream.next(); {
			case text == "EOF" || text == "cut":
				open = false
			case text[:len("event: changes")] == "event: changes":
				got := decoded[struct {
					Cursor  string
					Changes []struct{ Op, Path string }
				}](t, text[len("event: changes data: "):])
				for _, change := range got.Changes {
					if change.Op != "add" || change.Path != fmt.Sprint(n) {
						t.Fatalf("got %s of %s; want add of %d", change.Op, change.Path, n)
					}
					n++
				}
				query = "?cursor=" + got.Cursor
			}
		}
		stream.close()
	}
}
