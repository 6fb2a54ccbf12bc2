package ui

import (
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestCopy(t *testing.T) {
	const text = "https://example.ngrok-free.app/webhooks/inbox"
	plain := "\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(text)) + "\a"
	for _, c := range []struct{ name, tmux, term, want string }{
		{"plain", "", "xterm-256color", plain},
		{"tmux", "/tmp/tmux,1,0", "tmux-256color", plain + "\x1bPtmux;\x1b" + plain + "\x1b\\"},
		{"screen", "", "screen", "\x1bP" + plain + "\x1b\\"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TMUX", c.tmux)
			t.Setenv("TERM", c.term)
			var b strings.Builder
			if err := Copy(&b, text); err != nil {
				t.Fatal(err)
			}
			if b.String() != c.want {
				t.Errorf("got %q, want %q", b.String(), c.want)
			}
		})
	}

	r, w := io.Pipe()
	r.Close()
	if err := Copy(w, text); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
	}
}

// opener puts a program in the place of xdg-open.
func opener(t *testing.T, script string) (dir string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the launcher has another name here")
	}
	dir = t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	if script == "" {
		t.Setenv("PATH", dir)
	}
	t.Setenv("DISPLAY", ":0")
	return dir
}

func TestOpenBrowser(t *testing.T) {
	dir := opener(t, `printf '%s' "$*" > "$(dirname "$0")/opened"`)
	const address = "http://127.0.0.1:7861/?token=4f9c&x='$(exit)'"
	if err := OpenBrowser(address); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "opened"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != address {
		t.Errorf("opened %q, want %q", got, address)
	}
}

func TestOpenBrowserFails(t *testing.T) {
	const address = "http://127.0.0.1:7861/"
	check := func(t *testing.T, address string) {
		t.Helper()
		err := OpenBrowser(address)
		if err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("got %v, want an error that names the URL", err)
		}
	}
	t.Run("launcher", func(t *testing.T) { opener(t, "exit 3"); check(t, address) })
	t.Run("none", func(t *testing.T) { opener(t, ""); check(t, address) })
	t.Run("no display", func(t *testing.T) {
		opener(t, "exit 0")
		t.Setenv("DISPLAY", "")
		t.Setenv("WAYLAND_DISPLAY", "")
		check(t, address)
	})
	t.Run("file", func(t *testing.T) { opener(t, "exit 0"); check(t, "file:///etc/passwd") })
}
