package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// newSystem unpacks a minimal Debian: a shell, the basic programs, and those that make users. It is downloaded once, and kept.
func newSystem(ctx context.Context, p *place) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	image := filepath.Join(cache, "hubhook-firstminute", "debian.tar")
	if _, err := os.Stat(image); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
			return err
		}
		suite, err := output(ctx, "sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME")
		if err != nil {
			return err
		}
		half := image + ".half.tar"
		if err := p.do(ctx, "mmdebstrap", "--quiet", "--variant=essential", "--include=passwd", suite, half); err != nil {
			return err
		}
		if err := os.Rename(half, image); err != nil {
			return err
		}
	}
	// Devices can't be made in every container, and no package needs more than null.
	if err := p.do(ctx, "tar", "-xf", image, "-C", p.root(), "--exclude=./dev/*"); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.root(), "dev", "null"), nil, 0o666)
}

// newRPMSystem is that system with a database of rpm's.
func newRPMSystem(ctx context.Context, p *place) error {
	if err := newSystem(ctx, p); err != nil {
		return err
	}
	return p.rpm(ctx, "--initdb")
}

func (p *place) rpm(ctx context.Context, args ...string) error {
	return p.do(ctx, "rpm", append([]string{"--root", p.root(), "--dbpath", "/var/lib/rpm"}, args...)...)
}

func debInstall(ctx context.Context, p *place) (*started, error) {
	deb, err := p.packed("hubhook_*_" + runtime.GOARCH + ".deb")
	if err != nil {
		return nil, err
	}
	if err := p.do(ctx, "dpkg", "--root="+p.root(), "--install", deb); err != nil {
		return nil, err
	}
	return p.service(ctx)
}

func debPurge(ctx context.Context, p *place) error {
	return p.do(ctx, "dpkg", "--root="+p.root(), "--purge", "hubhook")
}

func rpmInstall(ctx context.Context, p *place) (*started, error) {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	rpm, err := p.packed("hubhook-*." + machine + ".rpm")
	if err != nil {
		return nil, err
	}
	// Its database does not know what Debian brought.
	if err := p.rpm(ctx, "--install", "--nodeps", rpm); err != nil {
		return nil, err
	}
	return p.service(ctx)
}

// rpmErase removes the deliveries first, as the guide says. rpm leaves them alone, and their owner with them.
func rpmErase(ctx context.Context, p *place) error {
	if err := os.RemoveAll(filepath.Join(p.root(), "var/lib/hubhook")); err != nil {
		return err
	}
	return p.rpm(ctx, "--erase", "hubhook")
}

// service returns how systemd would start the installed unit: its command as its user, with its variables and its directory. Ports are
// free ones, for the sake of whatever else runs here.
func (p *place) service(ctx context.Context) (*started, error) {
	unit, err := os.ReadFile(filepath.Join(p.root(), "usr/lib/systemd/system/hubhook.service"))
	if err != nil {
		return nil, err
	}
	s := &started{place: p}
	var user, directory, arguments string
	for line := range strings.Lines(string(unit)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
		case "User":
			user = value
		case "WorkingDirectory":
			directory = value
		case "Environment":
			s.variables = append(s.variables, strings.Fields(value)...)
		case "ExecStart":
			arguments = value
		}
	}
	if user == "" || directory == "" || arguments == "" {
		return nil, fmt.Errorf("the unit names no user, working directory or command:\n%s", unit)
	}
	program, _, _ := strings.Cut(arguments, " ")
	chroot := []string{"chroot", "--userspec=" + user + ":" + user, p.root()}
	s.command = append(chroot, program)
	s.serve = append(chroot, strings.Fields(arguments)...)
	// systemd makes StateDirectory.
	return s, p.do(ctx, "chroot", p.root(), "install", "-d", "-m", "0700", "-o", user, "-g", user, directory)
}
