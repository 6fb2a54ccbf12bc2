package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
	sqlite3 "modernc.org/sqlite/lib"
)

// lockDir makes the data directory if need be and takes its lock, which the system gives back when the process dies.
// The process id in the file is for people: whether the directory is free is the lock's to say.
func lockDir(dir string) (*flock.Flock, error) {
	if dir == "" {
		return nil, errors.New("open the queue: no data directory is given; set Config.Dir")
	}
	made := false
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &advised{fmt.Errorf("make data directory %s: %w", dir, cause(err)), dirAdvice(err)}
	}
	if made {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return nil, &advised{fmt.Errorf("make data directory %s: %w", dir, cause(err)), dirAdvice(err)}
		}
	}
	path := filepath.Join(dir, "hubhook.lock")
	lock := flock.New(path, flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDWR))
	got, err := lock.TryLock()
	if err != nil {
		return nil, &advised{fmt.Errorf("lock data directory %s: %w", dir, cause(err)), dirAdvice(err)}
	}
	if !got {
		return nil, &LockedError{Dir: dir, PID: readPID(path)}
	}
	if err := writePID(path); err != nil {
		return nil, errors.Join(&advised{fmt.Errorf("write %s: %w", path, cause(err)), dirAdvice(err)}, lock.Close())
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

// cause drops the operation and path of a file error where the text around it names both already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// advised is an error with what to do about it.
type advised struct {
	err  error
	hint string
}

func (e *advised) Error() string { return e.err.Error() }
func (e *advised) Unwrap() error { return e.err }

// Is makes ErrDiskFull of every way in which a disk says that it is full.
func (e *advised) Is(target error) bool {
	if target != ErrDiskFull {
		return false
	}
	code := sqliteCode(e.err)
	// The file beside the log that SQLite shares between connections can't grow on a full disk either.
	return code&0xff == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_IOERR_SHMSIZE || isNoSpace(e.err)
}

// Hint returns what to do.
func (e *advised) Hint() string { return e.hint }

// dirAdvice says what to do about a data directory that can't be used.
func dirAdvice(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "give this user the right to write there, or choose another data directory"
	case errors.Is(err, fs.ErrExist), isNotDir(err):
		return "a file is in the way; remove it, or choose another data directory"
	case isReadOnly(err):
		return "the file system is read-only; choose a data directory on another one"
	case isNoSpace(err):
		return "free some space, or choose a data directory on another disk"
	}
	return "check the disk, or choose another data directory"
}
