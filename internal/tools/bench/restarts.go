package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
)

// gathered is how long `hubhook dev` gathers changes before it restarts a program.
const gathered = 200 * time.Millisecond

// handledVariable is the variable with what the names of files begin with that a program makes once it handles a delivery: the version in
// its source is the rest.
const handledVariable = "BENCH_HANDLED"

// An edited program answers deliveries, and makes a file that says which version of it does.
type edited struct {
	name    string
	file    string
	source  string // with VERSION where the version stands
	command func(dir string) []string
}

var editedPrograms = []edited{
	{"Python", "app.py", `import http.server, os

VERSION = "VERSION-HERE"

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        open(os.environ["BENCH_HANDLED"] + VERSION, "w").close()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("  - POST http://127.0.0.1:%s/webhooks/inbox" % os.environ["PORT"], flush=True)
server.serve_forever()
`, func(string) []string { return []string{"python3", "app.py"} }},
	{"Go", "main.go", `package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("POST /webhooks/inbox", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		os.WriteFile(os.Getenv("BENCH_HANDLED")+"VERSION-HERE", nil, 0o644)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
	})
	fmt.Printf("  - POST http://127.0.0.1:%s/webhooks/inbox\n", os.Getenv("PORT"))
	http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
}
`, func(dir string) []string {
		binary := dir + "-binary" // not in the directory, where it would be one more change
		return []string{"sh", "-c", `go build -o "$0" . && exec "$0"`, binary}
	}},
}

// edit writes the program with that version, and another file: dev takes one file that changes right after each start for the program's own.
func (p edited) edit(dir, version string) error {
	program := strings.ReplaceAll(p.source, "VERSION-HERE", version)
	return errors.Join(os.WriteFile(filepath.Join(dir, "VERSION"), []byte(version), 0o644), os.WriteFile(filepath.Join(dir, p.file), []byte(program), 0o644))
}

// measureRestarts compares the time from an edit to the first delivery that the new program has handled with the same restart by hand.
func (w *workshop) measureRestarts(ctx context.Context) (figures []figure, err error) {
	for _, p := range editedPrograms {
		for _, tool := range []string{p.command("")[0], map[string]string{"Go": "go", "Python": "python3"}[p.name]} {
			if _, err := exec.LookPath(tool); err != nil {
				w.skip(fmt.Sprintf("The restart of a %s program is skipped: there is no %s.", p.name, tool))
				p.name = ""
				break
			}
		}
		if p.name == "" {
			continue
		}
		made, err := w.measureRestart(ctx, p)
		if err != nil {
			return nil, err
		}
		figures = append(figures, made...)
	}
	return figures, nil
}

// toolEnvironment is what compilers need beside the PATH.
func toolEnvironment() []string {
	var env []string
	for _, name := range []string{"HOME", "GOCACHE", "GOMODCACHE", "GOROOT", "GOFLAGS", "LocalAppData", "SystemRoot"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func (w *workshop) measureRestart(ctx context.Context, p edited) (_ []figure, err error) {
	var dirs [2]string
	for i := range dirs {
		if dirs[i], err = w.data("restart"); err != nil {
			return nil, err
		}
		if err := errors.Join(p.edit(dirs[i], "first"), os.WriteFile(filepath.Join(dirs[i], "go.mod"), []byte("module edited\n\ngo 1.24\n"), 0o644)); err != nil {
			return nil, err
		}
	}
	handled := [2]string{dirs[0] + "-handled-", dirs[1] + "-handled-"}
	dev, err := w.startDev(ctx, dirs[0], handled[0], p.command(dirs[0]))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.stop()) }()
	if err := w.untilHandled(ctx, dev.addr, handled[0], "first"); err != nil {
		return nil, dev.broken("its program does not answer", err)
	}
	alone := &byHand{dir: dirs[1], handled: handled[1], command: p.command(dirs[1])}
	defer func() { err = errors.Join(err, alone.end()) }()
	if err := alone.begin(ctx); err != nil {
		return nil, err
	}
	if err := w.untilHandled(ctx, alone.addr, handled[1], "first"); err != nil {
		return nil, err
	}
	var whole, without rounds
	for n := range w.starts + 1 {
		w.progress("restart of a %s program, %d of %d", p.name, n, w.starts)
		version := strconv.Itoa(n)
		begin := time.Now()
		if err := p.edit(dirs[0], version); err != nil {
			return nil, err
		}
		if err := w.untilHandled(ctx, dev.addr, handled[0], version); err != nil {
			return nil, dev.broken("its program was not restarted", err)
		}
		underDev := time.Since(begin)
		begin = time.Now()
		if err := errors.Join(p.edit(dirs[1], version), alone.end()); err != nil {
			return nil, err
		}
		if err := alone.begin(ctx); err != nil {
			return nil, err
		}
		if err := w.untilHandled(ctx, alone.addr, handled[1], version); err != nil {
			return nil, err
		}
		if byHand := time.Since(begin); n > 0 {
			whole.add(float64(underDev), float64(byHand))
			without.add(float64(underDev-gathered), float64(byHand))
		}
	}
	format := func(nanoseconds float64) string { return milliseconds(time.Duration(nanoseconds)) }
	what := "restart of a " + p.name + " program"
	return []figure{
		without.figure(what+", less the 200 ms that changes are gathered", "by hand", target{atMost: true, bound: 1.15}, format),
		whole.figure(what+", all of it", "by hand", target{}, format),
	}, nil
}

// startDev starts `hubhook dev` in a directory.
func (w *workshop) startDev(ctx context.Context, dir, handled string, command []string) (*process, error) {
	args := append([]string{"--inspector", "off", "--"}, command...)
	p, err := w.launchCommand(ctx, dir, "dev", append(toolEnvironment(), handledVariable+"="+handled), args...)
	if err != nil {
		return nil, err
	}
	if _, err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// untilHandled sends deliveries, one after the other, until that version of the program has handled one. Once hubhook says that one waits
// for the program, no others are sent.
func (w *workshop) untilHandled(ctx context.Context, addr, handled, version string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: startTime}
	waits := false
	for begin := time.Now(); time.Since(begin) < startTime; time.Sleep(time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := os.Stat(handled + version); err == nil {
			return nil
		}
		if waits {
			continue
		}
		response, err := client.Post("http://"+addr+deliveryPath, "application/json", bytes.NewReader(w.payload))
		if err == nil { // otherwise it does not listen yet
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			waits = response.StatusCode == http.StatusAccepted
		}
	}
	return fmt.Errorf("no delivery was handled by %s within %v", version, startTime)
}

// byHand is a program that is restarted without hubhook.
type byHand struct {
	dir     string
	handled string
	command []string
	addr    string
	process *process
}

func (b *byHand) begin(ctx context.Context) (err error) {
	if b.addr == "" {
		if b.addr, err = freeport.Address(); err != nil {
			return err
		}
	}
	_, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		return err
	}
	b.process, err = launchIn(ctx, b.dir, strings.Join(b.command, " "), b.addr, append(toolEnvironment(), "PORT="+port, handledVariable+"="+b.handled), b.command[0], b.command[1:]...)
	return err
}

func (b *byHand) end() error {
	if b.process == nil {
		return nil
	}
	p := b.process
	b.process = nil
	return p.stop()
}

// watchedFiles is how many files `hubhook dev` watches where its memory and its work at rest are measured.
const watchedFiles = 10_000

// measureWatching measures what watching many files costs while none changes.
func (w *workshop) measureWatching(ctx context.Context) ([]figure, error) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		w.skip("Watching files is skipped: the processor time of a process is read from /proc.")
		return nil, nil
	}
	memory, busy := map[int]int64{}, map[int]float64{}
	for _, n := range []int{1, watchedFiles} {
		dir, err := w.data("watched")
		if err != nil {
			return nil, err
		}
		for i := range n {
			file := filepath.Join(dir, fmt.Sprintf("folder-%d", i/100), fmt.Sprintf("file-%d.py", i))
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("# "+file), 0o644)); err != nil {
				return nil, err
			}
		}
		if memory[n], busy[n], err = w.watching(ctx, dir); err != nil {
			return nil, err
		}
	}
	return []figure{
		{what: fmt.Sprintf("memory of dev with %d files", watchedFiles), hubhook: mebibytes(memory[watchedFiles]), against: "1 file " + mebibytes(memory[1])},
		{what: "processor time at rest", hubhook: fmt.Sprintf("%.2f %%", busy[watchedFiles]), against: fmt.Sprintf("1 file %.2f %%", busy[1])},
	}, nil
}

// watching returns the memory of `hubhook dev` in dir at rest, and what part of one core it uses then, in percent.
func (w *workshop) watching(ctx context.Context, dir string) (memory int64, busy float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	addr, err := freeport.Address()
	if err != nil {
		return 0, 0, err
	}
	// The program does nothing: it serves another address until its standard input ends.
	p, err := w.startDev(ctx, dir, "", []string{"sh", "-c", `sleep 1000 | exec "$0" "$@"`, self, roleArgument, "upstream", addr})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if memory, err = w.rested(ctx, p); err != nil {
		return 0, 0, err
	}
	before, err := p.worked()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if memory, err = w.rested(ctx, p); err != nil {
		return 0, 0, err
	}
	after, err := p.worked()
	return memory, 100 * (after - before).Seconds() / time.Since(begin).Seconds(), err
}

// worked returns the processor time of the process alone, in steps of 10 ms.
func (p *process) worked() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.name, err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the processor time of %s: have %q", p.name, stat)
	}
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of %s: %w", p.name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on every architecture that Go has
}
