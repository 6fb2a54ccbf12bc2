//go:build unix

package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

// debianModules is where Debian's packages put Node's modules, for a node that is not Debian's.
const debianModules = "NODE_PATH=/usr/share/nodejs"

// express returns a node that finds Express.
func express(t *testing.T) string {
	t.Helper()
	node := needs.Program(t, "node")
	look := exec.Command(node, "-e", `require("express")`)
	look.Env = append(os.Environ(), debianModules)
	if out, err := look.CombinedOutput(); err != nil {
		needs.Missing(t, "express", "node finds no Express, which Debian's package node-express brings: "+strings.TrimSpace(string(out)))
	}
	return node
}

// The four handlers of docs/examples/handlers, in other languages.
func TestExamplesInOtherLanguages(t *testing.T) {
	for dir, command := range map[string]func(*testing.T) []string{
		"webhooksserver": func(t *testing.T) []string { return []string{realPython(t), "app.py"} },
		"fastapi":        func(t *testing.T) []string { return []string{realPython(t), "app.py"} },
		"express":        func(t *testing.T) []string { return []string{express(t), "app.js"} },
		"shell":          func(*testing.T) []string { return nil },
	} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			tryExample(t, dir, command(t))
		})
	}
}

// tryExample has an example stand what the Hub sends, and then looks at what it makes of some deliveries. An example without a command of its
// own is a hubhook.yaml.
func tryExample(t *testing.T, dir string, command []string) {
	h := newHome(t)
	if err := os.CopyFS(filepath.Join(h.dir, "work"), os.DirFS(filepath.Join("../../docs/examples", dir))); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, debianModules, "PYTHONDONTWRITEBYTECODE=1")
	flags := []string{"--no-tunnel", "--port", "0", "--inspector", "127.0.0.1:0", "--reply-within", "25s"}
	tested := command
	if command == nil {
		tested = []string{hubhook, "serve", "--data", "tested"}
	}
	test := h.run(t, hubhook, slices.Concat([]string{"test", "--"}, tested)...)
	if status := test.exit(); status != 0 || !strings.Contains(test.out.String(), "\n144 passed, 0 failed in ") {
		t.Errorf("hubhook test: status %d\n%s%s", status, test.out, test.errs)
	}

	run := slices.Concat([]string{"serve", "--json"}, flags)
	if command != nil {
		run = slices.Concat([]string{"dev", "--json"}, flags, []string{"--"}, command)
	}
	p := h.run(t, hubhook, run...)
	p.awaitReady()
	if command != nil {
		// They may become known one after the other. Each time all are listed.
		p.await("four endpoints", patience, func(e event) bool { return e.Type == "program" && len(e.Endpoints) == 4 })
	}
	if dir == "webhooksserver" {
		// Its endpoints are known before it has printed them, which it does in two writes. What a handler prints must not come in between.
		p.await("its banner", patience, func(e event) bool {
			return e.Type == "output" && strings.HasPrefix(e.Output, "Go to https://huggingface.co/settings/webhooks")
		})
	}
	const sha = "0123456789abcdef0123456789abcdef01234567"
	repo := func(of payload.RepoType, name string) map[string]any {
		return map[string]any{"repo.type": of, "repo.name": name, "repo.headSha": sha}
	}
	for _, c := range []struct {
		endpoint string
		scope    payload.Scope
		action   payload.Action
		set      map[string]any
		answer   string // of a program; commands have no result
		prints   string // "" for nothing
		state    queue.State
	}{
		{"trigger_training", payload.ScopeRepoContent, "", repo(payload.Dataset, "me/data"), `{"training_on":"` + sha + `"}`, "training on me/data at " + sha, queue.Done},
		{"trigger_training", payload.ScopeRepoContent, "", repo(payload.Model, "me/model"), `{}`, "", queue.Skipped},
		{"trigger_evaluation", payload.ScopeRepoContent, "", repo(payload.Model, "me/model"), `{"evaluating":"` + sha + `"}`, "evaluating me/model at " + sha, queue.Done},
		{"trigger_evaluation", payload.ScopeRepoContent, "", map[string]any{"repo.type": payload.Model, "repo.headSha": ""}, "", "", queue.Retrying},
		{"say_hello", payload.ScopeDiscussion, payload.Create, repo(payload.Dataset, "me/data"), `{"message":"hello me/data"}`, "hello", queue.Done},
		{"goodbye", payload.ScopeRepo, payload.Delete, map[string]any{"repo.name": "me/old"}, `{"message":"goodbye me/old"}`, "goodbye me/old", queue.Done},
		{"goodbye", payload.ScopeRepo, payload.Create, nil, `{}`, "", queue.Skipped},
	} {
		body, err := payload.Sample(c.scope, c.action, c.set)
		if err != nil {
			t.Fatal(err)
		}
		a := p.post(c.endpoint, string(body.Raw()))
		switch {
		case c.state == queue.Retrying:
			if a.status != 202 || !a.says(t, map[string]string{"delivery": a.delivery(), "state": "retrying"}) {
				t.Errorf("%s without a commit: %d %s", c.endpoint, a.status, a.body)
			}
		case command != nil:
			if a.status != 200 || a.body != c.answer {
				t.Errorf("%s: answered %d %s, want %s", c.endpoint, a.status, a.body, c.answer)
			}
			if c.prints != "" {
				p.await(c.prints, patience, func(e event) bool { return e.Type == "output" && strings.HasPrefix(e.Output, c.prints) })
			}
		default:
			r := p.settled(a.delivery(), c.state)
			if printed := c.prints != "" && strings.HasPrefix(r.AttemptList[0].Output, c.prints); printed != (c.prints != "") {
				t.Errorf("%s printed %q, want %q", c.endpoint, r.AttemptList[0].Output, c.prints)
			}
		}
	}
	p.interrupt()
}

// A WebhooksServer with a page of its own shows it at the port that it has from hubhook dev. hubhook's own address serves the endpoints.
func TestExampleWithAPage(t *testing.T) {
	t.Parallel()
	w := newBotWorld(t)
	w.example("home-python")
	p := w.home.run(t, hubhook, "dev", "--json", "--no-tunnel", "--port", "0", "--inspector", "127.0.0.1:0", "--reply-within", "25s", "--", realPython(t), "app.py")
	p.awaitReady()
	said := p.await("its address", 2*patience, func(e event) bool { return e.Type == "output" && strings.Contains(e.Output, "Running on local URL:") })
	p.await("two endpoints", patience, func(e event) bool { return e.Type == "program" && len(e.Endpoints) == 2 })
	for _, endpoint := range []string{"say_hello", "goodbye"} {
		a := p.post(endpoint, sample(t, "me/data"), "X-Webhook-Secret", secret)
		if want := `{"message":"` + strings.TrimPrefix(endpoint, "say_") + ` me/data"}`; a.status != 200 || a.body != want {
			t.Errorf("%s answered %d %s, want 200 %s", endpoint, a.status, a.body, want)
		}
	}
	if a := p.post("goodbye", sample(t, "me/data")); a.status != 401 {
		t.Errorf("without the secret goodbye answered %d", a.status)
	}
	own := said.Output[strings.Index(said.Output, "http://"):]
	for address, want := range map[string]bool{strings.TrimSpace(own): true, p.base: false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		must(t, err)
		a, err := do(p.client, r)
		must(t, err)
		if a.status != 200 || strings.Contains(a.body, "They greet the repos of the Hub.") != want {
			t.Errorf("%s answered %d %s; want the program's page: %t", address, a.status, a.body, want)
		}
	}
	p.stop()
}

// The image of the Job runs its command in a directory with the files that it copies.
func TestExampleJob(t *testing.T) {
	t.Parallel()
	needs.Program(t, "python3")
	const dir = "../../docs/examples/job"
	dockerfile, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	copied := regexp.MustCompile(`(?m)^COPY (.+) \./$`).FindSubmatch(dockerfile)
	started := regexp.MustCompile(`(?m)^CMD (.+)$`).FindSubmatch(dockerfile)
	if copied == nil || started == nil {
		t.Fatalf("the Dockerfile copies or starts nothing:\n%s", dockerfile)
	}
	for _, name := range strings.Fields(string(copied[1])) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		h.work(t, name, string(text))
	}
	var command []string
	if err := json.Unmarshal(started[1], &command); err != nil || command[0] != "hubhook" {
		t.Fatalf("it starts %s (%v)", started[1], err)
	}
	const sha = "0123456789abcdef0123456789abcdef01234567"
	env := h.env
	for _, c := range []struct {
		set    map[string]any
		status int
		prints string
	}{
		{map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data", "repo.headSha": sha}, 0, "training on me/data at " + sha + "\n"},
		{map[string]any{"repo.type": payload.Model}, 0, "skipped"},
		{map[string]any{"repo.type": payload.Dataset, "repo.headSha": ""}, 1, "the payload names no commit"},
	} {
		body, err := payload.Sample(payload.ScopeRepoContent, "", c.set)
		if err != nil {
			t.Fatal(err)
		}
		h.env = append(slices.Clone(env), "WEBHOOK_PAYLOAD="+string(body.Raw()))
		job := h.run(t, hubhook, command[1:]...)
		if status := job.exit(); status != c.status || !strings.Contains(job.out.String()+job.errs.String(), c.prints) {
			t.Errorf("%v: status %d, want %d and %q:\n%s%s", c.set, status, c.status, c.prints, job.out, job.errs)
		}
	}
}
