package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hubhook/hubhook/internal/queue/store/datadir"
	"github.com/hubhook/hubhook/internal/text"
)

// BackupConfig configures Backup.
type BackupConfig struct {
	// Dir is the data directory. A process may have the queue open.
	Dir string
	// File is the path of the backup. It must not exist.
	File string
	// Progress is called every 100 ms with how many bytes are written, of about how many. Default: it is not called.
	Progress func(done, total int64)
}

// BackupReport says what a backup contains.
type BackupReport struct {
	Deliveries int
	Bytes      int64
}

// Backup copies the database, its write-ahead log included, as it is at one moment. A process that has the queue open can go on storing
// meanwhile. File appears once it is complete and synced. Put into a data directory as hubhook.db, it is a database like any other.
func Backup(ctx context.Context, c BackupConfig) (_ *BackupReport, err error) {
	path := filepath.Join(c.Dir, DatabaseName)
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, noDatabase(c.Dir)
		}
		return nil, fileError(fmt.Errorf("back up %s: %w", path, text.FileCause(err)), datadir.Advice(err))
	}
	if err := vacant(c.File); err != nil {
		return nil, err
	}
	// CreateTemp gives mode 0600. The file is removed if Backup does not succeed.
	f, err := os.CreateTemp(filepath.Dir(c.File), ".hubhook-backup-*")
	if err != nil {
		return nil, fileError(fmt.Errorf("write %s: %w", c.File, text.FileCause(err)), backupAdvice(err))
	}
	defer func() {
		if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	if err := f.Close(); err != nil {
		return nil, err
	}
	err = copyDatabase(ctx, path, url.Values{}, f.Name(), c.Progress)
	if log, gone := os.Stat(path + "-wal"); codeOf(err)&0xff == sqlite3.SQLITE_CANTOPEN && (gone != nil || log.Size() == 0) {
		// SQLite needs a -shm file beside a database with a write-ahead log, and may not create one here. A process that had the database
		// open would have created it. So nobody has it open, and it can be read as immutable.
		err = copyDatabase(ctx, path, url.Values{"immutable": {"1"}}, f.Name(), c.Progress)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if code := codeOf(err) & 0xff; code == sqlite3.SQLITE_FULL || datadir.IsFull(err) {
			return nil, fileError(fmt.Errorf("write %s: the disk is full", c.File), "free some space, or write the backup to another disk")
		}
		return nil, fileError(fmt.Errorf("back up %s: %w", path, text.FileCause(err)), databaseAdvice(err))
	}
	if err := syncFile(f.Name()); err != nil {
		return nil, fileError(fmt.Errorf("sync %s: %w", c.File, text.FileCause(err)), backupAdvice(err))
	}
	report, err := readBackup(ctx, f.Name())
	if err != nil {
		return nil, fileError(fmt.Errorf("read back what was written to %s: %w", c.File, err), "check the disk, or write the backup to another one")
	}
	if err := vacant(c.File); err != nil { // the file may have been created meanwhile
		return nil, err
	}
	if err := os.Rename(f.Name(), c.File); err != nil {
		return nil, fileError(fmt.Errorf("write %s: %w", c.File, text.FileCause(err)), backupAdvice(err))
	}
	return report, datadir.Sync(filepath.Dir(c.File))
}

func noDatabase(dir string) error {
	return fileError(fmt.Errorf("there is no %s in %s", DatabaseName, dir), "name hubhook's data directory with --data DIR; what --database keeps in PostgreSQL is saved with tools of its own, such as pg_dump")
}

// vacant returns an error if the path of a backup is taken.
func vacant(file string) error {
	switch info, err := os.Lstat(file); {
	case err == nil && info.IsDir():
		return fileError(fmt.Errorf("write %s: it is a directory", file), "name a file in it")
	case err == nil:
		return fileError(fmt.Errorf("write %s: there is such a file already", file), "give the backup another name, or move that one away")
	}
	return nil // writing the file meets any other error
}

func backupAdvice(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "make the directory first, or name a file in another one"
	case errors.Is(err, fs.ErrPermission), datadir.IsReadOnly(err):
		return "name a file in a directory where this user may write"
	case datadir.IsFull(err):
		return "free some space, or write the backup to another disk"
	}
	return "check the disk, or write the backup to another one"
}

// copyDatabase copies the database at path into the empty file to. how adds parameters for opening the database.
func copyDatabase(ctx context.Context, path string, how url.Values, to string, progress func(done, total int64)) (err error) {
	how.Set("mode", "ro")
	how["_pragma"] = []string{"busy_timeout(5000)", "cache_size(-2000)"}
	conn, err := (&sqlite.Driver{}).Open((&file{path: path}).dsn(how))
	if err != nil {
		return err
	}
	w := &writer{conn: conn}
	defer func() { err = errors.Join(err, w.close()) }()
	size, err := w.queryRow("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	done := make(chan struct{})
	if progress != nil {
		watching.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					if info, err := os.Stat(to); err == nil {
						progress(min(info.Size(), size[0].(int64)), size[0].(int64))
					}
				}
			}
		})
	}
	vacuum, err := prepare(conn, "VACUUM INTO ?")
	if err == nil {
		w.prepared = append(w.prepared, vacuum)
		err = vacuum.execContext(ctx, to)
	}
	close(done)
	watching.Wait()
	return err
}

// readBackup reports what a backup contains.
func readBackup(ctx context.Context, path string) (_ *BackupReport, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", (&file{path: path}).dsn(url.Values{"mode": {"ro"}, "immutable": {"1"}}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var text []byte
	if err := db.QueryRowContext(ctx, "SELECT value FROM summary").Scan(&text); err != nil {
		return nil, err
	}
	var s summary
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	var newest int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM delivery WHERE id >= ?", s.from()).Scan(&newest); err != nil {
		return nil, err
	}
	return &BackupReport{Deliveries: s.sum() + newest, Bytes: info.Size()}, nil
}
