package hubtest_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

// python evaluates expressions with the real huggingface_hub, which talks to a stand-in Hub.
type python struct {
	t   *testing.T
	in  *bufio.Writer
	out *bufio.Reader
}

func startPython(t *testing.T, endpoint, token string) *python {
	t.Helper()
	path := os.Getenv("HUBHOOK_TEST_PYTHON")
	if path == "" {
		needs.Missing(t, "webhooksserver", "HUBHOOK_TEST_PYTHON names no Python of a virtual environment with what "+
			"internal/tools/bench/webhooksserver/requirements.txt pins")
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), path, filepath.Join("testdata", "client.py"))
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+endpoint, "HF_TOKEN="+token, "HF_HOME="+home, "HOME="+home, "NO_PROXY=127.0.0.1",
		"HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_UPDATE_CHECK=1", "PYTHONUNBUFFERED=1", "NO_COLOR=1", "COLUMNS=200")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &python{t, bufio.NewWriter(in), bufio.NewReader(out)}
}

type answer struct {
	Value       json.RawMessage
	Error, Text string
}

func (p *python) ask(expression string) answer {
	p.t.Helper()
	fmt.Fprintln(p.in, expression)
	if err := p.in.Flush(); err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return decoded[answer](p.t, line)
}

// fails checks that an expression raises an error of that type, and returns its text.
func (p *python) fails(kind, expression string) string {
	p.t.Helper()
	a := p.ask(expression)
	if a.Error != kind {
		p.t.Errorf("%s: %s, value %s; want %s: %s", expression, a.Error, a.Value, kind, a.Text)
	}
	return a.Text
}

// value returns what an expression evaluates to.
func value[T any](p *python, expression string) T {
	p.t.Helper()
	a := p.ask(expression)
	if a.Error != "" {
		p.t.Fatalf("%s: %s: %s", expression, a.Error, a.Text)
	}
	return decoded[T](p.t, string(a.Value))
}

func wants[T any](p *python, want T, expression string) {
	p.t.Helper()
	if diff := cmp.Diff(want, value[T](p, expression)); diff != "" {
		p.t.Errorf("%s: %s", expression, diff)
	}
}

// The real client finds what it expects of the Hub.
func TestHuggingfaceHub(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{API: hubtest.API{EchoSecret: true}, PageSize: 2, KeepAlive: 20 * time.Millisecond})
	p := startPython(t, s.URL, c.token)
	t.Run("webhooks", func(t *testing.T) { p.t = t; testClientWebhooks(t, s, p) })
	t.Run("command", func(t *testing.T) { p.t = t; testClientCommand(t, s, p) })
	t.Run("repos", func(t *testing.T) { p.t = t; testClientRepos(t, s, p) })
	t.Run("discussions", func(t *testing.T) { p.t = t; testClientDiscussions(t, s, p) })
	t.Run("jobs", func(t *testing.T) { p.t = t; testClientJobs(t, s, p) })
	t.Run("buckets", func(t *testing.T) { p.t = t; testClientBuckets(t, s, p) })
	t.Run("errors", func(t *testing.T) { p.t = t; testClientErrors(t, s, p) })
}

func testClientWebhooks(t *testing.T, s *hubtest.Server, p *python) {
	wants(p, "me", `api.whoami()["name"]`)
	made := value[object](p, `api.create_webhook(url="https://example.com/a", watched=[{"type": "bucket", "name": "me/data"}], secret="s3cret")`)
	id := made["id"].(string)
	want := object{"id": id, "url": "https://example.com/a", "job": nil, "watched": []any{object{"type": "bucket", "name": "me/data"}},
		"domains": []any{"repo", "discussion"}, "secret": "s3cret", "disabled": false}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error(diff)
	}
	wants(p, want, fmt.Sprintf("api.get_webhook(%q)", id))
	wants(p, []object{want}, "api.list_webhooks()")
	// It sends an empty list where it was given none.
	want["url"], want["watched"], want["secret"] = "https://example.com/b", []any{}, nil
	wants(p, want, fmt.Sprintf("api.update_webhook(%q, url=\"https://example.com/b\")", id))
	want["disabled"] = true
	wants(p, want, fmt.Sprintf("api.disable_webhook(%q)", id))
	want["disabled"] = false
	wants(p, want, fmt.Sprintf("api.enable_webhook(%q)", id))
	check(t, s.Suspend(id))
	want["disabled"] = "suspended-after-failure"
	wants(p, want, fmt.Sprintf("api.get_webhook(%q)", id))
	wants[any](p, nil, fmt.Sprintf("api.delete_webhook(%q)", id))
	if text := p.fails("HfHubHTTPError", fmt.Sprintf("api.get_webhook(%q)", id)); !strings.Contains(text, "Webhook not found") ||
		!strings.Contains(text, "Root=1-") {
		t.Errorf("after its deletion: %s", text)
	}
	if job := value[object](p, `api.create_webhook(job_id="687f911eaea852de79c4a50a", watched=[{"type": "user", "name": "jo"}]).job`); job["flavor"] != "cpu-basic" {
		t.Errorf("the Job: %v", job)
	}
	check(t, s.Delete(s.Webhooks()[0].ID))
}

var webhookID = regexp.MustCompile(`[0-9a-f]{24}`)

func testClientCommand(t *testing.T, s *hubtest.Server, p *python) {
	type ran struct {
		Status  int
		Printed string
	}
	hf := func(arguments ...string) string {
		t.Helper()
		b, _ := json.Marshal(append([]string{"webhooks"}, arguments...)) // of strings: never fails
		got := value[ran](p, "hf(*"+string(b)+")")
		if got.Status != 0 {
			t.Fatalf("hf webhooks %q: status %d: %s", arguments, got.Status, got.Printed)
		}
		return got.Printed
	}
	id := webhookID.FindString(hf("create", "--watch", "dataset:me/data", "--watch", "user:jo", "--url", "https://example.com/a", "--domain", "repo", "--secret", "s"))
	w, err := s.Webhook(id)
	if diff := cmp.Diff(hubtest.Webhook{ID: id, Owner: "me", URL: "https://example.com/a", Secret: "s", Domains: []string{"repo"},
		Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}, {Type: "user", Name: "jo"}}}, w); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if text := hf("ls"); !strings.Contains(text, id) {
		t.Errorf("ls: %s", text)
	}
	if text := hf("info", id); !strings.Contains(text, "https://example.com/a") {
		t.Errorf("info: %s", text)
	}
	hf("update", id, "--url", "https://example.com/b", "--watch", "model:gpt2")
	hf("disable", id)
	if disabled, err := s.Disabled(id); !disabled || err != nil {
		t.Errorf("disabled: %v, %v", disabled, err)
	}
	hf("enable", id)
	if w, err := s.Webhook(id); err != nil || w.URL != "https://example.com/b" || len(w.Watched) != 1 {
		t.Errorf("after the update %+v, %v", w, err)
	}
	hf("delete", id, "--yes")
	if all := s.Webhooks(); len(all) != 0 {
		t.Errorf("after the deletion %+v", all)
	}
}

func testClientRepos(t *testing.T, s *hubtest.Server, p *python) {
	r := must(s.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{}))
	first := r.Head()
	second := must(r.Push(hubtest.Commit{Title: "Two", Authors: []string{"jo"}, Files: []hubtest.File{
		{Path: "a/b c/ü.txt", Content: []byte("hello")}, {Path: "large.bin", Content: []byte("hello"), LFS: true}, {Path: "z"}}}))
	third := must(r.Push(hubtest.Commit{Ref: "dev/x", Title: "Three"}))
	check(t, r.CreateTag("v1", first))
	must(r.Discuss(hubtest.DiscussionOptions{Title: "Pull", PullRequest: true}))
	const of = `"me/data", repo_type="dataset"`
	wants(p, object{
		"branches":      []any{object{"name": "dev/x", "ref": "refs/heads/dev/x", "target_commit": third}, object{"name": "main", "ref": "refs/heads/main", "target_commit": second}},
		"converts":      []any{},
		"tags":          []any{object{"name": "v1", "ref": "refs/tags/v1", "target_commit": first}},
		"pull_requests": []any{object{"name": "1", "ref": "refs/pr/1", "target_commit": second}},
	}, "api.list_repo_refs("+of+", include_pull_requests=True)")
	wants(p, []string{"jo Two", "system initial commit"}, `[" ".join([*c.authors, c.title]) for c in api.list_repo_commits(`+of+`, revision="refs/pr/1")]`)
	wants(p, 3, "len(api.list_repo_commits("+of+`, revision="dev/x"))`)
	wants(p, []string{".gitattributes", "a", "a/b c", "a/b c/ü.txt", "large.bin", "z"}, "[f.path for f in api.list_repo_tree("+of+", recursive=True)]")
	wants(p, []string{"b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"}, `[f.blob_id for f in api.list_repo_tree(`+of+`, path_in_repo="a/b c", revision="refs/heads/dev/x")]`)
	wants(p, object{"size": 5.0, "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "pointer_size": 126.0},
		"[f.lfs for f in api.list_repo_tree("+of+") if f.path == \"large.bin\"][0]")
	wants(p, second, `api.dataset_info("me/data", expand=["sha"]).sha`)
	wants(p, third, `api.dataset_info("me/data", revision="dev/x").sha`)
	wants(p, []string{"me/data"}, `[d.id for d in api.list_datasets(author="me")]`)
	wants(p, []string{}, `[d.id for d in api.list_models(search="data")]`)
	check(t, r.Move("me/renamed"))
	wants(p, second, `api.list_repo_refs(`+of+`).branches[1].target_commit`)
	p.fails("RevisionNotFoundError", `api.list_repo_commits(`+of+`, revision="none")`)
	check(t, r.Delete())
	p.fails("RepositoryNotFoundError", "api.list_repo_refs("+of+")")
}

func testClientDiscussions(t *testing.T, s *hubtest.Server, p *python) {
	r := must(s.CreateRepo(payload.Dataset, "me/talk", hubtest.RepoOptions{}))
	const of = `"me/talk", repo_type="dataset"`
	wants(p, []any{1.0, "Why?", "me", "open", false, []any{"me: So."}}, `(lambda d: [d.num, d.title, d.author, d.status, d.is_pull_request, [e.author + ": " + e.content for e in d.events]])(`+
		`api.create_discussion(`+of+`, title="Why?", description="So."))`)
	wants(p, "Because.", `api.comment_discussion(`+of+`, discussion_num=1, comment="Because.").content`)
	if comments := r.Discussion(1).Comments(); len(comments) != 2 || comments[1].Author != "me" || comments[1].Text() != "Because." {
		t.Errorf("the comments: %+v", comments)
	}
	check(t, r.Discussion(1).Comments()[0].Edit("So!"))
	wants(p, []any{[]any{"So!", true}, []any{"Because.", false}}, `[[e.content, e.edited] for e in api.get_discussion_details(`+of+`, discussion_num=1).events]`)
	wants(p, "refs/pr/2", `api.create_pull_request(`+of+`, title="Rows").git_reference`)
	wants[any](p, nil, `api.get_discussion_details(`+of+`, discussion_num=2).merge_commit_oid`)
	must(r.Push(hubtest.Commit{Ref: "refs/pr/2", Files: []hubtest.File{{Path: "data/1"}}}))
	check(t, r.Discussion(2).SetStatus(payload.StatusOpen)) // what a program opens is a draft
	check(t, r.Discussion(2).Merge())
	wants(p, []any{"merged", r.Head()}, `(lambda d: [d.status, d.merge_commit_oid])(api.get_discussion_details(`+of+`, discussion_num=2))`)
	wants(p, "Rows (#2)", `api.list_repo_commits(`+of+`)[0].title`)
	p.fails("HfHubHTTPError", `api.get_discussion_details(`+of+`, discussion_num=3)`)
}

func testClientJobs(t *testing.T, s *hubtest.Server, p *python) {
	id := value[string](p, `api.run_job(image="python:3.12", command=["python", "train.py"], env={"REVISION": "1"}, secrets={"HF_TOKEN": "hf_x"}, labels={"of": "a"}, timeout="2h").id`)
	other := value[string](p, `api.run_job(image="hf.co/spaces/me/train", command=["./train"], flavor="t4-small").id`)
	started := s.StartedJobs()
	if len(started) != 2 || started[0].ID != id || started[0].Owner != "me" || started[0].DockerImage != "python:3.12" || started[0].Environment["REVISION"] != "1" ||
		started[0].Secrets["HF_TOKEN"] != "hf_x" || started[0].Labels["of"] != "a" || started[0].Timeout != 2*time.Hour || started[1].SpaceID != "me/train" {
		t.Errorf("the Jobs: %+v", started)
	}
	wants(p, []string{other, id}, `[j.id for j in api.list_jobs()]`)
	wants(p, []string{id + " RUNNING me"}, `[" ".join([j.id, j.status.stage, j.owner.name]) for j in api.list_jobs(labels={"of": "a"})]`)
	wants(p, []string{}, `[j.id for j in api.list_jobs(labels={"of": "b"})]`)
	p.fails("BadRequestError", `api.run_job(image="python:3.12", command=[])`)
	if text := p.fails("HfHubHTTPError", `api.run_job(image="python:3.12", command=["x"], namespace="them")`); !strings.Contains(text, "them") {
		t.Errorf("somebody else's Jobs: %s", text)
	}
}

func testClientBuckets(t *testing.T, s *hubtest.Server, p *python) {
	wants(p, "me/files", `api.create_bucket("me/files").bucket_id`)
	b := s.Bucket("me/files")
	check(t, b.Upload(hubtest.File{Path: "a/1", Content: []byte("12")}, hubtest.File{Path: "b"}, hubtest.File{Path: "c"}))
	wants(p, []any{"me/files", 2.0, 3.0}, `[getattr(api.bucket_info("me/files"), n) for n in ("id", "size", "total_files")]`)
	wants(p, []string{"file a/1", "file b", "file c"}, `[f.type + " " + f.path for f in api.list_bucket_tree("me/files", recursive=True)]`)
	wants(p, []string{"directory a", "file b", "file c"}, `[f.type + " " + f.path for f in api.list_bucket_tree("me/files")]`)
	wants(p, []string{"me/files"}, `[b.id for b in api.list_buckets()]`)

	p.ask(`kept.update(f=Follow("me/files"))`)
	wants(p, "reconcile", `kept["f"].next()`)
	// It comes back from updatedAt on, so it hears of the last change.
	wants(p, []string{"add:a/1", "add:b", "add:c"}, `kept["f"].next()`)
	upload(t, b, "d", "1")
	wants(p, []string{"add:d"}, `kept["f"].next()`)
	b.Feed.Reconnect()
	check(t, b.Change([]hubtest.File{{Path: "d"}}, []string{"b"}))
	wants(p, []string{"delete:b", "update:d"}, `kept["f"].next()`)
	b.Feed.Cut()
	check(t, b.Feed.Send("weather", nil))
	upload(t, b, "e", "1")
	wants(p, []string{"add:e"}, `kept["f"].next()`)
	s.Faults.Inject(hubtest.Fault{Path: "/api/buckets/me/files/events", Requests: 2, Answer: hubtest.Unavailable(0)})
	b.Feed.Reset()
	wants(p, "reconcile", `kept["f"].next()`)
	upload(t, b, "f", "1")
	wants(p, []string{"add:f"}, `kept["f"].next()`)
	p.ask(`kept["f"].stop()`)
	wants(p, true, `kept["f"].ended()`)

	wants[any](p, nil, `api.update_bucket_settings("me/files", private=True)`)
	wants[any](p, nil, `api.move_bucket("me/files", "me/moved")`)
	wants(p, true, `api.bucket_info("me/files").private`)
	wants[any](p, nil, `api.delete_bucket("me/moved")`)
	p.fails("BucketNotFoundError", `api.bucket_info("me/moved")`)
}

func testClientErrors(t *testing.T, s *hubtest.Server, p *python) {
	fault := func(answer hubtest.Fault) {
		answer.Path, answer.Requests = "/api/settings/webhooks", 1
		s.Faults.Inject(answer)
	}
	fault(hubtest.Fault{Answer: hubtest.TooManyRequests(55 * time.Second)})
	if text := p.fails("HfHubHTTPError", "api.list_webhooks()"); !strings.Contains(text, "Retry after 55 seconds (0/500 requests remaining in current 300s window)") {
		t.Errorf("429: %s", text)
	}
	fault(hubtest.Fault{Answer: hubtest.HTML(200)})
	p.fails("JSONDecodeError", "api.list_webhooks()")
	fault(hubtest.Fault{Answer: hubtest.Cut})
	p.fails("RemoteProtocolError", "api.list_webhooks()")
	p.fails("BadRequestError", `api.create_webhook(url="https://example.com/", watched=[{"type": "paper", "name": "1"}])`)
	if text := p.fails("HfHubHTTPError", `api.list_webhooks(token="hf_unknown")`); !strings.Contains(text, "Invalid credentials in Authorization header") {
		t.Errorf("an unknown token: %s", text)
	}
	weak := s.Accounts.AddToken(hubtest.Token{Role: hubtest.Read})
	if text := p.fails("HfHubHTTPError", fmt.Sprintf(`api.enable_webhook("x", token=%q)`, weak)); !strings.Contains(text, "user.webhooks.write") {
		t.Errorf("a token without rights: %s", text)
	}
}
