//go:build unix

// Package examples_test builds the programs below this directory, runs each as its user would, and looks at what it answers and prints.
package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// patience bounds the life of one program; nothing takes that long unless it is broken.
const patience = 30 * time.Second

// programs is where TestMain has built them, each under its directory's name.
var programs string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hubhook-examples-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "./...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		log.Printf("build the examples: %v\n%s", err, out)
		return 1
	}
	programs = dir
	return m.Run()
}

// program is an example that runs.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	url     string     // of its local listener
	mu      sync.Mutex // guards printed until read is closed
	printed bytes.Buffer
	read    chan struct{} // closed when all it printed is in printed
	ended   bool
}

var localURL = regexp.MustCompile(`(?:local URL: +|listening on )(http://127\.0\.0\.1:\d+)`)

// start runs an example with its data in a directory of its own, and returns once it has said where it listens.
func start(t *testing.T, name string, env []string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &program{t: t, cmd: exec.CommandContext(ctx, filepath.Join(programs, name), args...), read: make(chan struct{})}
	p.cmd.Env = append([]string{"HOME=" + t.TempDir(), "HUBHOOK_DATA=" + filepath.Join(t.TempDir(), "data"), "HUBHOOK_INSPECTOR=off"}, env...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	err = p.cmd.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1) // no example listens twice
	go func() {
		defer close(p.read)
		defer out.Close()
		defer close(found)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.printed.WriteString(line)
			p.mu.Unlock()
			if m := localURL.FindStringSubmatch(line); m != nil {
				found <- m[1]
			}
			if err != nil {
				return // the program has ended
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if !p.ended {
			<-p.read
			p.cmd.Wait() // it was killed
		}
	})
	p.url = <-found
	if p.url == "" {
		<-p.read
		t.Fatalf("%s did not say where it listens:\n%s", name, &p.printed)
	}
	return p
}

// await waits until the program has printed a text.
func (p *program) await(text string) {
	p.t.Helper()
	for ended := false; ; {
		p.mu.Lock()
		found := strings.Contains(p.printed.String(), text)
		p.mu.Unlock()
		if found {
			return
		}
		if ended {
			p.t.Fatalf("%s did not print %q:\n%s", p.cmd.Path, text, &p.printed)
		}
		select {
		case <-p.read:
			ended = true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// post sends a payload as the Hub does and returns status and body of the answer.
func (p *program) post(endpoint string, body *payload.Payload) (int, string) {
	p.t.Helper()
	r, err := http.Post(p.url+"/webhooks/"+endpoint, "application/json", bytes.NewReader(body.Raw()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.StatusCode, string(answer)
}

// page returns what is shown at the program's address.
func (p *program) page() string {
	p.t.Helper()
	r, err := http.Get(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// stop presses Ctrl-C, expects exit status 0, and returns what the program has printed.
func (p *program) stop() string {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	<-p.read
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("%s after Ctrl-C: %v\n%s", p.cmd.Path, err, &p.printed)
	}
	return p.printed.String()
}

func sample(t *testing.T, scope payload.Scope, action payload.Action, set map[string]any) *payload.Payload {
	t.Helper()
	p, err := payload.Sample(scope, action, set)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serveFlags let an example of server.Main run without a network, beside others.
var serveFlags = []string{"--no-tunnel", "--port", "0"}

const sha = "0123456789abcdef0123456789abcdef01234567"

func TestHandlers(t *testing.T) {
	p := start(t, "handlers", nil, serveFlags...)
	push := map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data", "repo.headSha": sha}
	model := map[string]any{"repo.type": payload.Model, "repo.name": "me/model", "repo.headSha": sha}
	uncommitted := map[string]any{"repo.type": payload.Model, "repo.name": "me/model", "repo.headSha": ""}
	for _, c := range []struct {
		name, endpoint string
		body           *payload.Payload
		status         int
		answer         string // part of it
	}{
		{"a push to a dataset", "trigger_training", sample(t, payload.ScopeRepoContent, "", push), 200, `{"training_on":"` + sha + `"}`},
		{"a push to a model", "trigger_training", sample(t, payload.ScopeRepoContent, "", model), 200, `"state":"skipped"`},
		{"a push to a model", "trigger_evaluation", sample(t, payload.ScopeRepoContent, "", model), 200, `{"evaluating":"` + sha + `"}`},
		{"a comment on a model", "trigger_evaluation", sample(t, payload.ScopeDiscussionComment, "", nil), 200, `{}`},
		{"a model without a commit", "trigger_evaluation", sample(t, payload.ScopeRepoContent, "", uncommitted), 202, `"state":"retrying"`},
		{"anything", "say_hello", sample(t, payload.ScopeDiscussion, payload.Create, map[string]any{"repo.name": "me/data"}), 200, `{"message":"hello me/data"}`},
		{"a repo that is gone", "goodbye", sample(t, payload.ScopeRepo, payload.Delete, map[string]any{"repo.name": "me/old"}), 200, `{"message":"goodbye me/old"}`},
		{"a repo that is new", "goodbye", sample(t, payload.ScopeRepo, payload.Create, nil), 200, `"reason":"repo/create deletes nothing"`},
		{"a discussion that is gone", "goodbye", sample(t, payload.ScopeDiscussion, payload.Delete, map[string]any{"discussion.num": 7}), 200, `{}`},
	} {
		status, answer := p.post(c.endpoint, c.body)
		if status != c.status || !strings.Contains(answer, c.answer) {
			t.Errorf("%s: %s answered %d %s, want %d with %s", c.name, c.endpoint, status, answer, c.status, c.answer)
		}
	}
	printed := p.stop()
	for _, want := range []string{
		"training on me/data at " + sha,
		"evaluating me/model at " + sha,
		"goodbye me/old",
		"goodbye discussion 7 of ",
		"attempt 1\n",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("handlers did not print %q:\n%s", want, printed)
		}
	}
	if n := strings.Count(printed, "training on "); n != 1 {
		t.Errorf("%d trainings were started, want 1:\n%s", n, printed)
	}
}

func TestReadme(t *testing.T) {
	p := start(t, "readme", nil, serveFlags...)
	status, answer := p.post("trigger_training", sample(t, payload.ScopeRepoContent, "", map[string]any{
		"repo.type": payload.Dataset, "repo.name": "me/data", "repo.headSha": sha,
	}))
	if status != 200 || answer != "{}" {
		t.Errorf("answered %d %s, want 200 {}", status, answer)
	}
	if printed := p.stop(); !strings.Contains(printed, "train on me/data at "+sha) {
		t.Errorf("readme did not start a training:\n%s", printed)
	}
}

// What docs/migrate.md says of the program in Go. TestMigrate of internal/e2e sends the same to the one in Python.
func TestMigrate(t *testing.T) {
	p := start(t, "migrate", nil, serveFlags...)
	for _, c := range []struct {
		endpoint string
		set      map[string]any
		answer   string // its beginning
	}{
		{"trigger_training", map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data", "repo.headSha": sha}, `{"training":"me/data"}`},
		{"trigger_training", map[string]any{"repo.type": payload.Bucket}, `{"skipped":true}`},
		{"webhooks/mirror", map[string]any{"repo.private": true}, `{"delivery":`},
		{"webhooks/mirror", map[string]any{"repo.name": "me/data"}, `{"mirrored":"me/data"}`},
	} {
		if status, answer := p.post(c.endpoint, sample(t, payload.ScopeRepoContent, "", c.set)); status/100 != 2 || !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s %v: answered %d %s, want %s...", c.endpoint, c.set, status, answer, c.answer)
		}
	}
	if printed := p.stop(); !strings.Contains(printed, "train on me/data at "+sha) || !strings.Contains(printed, "failed in ") {
		t.Errorf("migrate printed:\n%s", printed)
	}
}

func TestOwnServer(t *testing.T) {
	p := start(t, "own-server", nil, "-addr", "127.0.0.1:0")
	status, answer := p.post("trigger_training", sample(t, payload.ScopeRepoContent, "", map[string]any{"repo.name": "me/data", "repo.headSha": sha}))
	if status != 200 || answer != `{"training_on":"me/data"}` {
		t.Errorf("answered %d %s", status, answer)
	}
	if page := p.page(); page != "my own page\n" {
		t.Errorf("the page is %q", page)
	}
	if printed := p.stop(); !strings.Contains(printed, "training on me/data at "+sha) {
		t.Errorf("own-server did not start a training:\n%s", printed)
	}
}

func TestHome(t *testing.T) {
	p := start(t, "home", []string{"HUBHOOK_NO_TUNNEL=1", "HUBHOOK_PORT=0"})
	for _, endpoint := range []string{"say_hello", "goodbye"} {
		status, answer := p.post(endpoint, sample(t, payload.ScopeRepo, payload.Create, map[string]any{"repo.name": "me/data"}))
		if want := `{"message":"` + strings.TrimPrefix(endpoint, "say_") + ` me/data"}`; status != 200 || answer != want {
			t.Errorf("%s answered %d %s, want 200 %s", endpoint, status, answer, want)
		}
	}
	if page := p.page(); !strings.Contains(page, "<h1>My webhooks</h1>") {
		t.Errorf("the page is %q", page)
	}
	p.stop()
}

// TestBursts pushes three times in a row to one repo and once to another.
func TestBursts(t *testing.T) {
	p := start(t, "bursts", nil, serveFlags...)
	last := strings.Repeat("3", 40)
	for _, c := range []struct{ repo, sha string }{{"me/data", sha}, {"me/data", sha}, {"me/other", sha}, {"me/data", last}} {
		push := sample(t, payload.ScopeRepoContent, "", map[string]any{"repo.name": c.repo, "repo.headSha": c.sha})
		if status, answer := p.post("update_index", push); status != 202 || !strings.Contains(answer, `"state":"waiting"`) {
			t.Errorf("a push to %s: answered %d %s, want 202 waiting", c.repo, status, answer)
		}
	}
	for _, want := range []string{"indexing me/data at " + last + ", after 3 pushes", "indexing me/other at " + sha + ", after 1 pushes"} {
		p.await(want)
	}
	if printed := p.stop(); strings.Count(printed, "indexing ") != 2 {
		t.Errorf("bursts did not index each repo once:\n%s", printed)
	}
}

// TestSpace runs the program as a Docker Space does, but for the port.
func TestSpace(t *testing.T) {
	p := start(t, "space", []string{"SPACE_ID=me/hooks", "SPACE_HOST=me-hooks.hf.space,hooks.example.com", "HUBHOOK_PORT=0"})
	for set, want := range map[string]string{"dataset": `{"training":true}`, "model": `{"training":false}`} {
		push := sample(t, payload.ScopeRepoContent, "", map[string]any{"repo.type": set, "repo.name": "me/" + set})
		if status, answer := p.post("trigger_training", push); status != 200 || answer != want {
			t.Errorf("a push to a %s: answered %d %s, want 200 %s", set, status, answer, want)
		}
	}
	printed := p.stop()
	for _, want := range []string{"POST https://me-hooks.hf.space/webhooks/trigger_training\n", "start training on me/dataset at "} {
		if !strings.Contains(printed, want) {
			t.Errorf("space did not print %q:\n%s", want, printed)
		}
	}
}

// TestSpaceAsAJob runs the same program for one delivery, as the Hub does in a Job.
func TestSpaceAsAJob(t *testing.T) {
	push := sample(t, payload.ScopeRepoContent, "", map[string]any{"repo.type": "dataset", "repo.name": "me/data"})
	for _, c := range []struct {
		env    []string
		status int
		want   []string
	}{
		{[]string{"WEBHOOK_PAYLOAD=" + string(push.Raw()), "WEBHOOK_ID=w1"}, 0, []string{"start training on me/data at ", "\n{\"training\":true}\n", "<-- trigger_training  done in "}},
		{nil, 1, []string{"hubhook: WEBHOOK_PAYLOAD is not set", "\n  hint: "}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		job := exec.CommandContext(ctx, filepath.Join(programs, "space"), "run-job")
		job.Env = append([]string{"HOME=" + t.TempDir()}, c.env...)
		printed, _ := job.CombinedOutput()
		cancel()
		if got := job.ProcessState.ExitCode(); got != c.status {
			t.Errorf("with %q the exit status is %d, want %d:\n%s", c.env, got, c.status, printed)
		}
		for _, want := range c.want {
			if !strings.Contains(string(printed), want) {
				t.Errorf("with %q it did not print %q:\n%s", c.env, want, printed)
			}
		}
	}
}

// TestAllAreRun fails for an example that no test above starts; changed, retrain and discussion-bot have tests of their own.
func TestAllAreRun(t *testing.T) {
	built, err := os.ReadDir(programs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range built {
		names = append(names, e.Name())
	}
	if want := []string{"bursts", "changed", "discussion-bot", "handlers", "home", "migrate", "own-server", "readme", "retrain", "space"}; !slices.Equal(names, want) {
		t.Errorf("the examples are %v, tests run %v", names, want)
	}
}
