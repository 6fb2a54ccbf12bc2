// Command retrain trains a model again when data files of a dataset change on main. It starts a Job on the Hub, and says so in the pull
// request that brought the change.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// A training is this image with this command, on this hardware. It finds the dataset in DATASET, the commit in REVISION, and the token in
// HF_TOKEN.
const (
	image  = "ghcr.io/astral-sh/uv:python3.12-bookworm"
	flavor = "t4-small"
)

var command = []string{"uv", "run", "https://huggingface.co/me/model/resolve/main/train.py"}

func main() {
	b, err := newBot(context.Background())
	if err != nil {
		server.PrintError(os.Stderr, err)
		os.Exit(1)
	}
	b.register(server.Default())
	server.Main()
}

type bot struct {
	hub *hub.Client
	me  hub.User // whose token it is: the Jobs and the comments are this user's
}

func newBot(ctx context.Context) (*bot, error) {
	client, err := hub.New(hub.Config{}) // the token and the address that the environment names
	if err != nil {
		return nil, err
	}
	me, err := client.WhoAmI(ctx)
	return &bot{client, me}, err
}

// register is apart from main so that a test can do the same. Two deliveries of one dataset are handled one after the other.
func (b *bot) register(s *server.Server) {
	s.Handle("retrain", b.retrain, server.WhenChecked(b.changesData), server.SerialBy(dataset), server.Retry(5, time.Second))
}

func dataset(p *payload.Payload) string { return p.Repo.Name }

// changesData picks pushes to a dataset's main that change a file below data/. Pull requests are left alone until they are merged: anyone may
// open one, and each training is paid for.
func (b *bot) changesData(ctx context.Context, p *payload.Payload) (keep bool, why string, err error) {
	if p.Repo.Type != payload.Dataset || !p.Is(payload.ScopeRepoContent, payload.Update) || !p.TouchesBranch("main") {
		return false, "it is no push to a dataset's main", nil
	}
	changes, err := b.hub.ChangedFiles(ctx, p)
	if err != nil {
		return false, "", err // the attempt fails, and is made again
	}
	isData := func(f hub.FileChange) bool { return f.Ref == mainRef && strings.HasPrefix(f.Path, "data/") }
	return changes.Truncated || slices.ContainsFunc(changes.Files, isData), "no file below data/ changed", nil
}

const mainRef = "refs/heads/main"

// retrain may run more than once for a delivery, after a crash for example. So each step looks first whether it was done.
func (b *bot) retrain(ctx context.Context, p *payload.Payload) (any, error) {
	repo, revision := hub.RepoID{Type: p.Repo.Type, Name: p.Repo.Name}, pushed(p)
	job, err := b.train(ctx, repo.Name, revision)
	if err != nil {
		return nil, err
	}
	commits, _, err := b.hub.NewCommits(ctx, p)
	for _, commit := range commits {
		err = errors.Join(err, b.tell(ctx, repo, commit, job))
	}
	return map[string]string{"job": job.URL}, err
}

// pushed returns the new commit of main.
func pushed(p *payload.Payload) string {
	for _, ref := range p.UpdatedRefs {
		if ref.Ref == mainRef {
			return ref.NewSHA.Hex
		}
	}
	return ""
}

// train starts a Job, unless there is one for this commit.
func (b *bot) train(ctx context.Context, dataset, revision string) (hub.StartedJob, error) {
	label := map[string]string{"retrain": revision}
	for job, err := range b.hub.Jobs(ctx, b.me.Name, label) {
		return job, err
	}
	token, err := b.hub.Token()
	if err != nil {
		return hub.StartedJob{}, err
	}
	return b.hub.StartJob(ctx, b.me.Name, hub.NewJob{
		Image: image, Command: command, Flavor: flavor, Timeout: 6 * time.Hour, Labels: label,
		Env:     map[string]string{"DATASET": dataset, "REVISION": revision},
		Secrets: map[string]hub.Secret{"HF_TOKEN": token.Value},
	})
}

// The Hub ends the title of a commit that merges a pull request with its number.
var merged = regexp.MustCompile(`\(#(\d+)\)$`)

// tell comments on the pull request that a commit merged, if it merged one.
func (b *bot) tell(ctx context.Context, repo hub.RepoID, commit hub.Commit, job hub.StartedJob) error {
	found := merged.FindStringSubmatch(commit.Title)
	if found == nil {
		return nil
	}
	num, err := strconv.Atoi(found[1])
	if err != nil {
		return nil // no number of a pull request is so large
	}
	pull, err := b.hub.Discussion(ctx, repo, num)
	if err != nil && !errors.Is(err, hub.ErrNotFound) {
		return err
	}
	told := func(c hub.Comment) bool { return c.Author == b.me.Name && strings.Contains(c.Text, job.URL) }
	// Anyone can write a number into a title, so the pull request has to name the commit.
	if pull.MergeCommit != commit.ID || slices.ContainsFunc(pull.Comments, told) {
		return nil
	}
	_, err = b.hub.Comment(ctx, repo, num, fmt.Sprintf("Thank you. [A training](%s) on the new data has started.", job.URL))
	return err
}
