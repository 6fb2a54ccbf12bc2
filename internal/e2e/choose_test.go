//go:build unix

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

const (
	asks     = "How shall the Hub reach it?"
	waits    = "Enter alone is none:"
	keysWork = "(or press t)"
)

// seat is a person at a terminal where hubhook runs.
type seat struct {
	*testing.T
	cmd      *exec.Cmd
	terminal *os.File
	screen   *output
	ended    chan struct{}
}

func sitDown(t *testing.T, h *home, flags ...string) *seat {
	t.Helper()
	return sitDownTo(t, h, "serve", flags...)
}

func sitDownTo(t *testing.T, h *home, command string, args ...string) *seat {
	t.Helper()
	cmd := exec.Command(hubhook, append([]string{command, "--port", "0", "--inspector", "127.0.0.1:0", "--secret", secret}, args...)...)
	cmd.Dir, cmd.Env = filepath.Join(h.dir, "work"), h.env
	s := &seat{T: t, cmd: cmd}
	s.terminal, s.screen, s.ended = onTerminal(t, cmd)
	return s
}

// sees waits until text has been on the screen n times.
func (s *seat) sees(n int, text string) {
	s.Helper()
	pollFor(s.T, patience, "on the screen: "+text, func() (bool, string) { return strings.Count(s.screen.String(), text) >= n, "" })
}

func (s *seat) types(keys string) {
	s.Helper()
	if _, err := s.terminal.WriteString(keys); err != nil {
		s.Fatal(err)
	}
}

// leaves has hubhook end by keys, with status 0, and returns all that was on the screen.
func (s *seat) leaves(keys string) string {
	s.Helper()
	s.types(keys)
	select {
	case <-s.ended:
		if status := s.cmd.ProcessState.ExitCode(); status != 0 {
			s.Errorf("exit status %d after %q, want 0", status, keys)
		}
	case <-time.After(patience):
		s.Errorf("%q does not end it", keys)
	}
	return s.screen.String()
}

// keptChoice returns what is kept of the answer, "" for nothing.
func keptChoice(t *testing.T, h *home) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "state", "hubhook", "*", "*", "tunnel-choice"))
	if err != nil || len(files) > 1 {
		t.Fatal(files, err)
	}
	if len(files) == 0 {
		return ""
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v; want mode 0600", files[0], info.Mode(), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Somebody without a credential is asked, gives a wrong answer, takes an SSH server, and is not asked again, unless they want to be. Where
// nobody can be asked, the answer does not count.
func TestAPublicURLIsChosenOnce(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	h := newHome(t)
	s := sitDown(t, h)
	s.sees(1, waits)
	s.types("x\x7ffoo\r")
	s.sees(1, `"foo" is none of them.`)
	s.sees(2, waits)
	s.types("99\r")
	s.sees(3, waits)
	s.types("ssh\r")
	s.sees(1, "Which server?")
	s.types(server.Addr() + "\rt") // t waits for its turn
	s.sees(1, "https://name-")
	s.sees(1, "(sample)")
	if said := s.leaves("q"); strings.Count(said, asks) != 1 || !strings.Contains(said, "localhost.run can read what passes") {
		t.Errorf("want one question that says who can read what passes:\n%s", said)
	}
	if kept := keptChoice(t, h); kept != "ssh "+server.Addr()+"\n" {
		t.Errorf("%q is kept", kept)
	}

	s = sitDown(t, h)
	s.sees(1, keysWork)
	if said := s.leaves("q"); strings.Contains(said, asks) || !strings.Contains(said, "comes from "+server.Addr()+", as you chose") || !strings.Contains(said, "https://name-") {
		t.Errorf("at the second start:\n%s", said)
	}

	p := h.start(t, hubhook, "--port", "0", "--secret", secret)
	p.await("no public URL", patience, func(e event) bool {
		return e.Type == "tunnel" && e.Phase == "failed" && strings.Contains(e.Hint, "NGROK_AUTHTOKEN")
	})
	p.await("ready", patience, func(e event) bool { return e.Type == "ready" && e.PublicURL == "" })
	p.stop()
	for _, way := range []string{"--ssh localhost.run", "--ssh pinggy", "--ssh serveo", "--follow TYPE:NAME"} {
		if !strings.Contains(p.errs.String(), way) {
			t.Errorf("without a terminal nothing is said of %s:\n%s", way, p.errs)
		}
	}

	s = sitDown(t, h, "--tunnel", "ask")
	s.sees(1, waits)
	s.types("\r")
	s.sees(1, keysWork)
	s.leaves("q")
	if kept := keptChoice(t, h); kept != "none\n" {
		t.Errorf("%q is kept after Enter alone", kept)
	}
	s = sitDown(t, h)
	s.sees(1, keysWork)
	if said := s.leaves("q"); strings.Contains(said, asks) || !strings.Contains(said, "There is no public URL, as you chose") {
		t.Errorf("at the start after the answer none:\n%s", said)
	}
	if now, _ := server.Sessions(); now != 0 {
		t.Errorf("%d sessions are left", now)
	}
}

// A token for ngrok is neither shown nor stored. The next start asks for it alone.
func TestATokenIsTyped(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	h := newHome(t)
	writeConfig(t, h, edge, "")
	s := sitDown(t, h)
	s.sees(1, waits)
	s.types("1\r")
	s.sees(1, "it is not shown")
	s.types(tunneltest.DefaultToken + "\r")
	s.sees(1, keysWork)
	said := s.leaves("q")
	if !strings.Contains(said, "Running on public URL:") || !strings.Contains(said, "ngrok config add-authtoken") {
		t.Errorf("want a public URL, and how to keep the token:\n%s", said)
	}
	if kept := keptChoice(t, h); kept != "ngrok\n" {
		t.Errorf("%q is kept", kept)
	}
	s = sitDown(t, h)
	s.sees(1, "it is not shown")
	s.types("\r")
	s.sees(1, keysWork)
	said += s.leaves("q")
	if strings.Count(said, asks) != 1 || !strings.Contains(said, "There was no answer") {
		t.Errorf("want the question for the token alone at the second start:\n%s", said)
	}
	if strings.Contains(said, tunneltest.DefaultToken) {
		t.Error("the token is on the screen")
	}
	noSession(t, edge)
}

// cloudflared is offered where it is installed.
func TestCloudflaredIsChosen(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	h := newHome(t)
	h.env = append(h.env, "PATH="+far.Dir()+":/usr/bin:/bin")
	s := sitDown(t, h)
	s.sees(1, waits)
	s.types("cloudflared\r")
	s.sees(1, "https://stand-in-1.trycloudflare.test/webhooks/inbox")
	s.leaves("q")
	if kept := keptChoice(t, h); kept != "cloudflared\n" {
		t.Errorf("%q is kept", kept)
	}
	noneLeft(t, far)
	h.env = append(h.env, "PATH="+h.dir)
	s = sitDown(t, h)
	s.sees(1, waits) // since what was chosen is not there any more
	if said := s.leaves("\x03"); strings.Contains(said, "  cloudflared") {
		t.Errorf("cloudflared is offered where it is not installed:\n%s", said)
	}
}

// Ctrl-C ends it at once. After Ctrl-D it serves without a public URL, and the next start asks again.
func TestAQuestionWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "NO_COLOR=1")
	s := sitDown(t, h)
	s.sees(1, waits)
	if said := s.leaves("ng\x03"); strings.Contains(said, "Running on local URL") {
		t.Errorf("after Ctrl-C:\n%s", said)
	}
	s = sitDown(t, h)
	if err := pty.Setsize(s.terminal, &pty.Winsize{Rows: 20, Cols: 30}); err != nil {
		t.Fatal(err)
	}
	s.sees(1, waits)
	s.types("\x04")
	s.sees(1, keysWork)
	if said := s.leaves("q"); !strings.Contains(said, "There was no answer") || strings.Contains(said, "\x1b") {
		t.Errorf("after Ctrl-D, without colours:\n%q", said)
	}
	s = sitDown(t, h)
	s.sees(1, waits)
	s.types("follow\r")
	s.sees(1, keysWork)
	if said := s.leaves("q"); !strings.Contains(said, "Start again with --follow TYPE:NAME") {
		t.Errorf("after follow:\n%s", said)
	}
	if kept := keptChoice(t, h); kept != "" {
		t.Errorf("%q is kept", kept)
	}
	h.env = append(h.env, "CI=true")
	s = sitDown(t, h)
	s.sees(1, keysWork)
	if said := s.leaves("q"); strings.Contains(said, asks) || !strings.Contains(said, "NGROK_AUTHTOKEN") || !strings.Contains(said, "--ssh localhost.run") {
		t.Errorf("in CI:\n%s", said)
	}
}

// The program of hubhook dev starts after the answer, however long that takes: what it prints would push the question off the screen.
func TestDevWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "NO_COLOR=1")
	s := sitDownTo(t, h, "dev", "--no-restart", "--", "sh", "-c", "echo begun; exec sleep 60")
	s.sees(1, waits)
	time.Sleep(3500 * time.Millisecond) // longer than it waits for a public URL
	s.types("\r")
	s.sees(1, "| begun")
	said := s.leaves("q")
	if answered := strings.Index(said, "next starts do the same"); answered < 0 || strings.Index(said, "| begun") < answered || strings.Index(said, "--- sh starts") < answered {
		t.Errorf("the program has not waited:\n%s", said)
	}

	h = newHome(t)
	h.env = append(h.env, "NO_COLOR=1")
	s = sitDownTo(t, h, "dev", "--no-restart", "--", "sh", "-c", "echo begun; exec sleep 60")
	s.sees(1, waits)
	if said := s.leaves("\x03"); strings.Contains(said, "begun") {
		t.Errorf("the program has run after Ctrl-C:\n%s", said)
	}
}

// A key that needs a passphrase is asked for it on the terminal, where it does not show up.
func TestAPassphraseIsTyped(t *testing.T) {
	t.Parallel()
	const passphrase = "open sesame, it is me" // of the key
	const testdata = "../../tunnel/ssh/testdata/locked"
	public, err := os.ReadFile(testdata + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(testdata)
	if err != nil {
		t.Fatal(err)
	}
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{Keys: []string{string(public)}})
	h := newHome(t)
	if err := os.MkdirAll(filepath.Join(h.dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, ".ssh", "id_ed25519"), private, 0o600); err != nil {
		t.Fatal(err)
	}
	s := sitDown(t, h, "--ssh", server.Addr())
	s.sees(1, "Passphrase for "+filepath.Join(h.dir, ".ssh", "id_ed25519"))
	s.types("a wrong one\r")
	s.sees(1, "That is not it.")
	s.types(passphrase + "\r")
	s.sees(1, "https://name-")
	s.sees(1, keysWork)
	if said := s.leaves("q"); strings.Contains(said, passphrase) || strings.Contains(said, "a wrong one") {
		t.Errorf("a passphrase is on the screen:\n%s", said)
	}
	noSession(t, server)

	s = sitDown(t, h, "--ssh", server.Addr())
	s.sees(1, "Passphrase for")
	s.types("\r")
	s.sees(1, keysWork)
	if said := s.leaves("q"); !strings.Contains(said, "ssh-add") {
		t.Errorf("after Enter alone nothing is said of ssh-add:\n%s", said)
	}
}
