//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// bot is the program of the session. It works for a moment, so that what it prints comes after the line of the delivery. Its first version has no recipe for the dataset that is pushed to; the edit adds it.
const (
	bot = `import json, os, time
from http.server import BaseHTTPRequestHandler, HTTPServer

RECIPES = {}

class Bot(BaseHTTPRequestHandler):
    def do_POST(self):
        repo = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["repo"]
        time.sleep(0.5)
        known = repo["name"] in RECIPES
        said = f"train on {repo['name']}" if known else f"no recipe for {repo['name']}"
        print(said, flush=True)
        self.send_response(200 if known else 500)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Bot)
print("  - POST http://127.0.0.1/webhooks/train", flush=True)
server.serve_forever()
`
	command = "hubhook dev -- python3 app.py"
)

// record runs hubhook's binary on a terminal: a delivery fails, the program is edited, and the delivery is replayed. It returns what the
// terminal got.
func record(ctx context.Context, edge *tunneltest.Edge) (screen string, err error) {
	dir, err := os.MkdirTemp("", "hubhook-session-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, work, config := filepath.Join(dir, "hubhook"), filepath.Join(dir, "bot"), filepath.Join(dir, "ngrok.yml")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hubhook: %w\n%s", err, out)
	}
	if err := errors.Join(os.Mkdir(work, 0o755), edge.WriteConfig(config, tunneltest.DefaultToken)); err != nil {
		return "", err
	}
	app := filepath.Join(work, "app.py")
	if err := os.WriteFile(app, []byte(bot), 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, strings.Fields(command)[1:]...)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(dir, "state"), "HUBHOOK_NGROK_CONFIG="+config, "WEBHOOK_SECRET="+secret,
		"HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "HUBHOOK_REPLY_WITHIN=25s", "NO_PROXY=127.0.0.1", "TERM=xterm-256color", "NO_COLOR=")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 400}) // the terminal wraps no line; the picture does
	if err != nil {
		return "", err
	}
	s := &session{ctx: ctx, changed: make(chan struct{}, 1)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(s, terminal) // fails once the program has ended
	}()
	defer func() {
		cancel() // no-op after an orderly end
		cmd.Wait()
		<-read
		terminal.Close()
	}()

	push, err := payload.Sample(payload.ScopeRepoContent, payload.Update, map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data"})
	if err != nil {
		return "", err
	}
	for _, step := range []struct {
		await string
		do    func() error
	}{
		{"/webhooks/train", nil},
		{"--- app.py is ready", func() error { return send(ctx, "https://"+domain+"/webhooks/train", push.Raw()) }},
		{"dead after 1 attempt", func() error {
			return os.WriteFile(app, []byte(strings.Replace(bot, "RECIPES = {}", `RECIPES = {"me/data": "small"}`, 1)), 0o644)
		}},
		{"--- app.py is ready", func() error { _, err := terminal.WriteString("r"); return err }},
		{"done in ", func() error {
			if screen = s.text(); !strings.Contains(screen, " is reachable.") {
				return errors.New("the public URL was not checked by then")
			}
			_, err := terminal.WriteString("q")
			return err
		}},
	} {
		if err := s.await(step.await); err != nil {
			return "", err
		}
		if step.do != nil {
			if err := step.do(); err != nil {
				return "", err
			}
		}
	}
	select {
	case <-read:
		return screen, nil
	case <-ctx.Done():
		return "", fmt.Errorf("hubhook does not end: %w", ctx.Err())
	}
}

// send posts a push as the Hub does.
func send(ctx context.Context, url string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Webhook-Secret", secret)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the push was answered %s", answer.Status)
	}
	return nil
}

// session collects what a terminal gets.
type session struct {
	ctx     context.Context
	changed chan struct{} // has one token when there is more

	mu   sync.Mutex
	all  []byte
	seen int // where the next await begins, in the text without colours
}

func (s *session) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.all = append(s.all, b...)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.all)
}

// await waits for a line with a text that came after the last one that was awaited, and for the end of that line.
func (s *session) await(text string) error {
	for {
		s.mu.Lock()
		before, after, found := strings.Cut(plainText(string(s.all))[s.seen:], text)
		if found = found && strings.Contains(after, "\n"); found {
			s.seen += len(before) + len(text)
		}
		s.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-s.changed:
		case <-s.ctx.Done():
			return fmt.Errorf("%q is not on the terminal: %w\n%s", text, s.ctx.Err(), s.text())
		}
	}
}
