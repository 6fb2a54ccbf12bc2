//go:build unix

package e2e_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
)

// On a terminal hub delete asks about each webhook, and deletes those alone that the answer is yes for.
func TestHubDeleteAsks(t *testing.T) {
	t.Parallel()
	server := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(server.Close)
	create := func(url string) string {
		id, err := server.Create(hubtest.Webhook{URL: url, Watched: []hubtest.Watched{{Type: "user", Name: "me"}}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	kept, deleted := create("https://me.example/kept?secret=qu3ry"), create("https://me.example/deleted")
	h := newHome(t)
	cmd := exec.Command(hubhook, "hub", "delete", kept, deleted)
	cmd.Dir = filepath.Join(h.dir, "work")
	cmd.Env = append(h.env, "TERM=xterm", "HF_ENDPOINT="+server.URL, "HF_TOKEN="+server.Accounts.AddToken(hubtest.Token{}))
	terminal, screen, ended := onTerminal(t, cmd)
	answer := func(question, words string) {
		t.Helper()
		pollFor(t, patience, question+" is asked", func() (bool, string) {
			return strings.Contains(screen.String(), question) && strings.HasSuffix(screen.String(), "[y/N] "), ""
		})
		if _, err := terminal.WriteString(words + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	answer("Delete webhook "+kept, "n")
	answer("Delete webhook "+deleted, "yes")
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if status := cmd.ProcessState.ExitCode(); status != 1 {
		t.Errorf("the status is %d, want 1: one of two stays", status)
	}
	if _, err := server.Webhook(kept); err != nil {
		t.Errorf("the webhook that was to stay: %v", err)
	}
	if w, err := server.Webhook(deleted); err == nil {
		t.Errorf("%+v was not deleted", w)
	}
	if text := screen.String(); strings.Contains(text, "qu3ry") || !strings.Contains(text, "https://me.example/kept?secret=hidden, watches user:me") {
		t.Errorf("the screen has %q", text)
	}
}
