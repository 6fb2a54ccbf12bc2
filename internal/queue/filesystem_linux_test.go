package queue

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hubhook/hubhook/internal/testing/needs"
)

// A data directory on a file system that is read-only is refused with what to do, and so is one that has become so.
func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		needs.Missing(t, "mount", fmt.Sprintf("can't mount a file system: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	used := filepath.Join(dir, "used")
	open(t, used, Config{}).close()
	readOnly := func(flag uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flag, "size=8m,mode=0700"); err != nil {
			t.Fatal(err)
		}
	}
	readOnly(syscall.MS_RDONLY)
	for _, sub := range []string{"used", "new", "."} {
		_, err := Open(t.Context(), Config{Dir: filepath.Join(dir, sub)})
		if !errors.Is(err, syscall.EROFS) || !strings.Contains(withHint(err), "choose a data directory on another one") {
			t.Errorf("%s: %v", sub, err)
		}
	}
	if _, err := Recover(t.Context(), RecoverConfig{Dir: used}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("recover: %v", err)
	}
	// A backup only reads there.
	file := filepath.Join(t.TempDir(), "backup.db")
	if _, err := Backup(t.Context(), BackupConfig{Dir: used, File: file}); err != nil {
		t.Errorf("backup: %v", withHint(err))
	}
	readOnly(0)
	open(t, used, Config{}).close()
}
