//go:build unix

package e2e_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/hubhook/hubhook/payload"
)

// followed is a Hub with a repo and a bucket that programs follow, and what the first look saw.
type followed struct {
	*hubtest.Server
	home   *home
	repo   *hubtest.Repo
	bucket *hubtest.Bucket
	first  map[string]string // the refs
	n      int               // changes so far
}

func newFollowed(t *testing.T) *followed {
	t.Helper()
	f := &followed{Server: hubtest.NewServer(hubtest.Options{}), home: newHome(t)}
	t.Cleanup(f.Close)
	var err error
	f.repo, err = f.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	must(t, err)
	f.bucket, err = f.CreateBucket("me/files", hubtest.RepoOptions{})
	must(t, err)
	f.first = f.refs()
	f.home.env = append(f.home.env, "HF_ENDPOINT="+f.URL)
	return f
}

func (f *followed) refs() map[string]string {
	refs := map[string]string{}
	for _, ref := range f.repo.Refs() {
		refs[ref.Name] = ref.Commit
	}
	return refs
}

// change makes a change of the repo, and one of the bucket.
func (f *followed) change(t *testing.T) {
	t.Helper()
	f.n++
	content := fmt.Append(nil, f.n)
	_, err := f.repo.Push(hubtest.Commit{Files: []hubtest.File{{Path: "a", Content: content}}})
	must(t, err)
	if f.n%3 == 0 {
		must(t, f.repo.CreateTag(fmt.Sprint("v", f.n), ""))
	}
	must(t, f.bucket.Upload(hubtest.File{Path: fmt.Sprint("f", f.n), Content: content}))
}

// start starts a program that follows, and waits until it has looked.
func (f *followed) start(t *testing.T) *program {
	t.Helper()
	return f.home.serve(t, hubhook, "--port", "0", "--follow", "dataset:me/data", "--follow", "bucket:me/files", "--follow-every", "10s")
}

// states returns the states of the repo and the bucket.
func (f *followed) states(p *program) (repo, bucket string) {
	p.t.Helper()
	status, err := p.inspector().Status(p.t.Context())
	must(p.t, err)
	return status.Followed[0].State, status.Followed[1].State
}

func (f *followed) awaitStates(p *program, state string) {
	p.t.Helper()
	pollFor(p.t, 2*patience, "both are "+state, func() (bool, string) {
		repo, bucket := f.states(p)
		return repo == state && bucket == state, repo + ", " + bucket
	})
}

// allCame reports whether the deliveries tell all changes, each once and in order, of the repo by their oldSha and newSha.
func (f *followed) allCame(p *program) (bool, string) {
	p.t.Helper()
	list := p.list("")
	refs, files := maps.Clone(f.first), map[string]bool{}
	for i := range list {
		d := list[len(list)-1-i]
		if d.Source != "follow" || !d.Synthetic {
			p.t.Fatalf("a delivery is %+v", d)
		}
		event, err := payload.Parse([]byte(p.record(d.ID).Body))
		must(p.t, err)
		for _, ref := range event.UpdatedRefs {
			if refs[ref.Ref] != ref.OldSHA.Hex {
				p.t.Fatalf("%s goes on from %q, and was at %q", ref.Ref, ref.OldSHA.Hex, refs[ref.Ref])
			}
			refs[ref.Ref] = ref.NewSHA.Hex
		}
		for _, file := range event.UpdatedFiles {
			if files[file.Path] {
				p.t.Fatalf("%s comes twice", file.Path)
			}
			files[file.Path] = true
		}
	}
	return maps.Equal(refs, f.refs()) && len(files) == f.n, fmt.Sprintf("%d of %d files, refs %v of %v", len(files), f.n, refs, f.refs())
}

// Without any way in, a program that is killed again and again delivers all that happens on the Hub, each change once.
func TestFollowIsKilled(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	f := newFollowed(t)
	p := f.start(t)
	f.awaitStates(p, "following")
	for range kills(t) {
		f.change(t)
		time.Sleep(time.Duration(moments.Int64N(int64(300 * time.Millisecond))))
		f.change(t)
		p.kill()
		f.change(t)
		p = f.start(t)
	}
	pollFor(t, 2*patience, "all changes have come", func() (bool, string) { return f.allCame(p) })
	f.awaitStates(p, "following")
	if p.ready.PublicURL != "" {
		t.Errorf("there is a public URL, %s", p.ready.PublicURL)
	}
	p.stop()
}

// Of two processes on a database one follows; it is killed, and the other one goes on.
func TestFollowGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	f := newFollowed(t)
	f.home.useDatabase(t, pgserver.Database(t))
	one := f.start(t)
	f.awaitStates(one, "following")
	two := f.start(t)
	if repo, bucket := f.states(two); repo != "standby" || bucket != "standby" {
		t.Errorf("the second process says %s and %s while the first one follows", repo, bucket)
	}
	f.change(t)
	one.kill()
	f.change(t)
	f.awaitStates(two, "following")
	pollFor(t, patience, "all changes have come", func() (bool, string) { return f.allCame(two) })
	two.stop()
}

// With a wrong HF_ENDPOINT nothing can be followed. The ready line and the status say so, and why; serving goes on.
func TestNothingIsFollowed(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "HF_ENDPOINT=hub.example.com")
	p := h.serve(t, hubhook, "--port", "0", "--follow", "dataset:me/data", "--follow", "inbox=bucket:me/files")
	status, err := p.inspector().Status(t.Context())
	must(t, err)
	for from, all := range map[string][]api.Followed{"the ready line": p.ready.Followed, "the status": status.Followed} {
		if len(all) != 2 {
			t.Fatalf("%s has %+v", from, all)
		}
		for _, v := range all {
			if v.State != "off" || !strings.Contains(v.Error, "HF_ENDPOINT") || v.Hint == "" {
				t.Errorf("%s has %+v", from, v)
			}
		}
	}
	if a := p.post("inbox", push(t)); a.status != http.StatusOK {
		t.Errorf("a delivery is answered %d", a.status)
	}
	p.stop()
}
