//go:build unix

package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/ui/inspector"
)

var (
	printedPage  = regexp.MustCompile(`http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{32}`)
	hyperlink    = regexp.MustCompile(`\x1b\]8;;([^\x1b]+)\x1b\\(?:\x1b\[[0-9;]*m)*([^\x1b]+)`)
	deliveryLine = regexp.MustCompile(`(?m)^(?:\x1b\[[0-9;]*m)*(?:-->|<--).*inbox`)
)

// On a terminal the ID at the end of a line links to the delivery's page, for a browser that has the cookie. The key i lets a browser in.
func TestADeliveryOpensFromTheTerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, term, noColor string
		links               bool
	}{
		{"terminal", "xterm-256color", "", true},
		{"without colours", "xterm-256color", "1", false},
		{"dumb terminal", "dumb", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			opened := filepath.Join(h.dir, "opened")
			desktop := filepath.Join(h.dir, "desktop")
			if err := os.Mkdir(desktop, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(desktop, "xdg-open"), []byte("#!/bin/sh\nprintf '%s\\n' \"$1\" > '"+opened+"'\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			h.env = append(h.env, "TERM="+c.term, "NO_COLOR="+c.noColor, "DISPLAY=:0", "PATH="+desktop+":"+os.Getenv("PATH"))
			cmd := exec.Command(hubhook, "serve", "--no-tunnel", "--port", "0", "--inspector", "127.0.0.1:0", "--secret", secret)
			cmd.Dir, cmd.Env = filepath.Join(h.dir, "work"), h.env
			terminal, screen, ended := onTerminal(t, cmd)
			shows := func(what string, ok func(text string) bool) {
				t.Helper()
				pollFor(t, patience, what+" is on the screen", func() (bool, string) { return ok(screen.String()), "" })
			}

			shows("the banner", func(text string) bool { return strings.Contains(text, "(or press t)") })
			page := printedPage.FindString(screen.String())
			id, err := inspector.NewClient(page, "").Trigger(t.Context(), api.Trigger{Scope: "repo.content"})
			if err != nil {
				t.Fatal(err)
			}
			shows("the delivery, twice", func(text string) bool {
				return len(deliveryLine.FindAllString(text, -1)) == 2 && strings.HasSuffix(text, "\n")
			})

			if !c.links {
				if strings.Contains(screen.String(), "\x1b") {
					t.Error("there is an escape sequence on the screen")
				}
			} else {
				links := hyperlink.FindAllStringSubmatch(screen.String(), -1)
				address, _, _ := strings.Cut(page, "?")
				want := address + "?delivery=" + id
				if len(links) != 2 || links[0][1] != want || links[1][1] != want || links[0][2] != id || links[1][2] != id {
					t.Fatalf("links %q, want two from %s to %s", links, id, want)
				}
				browser := newBrowser(t)
				for _, step := range []struct {
					url    string
					status int
				}{{want, http.StatusUnauthorized}, {page, http.StatusOK}, {want, http.StatusOK}} {
					if status := browse(t, browser, step.url); status != step.status {
						t.Errorf("%s: status %d, want %d", step.url, status, step.status)
					}
				}
			}

			if runtime.GOOS == "linux" { // elsewhere the program that opens a browser has another name
				if _, err := terminal.WriteString("i"); err != nil {
					t.Fatal(err)
				}
				var address []byte
				pollFor(t, patience, "the key i starts a browser", func() (bool, string) {
					address, _ = os.ReadFile(opened)
					return bytes.HasSuffix(address, []byte("\n")), ""
				})
				// Other users can see the URL in the list of processes, so it lets in one browser alone.
				for _, want := range []int{http.StatusOK, http.StatusUnauthorized} {
					if status := browse(t, newBrowser(t), strings.TrimSpace(string(address))); status != want {
						t.Errorf("what the key i opens: status %d, want %d", status, want)
					}
				}
				_, token, _ := strings.Cut(page, "=")
				if strings.Contains(string(address), token) {
					t.Errorf("the browser was started with the token on its command line: %s", address)
				}
			}
			if _, err := terminal.WriteString("q"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
				if status := cmd.ProcessState.ExitCode(); status != 0 {
					t.Errorf("exit status %d after the key q, want 0", status)
				}
			case <-time.After(patience):
				t.Error("the key q does not end it")
			}
		})
	}
}

// onTerminal starts a program on a terminal of its own. ended is closed once it has ended; its status is in ProcessState then.
func onTerminal(t *testing.T, cmd *exec.Cmd) (terminal *os.File, screen *output, ended chan struct{}) {
	t.Helper()
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	screen, ended = newOutput(), make(chan struct{})
	go func() {
		io.Copy(screen, terminal) // fails once the program has ended
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		terminal.Close()
		if t.Failed() {
			t.Logf("on the screen:\n%q", screen.String())
		}
	})
	return terminal, screen, ended
}
