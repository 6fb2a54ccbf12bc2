package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	gatherQuiet = 200 * time.Millisecond // changes are told once nothing has changed for so long
	gatherMost  = 2 * time.Second        // and no later than so long after the first
	pollEvery   = 2 * time.Second        // where the system tells of no changes

	// Files are hashed at the start up to both of these. The first time that another one is written counts as a change.
	hashFile  = 1 << 20
	hashTotal = 64 << 20

	// pollShare is how much longer than one look at everything the pause after it is. So looks take at most a tenth of one core's time.
	pollShare = 10

	// From manyDirs directories on, hubhook warns; no more than mostDirs are watched. Hardly any program has so many, but home directories
	// do.
	manyDirs = 5_000
	mostDirs = 20_000

	// hashChanged bounds what is hashed of a file that has been written, for one that is written often.
	hashChanged = 16 << 20
)

// WatchConfig says which files are watched.
type WatchConfig struct {
	Root   string   // this directory and all below it; "" is the working directory
	Files  []string // patterns as .gitignore has them: watch only these, ignored ones too; none watches all
	Ignore []string // patterns of files and directories that are not watched
	Own    []string // hubhook's own directories and files, which never count

	Outputs []fs.FileInfo // of files that hubhook itself prints to, and that never count

	add       func(path string) error // in tests, in place of the system's watch for a directory
	pollEvery time.Duration           // in tests

	manyDirs, mostDirs int // in tests
}

// A Change is what was edited since the one before: files whose content is new or gone.
type Change struct {
	Files []string // relative to the watched directory, with slashes, sorted
}

// A Watcher tells when the files below a directory change. It watches directories, so it needs no more of the system for 10,000 files in
// one directory than for one.
type Watcher struct {
	cfg     WatchConfig
	rules   *ignoreRules
	system  *fsnotify.Watcher // nil while files are polled
	changes chan Change
	seed    maphash.Seed
	dirs    map[string]map[string]seen // by directory, then by name
	hashed  int64                      // bytes, at the start
	polls   bool                       // the system has refused to watch
	many    bool                       // that there are many directories was said
	cut     bool                       // there are too many: some are not watched
	notices chan Advice
}

// seen is how a file was when it was last looked at.
type seen struct {
	size, modified int64
	sum            uint64 // of the content; 0 while it has not been read
}

// NewWatcher looks at all files once, unless ctx ends before. What changes after it has returned is told. A pattern that can't be read is a
// *PatternError.
func NewWatcher(ctx context.Context, cfg WatchConfig) (*Watcher, error) {
	root, err := filepath.Abs(cfg.Root)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	cfg.Root = root
	cfg.pollEvery = cmp.Or(cfg.pollEvery, pollEvery)
	cfg.manyDirs, cfg.mostDirs = cmp.Or(cfg.manyDirs, manyDirs), cmp.Or(cfg.mostDirs, mostDirs)
	if cfg.Own, err = ownPaths(cfg.Own); err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	rules, err := newIgnoreRules(root, cfg.Files, cfg.Ignore, cfg.Own)
	if err != nil {
		return nil, err
	}
	w := &Watcher{cfg: cfg, rules: rules, changes: make(chan Change, 1), notices: make(chan Advice, 2), seed: maphash.MakeSeed(), dirs: make(map[string]map[string]seen)}
	if w.system, err = fsnotify.NewBufferedWatcher(1024); err != nil {
		w.poll(err)
	}
	if w.cfg.add == nil && w.system != nil {
		w.cfg.add = w.system.Add
	}
	err = w.enter(ctx, ".", func(rel string, info fs.FileInfo) {
		hash := info.Size() <= hashFile && w.hashed < hashTotal
		if hash {
			w.hashed += info.Size()
		}
		w.remember(rel, w.look(rel, info, hash))
	})
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return w, nil
}

// ownPaths returns the absolute paths at which a watch below a directory without symbolic links meets these. The last element may be a link.
func ownPaths(own []string) (paths []string, err error) {
	for _, path := range own {
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		paths = append(paths, path)
		if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
			paths = append(paths, real)
		}
	}
	return paths, nil
}

// Changes has what was edited. Later edits are added to a Change until it is received.
func (w *Watcher) Changes() <-chan Change { return w.changes }

// Watched counts the files whose changes are told.
func (w *Watcher) Watched() int {
	n := 0
	for _, files := range w.dirs {
		n += len(files)
	}
	return n
}

// Close ends the watch; Run does so too.
func (w *Watcher) Close() error {
	if w.system == nil {
		return nil
	}
	return w.system.Close()
}

// Run tells of changes until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.Close()
	var events chan fsnotify.Event
	var failures chan error
	if w.system != nil {
		events, failures = w.system.Events, w.system.Errors
	}
	poll := time.NewTicker(w.cfg.pollEvery)
	defer poll.Stop()
	if !w.polls {
		poll.Stop() // until a directory comes that the system refuses to watch
	}
	g := newGatherer()
	for {
		if w.polls && events != nil {
			events, failures = nil, nil
			poll.Reset(w.cfg.pollEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-events:
			if !ok {
				return errors.New("watch files: the system's watch ended")
			}
			w.hear(ctx, event, g)
		case <-failures:
			// Events were lost, or one could not be read: only another look at everything shows what changed.
			w.rescan(ctx, g)
		case <-poll.C:
			began := time.Now()
			w.rescan(ctx, g)
			poll.Reset(max(w.cfg.pollEvery, pollShare*time.Since(began)))
		case <-g.due():
			w.tell(w.changed(ctx, g.take()))
		}
	}
}

// hear notes what an event of the system is about.
func (w *Watcher) hear(ctx context.Context, event fsnotify.Event, g *gatherer) {
	if !event.Has(fsnotify.Create | fsnotify.Write | fsnotify.Remove | fsnotify.Rename) {
		return // only its mode, owner or times
	}
	path, err := filepath.Rel(w.cfg.Root, event.Name)
	if err != nil {
		return
	}
	rel := filepath.ToSlash(path)
	info, err := os.Lstat(event.Name)
	switch {
	case err == nil && info.IsDir():
		if event.Has(fsnotify.Create) && !w.rules.ignoresBelow(rel, true) {
			w.discover(ctx, rel, g)
		}
	case w.isWatchedDir(rel): // removed, or renamed
		w.forget(rel, g)
	case !w.rules.ignoresBelow(rel, false):
		g.add(rel)
	}
}

// discover watches a new directory and notes all that is in it.
func (w *Watcher) discover(ctx context.Context, dir string, g *gatherer) {
	// What can't be read is not watched: it may be gone again.
	_ = w.enter(ctx, dir, func(rel string, _ fs.FileInfo) { g.add(rel) })
}

// isWatchedDir reports whether rel was a directory when it was last looked at.
func (w *Watcher) isWatchedDir(rel string) bool {
	_, ok := w.dirs[rel]
	return ok
}

// forget ends the watch of a directory that is no longer there and of those in it, and notes their files.
func (w *Watcher) forget(dir string, g *gatherer) {
	for _, at := range slices.Collect(maps.Keys(w.dirs)) {
		if at != dir && !strings.HasPrefix(at, dir+"/") {
			continue
		}
		for name := range w.dirs[at] {
			g.add(joinRel(at, name))
		}
		if w.system != nil {
			_ = w.system.Remove(w.full(at)) // the system may have ended it by itself
		}
	}
}

// leave ends the watch of a directory and of all below it, whose files do not count any more.
func (w *Watcher) leave(dir string) {
	for at := range w.dirs {
		if at == dir || strings.HasPrefix(at, dir+"/") {
			delete(w.dirs, at)
			if w.system != nil {
				_ = w.system.Remove(w.full(at)) // the system may have ended it by itself
			}
		}
	}
}

// enter watches dir and all below it, those near to it first, and calls file for each file that counts.
func (w *Watcher) enter(ctx context.Context, dir string, file func(rel string, info fs.FileInfo)) error {
	for next := []string{dir}; len(next) > 0; next = next[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		below, err := w.enterOne(next[0], file)
		if err != nil {
			return err
		}
		next = append(next, below...)
	}
	w.warnOfMany()
	return nil
}

// enterOne watches dir alone, and returns the directories in it.
func (w *Watcher) enterOne(dir string, file func(rel string, info fs.FileInfo)) (below []string, err error) {
	if !w.isWatchedDir(dir) && len(w.dirs) >= w.cfg.mostDirs {
		w.cut = true
		return nil, nil
	}
	if !w.polls {
		// Before the directory is read: what appears in between is told twice, not never.
		if err := w.cfg.add(w.full(dir)); err != nil {
			if isGone(err) && dir != "." {
				return nil, nil
			}
			w.poll(err)
		}
	}
	entries, err := os.ReadDir(w.full(dir))
	if err != nil {
		if dir == "." {
			return nil, err
		}
		return nil, nil // gone again, or not ours to read
	}
	if dir != "." {
		if err := w.rules.enter(dir); err != nil {
			return nil, err
		}
	}
	if w.dirs[dir] == nil {
		w.dirs[dir] = make(map[string]seen)
	}
	for _, entry := range entries {
		rel := joinRel(dir, entry.Name())
		if w.rules.ignores(rel, entry.IsDir()) {
			continue
		}
		if entry.IsDir() {
			below = append(below, rel)
			continue
		}
		// The content that a link leads to counts; a link to a directory is not followed.
		if info, err := os.Stat(w.full(rel)); err == nil && info.Mode().IsRegular() {
			file(rel, info)
		}
	}
	return below, nil
}

// rescan looks at everything and notes what differs.
func (w *Watcher) rescan(ctx context.Context, g *gatherer) {
	note := func(rel string) {
		if !g.has(rel) { // noted by an earlier look, which must not be put off
			g.add(rel)
		}
	}
	found := make(map[string]bool)
	err := w.enter(ctx, ".", func(rel string, info fs.FileInfo) {
		found[rel] = true
		was, known := w.known(rel)
		if !known || was.size != info.Size() || was.modified != info.ModTime().UnixNano() {
			note(rel)
		}
	})
	if err != nil {
		return // it has not looked at everything
	}
	for dir, files := range w.dirs {
		for name := range files {
			if rel := joinRel(dir, name); !found[rel] {
				note(rel)
			}
		}
	}
}

// changed returns those of the files whose content is not what it was, and remembers what it is now.
func (w *Watcher) changed(ctx context.Context, files []string) []string {
	var changed []string
	for _, rel := range files {
		if slices.Contains(ignoreFiles, rel[strings.LastIndexByte(rel, '/')+1:]) {
			w.applyIgnoreFile(ctx, parentDir(rel))
		}
		if dir := w.rules.ignoredAbove(rel); dir != "" {
			w.leave(dir) // since it was entered: a virtual environment shows late what it is
			continue
		}
		was, known := w.known(rel)
		info, err := os.Stat(w.full(rel))
		if err != nil || !info.Mode().IsRegular() {
			if known {
				w.drop(rel)
				changed = append(changed, rel)
			}
			continue
		}
		if slices.ContainsFunc(w.cfg.Outputs, func(output fs.FileInfo) bool { return os.SameFile(output, info) }) {
			continue
		}
		is := w.look(rel, info, true)
		w.remember(rel, is)
		if !known || was.size != is.size || was.sum == 0 || was.sum != is.sum {
			changed = append(changed, rel)
		}
	}
	return changed
}

// applyIgnoreFile reads the rules of dir again. Files that they no longer ignore are remembered as they are.
func (w *Watcher) applyIgnoreFile(ctx context.Context, dir string) {
	if w.rules.enter(dir) != nil {
		return // half written, or gone with its directory: the old rules hold
	}
	for at, files := range w.dirs {
		if at != dir && dir != "." && !strings.HasPrefix(at, dir+"/") {
			continue
		}
		if w.rules.ignoresBelow(at, true) {
			w.leave(at)
			continue
		}
		for name := range files {
			if w.rules.ignores(joinRel(at, name), false) {
				delete(files, name)
			}
		}
	}
	_ = w.enter(ctx, dir, func(rel string, info fs.FileInfo) {
		if _, known := w.known(rel); !known {
			w.remember(rel, w.look(rel, info, info.Size() <= hashFile))
		}
	})
}

// tell hands changes over without waiting for the receiver.
func (w *Watcher) tell(files []string) {
	if len(files) == 0 {
		return
	}
	select {
	case earlier := <-w.changes:
		files = append(files, earlier.Files...)
	default:
	}
	slices.Sort(files)
	w.changes <- Change{Files: slices.Compact(files)} // only we send, so there is room
}

// look reads what a file is now.
func (w *Watcher) look(rel string, info fs.FileInfo, hash bool) seen {
	is := seen{size: info.Size(), modified: info.ModTime().UnixNano()}
	if !hash {
		return is
	}
	f, err := os.Open(w.full(rel))
	if err != nil {
		return is
	}
	defer f.Close()
	var h maphash.Hash
	h.SetSeed(w.seed)
	if _, err := io.Copy(&h, io.LimitReader(f, hashChanged)); err != nil {
		return is
	}
	is.sum = max(h.Sum64(), 1)
	return is
}

func (w *Watcher) known(rel string) (seen, bool) {
	s, ok := w.dirs[parentDir(rel)][rel[strings.LastIndexByte(rel, '/')+1:]]
	return s, ok
}

func (w *Watcher) remember(rel string, s seen) {
	dir := parentDir(rel)
	if w.dirs[dir] == nil {
		w.dirs[dir] = make(map[string]seen)
	}
	w.dirs[dir][rel[strings.LastIndexByte(rel, '/')+1:]] = s
}

// drop forgets a file, and its directory where that is gone too.
func (w *Watcher) drop(rel string) {
	dir := parentDir(rel)
	delete(w.dirs[dir], rel[strings.LastIndexByte(rel, '/')+1:])
	if len(w.dirs[dir]) == 0 && dir != "." {
		if _, err := os.Lstat(w.full(dir)); err != nil {
			delete(w.dirs, dir)
		}
	}
}

func (w *Watcher) full(rel string) string { return filepath.Join(w.cfg.Root, filepath.FromSlash(rel)) }

// isGone reports whether a path was not there, or no directory any more.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// joinRel is path.Join for a directory, "." for the root, and a name in it.
func joinRel(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
