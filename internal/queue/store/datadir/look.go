package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/hubhook/hubhook/internal/text"
)

// View is what Look sees of a data directory.
type View struct {
	Exists bool
	Held   *LockedError // nil where no process holds it
	Size   int64        // of the files in it, in bytes
	Free   int64        // bytes that this user can still write on its disk; -1 where the system does not tell
}

// Look looks at a data directory without making or changing anything that stays. Its error says why the directory can't be used. A hubhook that
// starts within the few microseconds in which Look tries the lock fails as if another one held it.
// A process that has the directory's database open must not call Look: closing any of its files drops the locks that SQLite has on it.
func Look(dir string) (View, error) {
	v := View{Free: -1}
	existing := dir
	for {
		info, err := os.Stat(existing)
		if err == nil && info.IsDir() {
			break
		}
		if err == nil {
			return v, text.WithHint(fmt.Errorf("use data directory %s: %s is a file", dir, existing), "a file is in the way; remove it, or choose another data directory")
		}
		parent := filepath.Dir(existing)
		if !errors.Is(err, fs.ErrNotExist) || parent == existing {
			return v, Advise(fmt.Errorf("use data directory %s: %s: %w", dir, existing, text.FileCause(err)), Advice(err))
		}
		existing = parent
	}
	v.Exists = existing == dir
	v.Free = free(existing)
	probe, err := os.CreateTemp(existing, ".hubhook-writes-here-*")
	if err != nil {
		return v, Advise(fmt.Errorf("write to data directory %s: %w", existing, text.FileCause(err)), Advice(err))
	}
	_, err = probe.WriteString("hubhook")
	if err = errors.Join(err, probe.Close(), os.Remove(probe.Name())); err != nil {
		return v, Advise(fmt.Errorf("write to data directory %s: %w", existing, text.FileCause(err)), Advice(err))
	}
	if !v.Exists {
		return v, nil
	}
	if v.Size, err = sizeOf(dir); err != nil {
		return v, Advise(fmt.Errorf("use data directory %s: %w", dir, err), Advice(err))
	}
	v.Held, err = holder(dir)
	return v, err
}

// sizeOf adds up the files of hubhook in dir, which may come and go meanwhile. It is an error where one of them can't be written.
func sizeOf(dir string) (sum int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(e.Name(), "hubhook.") {
			continue
		}
		sum += info.Size()
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// holder returns who holds dir, nil for nobody.
func holder(dir string) (*LockedError, error) {
	path := filepath.Join(dir, lockName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	got, err := lock.TryRLock()
	if err != nil {
		return nil, Advise(fmt.Errorf("look at the lock of data directory %s: %w", dir, text.FileCause(err)), Advice(err))
	}
	if err := lock.Close(); err != nil {
		return nil, fmt.Errorf("look at the lock of data directory %s: %w", dir, text.FileCause(err))
	}
	if got {
		return nil, nil
	}
	return &LockedError{Dir: dir, PID: readPID(path)}, nil
}
