package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

// patience bounds every wait; nothing takes that long unless it is broken.
const patience = 60 * time.Second

// newStandIn starts a stand-in Hub and returns a client of it that hardly waits.
func newStandIn(t *testing.T, options hubtest.Options) (*hubtest.Server, *hub.Client) {
	t.Helper()
	server := hubtest.NewServer(options)
	t.Cleanup(server.Close)
	client, err := hub.New(hub.Config{
		Endpoint: server.URL, Token: hub.Secret(server.Accounts.AddToken(hubtest.Token{User: "me"})),
		Wait: func(ctx context.Context, _ time.Duration) error {
			select {
			case <-time.After(time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// A mirror is what somebody who follows a bucket knows of it.
type mirror struct {
	t      *testing.T
	client *hub.Client

	mu     sync.Mutex
	resume hub.Resume
	files  map[string]string // content's hash by path
	times  map[string]int    // how often the feed told a path without saying that it may do so again
}

// follow keeps the mirror until ctx ends.
func (m *mirror) follow(ctx context.Context) {
	m.mu.Lock()
	from := m.resume
	m.mu.Unlock()
	err := m.client.FollowBucket(ctx, "me/b", from, func(e hub.BucketEvent) error {
		listed := make(map[string]string)
		if e.Kind == hub.BucketReset {
			for f, err := range m.client.BucketFiles(ctx, "me/b", "") {
				if err != nil {
					return err
				}
				listed[f.Path] = f.XetHash
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.resume = e.Resume
		if e.Kind == hub.BucketReset {
			m.files = listed
		}
		for _, change := range e.Changes {
			if change.Op == "delete" {
				delete(m.files, change.Path)
				continue
			}
			m.files[change.Path] = change.XetHash
			if !e.Overlap {
				m.times[change.Path]++
			}
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		m.t.Errorf("following ended with %v", err)
	}
}

// knows reports whether the mirror has exactly these files.
func (m *mirror) knows(files []hubtest.BucketFile) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range files {
		if m.files[f.Path] != f.XetHash {
			return false
		}
	}
	return len(files) == len(m.files)
}

// Whatever ends the feed, the follower knows every file at last, and nothing comes twice unless it says so.
func TestFollowMissesNothing(t *testing.T) {
	t.Parallel()
	server, client := newStandIn(t, hubtest.Options{})
	bucket, err := server.CreateBucket("me/b", hubtest.RepoOptions{Private: true})
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{t: t, client: client, times: make(map[string]int)}
	r := rand.New(rand.NewPCG(3, 4))
	var stop context.CancelFunc
	var running sync.WaitGroup
	start := func() {
		ctx, cancel := context.WithCancel(t.Context())
		stop = cancel
		running.Go(func() { m.follow(ctx) })
	}
	end := func() {
		stop()
		running.Wait()
	}
	feedPath := "/api/buckets/me/b/events"
	start()
	for n := range 150 {
		switch r.IntN(8) {
		case 0:
			bucket.Feed.Reconnect()
		case 1:
			bucket.Feed.Cut()
		case 2:
			bucket.Feed.Reset()
		case 3:
			server.Faults.Inject(hubtest.Fault{Path: feedPath, Requests: 1, Answer: hubtest.Status(500 + 3*r.IntN(2))})
			bucket.Feed.Cut()
		case 4: // the cursor is refused
			server.Faults.Inject(hubtest.Fault{Path: feedPath, Requests: 1 + r.IntN(3), Answer: hubtest.Status(400)})
			bucket.Feed.Cut()
		case 5: // the follower is away
			end()
		}
		path := fmt.Sprintf("%03d.txt", n)
		if err := bucket.Upload(hubtest.File{Path: path, Content: []byte(path)}); err != nil {
			t.Fatal(err)
		}
		if files := bucket.Files(); r.IntN(4) == 0 && len(files) > 1 {
			if err := bucket.Remove(files[r.IntN(len(files))].Path); err != nil {
				t.Fatal(err)
			}
		}
		if stop != nil && r.IntN(3) == 0 {
			end()
			start()
		}
		if r.IntN(5) == 0 {
			end()
			server.Faults.Clear()
			start()
			wait(t, func() bool { return m.knows(bucket.Files()) }, "the mirror knows %d files", len(bucket.Files()))
		}
	}
	server.Faults.Clear()
	end()
	start()
	wait(t, func() bool { return m.knows(bucket.Files()) }, "the mirror knows all %d files", len(bucket.Files()))
	end()
	for path, times := range m.times {
		if times > 1 {
			t.Errorf("%s was told %d times", path, times)
		}
	}
}

func wait(t *testing.T, ok func() bool, format string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: "+format, append([]any{patience}, args...)...)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStandInRepo(t *testing.T) {
	t.Parallel()
	server, client := newStandIn(t, hubtest.Options{API: hubtest.API{HiddenIs401: true}})
	repo, err := server.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{Private: true})
	if err != nil {
		t.Fatal(err)
	}
	first := repo.Head()
	var files []hubtest.File
	for i := range 1200 {
		files = append(files, hubtest.File{Path: fmt.Sprintf("data/%04d.txt", i), Content: []byte{byte(i)}})
	}
	if _, err := repo.Push(hubtest.Commit{Files: files, Authors: []string{"somebody"}}); err != nil {
		t.Fatal(err)
	}
	if err := repo.CreateBranch("side", ""); err != nil {
		t.Fatal(err)
	}
	second := repo.Head()
	if _, err := repo.Push(hubtest.Commit{Ref: "refs/pr/1", Files: []hubtest.File{{Path: "README.md", Content: []byte("hi"), LFS: true}}}); err != nil {
		t.Fatal(err)
	}
	if err := repo.Move("me/moved"); err != nil {
		t.Fatal(err)
	}
	id := hub.RepoID{Type: payload.Dataset, Name: "me/data"}
	if r, err := client.Repo(t.Context(), id); err != nil || r.Name != "me/moved" || r.ID != repo.ID() || r.SHA != second || !r.Private || r.Author != "me" {
		t.Errorf("the repo is %+v, %v", r, err)
	}
	if _, sent := server.Requests.Bytes(); sent > 1000 {
		t.Errorf("the Hub answers %d bytes, which have the names of all files", sent)
	}
	refs, err := client.Refs(t.Context(), id, true)
	var names []string
	for _, ref := range refs {
		names = append(names, ref.Ref)
	}
	if want := []string{"refs/heads/main", "refs/heads/side", "refs/pr/1"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the refs are %q, %v", names, err)
	}
	p := parse(t, fmt.Sprintf(`{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "dataset", "name": "me/data", "headSha": %q},
		"updatedRefs": [{"ref": "refs/heads/main", "oldSha": %q, "newSha": %q}, {"ref": "refs/pr/1", "oldSha": null, "newSha": %q}]}`, second, first, second, refs[2].Commit))
	changes, err := client.ChangedFiles(t.Context(), p)
	if err != nil || len(changes.Files) != 1201 || changes.Truncated || !slices.Contains(changes.Files, hub.FileChange{Ref: "refs/pr/1", Path: "README.md", Action: payload.FileAdd}) {
		t.Errorf("%d files changed, truncated %t, %v", len(changes.Files), changes.Truncated, err)
	}
	commits, truncated, err := client.NewCommits(t.Context(), p)
	if err != nil || truncated || len(commits) != 2 || !slices.Equal(commits[0].Authors, []string{"somebody"}) {
		t.Errorf("the new commits are %+v, %t, %v", commits, truncated, err)
	}
	stranger, err := hub.New(hub.Config{Endpoint: server.URL, LookupEnv: lookup(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Repo(t.Context(), id); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("a private repo without a token: %v", err)
	}
	if u, err := client.WhoAmI(t.Context()); err != nil || u.Name != "me" || u.Role != "write" {
		t.Errorf("the user is %+v, %v", u, err)
	}
}

func TestReposOfAnOwner(t *testing.T) {
	t.Parallel()
	server := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(server.Close)
	for _, repo := range []string{"lab/a", "lab/b", "other/c"} {
		if _, err := server.CreateRepo(payload.Dataset, repo, hubtest.RepoOptions{Private: repo == "lab/b"}); err != nil {
			t.Fatal(err)
		}
		if _, err := server.CreateBucket(repo, hubtest.RepoOptions{Private: repo == "lab/b"}); err != nil {
			t.Fatal(err)
		}
	}
	for token, want := range map[string]string{"": "[lab/a lab/a]", server.Accounts.AddToken(hubtest.Token{User: "lab"}): "[lab/a lab/b lab/a lab/b]"} {
		client, err := hub.New(hub.Config{Endpoint: server.URL, Token: hub.Secret(token), LookupEnv: lookup(nil)})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for r, err := range client.ReposOf(t.Context(), "lab", payload.Dataset) {
			if err != nil || r.ID == "" || r.SHA == "" || r.LastModified.IsZero() {
				t.Errorf("a repo is %+v, %v", r, err)
			}
			names = append(names, r.Name)
		}
		for b, err := range client.BucketsOf(t.Context(), "lab") {
			if err != nil || b.CreatedAt.IsZero() {
				t.Errorf("a bucket is %+v, %v", b, err)
			}
			names = append(names, b.Name)
		}
		if fmt.Sprint(names) != want {
			t.Errorf("listed are %q, want %s", names, want)
		}
		for _, err := range client.ReposOf(t.Context(), "lab", payload.Kernel) {
			if err == nil {
				t.Error("kernels are listed")
			}
		}
		for _, err := range client.BucketsOf(t.Context(), "lab/a") {
			if err == nil {
				t.Error("a repo has buckets")
			}
		}
	}
}

func TestAccountsOfTheStandIn(t *testing.T) {
	t.Parallel()
	server := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(server.Close)
	server.Accounts.AddUser("me")
	server.Accounts.AddOrg("lab", "me")
	client, err := hub.New(hub.Config{Endpoint: server.URL, LookupEnv: lookup(nil)})
	if err != nil {
		t.Fatal(err)
	}
	for item, found := range map[hub.Watched]bool{
		{Type: "user", Name: "me"}: true, {Type: "org", Name: "lab"}: true,
		{Type: "user", Name: "lab"}: false, {Type: "org", Name: "me"}: false, {Type: "user", Name: "nobody"}: false,
	} {
		if err := client.Account(t.Context(), item); (err == nil) != found || err != nil && (!errors.Is(err, hub.ErrNotFound) || text.Hint(err) == "") {
			t.Errorf("%s: %v", item, err)
		}
	}
	before := len(server.Requests.All())
	for _, item := range []hub.Watched{{Type: "model", Name: "me/model"}, {Type: "user", Name: "a/b"}, {Type: "org", Name: ".."}} {
		if err := client.Account(t.Context(), item); err == nil {
			t.Errorf("%s is no account, and was asked for", item)
		}
	}
	if n := len(server.Requests.All()); n != before {
		t.Errorf("%d requests for what is no account", n-before)
	}
}
