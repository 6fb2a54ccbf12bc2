package action

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
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
