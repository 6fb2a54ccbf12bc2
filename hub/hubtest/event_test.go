package hubtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// accepting answers every delivery 200 without a network.
type accepting struct{}

func (accepting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// watching returns a Hub with a webhook that watches the items. Its deliveries all succeed.
func watching(t *testing.T, options hubtest.Options, items ...hubtest.Watched) *hubtest.Hub {
	t.Helper()
	if options.Client == nil {
		options.Client = &http.Client{Transport: accepting{}}
	}
	h := hubtest.New(options)
	t.Cleanup(h.Close)
	if _, err := h.Create(hubtest.Webhook{URL: "http://example.com/hook", Watched: items}); err != nil {
		t.Fatal(err)
	}
	return h
}

// must returns v, if there is no error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	anID  = regexp.MustCompile(`\b[0-9a-f]{24}\b`)
	aSHA  = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	aHash = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
)

// plain decodes a body with its random values replaced.
func plain(t *testing.T, body []byte) any {
	t.Helper()
	text := aHash.ReplaceAllString(string(body), "HASH")
	text = aSHA.ReplaceAllString(text, "SHA")
	text = anID.ReplaceAllString(text, "ID")
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// Each change makes the body that package payload has as an example of its event.
func TestBodiesAreTheHubs(t *testing.T) {
	t.Parallel()
	repo := func(h *hubtest.Hub, kind payload.RepoType, name string) *hubtest.Repo {
		return must(h.CreateRepo(kind, name, hubtest.RepoOptions{}))
	}
	discussion := func(h *hubtest.Hub, kind payload.RepoType, name string, num int, options hubtest.DiscussionOptions) *hubtest.Discussion {
		r := repo(h, kind, name)
		for range num - 1 {
			must(r.Discuss(hubtest.DiscussionOptions{Title: "an older one"}))
		}
		return must(r.Discuss(options))
	}
	pull := hubtest.DiscussionOptions{Title: "Add an env key", PullRequest: true}
	for _, test := range []struct {
		file string
		back int // events after this one
		do   func(h *hubtest.Hub)
	}{
		{"synthetic_repo_create_model", 0, func(h *hubtest.Hub) { repo(h, payload.Model, "some-user/some-repo") }},
		{"synthetic_repo_create_dataset_private", 0, func(h *hubtest.Hub) {
			must(h.CreateRepo(payload.Dataset, "some-user/some-dataset", hubtest.RepoOptions{Private: true}))
		}},
		{"synthetic_repo_delete_dataset", 0, func(h *hubtest.Hub) { check(t, repo(h, payload.Dataset, "some-user/some-dataset").Delete()) }},
		{"synthetic_repo_move_model", 0, func(h *hubtest.Hub) {
			check(t, repo(h, payload.Model, "some-user/old-name").Move("some-org/new-name"))
		}},
		{"synthetic_repo_config_update_private_dataset", 0, func(h *hubtest.Hub) {
			check(t, repo(h, payload.Dataset, "some-user/some-dataset").SetPrivate(true))
		}},
		{"synthetic_repo_config_update_public_model", 0, func(h *hubtest.Hub) {
			r := must(h.CreateRepo(payload.Model, "some-user/some-repo", hubtest.RepoOptions{Private: true}))
			check(t, r.SetPrivate(false))
		}},
		{"synthetic_repo_config_update_empty_space", 0, func(h *hubtest.Hub) {
			check(t, repo(h, payload.Space, "some-user/some-space").Configure())
		}},
		{"synthetic_repo_content_update_main_model", 0, func(h *hubtest.Hub) {
			must(repo(h, payload.Model, "some-user/some-repo").Push(hubtest.Commit{}))
		}},
		{"synthetic_repo_content_update_convert_parquet_dataset", 0, func(h *hubtest.Hub) {
			r := repo(h, payload.Dataset, "some-user/some-dataset")
			check(t, r.SetRefs(hubtest.Ref{Name: "refs/convert/parquet", Commit: "main"}))
			must(r.Push(hubtest.Commit{Ref: "refs/convert/parquet"}))
		}},
		{"synthetic_repo_content_update_tag_create_and_branch_delete", 0, func(h *hubtest.Hub) {
			r := repo(h, payload.Dataset, "some-user/some-dataset")
			check(t, r.CreateBranch("old-branch", ""))
			next := must(r.Push(hubtest.Commit{Ref: "next"}))
			check(t, r.SetRefs(hubtest.Ref{Name: "main", Commit: next}, hubtest.Ref{Name: "refs/tags/test", Commit: next},
				hubtest.Ref{Name: "old-branch"}))
		}},
		{"real_repo_content_update_pr_ref_space", 0, func(h *hubtest.Hub) {
			discussion(h, payload.Space, "Wauplin/gradio-user-history", 5, pull)
		}},
		{"real_discussion_create_pr_model", 1, func(h *hubtest.Hub) {
			discussion(h, payload.Model, "openai-community/gpt2", 19, hubtest.DiscussionOptions{
				Title: "Update co2 emissions", Comment: "Add co2 emissions information to the model card", PullRequest: true})
		}},
		{"synthetic_discussion_create_draft_pr_model", 1, nil},
		{"synthetic_discussion_create_issue_dataset", 0, func(h *hubtest.Hub) {
			discussion(h, payload.Dataset, "some-user/some-dataset", 7, hubtest.DiscussionOptions{
				Title: "Cannot load dataset from hf hub", Comment: "Loading fails with a schema error."})
		}},
		{"real_discussion_update_closed_pr_space", 0, func(h *hubtest.Hub) {
			d := discussion(h, payload.Space, "Wauplin/leaderboard", 4, hubtest.DiscussionOptions{
				Title: "Update space_ci/webhook.py", PullRequest: true})
			check(t, d.SetStatus(payload.StatusClosed))
		}},
		{"synthetic_discussion_update_pinned_space", 0, func(h *hubtest.Hub) {
			check(t, discussion(h, payload.Space, "some-user/some-space", 1, hubtest.DiscussionOptions{Title: "Read me first"}).Pin(true))
		}},
		{"synthetic_discussion_comment_create_model", 0, func(h *hubtest.Hub) {
			must(discussion(h, payload.Model, "some-user/some-repo", 4, pull).Comment("jo", "This adds an env key"))
		}},
		{"synthetic_repo_create_bucket", 0, func(h *hubtest.Hub) {
			must(h.CreateBucket("some-user/some-bucket", hubtest.RepoOptions{}))
		}},
		{"synthetic_repo_content_update_bucket_small", 0, func(h *hubtest.Hub) {
			b := must(h.CreateBucket("some-user/some-bucket", hubtest.RepoOptions{}))
			check(t, b.Upload(hubtest.File{Path: "data/train.txt", Content: make([]byte, 20)}))
		}},
		{"synthetic_discussion_update_title_model", 0, nil},
		{"synthetic_discussion_update_closed_issue_model", 0, nil},
		{"synthetic_discussion_delete_model", 0, nil},
		{"synthetic_discussion_comment_update_edit_model", 0, nil},
	} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			sample, err := os.ReadFile(filepath.Join("..", "..", "payload", "testdata", test.file+".json"))
			if err != nil {
				t.Fatal(err)
			}
			h := watching(t, hubtest.Options{User: "some-user"}, hubtest.Watched{Type: "user", Name: "some-user"},
				hubtest.Watched{Type: "user", Name: "Wauplin"}, hubtest.Watched{Type: "org", Name: "openai-community"})
			if test.do == nil {
				fromSample(t, h, sample)
			} else {
				test.do(h)
			}
			all := h.Deliveries()
			got := all[len(all)-1-test.back]
			if diff := cmp.Diff(plain(t, sample), plain(t, got.Body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// fromSample makes the event of a discussion of which the sample tells all.
func fromSample(t *testing.T, h *hubtest.Hub, sample []byte) {
	t.Helper()
	p := must(payload.Parse(sample))
	r := must(h.CreateRepo(p.Repo.Type, p.Repo.Name, hubtest.RepoOptions{}))
	for range p.Discussion.Num - 1 {
		must(r.Discuss(hubtest.DiscussionOptions{Title: "an older one"}))
	}
	options := hubtest.DiscussionOptions{Title: p.Discussion.Title, PullRequest: p.Discussion.IsPullRequest,
		Draft: p.Discussion.Status == payload.StatusDraft}
	if p.Comment != nil {
		options.Comment = p.Comment.Content
	}
	d := must(r.Discuss(options))
	switch {
	case p.Event.Scope == payload.ScopeDiscussionComment:
		check(t, d.Comments()[0].Edit(p.Comment.Content))
	case p.Event.Action == payload.Create:
	case p.Event.Action == payload.Delete:
		check(t, d.Delete())
	case p.Discussion.Status == payload.StatusOpen:
		check(t, d.SetTitle(p.Discussion.Title))
	default:
		check(t, d.SetStatus(p.Discussion.Status))
	}
}

// eventsOf returns the deliveries of one webhook in short: scope, action and repo.
func eventsOf(t *testing.T, h *hubtest.Hub, webhook string) []string {
	t.Helper()
	var events []string
	for _, d := range h.Deliveries() {
		if d.WebhookID == webhook {
			p := must(payload.Parse(d.Body))
			if p.Webhook.ID != webhook {
				t.Errorf("a body for %s has the webhook %s", webhook, p.Webhook.ID)
			}
			events = append(events, fmt.Sprintf("%s %s %s", p.Event.Scope, p.Event.Action, p.Repo.Name))
		}
	}
	return events
}

func TestWhoGetsWhat(t *testing.T) {
	t.Parallel()
	h := watching(t, hubtest.Options{})
	h.Accounts.AddOrg("acme", "jo")
	create := func(owner string, domains []string, items ...hubtest.Watched) string {
		return must(h.Create(hubtest.Webhook{Owner: owner, URL: "https://example.com/", Domains: domains, Watched: items}))
	}
	data := hubtest.Watched{Type: "dataset", Name: "acme/data"}
	repos := create("me", []string{"repo"}, data)
	talks := create("me", []string{"discussion"}, data, hubtest.Watched{Type: "org", Name: "acme"})
	member := create("jo", nil, hubtest.Watched{Type: "org", Name: "acme"})
	model := create("jo", nil, hubtest.Watched{Type: "model", Name: "acme/data"})
	renamed := create("me", nil, hubtest.Watched{Type: "dataset", Name: "you/other"})
	disabled := create("jo", nil, data)
	check(t, h.Disable(disabled))

	r := must(h.CreateRepo(payload.Dataset, "acme/data", hubtest.RepoOptions{}))
	d := must(r.Discuss(hubtest.DiscussionOptions{Title: "Pull", PullRequest: true}))
	check(t, r.SetPrivate(true))
	must(r.Push(hubtest.Commit{}))
	must(d.Comment("jo", "for members only"))
	check(t, r.SetPrivate(false))
	check(t, d.Merge())
	check(t, r.Move("you/other"))
	check(t, r.Delete())

	for _, test := range []struct {
		who, id string
		want    []string
	}{
		{"repos", repos, []string{"repo create acme/data", "repo.content update acme/data", "repo.config update acme/data",
			"repo.content update acme/data", "repo move acme/data"}},
		{"talks", talks, []string{"discussion create acme/data", "discussion update acme/data"}},
		{"member", member, []string{"repo create acme/data", "discussion create acme/data", "repo.content update acme/data",
			"repo.config update acme/data", "repo.content update acme/data", "discussion.comment create acme/data",
			"repo.config update acme/data", "repo.content update acme/data", "discussion update acme/data", "repo move acme/data"}},
		{"model", model, nil},
		{"renamed", renamed, []string{"repo move acme/data", "repo delete you/other"}},
		{"disabled", disabled, nil},
	} {
		if diff := cmp.Diff(test.want, eventsOf(t, h, test.id)); diff != "" {
			t.Errorf("%s: %s", test.who, diff)
		}
	}
	check(t, h.Wait(t.Context()))
	if _, err := r.Push(hubtest.Commit{}); err == nil {
		t.Error("a push to a deleted repo succeeds")
	}
}

// Deliveries overtake each other in an order that the seed decides.
func TestShuffle(t *testing.T) {
	order := func(seed uint64) (order []string) {
		synctest.Test(t, func(t *testing.T) {
			r := &receiver{}
			h := watching(t, hubtest.Options{Client: serve(t, r), Shuffle: time.Hour, ShuffleSeed: seed})
			id := h.Webhooks()[0].ID
			for n := range 20 {
				send(t, h, id, fmt.Sprint(n))
			}
			check(t, h.Wait(t.Context()))
			order = r.body
		})
		return order
	}
	one, again, other := order(1), order(1), order(2)
	if !slices.Equal(one, again) || slices.Equal(one, other) || slices.IsSortedFunc(one, func(a, b string) int { return len(a) - len(b) }) {
		t.Errorf("orders %v, %v and, with another seed, %v", one, again, other)
	}
}

// Where the Hub's behaviour is unknown, the test chooses.
func TestPayloadsInDoubt(t *testing.T) {
	t.Parallel()
	doubts := hubtest.Payloads{ContentType: "application/json; charset=utf-8", Truncated: true, DeletedHeadSHA: true, NoUpdatedRefs: true}
	types := make(chan string, 10)
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		types <- r.Header.Get("Content-Type")
		return accepting{}.RoundTrip(r)
	})}
	h := watching(t, hubtest.Options{Client: client, Payloads: doubts}, hubtest.Watched{Type: "user", Name: "me"})
	b := must(h.CreateBucket("me/files", hubtest.RepoOptions{}))
	upload(t, b, "a", "1")
	r := must(h.CreateRepo(payload.Model, "me/model", hubtest.RepoOptions{}))
	must(r.Push(hubtest.Commit{}))
	check(t, r.Delete())
	check(t, h.Wait(t.Context()))
	for n, want := range map[int]func(text string) bool{
		1: func(text string) bool { return strings.Contains(text, `"updatedFilesTruncated":false`) },
		3: func(text string) bool { return !strings.Contains(text, "updatedRefs") },
		4: func(text string) bool { return strings.Contains(text, `"headSha":"`+r.Head()+`"`) },
	} {
		if text := string(h.Deliveries()[n].Body); !want(text) {
			t.Errorf("delivery %d: %s", n, text)
		}
	}
	if got := <-types; got != doubts.ContentType {
		t.Errorf("Content-Type %q", got)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
