package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/text"
)

func TestLook(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "not", "there", "yet")
	v, err := Look(dir)
	if err != nil || v.Exists || v.Held != nil || v.Size != 0 || v.Free == 0 {
		t.Errorf("before it is made: %+v, %v", v, err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("it made %v (%v)", left, err)
	}

	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hubhook.db"), make([]byte, 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err = Look(dir)
	if err != nil || !v.Exists || v.Held == nil || v.Held.Dir != dir || v.Size < 10_000 {
		t.Errorf("while it is held: %+v, %v", v, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	v, err = Look(dir)
	if err != nil || !v.Exists || v.Held != nil {
		t.Errorf("while nobody holds it: %+v, %v", v, err)
	}
	if again, err := Lock(dir); err != nil {
		t.Errorf("after a look it can't be locked: %v", err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}

	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := Look(dir); err == nil || !strings.Contains(err.Error(), file) || text.Hint(err) == "" {
			t.Errorf("a file in the way of %s: %v, hint %q", dir, err, text.Hint(err))
		}
	}
}

func TestLookAtWhatCannotBeWritten(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("this user can write everywhere")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "hubhook.db")
	if err := os.WriteFile(file, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(dir); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), file) || text.Hint(err) == "" {
		t.Errorf("a file that can't be written: %v, hint %q", err, text.Hint(err))
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) }) // or it can't be removed
	for _, d := range []string{dir, filepath.Join(dir, "below")} {
		if _, err := Look(d); !errors.Is(err, os.ErrPermission) || text.Hint(err) == "" {
			t.Errorf("%s: %v, hint %q; want that there is no right to write, and a hint", d, err, text.Hint(err))
		}
	}
}
