package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// followingTest is the test that follows repos for an hour. Only a test can pass an hour in a second.
const followingTest = "TestFollowingManyRepos"

// measureFollowing counts what following costs in an hour, with and without a token.
func (w *workshop) measureFollowing(ctx context.Context) ([]figure, error) {
	test := exec.CommandContext(ctx, "go", "test", module+"/hub/follow", "-count=1", "-v", "-run", "^"+followingTest+"$", "-args", "-hour")
	out, err := test.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("follow for an hour: %w\n%s", err, out)
	}
	var figures []figure
	for _, as := range []struct {
		name, what string
		allowed    int // requests in an hour
	}{{"token", "with a token", 12_000}, {"anonymous", "without a token", 6_000}} {
		said := attributes(string(out), followingTest+"/"+as.name)
		requests, bad := strconv.Atoi(said["requests"])
		size, worse := strconv.ParseInt(said["bytes"], 10, 64)
		if err := errors.Join(bad, worse); err != nil {
			return nil, fmt.Errorf("read what %s says: %w\n%s", followingTest, err, out)
		}
		most := target{atMost: true, bound: 1}
		part := float64(requests) / float64(as.allowed)
		figures = append(figures, figure{
			what: "requests in an hour for 110 repos " + as.what, hubhook: strconv.Itoa(requests), against: fmt.Sprintf("allowed %d", as.allowed),
			value: ratioText(part), target: most.String(), short: most.missed(part),
		}, figure{
			what: "bytes, with a look every " + said["every"], hubhook: mebibytes(size),
		})
	}
	return figures, nil
}

// attributes returns the attributes that a test has set, as `go test -v` prints them.
func attributes(out, test string) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(out) {
		rest, ok := strings.CutPrefix(line, "=== ATTR  "+test+" ")
		if key, value, has := strings.Cut(strings.TrimSpace(rest), " "); ok && has {
			all[key] = value
		}
	}
	return all
}

// A hubStand is a stand-in Hub in this process with a handler behind hubhook, which notes when it gets what.
type hubStand struct {
	hub     *hubtest.Server
	handler *httptest.Server
	token   string

	mu   sync.Mutex
	came map[string]chan time.Time // by the commit of a push, or the path of an uploaded file
}

func newHubStand() *hubStand {
	s := &hubStand{hub: hubtest.NewServer(hubtest.Options{}), came: make(map[string]chan time.Time)}
	s.token = s.hub.Accounts.AddToken(hubtest.Token{})
	s.handler = httptest.NewServer(s)
	return s
}

func (s *hubStand) close() {
	s.hub.Close()
	s.handler.Close()
}

// at returns the channel that gets the time at which a change was handled.
func (s *hubStand) at(change string) chan time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.came[change] == nil {
		s.came[change] = make(chan time.Time, 1)
	}
	return s.came[change]
}

// ServeHTTP is the handler.
func (s *hubStand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has gone, and tries again
	}
	p, err := payload.Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var changes []string
	for _, ref := range p.UpdatedRefs {
		changes = append(changes, ref.NewSHA.Hex)
	}
	for _, file := range p.UpdatedFiles {
		changes = append(changes, file.Path)
	}
	for _, change := range changes {
		select {
		case s.at(change) <- now:
		default: // a repeat
		}
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, "{}")
}

// handled waits until a change of that time was handled, and returns how long that took.
func (s *hubStand) handled(ctx context.Context, change string, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	select {
	case at := <-s.at(change):
		return at.Sub(since), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the change %s to be handled: %w", change, ctx.Err())
	}
}

// push pushes to a repo and returns the commit with the time just before.
func (s *hubStand) push(repo *hubtest.Repo, files ...hubtest.File) (commit string, since time.Time, err error) {
	since = time.Now()
	commit, err = repo.Push(hubtest.Commit{Files: files})
	return commit, since, err
}

// watch has the Hub post what happens to a repo to a URL.
func (s *hubStand) watch(repo *hubtest.Repo, url string) error {
	_, err := s.hub.Create(hubtest.Webhook{
		URL: url, Secret: deliverySecret, Watched: []hubtest.Watched{{Type: string(repo.Type()), Name: repo.Name()}},
	})
	return err
}

// serve starts the binary with the stand-in as its Hub, in a working directory of its own.
func (w *workshop) serve(ctx context.Context, s *hubStand, dir string, args ...string) (*process, error) {
	p, err := w.launchServe(ctx, dir, []string{"HF_ENDPOINT=" + s.hub.URL, "HF_TOKEN=" + s.token}, append(args, "--inspector", "off")...)
	if err != nil {
		return nil, err
	}
	if _, err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// How many repos are followed, at the shortest time between two looks. The Hub's rate limit would allow 12 and a bucket.
const (
	followedRepos = 8
	followedEvery = 10 * time.Second
)

// measurePushes measures the time from a push to its handler: through a webhook on hubhook, through one on the handler itself, and without
// a webhook.
func (w *workshop) measurePushes(ctx context.Context) (figures []figure, err error) {
	s := newHubStand()
	defer s.close()
	dir, err := w.data("pushes")
	if err != nil {
		return nil, err
	}
	args := []string{"--forward", "inbox=" + s.handler.URL, "--follow", "bucket:me/bucket", "--follow-every", followedEvery.String()}
	var repos []*hubtest.Repo
	for i := range followedRepos + 2 {
		repo, err := s.hub.CreateRepo(payload.Dataset, fmt.Sprintf("me/data-%d", i), hubtest.RepoOptions{})
		if err != nil {
			return nil, err
		}
		if repos = append(repos, repo); i < followedRepos {
			args = append(args, "--follow", "dataset:"+repo.Name())
		}
	}
	bucket, err := s.hub.CreateBucket("me/bucket", hubtest.RepoOptions{})
	if err != nil {
		return nil, err
	}
	p, err := w.serve(ctx, s, dir, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	through, direct := repos[followedRepos], repos[followedRepos+1]
	if err := errors.Join(s.watch(through, "http://"+p.addr+deliveryPath), s.watch(direct, s.handler.URL)); err != nil {
		return nil, err
	}
	webhooks, err := w.pushInTurns(ctx, s, through, direct)
	if err != nil {
		return nil, err
	}
	uploads, err := w.upload(ctx, s, bucket)
	if err != nil {
		return nil, err
	}
	looks, err := w.pushToFollowed(ctx, s, repos[:followedRepos])
	if err != nil {
		return nil, err
	}
	format := func(seconds float64) string { return milliseconds(time.Duration(seconds * float64(time.Second))) }
	longest := target{atMost: true, bound: followedEvery.Seconds() + 1, unit: " s"}
	return []figure{
		{what: "push to handled, by a webhook", hubhook: format(median(webhooks.hubhook)), against: "handler alone " + format(median(webhooks.against))},
		{what: "upload to handled, by a bucket's feed", hubhook: milliseconds(percentile(uploads, 0.5))},
		{what: fmt.Sprintf("push to handled, by looks every %s, median", followedEvery), hubhook: milliseconds(percentile(looks, 0.5))},
		{what: "the longest", hubhook: milliseconds(percentile(looks, 1)), target: longest.String(), short: longest.missed(percentile(looks, 1).Seconds())},
	}, nil
}

// pushInTurns pushes to two repos in turns.
func (w *workshop) pushInTurns(ctx context.Context, s *hubStand, through, direct *hubtest.Repo) (r rounds, err error) {
	for n := range 4*w.rounds + 1 {
		w.progress("push to handled, by webhook, %d of %d", n, 4*w.rounds)
		var took [2]float64
		for i, repo := range []*hubtest.Repo{through, direct} {
			commit, since, err := s.push(repo, hubtest.File{Path: "file", Content: fmt.Appendln(nil, n)})
			if err != nil {
				return r, err
			}
			d, err := s.handled(ctx, commit, since)
			if err != nil {
				return r, err
			}
			took[i] = d.Seconds()
		}
		if n > 0 { // the first has connections to make
			r.add(took[0], took[1])
		}
	}
	return r, nil
}

// upload uploads to a followed bucket, one file after the other.
func (w *workshop) upload(ctx context.Context, s *hubStand, bucket *hubtest.Bucket) (all []time.Duration, err error) {
	waits, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := s.hub.Requests.Wait(waits, "GET", "/api/buckets/me/bucket/events", 1); err != nil {
		return nil, err
	}
	for n := range 4*w.rounds + 1 {
		w.progress("upload to handled, %d of %d", n, 4*w.rounds)
		path, since := fmt.Sprintf("file-%d", n), time.Now()
		if err := bucket.Upload(hubtest.File{Path: path, Content: []byte(path)}); err != nil {
			return nil, err
		}
		d, err := s.handled(ctx, path, since)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			all = append(all, d)
		}
	}
	return all, nil
}

// pushToFollowed pushes to all followed repos at once, whose looks are spread over the time between two.
func (w *workshop) pushToFollowed(ctx context.Context, s *hubStand, repos []*hubtest.Repo) (all []time.Duration, err error) {
	waits, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	// The first round of looks is over sooner than later ones.
	if err := s.hub.Requests.Wait(waits, "GET", "/api/datasets/"+repos[0].Name()+"/refs", 2); err != nil {
		return nil, err
	}
	for n := range max(1, w.rounds/5) {
		w.progress("push to handled, without a webhook, %d of %d", n, max(1, w.rounds/5))
		commits, since := make([]string, len(repos)), make([]time.Time, len(repos))
		for i, repo := range repos {
			if commits[i], since[i], err = s.push(repo, hubtest.File{Path: "file", Content: fmt.Appendln(nil, n)}); err != nil {
				return nil, err
			}
		}
		for i, commit := range commits {
			d, err := s.handled(ctx, commit, since[i])
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
	}
	return all, nil
}

// The repo in which `files` looks for changed files.
const (
	manyFiles  = 100_000
	perFolder  = 200
	wantedFile = "data/007/007.txt"
)

// measureFiles measures the filter `files` on a repo of many files, beside listing both commits.
func (w *workshop) measureFiles(ctx context.Context) (figures []figure, err error) {
	s := newHubStand()
	defer s.close()
	repo, err := s.hub.CreateRepo(payload.Model, "me/many", hubtest.RepoOptions{})
	if err != nil {
		return nil, err
	}
	files := make([]hubtest.File, manyFiles)
	for i := range files {
		files[i].Path = fmt.Sprintf("data/%03d/%03d.txt", i/perFolder, i%perFolder)
	}
	write := func(content string) []hubtest.File {
		for i := range files {
			files[i].Content = []byte(content)
		}
		return files
	}
	old, _, err := s.push(repo, write("1")...)
	if err != nil {
		return nil, err
	}
	dir, err := w.data("files")
	if err != nil {
		return nil, err
	}
	settings := fmt.Sprintf("endpoints:\n  inbox:\n    if: files(%q)\n    forward: %s\n", wantedFile, s.handler.URL)
	if err := os.WriteFile(filepath.Join(dir, "hubhook.yaml"), []byte(settings), 0o600); err != nil {
		return nil, err
	}
	for _, test := range []struct {
		what  string
		files []hubtest.File
	}{{"one of 100,000 files", []hubtest.File{{Path: wantedFile, Content: []byte("2")}}}, {"all of them", write("3")}} {
		w.progress("files, %s", test.what)
		made, commit, err := w.filterFiles(ctx, s, dir, repo, old, test.what, test.files)
		if err != nil {
			return nil, err
		}
		old, figures = commit, append(figures, made...)
	}
	return figures, nil
}

// filterFiles pushes files while a new hubhook filters, and lists both commits for comparison.
func (w *workshop) filterFiles(ctx context.Context, s *hubStand, dir string, repo *hubtest.Repo, old, what string, files []hubtest.File) (_ []figure, commit string, err error) {
	p, err := w.serve(ctx, s, dir)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	id, err := s.hub.Create(hubtest.Webhook{URL: "http://" + p.addr + deliveryPath, Secret: deliverySecret, Watched: []hubtest.Watched{{Type: "model", Name: repo.Name()}}})
	if err != nil {
		return nil, "", err
	}
	rest, err := w.rested(ctx, p)
	if err != nil {
		return nil, "", err
	}
	s.hub.Requests.Reset()
	commit, _, err = s.push(repo, files...)
	if err != nil {
		return nil, "", err
	}
	pushed := time.Now() // the stand-in takes long for a large push
	took, err := s.handled(ctx, commit, pushed)
	if err != nil {
		return nil, "", err
	}
	requests := s.hub.Requests.Count("", "")
	most, err := p.peak()
	if err != nil {
		return nil, "", err
	}
	if err := s.hub.Delete(id); err != nil {
		return nil, "", err
	}
	s.hub.Requests.Reset()
	begin := time.Now()
	if err := s.list(ctx, repo, old, commit); err != nil {
		return nil, "", err
	}
	listing, listed := time.Since(begin), s.hub.Requests.Count("", "")
	return []figure{
		{what: "files after a push of " + what + ", requests", hubhook: strconv.Itoa(requests), against: "listing both " + strconv.Itoa(listed), value: ratioText(float64(requests) / float64(listed))},
		{what: "push to handled", hubhook: milliseconds(took), against: "listing both " + milliseconds(listing), value: ratioText(took.Seconds() / listing.Seconds())},
		{what: "memory at its most", hubhook: mebibytes(most), against: "before " + mebibytes(rest)},
	}, commit, nil
}

// list lists all files of two commits.
func (s *hubStand) list(ctx context.Context, repo *hubtest.Repo, commits ...string) error {
	client, err := hub.New(hub.Config{Endpoint: s.hub.URL, LookupEnv: func(string) (string, bool) { return "", false }})
	if err != nil {
		return err
	}
	for _, commit := range commits {
		for _, err := range client.Tree(ctx, hub.RepoID{Type: repo.Type(), Name: repo.Name()}, commit, "", true) {
			if err != nil {
				return err
			}
		}
	}
	return nil
}
