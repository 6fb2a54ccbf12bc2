//go:build unix

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// realPython returns a Python that has huggingface_hub, gradio, fastapi and flask, as python/requirements.txt pins them.
func realPython(t *testing.T) string {
	t.Helper()
	path := os.Getenv("HUBHOOK_TEST_PYTHON")
	if path == "" {
		needs.Missing(t, "webhooksserver", "HUBHOOK_TEST_PYTHON names no Python of a virtual environment with what internal/e2e/python/requirements.txt pins")
	}
	return path
}

// realProgram is a program as people have them, under `hubhook dev`.
type realProgram struct {
	file      string // of this directory
	command   []string
	flags     []string  // of dev
	endpoints []string  // all that it has
	endpoint  string    // the one that is used
	prints    string    // for a delivery of REPO
	edit      [2]string // text of it and what comes in its place
	reprints  string    // for a delivery of REPO, after the edit
	hint      string    // what it is told to fix
	strict    bool      // its model refuses buckets
	ours      bool      // it is written with hubhook
	space     bool      // it prints its endpoints as those of the Space that it seems to run in
}

// Programs that know nothing of hubhook, and one that is written with it: their endpoints have public URLs, deliveries come to them through
// the tunnel, and what waits while they restart after an edit is handled by the new code.
func TestDevRunsRealPrograms(t *testing.T) {
	for name, make := range map[string]func(*testing.T) realProgram{
		"WebhooksServer": func(t *testing.T) realProgram {
			return realProgram{
				file: "python/webhooks.py", command: []string{realPython(t), "webhooks.py"},
				endpoints: []string{"trigger_training", "webhooks/doubled"}, endpoint: "trigger_training",
				prints: "training REPO", edit: [2]string{`"training"`, `"again"`}, reprints: "again REPO",
				strict: true, space: true,
			}
		},
		"FastAPI": func(t *testing.T) realProgram {
			return realProgram{
				file: "python/fastapi_app.py", command: []string{realPython(t), "fastapi_app.py"},
				endpoints: []string{"webhook"}, endpoint: "webhook",
				prints: "tagging REPO", edit: [2]string{`"tagging"`, `"again"`}, reprints: "again REPO",
			}
		},
		"Flask": func(t *testing.T) realProgram {
			return realProgram{
				file: "python/flask_app.py", command: []string{realPython(t), "flask_app.py"},
				endpoints: []string{"hook"}, endpoint: "hook", hint: "PORT",
				prints: "got repo.content REPO", edit: [2]string{`"got"`, `"again"`}, reprints: "again repo.content REPO",
			}
		},
		"Node": func(t *testing.T) realProgram {
			return realProgram{
				file: "node/server.js", command: []string{needs.Program(t, "node"), "server.js"}, flags: []string{"--path", "/webhooks/node"},
				endpoints: []string{"node"}, endpoint: "node",
				prints: "got repo.content REPO", edit: [2]string{`"got"`, `"again"`}, reprints: "again repo.content REPO",
			}
		},
		"Go": func(t *testing.T) realProgram {
			return realProgram{
				file: "../../docs/examples/readme/main.go", command: []string{"go", "run", "."},
				endpoints: []string{"trigger_training"}, endpoint: "trigger_training",
				prints: "train on REPO", reprints: "again REPO",
				edit: [2]string{`log.Printf("train on`, `if p.Repo.Name == "me/fails" { return nil, context.Canceled }; log.Printf("again`},
				ours: true,
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t).try(t)
		})
	}
}

// goWorkspace makes the working directory a Go module that is built with this hubhook.
func (h *home) goWorkspace(t *testing.T) {
	t.Helper()
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	h.work(t, "go.mod", "module me/bot\n\ngo 1.26\n")
	h.work(t, "go.work", "go 1.26.0\n\nuse (\n\t.\n\t"+source+"\n)\n")
	dirs, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(dirs))
	h.env = append(h.env, "GOCACHE="+lines[0], "GOMODCACHE="+lines[1], "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
}

// sample is a push to a dataset, with all that the Hub sends.
func sample(t *testing.T, repo string) string {
	t.Helper()
	p, err := payload.Sample(payload.ScopeRepoContent, payload.Update, map[string]any{"repo.name": repo, "repo.type": payload.Dataset})
	if err != nil {
		t.Fatal(err)
	}
	return string(p.Raw())
}

func (r realProgram) try(t *testing.T) {
	h := newHome(t)
	if r.command[0] == "go" {
		h.goWorkspace(t)
	}
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	writeConfig(t, h, edge, tunneltest.DefaultToken)
	client := publicClient(t, edge)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	// A port that stands in the code is another one for each test that runs at this time.
	code := strings.ReplaceAll(string(text), "5000", freePort(t))
	h.work(t, filepath.Base(r.file), code)

	flags := append([]string{"dev", "--json", "--port", "0", "--inspector", "127.0.0.1:0", "--secret", secret}, r.flags...)
	p := h.run(t, hubhook, slices.Concat(flags, []string{"--"}, r.command)...)
	p.awaitReady()
	public := p.ready.PublicURL
	if public == "" {
		t.Fatalf("no public URL: %+v", p.ready)
	}
	if r.hint != "" {
		p.await("what to fix", patience, func(e event) bool { return e.Type == "program" && strings.Contains(e.Hint, r.hint) })
	}
	listed := p.await("its endpoints", patience, func(e event) bool { return e.Type == "program" && len(e.Endpoints) > 0 })
	var want []endpointURL
	for _, name := range r.endpoints {
		want = append(want, endpointURL{name, public + "/webhooks/" + name})
	}
	if !slices.Equal(listed.Endpoints, want) {
		t.Errorf("the endpoints %+v are listed; want %+v", listed.Endpoints, want)
	}
	send := func(repo string) (id string) {
		t.Helper()
		a := post(t, client, public+"/webhooks/"+r.endpoint, sample(t, repo), "X-Webhook-Secret", secret, "Webhook-Id", "the-hubs-"+repo)
		if !a.ok() {
			t.Fatalf("through the tunnel: %+v", a)
		}
		return a.delivery()
	}
	handled := func(id, repo, prints string) {
		t.Helper()
		p.settled(id, queue.Done)
		p.await(prints, patience, func(e event) bool {
			return e.Type == "output" && strings.Contains(e.Output, strings.ReplaceAll(prints, "REPO", repo))
		})
	}
	handled(send("me/first"), "me/first", r.prints)
	if r.strict {
		bucket := strings.Replace(sample(t, "me/bucket"), `"dataset"`, `"bucket"`, 1)
		a := post(t, client, public+"/webhooks/"+r.endpoint, bucket, "X-Webhook-Secret", secret)
		if d := p.settled(a.delivery(), queue.Dead); !strings.Contains(d.AttemptList[0].Error, "payload model refuses") {
			t.Errorf("a bucket: %+v", d.AttemptList)
		}
	}
	h.work(t, filepath.Base(r.file), strings.Replace(code, r.edit[0], r.edit[1], 1))
	p.await("a restart", patience, phase("restarting"))
	handled(send("me/second"), "me/second", r.reprints)
	if r.space {
		p.await("the public URL in its output", patience, func(e event) bool {
			return e.Type == "output" && strings.Contains(e.Output, "POST "+public+"/webhooks/"+r.endpoint)
		})
	}
	if r.ours {
		r.tryOurs(p, send)
	}
	p.interrupt()
	if n := strings.Count(p.errs.String(), "puts /webhooks/ before every path"); r.strict && n != 1 {
		t.Errorf("what holds for each start was said %d times:\n%s", n, p.errs)
	}
	noSession(t, edge)
	(&devHome{home: h, t: t}).nothingLeft()
}

// tryOurs wants of a program with a queue of its own what people see of any other: a failure is one, and what is sent again runs again.
func (r realProgram) tryOurs(p *program, send func(repo string) (id string)) {
	failed := p.settled(send("me/fails"), queue.Dead)
	if first := failed.AttemptList[0]; first.Error != "the program's handler failed: context canceled" {
		p.t.Errorf("the failure is %+v", first)
	}
	p.settled(send("me/second"), queue.Done) // as the Hub's Replay does
	if _, err := p.inspector().Replay(p.t.Context(), p.list("")[0].ID, nil); err != nil {
		p.t.Fatal(err)
	}
	p.poll("it has run three times", func() (bool, string) {
		n := strings.Count(p.out.String(), strings.ReplaceAll(r.reprints, "REPO", "me/second"))
		return n == 3, strconv.Itoa(n)
	})
}
