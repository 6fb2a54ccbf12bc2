//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// deaf is a command that no SIGTERM ends, with a child in its group and one that has left it. Each writes its process id to a file.
const deaf = `trap '' TERM
echo $$ > parent
sh -c 'trap "" TERM; echo $$ > child; while :; do sleep 1; done' &
setsid sh -c 'trap "" TERM; echo $$ > leaver; while :; do sleep 1; done' &
while :; do sleep 1; done`

// deafProcesses waits until the processes of deaf run in the directory dir, and returns their ids.
func deafProcesses(t *testing.T, dir string) map[string]int {
	t.Helper()
	pids := map[string]int{}
	for _, name := range []string{"parent", "child", "leaver"} {
		pollFor(t, patience, name+" runs", func() (bool, string) {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return false, err.Error()
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			pids[name] = pid
			return err == nil, string(text)
		})
	}
	return pids
}

// lives reports whether a process that is no zombie has that id.
func lives(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(stat)), "Z")
}

// needSetsid skips a test where a shell can't make a child leave its group.
func needSetsid(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("there is no program setsid")
	}
}

// work writes a file into the directory that a home's programs run in.
func (h *home) work(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "work", name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// A time-out ends a command and all that it started, what ignores SIGTERM and what left its group among it.
func TestACommandEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	needSetsid(t)
	h := newHome(t)
	h.work(t, "deaf.sh", deaf)
	h.work(t, "hubhook.yaml", "endpoints: {deaf: {run: exec sh deaf.sh, timeout: 1s, attempts: 1}, quick: {run: echo here}}\n")
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel", "--reply-within", "0")
	id := p.post("deaf", push(t)).delivery()
	pids := deafProcesses(t, filepath.Join(h.dir, "work"))
	if r := p.settled(p.post("quick", push(t)).delivery(), queue.Done, queue.Dead); r.State != string(queue.Done) {
		t.Errorf("beside it another command is %s (%s); want done", r.State, r.Reason)
	}
	r := p.settled(id, queue.Dead, queue.Done)
	if want := "timed out after 1s: the command was killed, 5s after SIGTERM"; r.State != string(queue.Dead) || !strings.HasPrefix(r.Reason, want) {
		t.Errorf("it is %s (%s); want dead (%s...)", r.State, r.Reason, want)
	}
	for name, pid := range pids {
		if lives(pid) {
			t.Errorf("the %s lives on", name)
		}
	}
	p.stop()
}

// No command outlives hubhook, and one that had to be ended has not failed: it runs again at the next start.
func TestNoCommandOutlivesHubhook(t *testing.T) {
	t.Parallel()
	needSetsid(t)
	h := newHome(t)
	h.work(t, "deaf.sh", deaf)
	h.work(t, "hubhook.yaml", "endpoints: {deaf: {run: exec sh deaf.sh, attempts: 1}}\n")
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel", "--reply-within", "0")
	id := p.post("deaf", push(t)).delivery()
	pids := deafProcesses(t, filepath.Join(h.dir, "work"))
	p.stop()
	for name, pid := range pids {
		if lives(pid) {
			t.Errorf("the %s lives on", name)
		}
	}
	if e := p.await("stopped", patience, func(e event) bool { return e.Type == "stopped" }); e.Unfinished == nil || *e.Unfinished != 1 {
		t.Errorf("it stopped with %+v; want 1 unfinished", e)
	}
	h.work(t, "deaf.sh", "echo at last")
	next := h.serve(t, hubhook, "--port", "0", "--no-tunnel")
	r := next.settled(id, queue.Done, queue.Dead)
	if last := r.AttemptList[len(r.AttemptList)-1]; r.State != string(queue.Done) || last.Output != "at last\n" {
		t.Errorf("at the next start it is %s after %d attempts (%s), with the output %q", r.State, r.Attempts, r.Reason, last.Output)
	}
}

// Text of a payload, however large or odd, is never run and arrives byte for byte.
func TestCommandsWithHostilePayloads(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.work(t, "keep.sh", `cat > body
if [ -n "$WEBHOOK_PAYLOAD_FILE" ]; then cat "$WEBHOOK_PAYLOAD_FILE" > variable; else printf %s "$WEBHOOK_PAYLOAD" > variable; fi
echo "$WEBHOOK_REPO_ID"`)
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel", "--run", "keep=exec sh keep.sh", "--run", `line=echo "$WEBHOOK_REPO_ID" "$WEBHOOK_PAYLOAD"`)
	body := func(repo, more string) string {
		return `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"` + repo + `"},"more":"` + more + `"}`
	}
	var files []string
	for i := range 10_000 {
		files = append(files, fmt.Sprintf(`{"path":"$(touch pwned)/%d; touch pwned","action":"add"}`, i))
	}
	for name, text := range map[string]string{
		"quotes":       body(`\"; touch pwned; \"`, `'; touch pwned; '`),
		"substitution": body("$(touch pwned)`touch pwned`", "${IFS}$(touch pwned)"),
		"newlines":     body(`a\ntouch pwned\n`, `\r\ntouch pwned\r\n`),
		"NUL":          body(`me/\u0000data; touch pwned`, `\u0000`),
		"5 MB":         body("me/data", strings.Repeat("$(touch pwned) ", 5_000_000/15)),
		"10,000 files": `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"bucket","name":"me/bucket"},"updatedFiles":[` + strings.Join(files, ",") + `]}`,
	} {
		for _, endpoint := range []string{"keep", "line"} {
			if r := p.settled(p.post(endpoint, text).delivery(), queue.Done, queue.Retrying, queue.Dead); r.State != string(queue.Done) {
				t.Errorf("%s: %s is %s (%s)", name, endpoint, r.State, r.Reason)
			}
		}
		for _, file := range []string{"body", "variable"} {
			if got, err := os.ReadFile(filepath.Join(h.dir, "work", file)); err != nil || string(got) != text {
				t.Errorf("%s: the %s is not the payload byte for byte (%v)", name, file, err)
			}
		}
		if _, err := os.Stat(filepath.Join(h.dir, "work", "pwned")); err == nil {
			t.Fatalf("%s: text of the payload was run", name)
		}
	}
	p.stop()
	if left, err := os.ReadDir(filepath.Join(h.dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("files are left in the temporary directory: %v %v", left, err)
	}
}

// Filters ask the Hub which files a push changed and who made it. While it does not answer, nothing is skipped.
func TestFiltersAskTheHub(t *testing.T) {
	t.Parallel()
	hub := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(hub.Close)
	const token = "hf_private"
	hub.Accounts.AddToken(hubtest.Token{Value: token})
	repo, err := hub.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{Private: true})
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	h.env = append(h.env, "HF_ENDPOINT="+hub.URL, "HF_TOKEN="+token)
	h.work(t, "hubhook.yaml", `endpoints: {train: {if: 'branch("main") && files("data/**") && !by("bot")', run: echo trained, attempts: 5}}`)
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel", "--secret", secret)
	if _, err := hub.Create(hubtest.Webhook{URL: p.base + "/webhooks/train", Secret: secret, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}}}); err != nil {
		t.Fatal(err)
	}
	// delivery pushes, and returns the delivery of it.
	delivery := func(c hubtest.Commit) string {
		t.Helper()
		known := len(p.list("train"))
		if _, err := repo.Push(c); err != nil {
			t.Fatal(err)
		}
		p.poll("its delivery", func() (bool, string) { return len(p.list("train")) > known, "" })
		return p.list("train")[0].ID
	}
	data, readme := []hubtest.File{{Path: "data/a.csv"}}, []hubtest.File{{Path: "README.md"}}
	for _, test := range []struct {
		commit hubtest.Commit
		state  queue.State
		reason string
	}{
		{hubtest.Commit{Files: data}, queue.Done, ""},
		{hubtest.Commit{Files: readme}, queue.Skipped, `files("data/**") was false: README.md`},
		{hubtest.Commit{Delete: []string{"data/a.csv"}, Authors: []string{"bot"}}, queue.Skipped, `by("bot") was true: bot`},
		{hubtest.Commit{Files: data, Ref: "refs/pr/1"}, queue.Skipped, `branch("main") was false: refs/pr/1`},
	} {
		if r := p.settled(delivery(test.commit), queue.Done, queue.Skipped, queue.Dead); r.State != string(test.state) || r.Reason != test.reason {
			t.Errorf("%+v: %s (%s); want %s (%s)", test.commit, r.State, r.Reason, test.state, test.reason)
		}
	}

	gone := hub.Faults.Inject(hubtest.Fault{Path: "/api/datasets/*", Answer: hubtest.Status(http.StatusForbidden)})
	id := delivery(hubtest.Commit{Files: []hubtest.File{{Path: "data/b.csv"}}})
	r := p.settled(id, queue.Retrying, queue.Done, queue.Skipped, queue.Dead)
	if r.State != string(queue.Retrying) || !strings.Contains(r.AttemptList[0].Error, "403") || strings.Contains(r.AttemptList[0].Error, token) {
		t.Errorf("of a Hub that refuses: %s (%+v)", r.State, r.AttemptList)
	}
	gone()
	if r := p.settled(id, queue.Done, queue.Skipped, queue.Dead); r.State != string(queue.Done) || r.AttemptList[len(r.AttemptList)-1].Output != "trained\n" {
		t.Errorf("of a Hub that answers again: %s (%s)", r.State, r.Reason)
	}
	p.stop()
}
