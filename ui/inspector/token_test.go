package inspector

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	a, b := Token(), Token()
	if len(a) != 32 || a == b {
		t.Errorf("tokens %q and %q, want two different ones of 32 digits", a, b)
	}
}

func TestKeptToken(t *testing.T) {
	dir := t.TempDir()
	first, err := KeptToken(dir)
	if err != nil || len(first) != 32 {
		t.Fatalf("KeptToken = %q, %v, want 32 digits", first, err)
	}
	if info, err := os.Stat(filepath.Join(dir, tokenFile)); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v, want mode 600", info.Mode(), err)
	}
	if again, err := KeptToken(dir); again != first || err != nil {
		t.Errorf("the next start has %q, %v, want %q", again, err, first)
	}
	if other, err := KeptToken(t.TempDir()); other == first || err != nil {
		t.Errorf("another directory has %q, %v, want another token", other, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v, want the token's file alone", entries, err)
	}
}

// TestKeptTokenThatIsNoGood replaces the token's file by something else. Each time KeptToken makes and saves a new token, and reports it.
func TestKeptTokenThatIsNoGood(t *testing.T) {
	const old = "0123456789abcdef0123456789abcdef"
	write := func(t *testing.T, path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	damaged := func(text string) func(*testing.T, string) {
		return func(t *testing.T, path string) { write(t, path, text, 0o600) }
	}
	for _, c := range []struct {
		name string
		unix bool
		make func(t *testing.T, path string)
		says string
	}{
		{"readable by the group", true, func(t *testing.T, path string) { write(t, path, old+"\n", 0o640) }, "other users could read or change it (mode 0640)"},
		{"readable by all", true, func(t *testing.T, path string) { write(t, path, old+"\n", 0o604) }, "other users could read or change it (mode 0604)"},
		{"writable by all", true, func(t *testing.T, path string) { write(t, path, old+"\n", 0o602) }, "other users could read or change it (mode 0602)"},
		{"another user's", true, func(t *testing.T, path string) {
			write(t, path, old+"\n", 0o600)
			if err := os.Chown(path, 54321, -1); err != nil {
				t.Skipf("only root can give a file away: %v", err)
			}
		}, "other users could read or change it (mode 0600)"},
		{"a link", true, func(t *testing.T, path string) {
			target := filepath.Join(t.TempDir(), "elsewhere")
			write(t, target, old+"\n", 0o600)
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"empty", false, damaged(""), "damaged"},
		{"cut off", false, damaged(old[:31] + "\n"), "damaged"},
		{"cut off before its end", false, damaged(old), "damaged"},
		{"too long", false, damaged(old + "0\n"), "damaged"},
		{"with more lines", false, damaged(old + "\n\n"), "damaged"},
		{"of other letters", false, damaged("tell-nobody-what-is-written-here\n"), "damaged"},
		{"of zeros", false, damaged(strings.Repeat("\x00", 33)), "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.unix && runtime.GOOS == "windows" {
				t.Skip("files have no modes here")
			}
			path := filepath.Join(t.TempDir(), tokenFile)
			c.make(t, path)
			token, err := KeptToken(filepath.Dir(path))
			if token == old || len(token) != 32 {
				t.Errorf("token %q, want a new one", token)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Fatalf("%v, want %q and the path", err, c.says)
			}
			for _, secret := range []string{old[:31], token, "nobody"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%v tells a token", err)
				}
			}
			if h, ok := err.(interface{ Hint() string }); !ok || h.Hint() == "" {
				t.Errorf("%v has no hint", err)
			}
			if again, err := KeptToken(filepath.Dir(path)); again != token || err != nil {
				t.Errorf("the next start has %q, %v, want %q", again, err, token)
			}
		})
	}
}

func TestKeptTokenThatCannotBeKept(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	token, err := KeptToken(missing)
	if len(token) != 32 {
		t.Errorf("token %q, want one that can be used", token)
	}
	if err == nil || !strings.Contains(err.Error(), missing) || strings.Contains(err.Error(), token) {
		t.Fatalf("%v, want an error that names %s and no token", err, missing)
	}
	if h, ok := err.(interface{ Hint() string }); !ok || !strings.Contains(h.Hint(), "HUBHOOK_INSPECTOR_TOKEN") {
		t.Errorf("%v has no hint", err)
	}

	// A directory with a file in it can be neither read nor replaced.
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, tokenFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if token, err = KeptToken(dir); len(token) != 32 || err == nil || !strings.Contains(err.Error(), "reading the inspector's token") || !strings.Contains(err.Error(), "keeping the inspector's token") {
		t.Errorf("%q, %v, want a token, and both failures", token, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}
