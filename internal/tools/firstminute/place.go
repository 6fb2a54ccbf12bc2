package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A place is where one kind is installed: nothing that it does reaches beyond the place.
type place struct {
	dir  string // removed at the end
	dist string // with the packages
	cold bool
	size string // of what was downloaded
}

// root is what is compared before the installation and after the removal.
func (p *place) root() string { return filepath.Join(p.dir, "root") }

// home is the home directory and the working directory of all programs. What hubhook stores there is the user's, and no package's.
func (p *place) home() string { return filepath.Join(p.dir, "home") }

func (p *place) make() error {
	for _, dir := range []string{p.root(), p.home()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// packed returns the only file in dist that matches pattern, and notes its size.
func (p *place) packed(pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(p.dist, pattern))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("look for %s in %s: %d files match; run make release", pattern, p.dist, len(found))
	}
	info, err := os.Stat(found[0])
	if err != nil {
		return "", err
	}
	p.size = fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)
	return found[0], nil
}

// command prepares a program with nothing of this machine's settings but where programs are and how registries are reached.
func (p *place) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.home()
	cmd.Env = []string{"HOME=" + p.home(), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "PYTHONDONTWRITEBYTECODE=1", "LC_ALL=C.UTF-8"}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case name == "PIP_NO_INDEX" || name == "PIP_REQUIRE_VIRTUALENV":
		case strings.HasPrefix(name, "PIP_"), strings.HasPrefix(name, "UV_"), strings.HasPrefix(name, "SSL_"), strings.HasSuffix(strings.ToLower(name), "_proxy"):
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// do runs a program, and returns its output with the error if it fails.
func (p *place) do(ctx context.Context, name string, args ...string) error {
	return finish(p.command(ctx, name, args...))
}

func finish(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// files returns all files below the root. Directories count where they are named after hubhook; others may be shared with other packages.
func (p *place) files() (map[string]bool, error) {
	found := make(map[string]bool)
	err := filepath.WalkDir(p.root(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && (!d.IsDir() || strings.Contains(d.Name(), "hubhook")) {
			found[strings.TrimPrefix(path, p.root())] = true
		}
		return err
	})
	return found, err
}

// kept names what dpkg and rpm write about any package, useradd about any user, and uv about its cache.
func kept(file string) bool {
	return strings.HasPrefix(file, "/var/lib/dpkg/") || strings.HasPrefix(file, "/var/lib/rpm/") || strings.HasPrefix(file, "/var/log/") ||
		file == "/etc/.pwd.lock" || file == "/.lock" || strings.HasPrefix(file, "/etc/") && strings.HasSuffix(file, "-")
}

// added returns the files that are in after alone.
func added(before, after map[string]bool) []string {
	var left []string
	for _, file := range slices.Sorted(maps.Keys(after)) {
		if !before[file] && !kept(file) {
			left = append(left, file)
		}
	}
	return left
}
