package inspector

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	dir := t.TempDir()
	want := Address{URL: "http://127.0.0.1:7861", Token: Token(), PID: os.Getpid()}
	remove, err := WriteAddress(dir, want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAddress(dir); err != nil || got != want {
		t.Errorf("ReadAddress = %v, %v, want %v", got, err, want)
	}
	info, err := os.Stat(filepath.Join(dir, addressFile))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600", mode)
	}
	if got := want.Page(); got != "http://127.0.0.1:7861/?token="+want.Token {
		t.Errorf("Page = %s", got)
	}
	for range 2 {
		if err := remove(); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	if _, err := ReadAddress(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a file: %v, want ErrNotRunning", err)
	}
}

func TestAddressOfASuccessorStays(t *testing.T) {
	dir := t.TempDir()
	remove, err := WriteAddress(dir, Address{URL: "http://127.0.0.1:7861", Token: "old", PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	next := Address{URL: "http://127.0.0.1:7862", Token: "new", PID: os.Getpid()}
	if _, err := WriteAddress(dir, next); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAddress(dir); err != nil || got != next {
		t.Errorf("ReadAddress = %v, %v, want the successor's", got, err)
	}
}

func TestAddressReplacesAReadableFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, addressFile)
	if err := os.WriteFile(path, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteAddress(dir, Address{URL: "http://127.0.0.1:7861", Token: "secret", PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 600", info.Mode(), err)
	}
}

func TestAddressOfAProcessThatIsGone(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^$")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := WriteAddress(dir, Address{URL: "http://127.0.0.1:7861", Token: "t", PID: child.Process.Pid}); err != nil {
		t.Fatal(err)
	}
	_, err := ReadAddress(dir)
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("%v, want ErrNotRunning and that the process has ended", err)
	}
}

func TestAddressThatIsDamaged(t *testing.T) {
	for _, text := range []string{"", "{", `{"url":"http://127.0.0.1:7861","pid":1}`, `{"url":"http://127.0.0.1:7861","token":"hush","pid":"x"}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, addressFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadAddress(dir)
		if err == nil || !strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want that it is damaged, without what is in it", text, err)
		}
	}
}

func TestWriteAddressSaysWhere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := WriteAddress(missing, Address{URL: "http://127.0.0.1:1", Token: "t", PID: 1}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v, want an error that names %s", err, missing)
	}
}
