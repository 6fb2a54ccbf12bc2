// Package datadir locks the data directory, and explains what is wrong with one that can't be used.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"

	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/text"
)

const lockName = "hubhook.lock"

// Lock makes the data directory if it is missing and takes its lock. The system releases the lock when the process dies. The
// process id in the lock's file is for people: only the lock says whether the directory is free.
func Lock(dir string) (*flock.Flock, error) {
	if dir == "" {
		return nil, errors.New("open the queue: no data directory is given; set Config.Dir")
	}
	made := false
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, Advise(fmt.Errorf("make data directory %s: %w", dir, text.FileCause(err)), Advice(err))
	}
	if made {
		if err := Sync(filepath.Dir(dir)); err != nil {
			return nil, Advise(fmt.Errorf("make data directory %s: %w", dir, text.FileCause(err)), Advice(err))
		}
	}
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDWR))
	got, err := lock.TryLock()
	if err != nil {
		return nil, Advise(fmt.Errorf("lock data directory %s: %w", dir, text.FileCause(err)), Advice(err))
	}
	if !got {
		return nil, &LockedError{Dir: dir, PID: readPID(path)}
	}
	if err := writePID(path); err != nil {
		return nil, errors.Join(Advise(fmt.Errorf("write %s: %w", path, text.FileCause(err)), Advice(err)), lock.Close())
	}
	return lock, nil
}

func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// Advise adds to err what to do about it. It is an ErrDiskFull where the disk has no room.
func Advise(err error, hint string) error {
	if IsFull(err) {
		err = store.DiskFull(err)
	}
	return text.WithHint(err, hint)
}

// Advice says what to do about a data directory that can't be used.
func Advice(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "give this user the right to write there, or choose another data directory"
	case errors.Is(err, fs.ErrExist), isNotDir(err):
		return "a file is in the way; remove it, or choose another data directory"
	case IsReadOnly(err):
		return "the file system is read-only; choose a data directory on another one"
	case IsFull(err):
		return "free some space, or choose a data directory on another disk"
	}
	return "check the disk, or choose another data directory"
}

// LockedError says that another process holds the data directory.
type LockedError struct {
	Dir string
	PID int // 0 if it could not be read
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by process %d", e.Dir, e.PID)
}
