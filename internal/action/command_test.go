package action

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

var once = server.Retry(1, time.Second)

// serveCommand runs a server with one endpoint, train, that runs line in a directory of its own.
func serveCommand(t *testing.T, line string, opts ...server.Option) (r *running, dir string) {
	t.Helper()
	dir = t.TempDir()
	commands := &Commands{Secret: func() string { return testSecret }, grace: 50 * time.Millisecond}
	r = run(t, func(s *server.Server) {
		s.Handle("train", commands.Handler(line, dir), append([]server.Option{once}, opts...)...)
	})
	return r, dir
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// event is a push with a repo's name and one more field.
func event(t *testing.T, repo, field string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"event": map[string]string{"action": "update", "scope": "repo.content"},
		"repo":  map[string]string{"type": "dataset", "name": repo},
		"more":  field,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func manyFiles() string {
	var files []string
	for i := range 10_000 {
		files = append(files, fmt.Sprintf(`{"path":"data/$(touch pwned)/part-%05d.parquet","action":"add","xetHash":"%064x","size":%d}`, i, i, i))
	}
	return `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"bucket","name":"me/bucket"},"updatedFiles":[` + strings.Join(files, ",") + `],"updatedFilesTruncated":true}`
}

func TestCommandGetsThePayload(t *testing.T) {
	t.Parallel()
	r, dir := serveCommand(t, `
		cat > stdin
		printf %s "$WEBHOOK_PAYLOAD" > variable
		printf %s "$WEBHOOK_PAYLOAD_FILE" > path
		if [ -n "$WEBHOOK_PAYLOAD_FILE" ]; then cat "$WEBHOOK_PAYLOAD_FILE" > file; ls -l "$WEBHOOK_PAYLOAD_FILE" > mode; fi
		printf '%s\n' "$WEBHOOK_REPO_ID" > repo
		printf '%s\n' "$WEBHOOK_REPO_TYPE" "$WEBHOOK_SECRET" "$WEBHOOK_ID" > rest`)
	hostile := "\"; touch pwned; `touch pwned` $(touch pwned) ' \\ \n touch pwned \x00 \u2028 %s"
	for _, test := range []struct {
		name, body, repo string
		file             bool
	}{
		{"plain", push, "me/model", false},
		{"space around", " \n" + push + "\n ", "me/model", false},
		{"hostile text", event(t, hostile, hostile), strings.ReplaceAll(hostile, "\x00", "\uFFFD"), false},
		{"almost too large for a variable", event(t, "me/data", strings.Repeat("x", 120<<10)), "me/data", false},
		{"too large for a variable", event(t, "me/data", strings.Repeat("x", 128<<10)), "me/data", true},
		{"5 MB", event(t, "me/data", strings.Repeat("$(touch pwned)\n", 5<<20/15)), "me/data", true},
		{"10,000 files", manyFiles(), "me/bucket", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := r.deliver("train", test.body, "Webhook-Id", test.name)
			if got.status != 200 || got.state != "" {
				t.Fatalf("have %+v", got)
			}
			if readFile(t, dir, "stdin") != test.body {
				t.Error("standard input is not the payload byte for byte")
			}
			path := readFile(t, dir, "path")
			switch {
			case !test.file && (readFile(t, dir, "variable") != test.body || path != ""):
				t.Errorf("WEBHOOK_PAYLOAD is not the payload; WEBHOOK_PAYLOAD_FILE is %q", path)
			case test.file && (readFile(t, dir, "file") != test.body || readFile(t, dir, "variable") != ""):
				t.Error("the file is not the payload")
			case test.file && !strings.HasPrefix(readFile(t, dir, "mode"), "-rw-------"):
				t.Errorf("others can read the file: %s", readFile(t, dir, "mode"))
			}
			if _, err := os.Stat(path); test.file && !os.IsNotExist(err) {
				t.Errorf("the file is still there: %v", err)
			}
			if repo := readFile(t, dir, "repo"); repo != test.repo+"\n" {
				t.Errorf("WEBHOOK_REPO_ID is %q", repo)
			}
			var p payload.Payload
			if err := json.Unmarshal([]byte(test.body), &p); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%s\n%s\n%s\n", p.Repo.Type, testSecret, test.name); readFile(t, dir, "rest") != want {
				t.Errorf("have %q, want %q", readFile(t, dir, "rest"), want)
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Fatal("text of the payload was run")
			}
		})
	}
	t.Run("without a Webhook-Id", func(t *testing.T) {
		got := r.deliver("train", push)
		if rest := readFile(t, dir, "rest"); rest != "model\n"+testSecret+"\n"+got.id+"\n" {
			t.Errorf("have %q, want the delivery's ID %s", rest, got.id)
		}
	})
}

// Where hubhook runs as a command of another one, the variables of the outer delivery are not those of the inner.
func TestCommandGetsNoVariableOfAnotherDelivery(t *testing.T) {
	for _, name := range []string{"WEBHOOK_PAYLOAD", "WEBHOOK_PAYLOAD_FILE", "WEBHOOK_SECRET", "WEBHOOK_ID", "WEBHOOK_REPO_ID", "WEBHOOK_REPO_TYPE"} {
		t.Setenv(name, "outer")
	}
	t.Setenv("COLOUR", "blue")
	p, err := payload.Parse([]byte(push))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := new(Commands).Handler(`env > env`, dir)(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	env := readFile(t, dir, "env")
	if strings.Contains(env, "outer") || !strings.Contains(env, "COLOUR=blue\n") || !strings.Contains(env, "WEBHOOK_REPO_ID=me/model\n") {
		t.Errorf("the environment is %s", env)
	}
}

func TestCommandThatFails(t *testing.T) {
	for _, test := range []struct{ name, line, want, output string }{
		{"status and last line", `echo loading; echo 'ModuleNotFoundError: No module named torch' >&2; exit 3`,
			"exit status 3: ModuleNotFoundError: No module named torch", "loading\nModuleNotFoundError: No module named torch\n"},
		{"silent", `exit 4`, "exit status 4", ""},
		{"signal", `echo here; kill -KILL $$`, "signal: killed: here", "here\n"},
		{"not there", `./nothing.sh`, "exit status 127: sh: 1: ./nothing.sh: not found", "sh: 1: ./nothing.sh: not found\n"},
		{"the secret", `echo "$WEBHOOK_SECRET"; exit 1`, "exit status 1: [secret]", "[secret]\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _ := serveCommand(t, test.line)
			got := r.deliver("train", push)
			if test.name == "not there" { // each shell words it its own way
				if got.state != "dead" || !strings.Contains(got.reason, "exit status 127: ") || !strings.Contains(got.reason, "nothing.sh") {
					t.Errorf("have %+v", got)
				}
				return
			}
			if got.state != "dead" || got.reason != test.want {
				t.Errorf("have %+v, want %q", got, test.want)
			}
			if list := r.attempts(got.id); len(list) != 1 || list[0].Output != test.output || list[0].Error != test.want {
				t.Errorf("attempts %+v", list)
			}
		})
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	p, err := payload.Parse([]byte(push))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "gone")
	if _, err := new(Commands).Handler("true", dir)(t.Context(), p); err == nil || !strings.HasPrefix(err.Error(), "start the command: ") || !strings.Contains(err.Error(), dir) {
		t.Errorf("have %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := new(Commands).Handler("true", "")(t.Context(), p); err == nil || !strings.HasPrefix(err.Error(), `start the command: exec: "sh": `) {
		t.Errorf("have %v", err)
	}
}

// It measures the heap, so it does not run in parallel.
func TestCommandWith100MBOfOutput(t *testing.T) {
	r, _ := serveCommand(t, `echo first; head -c 100000000 /dev/zero | tr '\0' x; echo; echo last; exit 1`)
	var peak atomic.Uint64
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	got := r.deliver("train", push)
	close(stop)
	<-watched
	if got.state != "dead" || got.reason != "exit status 1: last" {
		t.Errorf("have %+v", got)
	}
	list := r.attempts(got.id)
	if len(list) != 1 {
		t.Fatalf("%d attempts", len(list))
	}
	out := list[0].Output
	if len(out) > 70<<10 || !strings.HasPrefix(out, "first\nxxx") || !strings.HasSuffix(out, "xxx\nlast\n") || !strings.Contains(out, " bytes left out ...]") {
		t.Errorf("%d bytes of output: %.20s ... %s", len(out), out, out[max(0, len(out)-20):])
	}
	if most := uint64(64 << 20); peak.Load() > most {
		t.Errorf("the heap had %d bytes, want at most %d", peak.Load(), most)
	}
}

func TestCommandAtItsTimeout(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, tree, want string
	}{
		{"obeys", "a -- b session", "the command was ended with SIGTERM: "},
		{"ignores SIGTERM", "a deaf -- b session deaf", "the command was killed, 50ms after SIGTERM: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := newPrinted()
			commands := &Commands{grace: 50 * time.Millisecond}
			if test.name == "obeys" {
				commands.grace = time.Minute
			}
			dir := t.TempDir()
			line := fmt.Sprintf("exec '%s' %s %s > out", os.Args[0], be, test.tree)
			ctx, cancel := context.WithCancelCause(t.Context())
			p, err := payload.Parse([]byte(push))
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := commands.Handler(line, dir)(ctx, p)
				ended <- err
			}()
			for strings.Count(out.String(), "\n") < 2 { // polls a file that another process writes
				time.Sleep(5 * time.Millisecond)
				b, _ := os.ReadFile(filepath.Join(dir, "out"))
				if bytes.Count(b, []byte("\n")) == 2 {
					out.Write(b)
				}
			}
			late := errors.New("too late")
			cancel(late)
			err = <-ended
			if !errors.Is(err, late) || err.Error() != test.want+"too late" {
				t.Errorf("have %v", err)
			}
			commands.Wait()
			for name, pid := range out.pids(t, 2) {
				if lives(t, pid) {
					t.Errorf("%s lives on", name)
				}
			}
		})
	}
}

func TestCommandTimesOutUnderAServer(t *testing.T) {
	t.Parallel()
	r, _ := serveCommand(t, `echo begun; trap '' TERM; sleep 100 & wait; sleep 100`, server.Timeout(3*time.Second))
	got := r.deliver("train", push)
	if got.state != "dead" || !strings.HasPrefix(got.reason, "timed out after 3s: the command was killed, 50ms after SIGTERM") {
		t.Errorf("have %+v", got)
	}
	if list := r.attempts(got.id); len(list) != 1 || list[0].Output != "begun\n" {
		t.Errorf("attempts %+v", list)
	}
}

func TestLastLine(t *testing.T) {
	for _, test := range []struct{ printed, want string }{
		{"", ""},
		{"\n \n", ""},
		{"one\ntwo\n", "two"},
		{"one\ntwo", "two"},
		{"two\n\n  \t\n", "two"},
		{"10%\r20%\r\n", "20%"},
		{"\x1b[31;1mError:\x1b[0m no such\x00 file\n\x1b[0m\n", "Error: no such file"},
		{"a\x1b]8;;http://x\x07link\x1b]8;;\x1b\\b", "alinkb"},
		{"\xff broken", "\uFFFD broken"},
		{"long\n" + strings.Repeat("é", 400), strings.Repeat("é", 150) + "..."},
		{strings.Repeat("much\n", 100_000) + "end\n", "end"},
		{strings.Repeat("x", 100_000) + "\n", strings.Repeat("x", 300) + "..."},
	} {
		for _, piece := range []int{1 << 20, 1000} {
			var all bytes.Buffer
			l := &lastLine{to: &all}
			for rest := test.printed; rest != ""; {
				n := min(piece, len(rest))
				if _, err := l.Write([]byte(rest[:n])); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if got := l.text(); got != test.want {
				t.Errorf("%.30q in pieces of %d: have %q, want %q", test.printed, piece, got, test.want)
			}
			if all.String() != test.printed {
				t.Errorf("%.30q: not all was passed on", test.printed)
			}
		}
	}
}
