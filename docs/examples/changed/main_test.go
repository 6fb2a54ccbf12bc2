package main

import (
	"testing"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

func TestPrintChanged(t *testing.T) {
	server := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(server.Close)
	repo, err := server.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{Private: true})
	if err != nil {
		t.Fatal(err)
	}
	old := repo.Head()
	if _, err := repo.Push(hubtest.Commit{Files: []hubtest.File{{Path: "data/1.txt", Content: []byte("1")}, {Path: "data/2.txt", Content: []byte("2")}}}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HF_ENDPOINT", server.URL)
	t.Setenv("HF_TOKEN", server.Accounts.AddToken(hubtest.Token{User: "me"}))
	client, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := payload.Parse([]byte(`{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "dataset", "name": "me/data"},
		"updatedRefs": [{"ref": "refs/heads/main", "oldSha": "` + old + `", "newSha": "` + repo.Head() + `"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := printChanged(t.Context(), client, p); err != nil || n != 2 {
		t.Errorf("%v files changed, %v; want 2", n, err)
	}
	if err := run(t.Context()); err != nil {
		t.Error(err)
	}
}
