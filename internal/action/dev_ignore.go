package action

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// ignoreFiles are read in each watched directory, the strongest last.
var ignoreFiles = []string{".gitignore", ".ignore"}

// maxIgnoreFile bounds how much of one ignore file is read, in bytes.
const maxIgnoreFile = 1 << 20

// Directories and files that never are a program's code. A virtual environment is known by what is in it, not by its name.
var (
	ignoredDirs  = []string{".git", ".hg", ".svn", "node_modules", "__pycache__", ".idea", ".vscode"}
	ignoredFiles = []string{
		"*.pyc", ".DS_Store",
		"*~", ".*.sw?", ".*.sw??", "4913", // Vim; it makes 4913 to see whether a directory can be written
		".#*", "#*#", "flycheck_*", // Emacs
		"*___jb_tmp___", "*___jb_old___", // JetBrains
		".goutputstream-*", ".*.kate-swp",
	}
)

// ignoreRules tell which files below root are watched. Paths are relative to root, with slashes; "." is root itself.
type ignoreRules struct {
	root   string
	prefix []string            // of root in its git repository; patterns match from the repository's top
	extra  []gitignore.Pattern // --ignore: stronger than any file
	only   []gitignore.Pattern // --watch-files: these files and no others
	own    []string            // absolute paths of hubhook's own
	// dirs has the directories with ignore files of their own, and root always: the patterns that hold there, the strongest last.
	dirs map[string][]gitignore.Pattern
}

// PatternError is a pattern of WatchConfig that can't be read.
type PatternError struct {
	flag string // with its value
	err  error
}

func (e *PatternError) Error() string { return e.flag + ": " + e.err.Error() }
func (e *PatternError) Unwrap() error { return e.err }

// newIgnoreRules reads the ignore files that hold in root: its own, and those above it up to the top of its git repository.
func newIgnoreRules(root string, watch, ignore, own []string) (*ignoreRules, error) {
	r := &ignoreRules{root: root, own: own, dirs: make(map[string][]gitignore.Pattern)}
	top := repositoryOf(root)
	if rel, err := filepath.Rel(top, root); err == nil && rel != "." {
		r.prefix = strings.Split(filepath.ToSlash(rel), "/")
	}
	for _, glob := range ignore {
		p, err := parseGlob(glob, r.prefix)
		if err != nil {
			return nil, &PatternError{"--ignore " + glob, err}
		}
		r.extra = append(r.extra, p)
	}
	for _, glob := range watch {
		p, err := parseGlob(glob, r.prefix)
		if err != nil {
			return nil, &PatternError{"--watch-files " + glob, err}
		}
		r.only = append(r.only, p)
	}
	patterns, err := readPatterns(filepath.Join(top, ".git", "info", "exclude"), nil)
	if err != nil {
		return nil, err
	}
	dir := top
	for i := range r.prefix {
		if patterns, err = appendIgnoreFiles(patterns, dir, r.prefix[:i]); err != nil {
			return nil, err
		}
		dir = filepath.Join(dir, r.prefix[i])
	}
	for i := range r.prefix {
		if ignored, _ := match(patterns, r.prefix[:i+1], true); ignored {
			patterns = nil // who works in an ignored directory means what is in it
			break
		}
	}
	if patterns, err = appendIgnoreFiles(patterns, dir, r.prefix); err != nil {
		return nil, err
	}
	r.dirs["."] = patterns
	return r, nil
}

// repositoryOf returns the nearest directory at or above dir that has a .git, and dir itself where there is none.
func repositoryOf(dir string) string {
	for at := dir; ; {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return at
		}
		up := filepath.Dir(at)
		if up == at {
			return dir
		}
		at = up
	}
}

// parseGlob reads one pattern as .gitignore has them. A broken one would match nothing without a word, so it is an error.
func parseGlob(glob string, domain []string) (gitignore.Pattern, error) {
	trimmed := strings.TrimPrefix(glob, "!")
	if strings.Trim(trimmed, "/ ") == "" {
		return nil, errors.New("it names no file")
	}
	for name := range strings.SplitSeq(trimmed, "/") {
		if _, err := filepath.Match(name, ""); err != nil {
			return nil, fmt.Errorf("%q is no pattern: a [ without ], or a lone \\", name)
		}
	}
	return gitignore.ParsePattern(glob, domain), nil
}

// enter reads the ignore files of dir, whose rules then hold in it and below. It is called again when one of them changes.
func (r *ignoreRules) enter(dir string) error {
	if dir == "." {
		fresh, err := newIgnoreRules(r.root, nil, nil, nil)
		if err != nil {
			return err
		}
		r.dirs["."] = fresh.dirs["."]
		return nil
	}
	above := r.patternsIn(parentDir(dir))
	patterns, err := appendIgnoreFiles(slices.Clip(above), filepath.Join(r.root, filepath.FromSlash(dir)), r.fromTop(dir))
	if err != nil {
		return err
	}
	if len(patterns) > len(above) {
		r.dirs[dir] = patterns
	} else {
		delete(r.dirs, dir)
	}
	return nil
}

// patternsIn returns the patterns that hold in dir.
func (r *ignoreRules) patternsIn(dir string) []gitignore.Pattern {
	for {
		if patterns, ok := r.dirs[dir]; ok {
			return patterns
		}
		dir = parentDir(dir)
	}
}

// ignores reports whether the file or directory is not watched, for a path whose directory is watched.
func (r *ignoreRules) ignores(rel string, isDir bool) bool {
	if rel == "." {
		return false
	}
	if r.isOwn(rel) || isDir && r.isEnvironment(rel) {
		return true
	}
	name := rel[strings.LastIndexByte(rel, '/')+1:]
	if isDir && slices.Contains(ignoredDirs, name) || !isDir && matchesAny(ignoredFiles, name) {
		return true
	}
	at := r.fromTop(rel)
	if ignored, decided := match(r.extra, at, isDir); decided {
		return ignored
	}
	if !isDir && len(r.only) > 0 {
		named, _ := match(r.only, at, false)
		return !named
	}
	ignored, _ := match(r.patternsIn(parentDir(rel)), at, isDir)
	return ignored
}

// ignoresBelow is ignores for a path whose directories may be ignored too.
func (r *ignoreRules) ignoresBelow(rel string, isDir bool) bool {
	return r.ignoredAbove(rel) != "" || r.ignores(rel, isDir)
}

// ignoredAbove returns the topmost directory above a path that is ignored, "" for none.
func (r *ignoreRules) ignoredAbove(rel string) string {
	for i, c := range rel {
		if c == '/' && r.ignores(rel[:i], true) {
			return rel[:i]
		}
	}
	return ""
}

// isOwn reports whether rel is one of hubhook's own directories or files.
func (r *ignoreRules) isOwn(rel string) bool {
	return len(r.own) > 0 && slices.Contains(r.own, filepath.Join(r.root, filepath.FromSlash(rel)))
}

// isEnvironment reports whether dir holds a virtual environment.
func (r *ignoreRules) isEnvironment(dir string) bool {
	full := filepath.Join(r.root, filepath.FromSlash(dir))
	for _, sign := range []string{"pyvenv.cfg", "conda-meta"} {
		if _, err := os.Lstat(filepath.Join(full, sign)); err == nil {
			return true
		}
	}
	return false
}

// fromTop returns the elements of a path from the top of the repository.
func (r *ignoreRules) fromTop(rel string) []string {
	if rel == "." {
		return r.prefix
	}
	return append(slices.Clip(r.prefix), strings.Split(rel, "/")...)
}

// match returns what the strongest pattern that knows path says. Decided is false where none does.
func match(patterns []gitignore.Pattern, path []string, isDir bool) (ignored, decided bool) {
	for _, p := range slices.Backward(patterns) {
		switch p.Match(path, isDir) {
		case gitignore.Exclude:
			return true, true
		case gitignore.Include:
			return false, true
		}
	}
	return false, false
}

func matchesAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := filepath.Match(glob, name) // the globs are ours, and well formed
		return ok
	})
}

func appendIgnoreFiles(patterns []gitignore.Pattern, dir string, domain []string) ([]gitignore.Pattern, error) {
	for _, name := range ignoreFiles {
		more, err := readPatterns(filepath.Join(dir, name), domain)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, more...)
	}
	return patterns, nil
}

// readPatterns reads an ignore file; one that is not there has no patterns.
func readPatterns(file string, domain []string) ([]gitignore.Pattern, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ignore rules: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile))
	if err != nil {
		return nil, fmt.Errorf("read ignore rules: %w", err)
	}
	var patterns []gitignore.Pattern
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		line := strings.TrimRight(string(line), "\r\n")
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, gitignore.ParsePattern(line, domain))
		}
	}
	return patterns, nil
}

// parentDir is path.Dir without cleaning what is clean.
func parentDir(rel string) string {
	i := strings.LastIndexByte(rel, '/')
	if i < 0 {
		return "."
	}
	return rel[:i]
}
