package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/needs"
)

// A delivery is on disk, and not only in the kernel's memory, before the first byte of its answer is sent. Only a trace of the system
// calls can show that.
func TestADeliveryIsSyncedBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	strace := needs.Program(t, "strace")
	if out, err := exec.Command(strace, "-qq", "-o", filepath.Join(t.TempDir(), "trace"), "true").CombinedOutput(); err != nil {
		needs.Missing(t, "strace", fmt.Sprintf("strace can't trace here: %v: %s", err, bytes.TrimSpace(out)))
	}
	calls, ids := traceDeliveries(t, strace, hubhook)
	for _, id := range ids {
		if err := syncedBeforeAnswer(calls, id); err != nil {
			t.Errorf("Webhook-Id %s: %v", id, err)
		}
	}
	// The same program with syncs at SQLite's checkpoints alone must fail, or this test proves nothing.
	calls, ids = traceDeliveries(t, strace, buildUnsynced(t))
	for _, id := range ids {
		if syncedBeforeAnswer(calls, id) == nil {
			t.Errorf("Webhook-Id %s passes with synchronous = NORMAL, too", id)
		}
	}
}

// buildUnsynced builds hubhook with SQLite's synchronous = NORMAL instead of FULL, and nothing else changed.
func buildUnsynced(t *testing.T) string {
	t.Helper()
	const full, normal = `cfg.Synchronous = "FULL"`, `cfg.Synchronous = "NORMAL"`
	source, err := filepath.Abs("../queue/sqlite/sqlite.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(text, []byte(full)) != 1 {
		t.Fatalf("%s does not have %s once; tell this test where the queue's level of syncing is set now", source, full)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "sqlite.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(changed, bytes.Replace(text, []byte(full), []byte(normal), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "hubhook")
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// traceDeliveries posts deliveries, one after the other, to a program under strace, and returns its system calls and the deliveries'
// Webhook-Ids.
func traceDeliveries(t *testing.T, strace, binary string) (calls []call, webhookIDs []string) {
	t.Helper()
	h := newHome(t)
	trace := filepath.Join(h.dir, "trace")
	// -D keeps the program itself the child, so that it gets the signals; -yy names files and connections; -s shows all of a page.
	p := h.run(t, strace, "-D", "-f", "-qq", "-yy", "-s", "5000", "-o", trace,
		"-e", "trace=read,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fsync,fdatasync",
		binary, "serve", "--json", "--port", "0", "--no-tunnel", "--secret", secret)
	p.awaitReady()
	body := push(t)
	for n := range 20 {
		id := fmt.Sprintf("webhook-id-number-%02d", n)
		if a := p.post("inbox", body, "X-Webhook-Secret", secret, "Webhook-Id", id); a.status != 200 {
			t.Fatalf("answer %d %s", a.status, a.body)
		}
		webhookIDs = append(webhookIDs, id)
	}
	p.stop()
	return readTrace(t, trace), webhookIDs
}

// call is one system call. Its time is that of its return, or of its beginning if it sends an answer.
type call struct {
	name, on, args string // on is the file or connection that its first argument stands for
}

var (
	callLine    = regexp.MustCompile(`^(\d+)\s+(\w+)\(\d+<(.*?[^-])>(?:[,)]| <unfinished)(.*)$`)
	resumedLine = regexp.MustCompile(`^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$`)
)

// readTrace reads strace's output. If other calls come between a call's beginning and its end, the call counts at its end, but a write to
// a connection counts at its beginning. Both choices make the test stricter.
func readTrace(t *testing.T, path string) []call {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []call
	open := map[string]call{} // by thread
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := resumedLine.FindStringSubmatch(line); m != nil {
			if c, ok := open[m[1]]; ok && c.name == m[2] {
				c.args += m[3]
				calls = append(calls, c)
			}
			delete(open, m[1])
			continue
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			continue // signals, ends of threads, and calls whose file is closed already
		}
		c := call{m[2], m[3], m[4]}
		switch {
		case !strings.HasSuffix(line, "<unfinished ...>"), strings.HasPrefix(c.on, "TCP:") && c.name != "read":
			calls = append(calls, c)
		default:
			open[m[1]] = c
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return calls
}

// syncedBeforeAnswer follows the delivery with this Webhook-Id through the trace: the read of its request, the write of its row to
// the log of the database, the answer. Between the last write to that log and the answer there has to be a sync of it.
func syncedBeforeAnswer(calls []call, webhookID string) error {
	connection, log, written, synced := "", "", false, false
	for _, c := range calls {
		switch {
		case c.name == "read" && connection == "":
			if strings.HasPrefix(c.on, "TCP:") && strings.Contains(c.args, webhookID) {
				connection = c.on
			}
		case connection == "":
		case strings.HasPrefix(c.name, "pwrite") || c.name == "write" && strings.HasSuffix(c.on, "hubhook.db-wal"):
			if !strings.HasSuffix(c.on, "hubhook.db-wal") {
				continue
			}
			log, synced = c.on, false
			written = written || strings.Contains(c.args, webhookID)
		case c.name == "fsync" || c.name == "fdatasync":
			synced = synced || c.on == log
		case c.on == connection && strings.Contains(c.args, "HTTP/1.1 200"):
			switch {
			case !written:
				return fmt.Errorf("the answer was sent before the delivery was written")
			case !synced:
				return fmt.Errorf("the answer was sent before what was written was synced")
			}
			return nil
		}
	}
	switch {
	case connection == "":
		return fmt.Errorf("the trace has no request of it")
	case !written:
		return fmt.Errorf("the trace has no write of it to the database's log")
	}
	return fmt.Errorf("the trace has no answer to it")
}

// On a full disk a delivery gets 503 with Retry-After, and is accepted once there is room again.
func TestAFullDisk(t *testing.T) {
	h := newHome(t)
	data := filepath.Join(h.dir, "small")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		needs.Missing(t, "mount", fmt.Sprintf("can't mount a small disk: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	ballast := filepath.Join(data, "ballast")
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel", "--data", data)
	body := strings.TrimSuffix(strings.TrimSpace(push(t)), "}") + `,"noise":"` + noise(200<<10) + `"}`
	accepted := map[string]bool{}
	refused := false
	for n := 0; n < 100 && !refused; n++ {
		sent := time.Now()
		a := p.post("inbox", body, "Webhook-Id", fmt.Sprint(n))
		if took := time.Since(sent); !a.ok() && took > time.Second {
			t.Errorf("the refusal took %v; want a second at most", took)
		}
		switch {
		case a.ok():
			accepted[a.delivery()] = true
			if n == 2 { // now fill the rest, as another program would
				fillUp(t, ballast)
			}
		default:
			p.wantUnavailable(a, "could not be stored")
			refused = true
		}
	}
	if !refused || len(accepted) == 0 {
		t.Fatalf("%d deliveries were accepted, refused: %v", len(accepted), refused)
	}
	if a := p.post("none", "{}"); a.status != 404 {
		t.Errorf("with a full disk an unknown endpoint is answered %d; want 404", a.status)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	p.poll("room on the disk is noticed", func() (bool, string) {
		a := p.post("inbox", body, "Webhook-Id", "after")
		if a.ok() {
			accepted[a.delivery()] = true
		}
		return a.ok(), a.body
	})
	if took := time.Since(freed); took > 10*time.Second {
		t.Errorf("room was noticed after %v; want 10 s at most", took)
	}
	p.kill()

	// A start on a full disk refuses deliveries, and goes on by itself.
	fillUp(t, ballast)
	base, err := url.Parse(p.base)
	if err != nil {
		t.Fatal(err)
	}
	next := h.start(t, hubhook, "--port", base.Port(), "--no-tunnel", "--data", data)
	next.poll("it refuses what comes", func() (bool, string) {
		a, err := tryPost(t, next.client, p.base+"/webhooks/inbox", body)
		if err != nil {
			return false, err.Error()
		}
		next.wantUnavailable(a, "could not be stored")
		return true, ""
	})
	next.poll("it says why", func() (bool, string) {
		text := next.errs.String()
		return strings.Contains(text, "refused with 503 until there is room") && strings.Contains(text, "hint: the disk is full"), text
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	freed = time.Now()
	next.awaitReady()
	if took := time.Since(freed); took > 10*time.Second {
		t.Errorf("room was noticed after %v at the start; want 10 s at most", took)
	}
	for id := range accepted {
		if r := next.record(id); r.State != string(queue.Done) || r.Body != body {
			t.Errorf("delivery %s is %s with %d bytes; want done with %d", id, r.State, len(r.Body), len(body))
		}
	}
	if list := next.list(""); len(list) != len(accepted) {
		t.Errorf("%d deliveries are stored; %d were accepted", len(list), len(accepted))
	}
	next.stop()
	wantSound(t, data)
}

// fillUp writes to a file until the disk is full.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}
