//go:build unix

package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/needs"
)

// The programs of these tests are Python without anything installed. They begin with what they have in common.
const pythonServer = `
import http.server, os, signal, socket, subprocess, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(post(self))
    def do_GET(self):
        self.answer(404)
    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass

def serve(port=int(os.environ["PORT"]), host="127.0.0.1"):
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    Server((host, port), Handler).serve_forever()

def post(r):
    return 200 if r.path == "/webhooks/x" else 404
`

// runPython runs a program in Python. What it prints is in the returned program's lines.
func runPython(t *testing.T, text string) (*realProgram, chan Change) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.py")
	if err := os.WriteFile(path, []byte(pythonServer+text), 0o644); err != nil {
		t.Fatal(err)
	}
	changes := make(chan Change)
	return runReal(t, SupervisorConfig{Args: []string{needs.Program(t, "python3"), "app.py"}, Dir: filepath.Dir(path), Changes: changes}), changes
}

func (p *realProgram) wantVerdict(want Verdict) {
	p.t.Helper()
	for {
		status, text, got := p.deliver("/webhooks/x", "repo.content.update.json")
		if got == NotYet && want != NotYet {
			time.Sleep(lookEvery)
			continue
		}
		if got != want {
			p.t.Errorf("%d %s is %v; want %v", status, text, got, want)
		}
		return
	}
}

func (e ProgramEvent) wantAdvice(t *testing.T, cause, fix string) {
	t.Helper()
	if e.Advice == nil || !strings.Contains(e.Advice.Cause, cause) || !strings.Contains(e.Advice.Fix, fix) {
		t.Errorf("advice %+v; want the cause %q and the fix %q", e.Advice, cause, fix)
	}
}

func TestProgramRoutesComeLater(t *testing.T) {
	t.Parallel()
	p, _ := runPython(t, `
statuses = iter([405, 404])
def post(r):
    return next(statuses, 200)
serve()
`)
	p.await(ProgramListening)
	p.wantVerdict(NotYet)
	p.wantVerdict(Handled)
	p.await(ProgramReady)
}

func TestProgramOnIPv6(t *testing.T) {
	t.Parallel()
	p, _ := runPython(t, `serve(host="::1")`)
	if url := p.await(ProgramListening).URL; !strings.HasPrefix(url, "http://[::1]:") {
		t.Errorf("it listens at %s", url)
	}
	p.wantVerdict(Handled)
}

func TestProgramIgnoresPort(t *testing.T) {
	t.Parallel()
	p, changes := runPython(t, `serve(port=0)`)
	p.await(ProgramListening).wantAdvice(t, "instead of", "PORT")
	p.wantVerdict(Handled)
	changes <- Change{Files: []string{"app.py"}}
	p.await(ProgramListening).wantAdvice(t, "instead of", "PORT") // another port again
	p.wantVerdict(Handled)
}

func TestProgramOnTwoPorts(t *testing.T) {
	t.Parallel()
	p, _ := runPython(t, `
threading.Thread(target=serve, args=(0,)).start()
serve(port=0)
`)
	p.await(ProgramAdvice).wantAdvice(t, "deliveries wait", "PORT")
	if p.Current() != nil {
		t.Error("it takes deliveries")
	}
}

func TestProgramCrashesOnDelivery(t *testing.T) {
	t.Parallel()
	p, _ := runPython(t, `
def post(r):
    print("KeyError: 'headSha'", flush=True)
    os._exit(3)
serve()
`)
	p.await(ProgramListening)
	p.wantVerdict(Failed)
	e := p.await(ProgramExited)
	e.wantAdvice(t, "KeyError: 'headSha'", "")
	if e.Exit.How != "exit status 3" || !strings.Contains(strings.Join(e.Exit.Lines, "\n"), "KeyError: 'headSha'") {
		t.Errorf("it ended with %s after %q", e.Exit.How, e.Exit.Lines)
	}
	p.Wake()
	p.await(ProgramListening)
}

func TestProgramReplacedDuringDelivery(t *testing.T) {
	t.Parallel()
	p, changes := runPython(t, `
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def post(r):
    print("in", flush=True)
    time.sleep(60)
serve()
`)
	p.await(ProgramListening)
	go func() {
		for !p.printed("in") {
			time.Sleep(time.Millisecond)
		}
		changes <- Change{Files: []string{"app.py"}}
	}()
	p.wantVerdict(Replaced)
	p.await(ProgramListening)
}

func (p *realProgram) printed(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if l == line {
			return true
		}
	}
	return false
}

func TestProgramThatCannotStart(t *testing.T) {
	t.Parallel()
	p, changes := runPython(t, "def broken(:\n")
	p.await(ProgramExited).wantAdvice(t, "invalid syntax", "saved")
	changes <- Change{Files: []string{"app.py"}}
	p.await(ProgramStarting)
	missing := runReal(t, SupervisorConfig{Args: []string{"./no-such-program"}, Dir: t.TempDir()})
	e := missing.await(ProgramExited)
	e.wantAdvice(t, "could not be started: fork/exec ./no-such-program: no such file or directory", "file to run")
}

// The first example of WebhooksServer's guide, word for word.
func TestProgramOfTheGuide(t *testing.T) {
	t.Parallel()
	path := e2eProgram(t, "python/guide.py")
	p := runReal(t, SupervisorConfig{Args: []string{python(t), filepath.Base(path)}, Dir: filepath.Dir(path)})
	p.await(ProgramExited).wantAdvice(t, "interpreter already exits", "import gradio")
}
