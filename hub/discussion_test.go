package hub_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

func TestDiscussions(t *testing.T) {
	t.Parallel()
	server, client := newStandIn(t, hubtest.Options{})
	repo, err := server.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pull, err := repo.Discuss(hubtest.DiscussionOptions{Title: "Rows", Comment: "More of them.", Author: "jo", PullRequest: true})
	if err != nil {
		t.Fatal(err)
	}
	id := hub.RepoID{Type: payload.Dataset, Name: "me/data"}
	made, err := client.Comment(t.Context(), id, 1, "Thanks!")
	if err != nil || made.Author != "me" || made.Text != "Thanks!" || made.ID != pull.Comments()[1].ID {
		t.Errorf("the comment is %+v, %v", made, err)
	}
	if err := errors.Join(pull.Comments()[0].Hide(), pull.Merge()); err != nil {
		t.Fatal(err)
	}
	d, err := client.Discussion(t.Context(), id, 1)
	if err != nil || d.Num != 1 || d.Title != "Rows" || d.Author != "jo" || d.Status != payload.StatusMerged || !d.PullRequest || d.MergeCommit != repo.Head() || len(d.Comments) != 2 {
		t.Fatalf("the pull request is %+v, %v", d, err)
	}
	if first := d.Comments[0]; !first.Hidden || first.Text != "" || first.Author != "jo" || d.Comments[1] != made {
		t.Errorf("the comments are %+v", d.Comments)
	}
	// Nobody knows whether the first attempt has made a comment, so there is no second one.
	server.Faults.Inject(hubtest.Fault{Path: "/api/datasets/me/data/discussions/1/comment", Requests: 1, After: true, Answer: hubtest.Status(502)})
	if _, err := client.Comment(t.Context(), id, 1, "Once"); err == nil || !strings.HasPrefix(err.Error(), "comment on discussion 1 of dataset:me/data: the Hub answered 502") {
		t.Errorf("an answer that was lost: %v", err)
	}
	if n := len(pull.Comments()); n != 3 {
		t.Errorf("there are %d comments, want 3", n)
	}
	if _, err := client.Discussion(t.Context(), id, 2); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("a discussion that is not there: %v", err)
	}
	if _, err := client.Discussion(t.Context(), id, 0); err == nil {
		t.Error("a discussion has the number 0")
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	server, client := newStandIn(t, hubtest.Options{PageSize: 1})
	job := hub.NewJob{
		Image: "python:3.12", Command: []string{"python", "train.py"}, Env: map[string]string{"REVISION": "1"}, Secrets: map[string]hub.Secret{"HF_TOKEN": "hf_of_the_job"},
		Timeout: 90 * time.Minute, Labels: map[string]string{"revision": "1"},
	}
	one, err := client.StartJob(t.Context(), "me", job)
	if err != nil || one.ID == "" || one.Owner != "me" || one.Stage != "RUNNING" || one.URL != server.URL+"/jobs/me/"+one.ID {
		t.Errorf("the Job is %+v, %v", one, err)
	}
	started := server.StartedJobs()[0]
	if started.DockerImage != "python:3.12" || started.Environment["REVISION"] != "1" || started.Secrets["HF_TOKEN"] != "hf_of_the_job" || started.Flavor != "cpu-basic" || started.Timeout != 90*time.Minute {
		t.Errorf("the Hub has %+v", started)
	}
	job.Labels = map[string]string{"revision": "2", "of": "me"}
	two, err := client.StartJob(t.Context(), "me", job)
	if err != nil {
		t.Fatal(err)
	}
	list := func(labels map[string]string) (ids []string) {
		for j, err := range client.Jobs(t.Context(), "me", labels) {
			if err != nil || j.URL == "" {
				t.Errorf("the list has %+v, %v", j, err)
			}
			ids = append(ids, j.ID)
		}
		return ids
	}
	if ids := list(nil); !slices.Equal(ids, []string{two.ID, one.ID}) {
		t.Errorf("the Jobs are %q", ids)
	}
	if ids := list(map[string]string{"revision": "1"}); !slices.Equal(ids, []string{one.ID}) {
		t.Errorf("those of revision 1 are %q", ids)
	}
	if ids := list(map[string]string{"revision": "2", "of": "you"}); ids != nil {
		t.Errorf("those of nobody are %q", ids)
	}
	// Nobody knows whether a lost request has started a Job, so there is no second one. The error does not tell the secret.
	server.Faults.Inject(hubtest.Fault{Method: "POST", Path: "/api/jobs/me", Requests: 1, After: true, Answer: hubtest.Status(502)})
	if _, err := client.StartJob(t.Context(), "me", job); err == nil || strings.Contains(err.Error(), "hf_of_the_job") || len(server.StartedJobs()) != 3 {
		t.Errorf("an answer that was lost: %v, and %d Jobs", err, len(server.StartedJobs()))
	}
	if _, err := client.StartJob(t.Context(), "them", job); !errors.Is(err, hub.ErrForbidden) {
		t.Errorf("a Job of somebody else: %v", err)
	}
	if _, err := client.StartJob(t.Context(), "me/data", job); err == nil {
		t.Error("a repo owns a Job")
	}
}
