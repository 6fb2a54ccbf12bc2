// Command firstminute goes a newcomer's way with each kind of package that `make release` has built: install it in a clean place, start it,
// see a first delivery, remove it. It prints how long each step took, and fails if one fails or if anything is left after the removal.
//
// deb and rpm are installed into a minimal Debian system of their own, wheels into new virtual environments. That needs root, mmdebstrap and rpm.
// docs/benchmarks.md says what the times mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	var s settings
	flag.StringVar(&s.dist, "dist", "dist", "the `directory` with the packages")
	flag.StringVar(&s.only, "only", "", "try one `kind` of package: "+strings.Join(kindNames(), ", "))
	flag.BoolVar(&s.cold, "cold", false, "go install downloads and compiles everything anew, as on a new machine")
	flag.BoolVar(&s.against, "against", false, "go the same way with huggingface_hub's WebhooksServer, which pip downloads from PyPI")
	flag.BoolVar(&s.all, "all", false, "fail where a kind can't be tried because a program is missing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "firstminute:", err)
		os.Exit(1)
	}
}

type settings struct {
	dist, only         string
	cold, against, all bool
}

// A step takes no longer than this, even where a download is slow or Go compiles everything on a busy machine.
const patience = 15 * time.Minute

func run(ctx context.Context, s settings) error {
	dist, err := filepath.Abs(s.dist)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hubhook-firstminute-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "way\tpackage\tinstall\tstart\tfirst delivery\ttogether\tafter its removal")
	var failed []error
	tried := 0
	for _, k := range kinds(s) {
		if s.only != "" && s.only != k.name {
			continue
		}
		if missing := k.missing(); missing != "" {
			fmt.Fprintf(out, "%s\tnot tried: %s is not on PATH\n", k.name, missing)
			if s.all {
				failed = append(failed, fmt.Errorf("%s: %s is not on PATH; install it", k.name, missing))
			}
			continue
		}
		tried++
		row, err := goThrough(ctx, k, &place{dir: filepath.Join(dir, strings.ReplaceAll(k.name, " ", "-")), dist: dist, cold: s.cold})
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", k.name, err))
			row = "failed"
		}
		fmt.Fprintf(out, "%s\t%s\n", k.name, row)
	}
	if tried == 0 && len(failed) == 0 {
		failed = append(failed, fmt.Errorf("no kind was tried; there are %s", strings.Join(kindNames(), ", ")))
	}
	return errors.Join(append(failed, out.Flush())...)
}

// goThrough installs, starts, delivers and removes, and returns what to print.
func goThrough(ctx context.Context, k kind, p *place) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.make(); err != nil {
		return "", err
	}
	if err := k.prepare(ctx, p); err != nil {
		return "", fmt.Errorf("prepare a clean place: %w", err)
	}
	before, err := p.files()
	if err != nil {
		return "", err
	}
	began := time.Now()
	c, err := k.install(ctx, p)
	if err != nil {
		return "", fmt.Errorf("install: %w", err)
	}
	installed := time.Since(began)
	started, delivered, err := k.try(ctx, c)
	if err != nil {
		return "", err
	}
	if err := k.remove(ctx, p); err != nil {
		return "", fmt.Errorf("remove: %w", err)
	}
	after, err := p.files()
	if err != nil {
		return "", err
	}
	if left := added(before, after); len(left) > 0 {
		return "", fmt.Errorf("after the removal there is left:\n  %s", strings.Join(left, "\n  "))
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\tnothing left", p.size, seconds(installed), seconds(started), seconds(delivered),
		seconds(installed+started+delivered)), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
