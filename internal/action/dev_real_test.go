package action

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/needs"
)

// python returns a Python that has huggingface_hub, gradio, fastapi and flask, as internal/e2e/python pins them.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("HUBHOOK_TEST_PYTHON")
	if path == "" {
		needs.Missing(t, "webhooksserver", "HUBHOOK_TEST_PYTHON names no Python of a virtual environment with what internal/e2e/python/requirements.txt pins")
	}
	return path
}

// e2eProgram copies one of the programs that the end-to-end tests run to a directory of its own, and returns its path.
func e2eProgram(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "e2e", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// realProgram is a program that a Supervisor runs.
type realProgram struct {
	t *testing.T
	*Supervisor
	end   func()
	mu    sync.Mutex
	lines []string
}

func runReal(t *testing.T, cfg SupervisorConfig) *realProgram {
	t.Helper()
	p := &realProgram{t: t}
	cfg.Lines = func(l ProgramLine) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lines = append(p.lines, l.Text)
	}
	cfg.PublicHost = func() string { return "me.ngrok.app" }
	cfg.Secret = "s3cret"
	var err error
	if p.Supervisor, err = NewSupervisor(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.end = sync.OnceFunc(func() {
		cancel()
		go func() {
			for range p.Events() {
			}
		}()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.end)
	return p
}

// await returns the next event of that phase.
func (p *realProgram) await(phase ProgramPhase) ProgramEvent {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case e := <-p.Events():
			p.t.Logf("%-12s run %d %s routes %v exit %+v advice %+v", e.Phase, e.Run, e.URL, e.Routes, e.Exit, e.Advice)
			if e.Phase == phase {
				return e
			}
		case <-late:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("no event %s; the program printed:\n%s", phase, strings.Join(p.lines, "\n"))
		}
	}
}

// deliver sends a payload as a forward does, and returns the answer's status and what the run makes of it.
func (p *realProgram) deliver(path, file string) (int, string, Verdict) {
	p.t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "..", "payload", "samples", file))
	if err != nil {
		p.t.Fatal(err)
	}
	run := p.Current()
	if run == nil {
		p.t.Fatal("no run takes deliveries")
	}
	r, err := http.NewRequest(http.MethodPost, run.URL()+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Webhook-Secret", "s3cret")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error(), run.Judge(0, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer.StatusCode, string(text), run.Judge(answer.StatusCode, nil)
}

func routeLines(routes []Route) []string {
	var names []string
	for _, r := range routes {
		names = append(names, fmt.Sprintf("%s=%s by %s", r.Name, r.Path, r.By))
	}
	slices.Sort(names)
	return names
}

func TestRealPrograms(t *testing.T) {
	for _, tc := range []struct {
		file, runner string
		routes       []string
		path         string
	}{
		{"python/webhooks.py", "python", []string{"trigger_training=/webhooks/trigger_training", "webhooks/doubled=/webhooks/webhooks/doubled"}, "/webhooks/trigger_training"},
		{"python/fastapi_app.py", "python", []string{"webhook=/webhook"}, "/webhook"},
		{"python/flask_app.py", "python", []string{"hook=/hook"}, "/hook"},
		{"node/server.js", "node", nil, "/webhooks/node"},
		{"docs/examples/handlers", "go", []string{
			"goodbye=/webhooks/goodbye", "say_hello=/webhooks/say_hello",
			"trigger_evaluation=/webhooks/trigger_evaluation", "trigger_training=/webhooks/trigger_training",
		}, "/webhooks/trigger_evaluation"},
	} {
		t.Run(tc.file, func(t *testing.T) {
			changes := make(chan Change)
			cfg := SupervisorConfig{Changes: changes}
			switch tc.runner {
			case "python":
				path := e2eProgram(t, tc.file)
				cfg.Args, cfg.Dir = []string{python(t), filepath.Base(path)}, filepath.Dir(path)
			case "node":
				path := e2eProgram(t, tc.file)
				cfg.Args, cfg.Dir = []string{needs.Program(t, "node"), filepath.Base(path)}, filepath.Dir(path)
			case "go":
				cfg.Dir = t.TempDir()
				cfg.Args = []string{filepath.Join(cfg.Dir, "handlers")}
				cfg.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
				if out, err := exec.Command("go", "build", "-o", cfg.Args[0], "../../"+tc.file).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			p := runReal(t, cfg)
			start := time.Now()
			if tc.routes == nil {
				p.await(ProgramListening)
			} else if got := routeLines(p.await(ProgramReady).Routes); !slices.EqualFunc(got, tc.routes, func(got, want string) bool {
				return strings.HasPrefix(got, want+" by ") // it may say so in two ways
			}) {
				t.Errorf("routes %q", got)
			}
			t.Logf("ready after %s", time.Since(start))
			if status, body, verdict := p.deliver(tc.path, "repo.content.update.json"); verdict != Handled {
				t.Errorf("%d %s: %v", status, body, verdict)
			}
			restart := time.Now()
			changes <- Change{Files: []string{filepath.Base(cfg.Args[len(cfg.Args)-1])}}
			p.await(ProgramRestarting)
			p.await(ProgramListening)
			for {
				status, body, verdict := p.deliver(tc.path, "repo.content.update.json")
				if verdict == NotYet {
					t.Logf("not yet after %s: %d", time.Since(restart), status)
					time.Sleep(askEvery)
					continue
				}
				if verdict != Handled {
					t.Errorf("%d %s: %v", status, body, verdict)
				}
				break
			}
			t.Logf("the first delivery %s after the edit", time.Since(restart))
			status, body, verdict := p.deliver(tc.path, "repo.content.update.bucket.json")
			if refused := tc.file == "python/webhooks.py"; (verdict != Handled) != refused || refused && status != http.StatusUnprocessableEntity {
				t.Errorf("a bucket: %d %s: %v", status, body, verdict)
			}
			stop := time.Now()
			p.end()
			t.Logf("ended within %s; printed:\n%s", time.Since(stop), strings.Join(p.lines, "\n"))
		})
	}
}
