package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// writeFiles makes files below dir: names are slash-separated, one that ends in a slash is a directory.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIgnoreRules(t *testing.T) {
	repo := t.TempDir()
	writeFiles(t, repo, map[string]string{
		".git/info/exclude":     "excluded.txt\n",
		".gitignore":            "*.log\n/build/\n!keep.log\n# a comment\n\\#odd\ncaf\u00e9\n",
		"app/.gitignore":        "\ufeffout/\r\n*.csv\r\n!/data/*.csv\n",
		"app/.ignore":           "!loud.log\n",
		"app/sub/.gitignore":    "*\n!.gitignore\n!kept.py\n",
		"app/env/pyvenv.cfg":    "home = /usr/bin\n",
		"app/conda/conda-meta/": "",
		"app/state/":            "",
	})
	root := filepath.Join(repo, "app")
	for _, tc := range []struct {
		name          string
		watch, ignore []string
		watched, not  []string // a trailing slash: a directory
	}{
		{
			name: "files and directories",
			watched: []string{
				"app.py", "src/", "src/deep/a.go", "keep.log", "loud.log", "data/a.csv", ".env", "sub/kept.py", "gitignore", "env.py", "build/x",
				"4913.py", "deep/build/",
			},
			not: []string{
				"a.log", "deep/a.log", "excluded.txt", "#odd", "café", "out/", "deep/out/x.py", "a.csv", "other/a.csv", "sub/other.py",
				".git/", ".git/index", "node_modules/", "deep/node_modules/x.js", "__pycache__/", "env/", "env/lib/x.py", "conda/x.py", "state/", "state/hubhook.db",
				"app.py~", ".app.py.swp", ".app.py.swpx", ".#app.py", "#app.py#", "deep/4913", "x.pyc", ".idea/", "app.py___jb_tmp___",
			},
		},
		{
			name:    "own patterns are stronger",
			ignore:  []string{"*.md", "!a.log", "/gen/", "**/x/*.py"},
			watched: []string{"app.py", "a.log", "deep/gen/", "y/a.py"},
			not:     []string{"README.md", "docs/a.md", "gen/", "gen/a.py", "deep/x/a.py"},
		},
		{
			name:    "only these files",
			watch:   []string{"*.py", "/secret.log", "conf/**"},
			ignore:  []string{"not.py"},
			watched: []string{"app.py", "deep/a.py", "secret.log", "conf/a/b.yaml", "deep/"},
			not:     []string{"a.txt", "deep/secret.log", "not.py", "env/a.py", "app.py~"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules, err := newIgnoreRules(root, tc.watch, tc.ignore, []string{filepath.Join(root, "state")})
			if err != nil {
				t.Fatal(err)
			}
			if err := rules.enter("sub"); err != nil {
				t.Fatal(err)
			}
			for _, path := range tc.watched {
				if rules.ignoresBelow(strings.TrimSuffix(path, "/"), strings.HasSuffix(path, "/")) {
					t.Errorf("%s is not watched", path)
				}
			}
			for _, path := range tc.not {
				if !rules.ignoresBelow(strings.TrimSuffix(path, "/"), strings.HasSuffix(path, "/")) {
					t.Errorf("%s is watched", path)
				}
			}
		})
	}
}

// Whoever works in a directory that git ignores means what is in it.
func TestIgnoreRulesInIgnoredDirectory(t *testing.T) {
	repo := t.TempDir()
	writeFiles(t, repo, map[string]string{".git/HEAD": "", ".gitignore": "/scratch/\n*.py\n", "scratch/app/.gitignore": "*.log\n"})
	rules, err := newIgnoreRules(filepath.Join(repo, "scratch", "app"), nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rules.ignores("app.py", false) || !rules.ignores("x.log", false) {
		t.Error("the rules above hold, or its own do not")
	}
}

func TestIgnoreRulesRefused(t *testing.T) {
	for _, glob := range []string{"", "!", "/", "a[", "x/[a-", "[]"} {
		for _, flag := range []string{"--watch-files", "--ignore"} {
			var watch, ignore []string
			if flag == "--ignore" {
				ignore = []string{glob}
			} else {
				watch = []string{glob}
			}
			_, err := newIgnoreRules(t.TempDir(), watch, ignore, nil)
			if err == nil || !strings.HasPrefix(err.Error(), flag+" "+glob+": ") {
				t.Errorf("%s %q: %v", flag, glob, err)
			}
		}
	}
}

func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGatherer()
		start := time.Now()
		g.add("b")
		time.Sleep(150 * time.Millisecond)
		g.add("a")
		g.add("b")
		<-g.due()
		if took := time.Since(start); took != 350*time.Millisecond {
			t.Errorf("told after %s", took)
		}
		if got := g.take(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("gathered %q", got)
		}

		// One that goes on and on is told all the same.
		start = time.Now()
		for told := false; !told; {
			g.add("log")
			select {
			case <-g.due():
				told = true
			case <-time.After(100 * time.Millisecond):
			}
		}
		if took := time.Since(start); took != gatherMost {
			t.Errorf("told after %s", took)
		}
	})
}

// watching is a Watcher that runs.
type watching struct {
	t    *testing.T
	root string
	end  func()
	*Watcher
}

func watch(t *testing.T, cfg WatchConfig) *watching {
	t.Helper()
	w, err := NewWatcher(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return &watching{t: t, root: cfg.Root, end: end, Watcher: w}
}

// expect waits until all of the files were told, and fails for any other.
func (w *watching) expect(files ...string) {
	w.t.Helper()
	missing := slices.Clone(files)
	for len(missing) > 0 {
		select {
		case c := <-w.Changes():
			for _, file := range c.Files {
				if !slices.Contains(files, file) {
					w.t.Fatalf("told of %q; want %q", c.Files, files)
				}
			}
			missing = slices.DeleteFunc(missing, func(file string) bool { return slices.Contains(c.Files, file) })
		case <-time.After(20 * time.Second):
			w.t.Fatalf("not told of %q", missing)
		}
	}
}

func (w *watching) write(name, text string) {
	w.t.Helper()
	writeFiles(w.t, w.root, map[string]string{name: text})
}

func (w *watching) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(filepath.Join(w.root, from), filepath.Join(w.root, to)); err != nil {
		w.t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for _, polled := range []bool{false, true} {
		t.Run(fmt.Sprintf("polled=%t", polled), func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			writeFiles(t, root, map[string]string{
				"app.py": "1", "lib/a.py": "1", "lib/deep/b.py": "1", "same.py": "1", ".gitignore": "*.log\n", "x.log": "1", "venv/pyvenv.cfg": "", "state/hubhook.db": "1", "printed.txt": "1", "hubhook.yaml": "1",
			})
			printed, err := os.Stat(filepath.Join(root, "printed.txt"))
			if err != nil {
				t.Fatal(err)
			}
			cfg := WatchConfig{Root: root, Own: []string{filepath.Join(root, "state"), filepath.Join(root, "hubhook.yaml")}, Outputs: []os.FileInfo{printed}}
			if polled {
				cfg.add = func(string) error { return syscall.ENOSPC }
				cfg.pollEvery = 20 * time.Millisecond
			}
			w := watch(t, cfg)
			select {
			case notice := <-w.Notices():
				if !polled || runtime.GOOS == "linux" && !strings.Contains(notice.Fix, "fs.inotify.max_user_watches") {
					t.Errorf("notice %+v", notice)
				}
			default:
				if polled {
					t.Error("nothing was said")
				}
			}
			if n := w.Watched(); n != 6 {
				t.Errorf("%d files are watched", n)
			}

			// What is not ours to tell comes before each change that is.
			quiet := func() {
				w.write("x.log", time.Now().String())
				w.write("state/hubhook.db", time.Now().String())
				w.write("hubhook.yaml", time.Now().String())
				w.write("printed.txt", time.Now().String())
				w.write("venv/lib/site.py", time.Now().String())
				w.write("__pycache__/app.pyc", time.Now().String())
				w.write(".app.py.swp", time.Now().String())
				w.write("same.py", "1")
			}
			quiet()
			w.write("app.py", "2")
			w.expect("app.py")
			quiet()
			w.write("app.py", "3") // as long as before, in place
			w.write("lib/deep/b.py", "22")
			w.expect("app.py", "lib/deep/b.py")
			quiet()
			w.write("new/dir/c.py", "1")
			w.expect("new/dir/c.py")
			w.write("new/dir/c.py", "2")
			w.expect("new/dir/c.py")
			quiet()
			w.write("app.py.new", "4") // saved by way of another file
			w.rename("app.py.new", "app.py")
			w.expect("app.py")
			quiet()
			if err := os.Remove(filepath.Join(root, "lib", "a.py")); err != nil {
				t.Fatal(err)
			}
			w.expect("lib/a.py")
			quiet()
			w.rename("new", "old")
			w.expect("new/dir/c.py", "old/dir/c.py")
			w.write("old/dir/c.py", "3")
			w.expect("old/dir/c.py")
			quiet()
			if err := os.RemoveAll(filepath.Join(root, "old")); err != nil {
				t.Fatal(err)
			}
			w.expect("old/dir/c.py")
			w.write("old/dir/c.py", "4")
			w.expect("old/dir/c.py")

			// An edited ignore file holds at once.
			w.write(".gitignore", "*.log\nlib/\n")
			w.expect(".gitignore")
			w.write("lib/deep/b.py", "4")
			w.write("app.py", "5")
			w.expect("app.py")
			w.write(".gitignore", "")
			w.expect(".gitignore")
			w.write("x.log", "loud")
			w.expect("x.log")
			w.write("lib/deep/b.py", "5")
			w.expect("lib/deep/b.py")
		})
	}
}

// A virtual environment shows late what it is: its directory comes before the file that tells.
func TestWatchLateVirtualEnvironment(t *testing.T) {
	root := t.TempDir()
	w, err := NewWatcher(t.Context(), WatchConfig{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	writeFiles(t, root, map[string]string{"env/lib/site.py": "1", "app.py": "1"})
	g := newGatherer()
	g.add("app.py")
	w.discover(t.Context(), "env", g)
	writeFiles(t, root, map[string]string{"env/pyvenv.cfg": ""})
	if got := g.take(); !slices.Equal(got, []string{"app.py", "env/lib/site.py"}) {
		t.Fatalf("noted %q", got)
	} else if changed := w.changed(t.Context(), got); !slices.Equal(changed, []string{"app.py"}) {
		t.Errorf("told of %q", changed)
	}
	if w.isWatchedDir("env") || w.isWatchedDir("env/lib") || w.Watched() != 1 {
		t.Errorf("%d files are watched", w.Watched())
	}
}

// Where the system refuses a directory that comes later, that is said too, and its files are looked at all the same.
func TestWatchRefusedLater(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	added := 0
	w := watch(t, WatchConfig{Root: root, pollEvery: 20 * time.Millisecond, add: func(path string) error {
		if added++; added > 1 {
			return syscall.ENOSPC
		}
		return nil
	}})
	if err := w.system.Add(root); err != nil {
		t.Fatal(err)
	}
	w.write("new/a.py", "1")
	w.expect("new/a.py")
	if notice := <-w.Notices(); !strings.Contains(notice.Cause, "cannot watch") {
		t.Errorf("notice %+v", notice)
	}
	w.write("new/a.py", "2")
	w.expect("new/a.py")
	// The watches that the system has granted are another program's to have.
	w.end()
	if w.system != nil {
		t.Error("it keeps the watches")
	}
}

// Very many directories are worth a word, and too many are not watched: those nearest to the program are.
func TestWatchManyDirectories(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"app.py": "1", "src/lib.py": "1"})
	for i := range 20 {
		writeFiles(t, root, map[string]string{fmt.Sprintf("data/%02d/deep/x.csv", i): "1"})
	}
	for name, tc := range map[string]struct {
		most       int
		cause, fix string
		deep       bool
	}{
		"many":     {0, "43 directories below " + root + " are watched, most of them in data (41): an edit", "--ignore data/", true},
		"too many": {23, "there are more than 23 directories below " + root + ", most of them in data (21): deeper ones are not watched", "--ignore data/", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := NewWatcher(t.Context(), WatchConfig{Root: root, manyDirs: 40, mostDirs: tc.most})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			w.warnOfMany() // once
			if len(w.Notices()) != 1 {
				t.Fatalf("%d notices", len(w.Notices()))
			}
			if notice := <-w.Notices(); !strings.Contains(notice.Cause, tc.cause) || !strings.Contains(notice.Fix, tc.fix) {
				t.Errorf("notice %+v", notice)
			}
			if w.isWatchedDir("data/00/deep") != tc.deep || !w.isWatchedDir("src") || !w.isWatchedDir("data/19") {
				t.Errorf("other directories are watched: %d", len(w.dirs))
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewWatcher(ctx, WatchConfig{Root: root}); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on looking: %v", err)
	}
}

// Changes that nobody has received yet are one change.
func TestWatchUnreceived(t *testing.T) {
	w, err := NewWatcher(t.Context(), WatchConfig{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.tell([]string{"b", "a"})
	w.tell(nil)
	w.tell([]string{"a", "c"})
	if c := <-w.Changes(); !slices.Equal(c.Files, []string{"a", "b", "c"}) {
		t.Errorf("told of %q", c.Files)
	}
}

func TestWatchManyFiles(t *testing.T) {
	root := t.TempDir()
	const files = 10_000
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("package%03d", i/100))
		if i%100 == 0 {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("module%05d.py", i)), fmt.Appendf(nil, "x = %d\n", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	start := time.Now()
	w := watch(t, WatchConfig{Root: root})
	took := time.Since(start)
	used := heap() - before
	if n := w.Watched(); n != files {
		t.Errorf("%d files are watched", n)
	}
	if used > 4<<20 {
		t.Errorf("%d bytes are held for %d files", used, files)
	}
	t.Logf("%d bytes held for %d files, all read in %s", used, files, took)
	w.write("package007/module00700.py", "x = 0\n")
	w.expect("package007/module00700.py")
}
