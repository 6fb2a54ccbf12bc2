//go:build unix

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// listener is a program under dev: what it is told to do stands in its first lines, as in a program that someone edits.
const listener = `VERSION = "%s"
%s
import http.server, json, os, subprocess, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        p = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if VERSION == "early" and not os.path.exists(os.environ["BOT_DIR"] + "/gate"):
            self.answer(404)
            return
        if p["repo"]["name"] == "me/crash":
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            print("about to crash", flush=True)
            os._exit(7)
        with open(os.environ["BOT_DIR"] + "/log", "a") as log:
            log.write(VERSION + " " + p["repo"]["name"] + "\n")
        print("handled", p["repo"]["name"], "by", VERSION)
        time.sleep(float(os.environ.get("BOT_TAKES", "0")))
        self.answer(200)
    def answer(self, status):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"version": VERSION}).encode())
    def log_message(self, *args):
        pass
print("  - POST http://127.0.0.1/webhooks/hook")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
`

// devHome is a home with a program to edit.
type devHome struct {
	*home
	t      *testing.T
	python string
}

func newDevHome(t *testing.T) *devHome {
	t.Helper()
	python := needs.Program(t, "python3")
	h := &devHome{home: newHome(t), t: t, python: python}
	h.edit("one", "")
	return h
}

// edit writes the program's next version, which begins with a line of its own.
func (h *devHome) edit(version, line string) {
	h.t.Helper()
	h.write(fmt.Sprintf(listener, version, line))
}

func (h *devHome) write(code string) {
	h.t.Helper()
	next := filepath.Join(h.dir, "bot", "next.py")
	if err := os.WriteFile(next, []byte(code), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(h.dir, "work", "app.py")); err != nil {
		h.t.Fatal(err)
	}
}

// dev runs the program, and waits for the banner.
func (h *devHome) dev(flags ...string) *program {
	h.t.Helper()
	args := append([]string{"dev", "--json", "--port", "0", "--inspector", "127.0.0.1:0"}, flags...)
	p := h.run(h.t, hubhook, append(args, "--", h.python, "app.py")...)
	p.awaitReady()
	return p
}

// log returns what the versions of the program have handled, in order.
func (h *devHome) log() []string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "bot", "log"))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// nothingLeft wants no process that runs the program.
func (h *devHome) nothingLeft() {
	h.t.Helper()
	pollFor(h.t, patience, "the program is gone", func() (bool, string) {
		pids := h.processes()
		return len(pids) == 0, fmt.Sprintf("processes %q", pids)
	})
}

// processes returns those that work in the program's directory, without hubhook.
func (h *devHome) processes() (pids []string) {
	list, err := exec.Command("ps", "-eo", "pid,args").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[1] == hubhook {
			continue
		}
		if dir, err := os.Readlink("/proc/" + fields[0] + "/cwd"); err == nil && dir == filepath.Join(h.dir, "work") {
			pids = append(pids, fields[0])
		}
	}
	return pids
}

func pushOf(repo string) string {
	return `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"` + repo + `"}}`
}

func phase(name string) func(event) bool {
	return func(e event) bool { return e.Type == "program" && e.Phase == name }
}

// interrupt ends the program as Ctrl-C does.
func (p *program) interrupt() {
	p.t.Helper()
	p.signal(syscall.SIGINT)
	if status := p.exit(); status != 0 {
		p.t.Errorf("exit status %d after Ctrl-C; want 0", status)
	}
}

// The program is run, edited and ended; nothing is lost, and what has waited is handled in order by the new code.
func TestDevRestartsAProgramAfterEdits(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	p := h.dev("--no-tunnel")
	p.await("ready", patience, phase("ready"))
	if a := p.post("hook", pushOf("me/first")); a.status != http.StatusOK || !strings.Contains(a.body, `"one"`) {
		t.Fatalf("the first delivery: %+v", a)
	}
	// The next version takes until all have come to start.
	h.edit("two", "import os, time\nwhile not os.path.exists(os.environ['BOT_DIR'] + '/gate'): time.sleep(0.01)")
	p.await("a restart", patience, phase("restarting"))
	want := []string{"one me/first"}
	var ids []string
	for n := range 10 {
		repo := "me/" + strconv.Itoa(n)
		a := p.post("hook", pushOf(repo))
		if a.status != http.StatusAccepted || !strings.Contains(a.body, `"waiting"`) {
			t.Errorf("while it restarts: %+v", a)
		}
		ids, want = append(ids, a.header.Get("Hubhook-Delivery")), append(want, "two "+repo)
	}
	h.open(t)
	for _, id := range ids {
		if r := p.settled(id, queue.Done); r.Attempts != 1 || len(r.AttemptList) != 1 {
			t.Errorf("handled in %d attempts: %+v", r.Attempts, r.AttemptList)
		}
	}
	if got := h.log(); strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("handled\n%q; want\n%q", got, want)
	}
	if r := p.record(ids[0]); !strings.Contains(r.AttemptList[0].Output, "handled me/0 by two") {
		t.Errorf("the attempt's output is %q", r.AttemptList[0].Output)
	}
	p.interrupt()
	h.nothingLeft()
}

// A program that listens before it has its routes answers 404 for a while. No attempt is made until it has them.
func TestDevWaitsForTheRoutesOfAProgram(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	h.edit("early", "")
	p := h.dev("--no-tunnel", "--reply-within", "0", "--path", "/webhooks/hook")
	p.await("its port", patience, phase("listening"))
	first, second := p.post("hook", pushOf("me/1")).delivery(), p.post("hook", pushOf("me/2")).delivery()
	time.Sleep(300 * time.Millisecond) // it is asked every 250 ms
	if r := p.record(first); r.Attempts != 0 || len(r.AttemptList) != 0 {
		t.Errorf("before it has its routes: %+v", r)
	}
	h.open(t)
	for _, id := range []string{first, second} {
		if r := p.settled(id, queue.Done); len(r.AttemptList) != 1 {
			t.Errorf("its attempts: %+v", r.AttemptList)
		}
	}
	if got := strings.Join(h.log(), "; "); got != "early me/1; early me/2" {
		t.Errorf("handled %s", got)
	}
	p.interrupt()
}

// What hubhook itself writes restarts nothing, wherever it writes it.
func TestDevWatchesNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	h.env = append(h.env, "XDG_STATE_HOME="+filepath.Join(h.dir, "work", "state"))
	p := h.dev("--no-tunnel")
	p.await("ready", patience, phase("ready"))
	for n := range 3 {
		p.settled(p.post("hook", pushOf("me/"+strconv.Itoa(n))).delivery(), queue.Done)
	}
	h.edit("two", "")
	if e := p.await("a restart", patience, phase("restarting")); !strings.Contains(e.Text, "app.py") {
		t.Errorf("the program restarts: %s", e.Text)
	}
	p.interrupt()
}

// Whoever starts it in a home directory, or above a data set, is told; an edit of the program is noticed all the same.
func TestDevInAHugeDirectory(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	for i := range 5_001 {
		if err := os.MkdirAll(filepath.Join(h.dir, "work", "data", strconv.Itoa(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := h.dev("--no-tunnel")
	p.await("ready", patience, phase("ready"))
	p.poll("it says so", func() (bool, string) {
		said := p.errs.String()
		return strings.Contains(said, "most of them in data (5002)") && strings.Contains(said, "--ignore data/"), said
	})
	h.edit("two", "")
	p.await("a restart", patience, phase("restarting"))
	p.interrupt()
}

// Broken code keeps deliveries waiting, over a restart of hubhook too, until it is mended.
func TestDevKeepsDeliveriesOfAProgramThatDoesNotStart(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	h.write("this is no Python\n")
	p := h.dev("--no-tunnel")
	p.await("its third end in a row", patience, phase("crash loop"))
	// Nothing is known of its endpoints, so any name is taken.
	a := p.post("hook", pushOf("me/early"))
	if a.status != http.StatusAccepted || !strings.Contains(a.body, `"waiting"`) {
		t.Fatalf("while it is broken: %+v", a)
	}
	p.interrupt()
	h.nothingLeft()

	p = h.dev("--no-tunnel")
	h.edit("mended", "")
	if r := p.settled(a.header.Get("Hubhook-Delivery"), queue.Done); len(r.AttemptList) != 1 {
		t.Errorf("its attempts: %+v", r.AttemptList)
	}
	// The edit may have come after the start, which it then repeats. The endpoints are known from the first time that it is ready.
	p.await("ready", patience, phase("ready"))
	if a := p.post("other", pushOf("me/early")); a.status != http.StatusNotFound {
		t.Errorf("a name that is none of the program's: %+v", a)
	}
	p.interrupt()
	h.nothingLeft()
}

// A delivery that crashes the program is a failed attempt that says so. --rerun runs it again once the program is mended.
func TestDevShowsACrashAndRunsItAgain(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	p := h.dev("--rerun")
	p.await("ready", patience, phase("ready"))
	a := p.post("hook", pushOf("me/crash"))
	r := p.settled(a.header.Get("Hubhook-Delivery"), queue.Dead)
	first := r.AttemptList[0] // without a tunnel that is asked for, these are the defaults of development
	if !strings.Contains(first.Error, "exit status 7") || !strings.Contains(first.Output, "about to crash") {
		t.Errorf("the attempt that met the crash: %+v", first)
	}
	h.write(strings.Replace(fmt.Sprintf(listener, "mended", ""), "me/crash", "me/else", 1))
	pollFor(t, patience, "it runs again", func() (bool, string) {
		log := h.log()
		return strings.Contains(strings.Join(log, "\n"), "mended me/crash"), fmt.Sprint(log)
	})
	p.interrupt()
	h.nothingLeft()
}

// A program whose SIGTERM handler never ends, and whose grandchild outlives its parent in a session of its own, is ended all the same: for a
// restart, which loses nothing, and with hubhook.
func TestDevLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const stubborn = `import signal, subprocess, time
def forever(*_):
    while True: time.sleep(1)
signal.signal(signal.SIGTERM, forever)
subprocess.run(["sh", "-c", "sleep 600 &"], start_new_session=True)`
	h := newDevHome(t)
	h.edit("stubborn", stubborn)
	p := h.dev("--no-tunnel")
	p.await("ready", patience, phase("ready"))
	first := h.processes()
	if len(first) != 2 {
		t.Fatalf("the program and its grandchild are the processes %q", first)
	}
	h.edit("still stubborn", stubborn)
	restart := p.await("a restart", patience, phase("restarting"))
	if r := p.settled(p.post("hook", pushOf("me/1")).delivery(), queue.Done); !strings.Contains(r.AttemptList[0].Output, "handled me/1 by still stubborn") {
		t.Errorf("what came while it ended: %+v", r.AttemptList)
	}
	if again := p.await("the next start", patience, func(e event) bool { return phase("starting")(e) && e.Time.After(restart.Time) }); again.Time.Sub(restart.Time) < 4*time.Second {
		t.Errorf("it had %v to end by itself; want 5 s", again.Time.Sub(restart.Time))
	}
	for _, pid := range h.processes() {
		if slices.Contains(first, pid) {
			t.Errorf("process %s outlives the restart", pid)
		}
	}
	p.interrupt()
	h.nothingLeft()
}

// Programs in two directories, of one person, have nothing to do with each other.
func TestDevInTwoDirectories(t *testing.T) {
	t.Parallel()
	homes := []*devHome{newDevHome(t), newDevHome(t)}
	// One home and one place for state, as a person has; the last value of a variable counts.
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"} {
		i := slices.IndexFunc(homes[0].env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		homes[1].env = append(homes[1].env, homes[0].env[i])
	}
	var programs []*program
	for i, h := range homes {
		h.edit("program "+strconv.Itoa(i), "")
		p := h.run(t, hubhook, "dev", "--json", "--no-tunnel", "--", h.python, "app.py") // with the usual ports
		p.awaitReady()
		p.await("ready", patience, phase("ready"))
		programs = append(programs, p)
	}
	for i, p := range programs {
		if a := p.post("hook", pushOf("me/1")); a.status != http.StatusOK || !strings.Contains(a.body, "program "+strconv.Itoa(i)) {
			t.Errorf("program %d: %+v", i, a)
		}
	}
	homes[0].edit("edited", "")
	programs[0].await("a restart", patience, phase("restarting"))
	if a := programs[1].post("hook", pushOf("me/2")); a.status != http.StatusOK {
		t.Errorf("while the other one restarts: %+v", a)
	}
	programs[0].interrupt()
	homes[0].nothingLeft()
	if a := programs[1].post("hook", pushOf("me/3")); a.status != http.StatusOK {
		t.Errorf("after the other one's end: %+v", a)
	}
	programs[1].interrupt()
	homes[1].nothingLeft()
	if text := programs[1].out.String(); strings.Contains(text, `"restarting"`) || strings.Contains(text, "edited") {
		t.Errorf("an edit of the other program restarts it:\n%s", text)
	}
}

// The examples stand all that the Hub sends. A listener with a model of its own does not, and is told why.
func TestTestTellsWhatTheHubWouldBreak(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	handlers := filepath.Join(t.TempDir(), "handlers")
	if out, err := exec.Command("go", "build", "-o", handlers, "../../docs/examples/handlers").CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	p := h.run(t, hubhook, "test", "--junit", "report.xml", "--", handlers)
	if status := p.exit(); status != 0 || !strings.Contains(p.out.String(), " 0 failed") {
		t.Errorf("the examples: status %d\n%s%s", status, p.out, p.errs)
	}
	if report, err := os.ReadFile(filepath.Join(h.dir, "work", "report.xml")); err != nil || !strings.Contains(string(report), `failures="0"`) {
		t.Errorf("the report: %v\n%.300s", err, report)
	}

	dev := newDevHome(t)
	dev.edit("picky", "")
	p = dev.run(t, hubhook, "test", "--only", "no secret", "--", dev.python, "app.py")
	if status := p.exit(); status != 1 || !strings.Contains(p.errs.String(), "hubhook: test: 1 case failed") {
		t.Errorf("a program that checks no secret: status %d\n%s%s", status, p.out, p.errs)
	}
	dev.nothingLeft()
}

// 200 deliveries come while the program is edited 20 times. Each is handled, in the order in which they came.
func TestDevLosesNothingWhileTheProgramIsEdited(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	h.env = append(h.env, "BOT_TAKES=0.01") // so that restarts come in the middle of deliveries
	p := h.dev("--no-tunnel", "--reply-within", "0")
	p.await("ready", patience, phase("ready"))
	var last answer
	for n := range 200 {
		last = p.post("hook", pushOf("me/"+strconv.Itoa(n)))
		if !last.ok() {
			t.Fatalf("delivery %d: %+v", n, last)
		}
		if n%10 == 5 {
			h.edit("v"+strconv.Itoa(n), "")
			time.Sleep(50 * time.Millisecond) // an editor's own pace; with none at all they would be one edit
		}
	}
	p.settled(last.header.Get("Hubhook-Delivery"), queue.Done)
	// One that was interrupted by a restart is handled twice, the second time before the next one.
	next := 0
	for _, line := range h.log() {
		_, repo, _ := strings.Cut(line, " me/")
		n, err := strconv.Atoi(repo)
		if err != nil || n > next || n < next-1 {
			t.Fatalf("%q is handled, where number %d is due", line, next)
		}
		next = n + 1
	}
	if next != 200 {
		t.Errorf("%d were handled", next)
	}
	if counts := p.finished(patience); counts[queue.Done] != 200 {
		t.Errorf("the store has %v", counts)
	}
	p.interrupt()
	h.nothingLeft()
}

// R restarts the program, p pauses restarts, and q ends all.
func TestDevKeys(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	cmd := exec.Command(hubhook, "dev", "--no-tunnel", "--port", "0", "--inspector", "127.0.0.1:0", "--", h.python, "app.py")
	cmd.Dir, cmd.Env = filepath.Join(h.dir, "work"), append(h.env, "NO_COLOR=1", "TERM=dumb")
	terminal, screen, ended := onTerminal(t, cmd)
	shows := func(times int, what string) {
		t.Helper()
		pollFor(t, patience, what+" is on the screen", func() (bool, string) { return strings.Count(screen.String(), what) == times, "" })
	}
	press := func(key string) {
		t.Helper()
		if _, err := terminal.WriteString(key); err != nil {
			t.Fatal(err)
		}
	}
	shows(1, "--- app.py is ready")
	shows(1, "app.py |   - POST http://127.0.0.1/webhooks/hook")
	press("R")
	shows(2, "--- app.py is ready")
	press("p")
	shows(1, "--- app.py is not restarted from now on")
	h.edit("two", "")
	press("t")
	shows(1, "app.py | handled some-user/some-dataset by one")
	press("p")
	shows(1, "--- app.py restarts, since app.py was edited")
	shows(3, "--- app.py is ready")
	press("q")
	shows(1, "--- app.py has ended")
	<-ended
	if status := cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d after q; want 0", status)
	}
	h.nothingLeft()
}

// Through the tunnel: the program is told the public host, and a delivery from outside reaches it.
func TestDevBehindATunnel(t *testing.T) {
	t.Parallel()
	h := newDevHome(t)
	const says = `import os; print("SPACE", os.environ["SPACE_ID"], os.environ.get("SPACE_HOST"), os.environ["WEBHOOK_SECRET"], "HUBHOOK_DATA" in os.environ)`
	h.edit("one", says)
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	writeConfig(t, h.home, edge, tunneltest.DefaultToken)
	p := h.dev("--secret", secret)
	public := p.ready.PublicURL
	if public == "" {
		t.Fatalf("no public URL: %+v", p.ready)
	}
	p.await("ready", patience, phase("ready"))
	a := post(t, publicClient(t, edge), public+"/webhooks/hook", pushOf("me/data"), "X-Webhook-Secret", secret)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"one"`) {
		t.Errorf("through the tunnel: %+v", a)
	}
	// The first start waits a few seconds at most for the public URL, and later ones know it.
	h.edit("two", says)
	want := "SPACE hubhook/dev " + strings.TrimPrefix(public, "https://") + " [secret] False"
	p.await(want, patience, func(e event) bool { return e.Type == "output" && e.Output == want })
	p.interrupt()
	h.nothingLeft()
}
