package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/server/servertest"
)

// The Hub is a stand-in, the bot's server one of a test: a push comes in, and the test sees what became of it and what the Hub has.
func TestRetrain(t *testing.T) {
	stand := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(stand.Close)
	t.Setenv("HF_ENDPOINT", stand.URL)
	t.Setenv("HF_TOKEN", stand.Accounts.AddToken(hubtest.Token{User: "helper"}))
	b, err := newBot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	repo, err := stand.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, server.Config{}, b.register)
	pushed := func(ref, from, to string) servertest.Outcome {
		t.Helper()
		return s.Trigger("retrain", payload.ScopeRepoContent, payload.Update, map[string]any{
			"repo.type": payload.Dataset, "repo.name": "me/data", "updatedRefs": []any{map[string]any{"ref": ref, "oldSha": from, "newSha": to}},
		}).Wait()
	}

	empty := repo.Head()
	pull, err := repo.Discuss(hubtest.DiscussionOptions{Title: "Add rows", Author: "jo", PullRequest: true})
	if err == nil {
		_, err = repo.Push(hubtest.Commit{Ref: "refs/pr/1", Files: []hubtest.File{{Path: "data/train.csv", Content: []byte("1")}}})
	}
	if err = errors.Join(err, pull.Merge()); err != nil {
		t.Fatal(err)
	}
	withData := repo.Head()
	if got := pushed("refs/heads/main", empty, withData); got.State != servertest.Done || string(got.Result) != fmt.Sprintf(`{"job":"%s/jobs/helper/%s"}`, stand.URL, stand.StartedJobs()[0].ID) {
		t.Errorf("the merge: %s %s %s", got.State, got.Reason, got.Result)
	}
	if comments := pull.Comments(); len(comments) != 2 || comments[1].Author != "helper" {
		t.Errorf("the pull request has %+v", comments)
	}

	if _, err := repo.Push(hubtest.Commit{Files: []hubtest.File{{Path: "README.md", Content: []byte("# Rows")}}}); err != nil {
		t.Fatal(err)
	}
	if got := pushed("refs/heads/main", withData, repo.Head()); got.State != servertest.Skipped || got.Reason != "no file below data/ changed" {
		t.Errorf("a push without data: %s %s", got.State, got.Reason)
	}
	if got := pushed("refs/pr/1", empty, withData); got.State != servertest.Skipped || got.Reason != "it is no push to a dataset's main" {
		t.Errorf("a pull request: %s %s", got.State, got.Reason)
	}
	if n := len(stand.StartedJobs()); n != 1 {
		t.Errorf("there are %d Jobs, want 1", n)
	}
}
