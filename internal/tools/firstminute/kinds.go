package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A kind is one way to install hubhook.
type kind struct {
	name    string
	needs   []string // programs
	prepare func(context.Context, *place) error
	install func(context.Context, *place) (*started, error) // returns how the program is called
	try     func(context.Context, *started) (start, delivery time.Duration, err error)
	remove  func(context.Context, *place) error
}

func (k kind) missing() string {
	for _, program := range k.needs {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

func kinds(s settings) []kind {
	all := []kind{
		{"pip", []string{"python3"}, newEnvironment, pipInstall, tryHubhook, pipUninstall},
		{"uvx", []string{"uvx"}, nothing, uvxInstall, tryHubhook, uvxRemove},
		{"archive", []string{"tar"}, nothing, untar, tryHubhook, removeAll},
		{"deb", []string{"mmdebstrap", "dpkg"}, newSystem, debInstall, tryHubhook, debPurge},
		{"rpm", []string{"mmdebstrap", "rpm"}, newRPMSystem, rpmInstall, tryHubhook, rpmErase},
		{"go install", []string{"go", "git"}, ownProxy, goInstall, tryHubhook, removeAll},
	}
	if s.against {
		all = append(all, kind{"WebhooksServer by pip", []string{"python3"}, newEnvironment, gradioInstall, tryWebhooksServer, removeAll})
	}
	return all
}

func kindNames() []string {
	var names []string
	for _, k := range kinds(settings{against: true}) {
		names = append(names, k.name)
	}
	return names
}

func nothing(context.Context, *place) error { return nil }

func removeAll(_ context.Context, p *place) error {
	err := errors.Join(makeWritable(p.root()), os.RemoveAll(p.root()))
	return errors.Join(err, os.Mkdir(p.root(), 0o755))
}

// makeWritable lets the directories of a module cache, which are read-only, be removed.
func makeWritable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	})
}

func newEnvironment(ctx context.Context, p *place) error {
	return p.do(ctx, "python3", "-m", "venv", p.root())
}

// wheelPattern is the file of the wheel for this machine, below dist.
func wheelPattern() string {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return "wheels/hubhook-*manylinux*_" + machine + ".whl"
}

func pipInstall(ctx context.Context, p *place) (*started, error) {
	if _, err := p.packed(wheelPattern()); err != nil {
		return nil, err
	}
	pip := filepath.Join(p.root(), "bin", "pip")
	if err := p.do(ctx, pip, "install", "--no-index", "--no-cache-dir", "--find-links", filepath.Join(p.dist, "wheels"), "hubhook"); err != nil {
		return nil, err
	}
	return &started{place: p, command: []string{filepath.Join(p.root(), "bin", "hubhook")}}, nil
}

func pipUninstall(ctx context.Context, p *place) error {
	return p.do(ctx, filepath.Join(p.root(), "bin", "pip"), "uninstall", "--yes", "hubhook")
}

// uvxInstall is the first run, which fills uv's cache.
func uvxInstall(ctx context.Context, p *place) (*started, error) {
	if _, err := p.packed(wheelPattern()); err != nil {
		return nil, err
	}
	command := []string{"uvx", "--quiet", "--no-index", "--no-config", "--no-python-downloads", "--cache-dir", p.root(), "--find-links", filepath.Join(p.dist, "wheels"), "hubhook"}
	if err := p.do(ctx, command[0], append(command[1:], "version")...); err != nil {
		return nil, err
	}
	return &started{place: p, command: command}, nil
}

func uvxRemove(ctx context.Context, p *place) error {
	if err := p.do(ctx, "uv", "cache", "clean", "--quiet", "--cache-dir", p.root()); err != nil {
		return err
	}
	return os.MkdirAll(p.root(), 0o755)
}

func untar(ctx context.Context, p *place) (*started, error) {
	archive, err := p.packed("hubhook_linux_" + runtime.GOARCH + ".tar.gz")
	if err != nil {
		return nil, err
	}
	if err := p.do(ctx, "tar", "-xzf", archive, "-C", p.root()); err != nil {
		return nil, err
	}
	return &started{place: p, command: []string{filepath.Join(p.root(), "hubhook_linux_"+runtime.GOARCH, "hubhook")}}, nil
}

// ownProxy puts this commit into a module proxy that is a directory, so that `go install` finds it as it would find a published version.
func ownProxy(ctx context.Context, p *place) error {
	top, err := output(ctx, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	dir := filepath.Join(p.dir, "proxy", "github.com", "hubhook", "hubhook", "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	goMod, err := output(ctx, "git", "-C", top, "show", "HEAD:go.mod")
	if err != nil {
		return err
	}
	// Modules of their own are no part of this one.
	others, err := output(ctx, "git", "-C", top, "ls-files", "*/go.mod")
	if err != nil {
		return err
	}
	zip := exec.CommandContext(ctx, "git", "-C", top, "archive", "--format=zip", "--prefix="+module+"@"+localVersion+"/", "-o", filepath.Join(dir, localVersion+".zip"), "HEAD", ".")
	for _, other := range strings.Fields(others) {
		zip.Args = append(zip.Args, ":(exclude)"+path.Dir(other))
	}
	return errors.Join(
		finish(zip),
		os.WriteFile(filepath.Join(dir, localVersion+".mod"), []byte(goMod+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "list"), []byte(localVersion+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, localVersion+".info"), []byte(`{"Version":"`+localVersion+`"}`), 0o644),
	)
}

const (
	module       = "github.com/hubhook/hubhook"
	localVersion = "v0.0.0-dev"
)

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func goInstall(ctx context.Context, p *place) (*started, error) {
	values := make(map[string]string)
	for _, name := range []string{"GOPROXY", "GOMODCACHE", "GOCACHE", "GOSUMDB"} {
		value, err := output(ctx, "go", "env", name)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	proxies := "file://" + filepath.Join(p.dir, "proxy")
	flags := ""
	if p.cold {
		values["GOCACHE"] = filepath.Join(p.root(), "build")
	} else {
		flags = "-trimpath" // as the release was built, so that compiled packages are reused
		proxies += ",file://" + filepath.Join(values["GOMODCACHE"], "cache", "download")
	}
	cmd := p.command(ctx, "go", "install", module+"@"+localVersion)
	cmd.Env = append(cmd.Env, "GOPROXY="+proxies+","+values["GOPROXY"], "GONOSUMDB="+module, "GOSUMDB="+values["GOSUMDB"], "GOFLAGS="+flags, "CGO_ENABLED=0",
		"GOPATH="+filepath.Join(p.root(), "go"), "GOCACHE="+values["GOCACHE"], "GOTOOLCHAIN=local")
	if err := finish(cmd); err != nil {
		return nil, err
	}
	p.size = "source"
	return &started{place: p, command: []string{filepath.Join(p.root(), "go", "bin", "hubhook")}}, nil
}
