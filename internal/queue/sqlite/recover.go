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
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/queue/sqlite/salvage"
	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/datadir"
	"github.com/hubhook/hubhook/internal/text"
)

// Suffixes of the files that Recover makes beside hubhook.db. The new database is written with RecoveringSuffix. Once it is complete and
// synced, it is renamed to RecoveredSuffix and the time. From then on the next Recover or Open moves it to hubhook.db. The damaged database
// is kept with DamagedSuffix and the same time.
const (
	RecoveringSuffix = ".recovering"
	RecoveredSuffix  = ".recovered-"
	DamagedSuffix    = ".damaged-"
)

// besideDatabase are the suffixes of the files of a database.
var besideDatabase = []string{"-wal", "-shm", ""}

// RecoverConfig configures Recover.
type RecoverConfig struct {
	// Dir is the data directory.
	Dir string
	// Progress is called with how many pages were read, of how many. Default: it is not called.
	Progress func(done, total int)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Recovery reports what Recover found and did.
type Recovery struct {
	// Sound is true if nothing is damaged. Recover has changed nothing then, and the fields after Unfinished are empty.
	Sound      bool
	Database   string // path of hubhook.db
	Deliveries int    // in it
	Unfinished int    // those of them that run at the next start

	Kept         string   // path of the damaged file; its log and shared memory are kept as -wal and -shm of the same name
	BadPages     int      // damaged pages of that file, as far as Recover can tell
	LostContent  []string // IDs of deliveries that have lost headers and body
	Died         []string // IDs of those of LostContent that were unfinished, and are dead now
	LostAttempts []string // IDs of deliveries that have lost attempts
	Rebuilt      []string // IDs of deliveries whose record was lost, and was made again from content, attempts and indexes
	Renamed      []string // new names of endpoints whose name was lost
	Vanished     int      // deliveries of which nothing is left, by the stored counts; after an unclean end these may miss the last few
}

// Recover reads all that it can of a damaged database, and makes a new one from that. It keeps the damaged file beside the new one. No
// process may have the queue open; otherwise the error is a *LockedError. If Recover is killed, either the damaged file is still in place,
// or the next Recover or Open completes the work.
func Recover(ctx context.Context, c RecoverConfig) (*Recovery, error) {
	if c.Progress == nil {
		c.Progress = func(int, int) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	path := filepath.Join(c.Dir, DatabaseName)
	if err := anyDatabase(c.Dir); err != nil {
		return nil, err
	}
	lock, err := datadir.Lock(c.Dir)
	if err != nil {
		return nil, err
	}
	r, err := recoverDatabase(ctx, path, c)
	if err != nil {
		err = fmt.Errorf("recover %s: %w", path, err)
	}
	return r, errors.Join(err, lock.Close())
}

// anyDatabase returns an error if dir has no database. Recover asks before it locks dir, so that it creates no file in a wrong one.
func anyDatabase(dir string) error {
	found, err := filepath.Glob(filepath.Join(escapeGlob(dir), DatabaseName+"*"))
	if err == nil && len(found) > 0 {
		return nil
	}
	return noDatabase(dir)
}

// escapeGlob returns a pattern that matches only path.
func escapeGlob(path string) string {
	return strings.NewReplacer(`*`, `[*]`, `?`, `[?]`, `[`, `[[]`).Replace(path)
}

func recoverDatabase(ctx context.Context, path string, c RecoverConfig) (*Recovery, error) {
	if err := finishRecovery(path); err != nil {
		return nil, err
	}
	pages, err := salvage.Open(path)
	if err != nil {
		return nil, fileError(text.FileCause(err), datadir.Advice(err))
	}
	r, made, err := rescueDatabase(ctx, path, pages, c)
	if err := errors.Join(err, pages.Close()); err != nil || r.Sound {
		return r, err
	}
	stamp := c.Now().UTC().Format("20060102T150405Z")
	r.Kept = path + DamagedSuffix + stamp
	if err := os.Rename(made, path+RecoveredSuffix+stamp); err != nil {
		return nil, err
	}
	if err := datadir.Sync(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := finishRecovery(path); err != nil {
		return nil, err
	}
	return r, nil
}

// finishRecovery moves a recovered database to path, if one is left beside it. It first moves the damaged files away.
func finishRecovery(path string) error {
	found, err := filepath.Glob(escapeGlob(path+RecoveredSuffix) + "*")
	if err != nil || len(found) == 0 {
		return err
	}
	recovered := found[0]
	kept := path + DamagedSuffix + strings.TrimPrefix(recovered, path+RecoveredSuffix)
	// The log goes first, because SQLite must never apply it to the new database.
	for _, end := range besideDatabase {
		if err := os.Rename(path+end, kept+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the damaged %s: %w", path+end, text.FileCause(err))
		}
	}
	if err := datadir.Sync(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Rename(recovered, path); err != nil {
		return err
	}
	return datadir.Sync(filepath.Dir(path))
}

// rescueDatabase writes what it can read of pages into a new database, whose path it returns in made. If the database at path is sound, it
// writes none.
func rescueDatabase(ctx context.Context, path string, pages *salvage.File, c RecoverConfig) (r *Recovery, made string, err error) {
	if v := pages.UserVersion(); v > len(migrations) {
		err := &newerSchemaError{have: v, know: len(migrations)}
		return nil, "", fileError(err, databaseAdvice(err))
	}
	if !pages.LogDamaged {
		if r, err := inspect(ctx, path); err == nil {
			return r, "", nil
		} else if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
	}
	recovering := path + RecoveringSuffix
	remove := func() error {
		for _, end := range besideDatabase {
			if err := os.Remove(recovering + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	if err := remove(); err != nil { // a killed Recover may have left these files
		return nil, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(rescueError(err), remove())
		}
	}()
	s, err := newRescue(recovering, pages)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		err = errors.Join(err, s.close())
		if err == nil {
			err = syncFile(recovering)
		}
	}()
	if err := s.read(ctx, c.Progress); err != nil {
		return nil, "", err
	}
	r, err = s.finish(c.Now())
	if err != nil {
		return nil, "", err
	}
	r.Database = path
	return r, recovering, nil
}

// rescueError adds a hint to an error of writing the new database.
func rescueError(err error) error {
	if text.Hint(err) != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return fileError(err, databaseAdvice(err))
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// inspect reads the whole database with SQLite. Its error says what is damaged.
func inspect(ctx context.Context, path string) (_ *Recovery, err error) {
	query := url.Values{"mode": {"ro"}, "_pragma": {"query_only(1)"}}
	if log, err := os.Stat(path + "-wal"); err != nil || log.Size() == 0 {
		query.Set("immutable", "1") // SQLite then creates no files beside it
	}
	_, noShared := os.Stat(path + "-shm")
	db, err := sql.Open("sqlite", (&file{path: path}).dsn(query))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	defer func() {
		err = errors.Join(err, db.Close())
		if noShared != nil {
			os.Remove(path + "-shm") // SQLite created it for this connection, and creates it again for the next one
		}
	}()
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&found); err != nil {
		return nil, err
	}
	if found != "ok" {
		return nil, errors.New(found)
	}
	var text []byte
	if err := db.QueryRowContext(ctx, "SELECT value FROM summary").Scan(&text); err != nil {
		return nil, err
	}
	var kept summary
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, err
	}
	counts, err := countRows(ctx, db, 0)
	if err != nil {
		return nil, err
	}
	newest, err := countRows(ctx, db, kept.from())
	if err != nil {
		return nil, err
	}
	for endpoint, n := range newest {
		if kept.Counts[endpoint] == nil {
			kept.Counts[endpoint] = new([store.StateCount]int64)
		}
		for state := range n {
			kept.Counts[endpoint][state] += n[state]
		}
	}
	r := &Recovery{Sound: true, Database: path}
	for endpoint, n := range kept.Counts {
		if counts[endpoint] == nil {
			counts[endpoint] = new([store.StateCount]int64)
		}
		if *n != *counts[endpoint] {
			return nil, errors.New("the stored counts differ from those of the rows")
		}
		r.count(n)
	}
	if len(counts) > len(kept.Counts) {
		return nil, errors.New("the stored counts lack an endpoint")
	}
	rows, err := db.QueryContext(ctx, "SELECT header, body, encoding FROM content")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var header, body sql.RawBytes
		var encoding int64
		if err := rows.Scan(&header, &body, &encoding); err != nil {
			return nil, err
		}
		if err := checkContent(header, body, encoding); err != nil {
			return nil, err
		}
	}
	return r, rows.Err()
}

func (r *Recovery) count(states *[store.StateCount]int64) {
	for state, n := range states {
		r.Deliveries += int(n)
		if state < store.StateDone {
			r.Unfinished += int(n)
		}
	}
}

// querier is the part of *sql.DB that countRows needs.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// countRows counts the deliveries with at least the key from, by endpoint and state.
func countRows(ctx context.Context, db querier, from int64) (map[int64]*[store.StateCount]int64, error) {
	counts := map[int64]*[store.StateCount]int64{}
	rows, err := db.QueryContext(ctx, "SELECT endpoint, state, count(*) FROM delivery WHERE id >= ? GROUP BY 1, 2", from)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var endpoint, state, n int64
		if err := rows.Scan(&endpoint, &state, &n); err != nil {
			return nil, err
		}
		if state < 0 || state >= store.StateCount {
			return nil, fmt.Errorf("there is no state %d", state)
		}
		if counts[endpoint] == nil {
			counts[endpoint] = new([store.StateCount]int64)
		}
		counts[endpoint][state] = n
	}
	return counts, rows.Err()
}
