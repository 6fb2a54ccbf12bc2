package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
)

// barePackage is the program that hubhook is compared with, below the module's root.
const barePackage = "internal/tools/bench/bare"

// launchHubhook starts the binary as in production. It sets only the addresses and the data directory.
func launchHubhook(ctx context.Context, binary, data string, env ...string) (*process, error) {
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return launch(ctx, "hubhook serve", addr, env, binary, "serve", "--no-tunnel", "--port", port, "--data", data, "--inspector", "127.0.0.1:0")
}

func launchBare(ctx context.Context, binary string) (*process, error) {
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	return launch(ctx, "bare", addr, nil, binary, addr)
}

// measureStart compares the time from exec to the first 200, for a first start, which makes the database, and for a later start.
func (w *workshop) measureStart(ctx context.Context) ([]figure, error) {
	hubhook, err := w.build(ctx, "")
	if err != nil {
		return nil, err
	}
	bare, err := w.build(ctx, barePackage)
	if err != nil {
		return nil, err
	}
	python, err := w.python(ctx)
	if err != nil {
		return nil, err
	}
	var first, later, slow rounds
	for n := range w.starts + 1 {
		w.progress("start %d of %d", n, w.starts)
		data, err := w.data("start")
		if err != nil {
			return nil, err
		}
		var took [3]float64
		for i, start := range []func() (*process, error){
			func() (*process, error) { return launchBare(ctx, bare) },
			func() (*process, error) { return launchHubhook(ctx, hubhook, data) },
			func() (*process, error) { return launchHubhook(ctx, hubhook, data) },
		} {
			if took[i], err = timeStart(ctx, start); err != nil {
				return nil, err
			}
		}
		if n > 0 { // the first time the system reads the binaries from the disk
			first.add(took[1], took[0])
			later.add(took[2], took[0])
		}
		if python.missing != nil || n > w.slow {
			continue
		}
		tookSlow, err := timeStart(ctx, func() (*process, error) { return w.launchWebhooksServer(ctx, python.program) })
		if err != nil {
			return nil, err
		}
		if n > 0 {
			slow.add(took[1], tookSlow)
		}
	}
	if w.profiles != "" {
		if err := w.traceStart(ctx, hubhook); err != nil {
			return nil, err
		}
	}
	atMost5 := target{atMost: true, bound: 5}
	format := func(nanoseconds float64) string { return milliseconds(time.Duration(nanoseconds)) }
	figures := []figure{
		first.figure("start with an empty data directory", "bare", atMost5, format),
		later.figure("start with a database", "bare", atMost5, format),
	}
	if python.missing == nil {
		figures = append(figures, slow.figure("start with an empty data directory", webhooksServer, target{atMost: true, bound: 0.01}, format))
	}
	return figures, nil
}

// timeStart starts a process, waits until it is ready and stops it. It returns nanoseconds.
func timeStart(ctx context.Context, start func() (*process, error)) (float64, error) {
	p, err := start()
	if err != nil {
		return 0, err
	}
	took, err := p.ready(ctx)
	return float64(took), errors.Join(err, p.stop())
}

// traceStart saves the runtime's trace of package initialization, the part of a start that no CPU profile shows.
func (w *workshop) traceStart(ctx context.Context, hubhook string) error {
	data, err := w.data("start")
	if err != nil {
		return err
	}
	p, err := launchHubhook(ctx, hubhook, data, "GODEBUG=inittrace=1")
	if err != nil {
		return err
	}
	_, err = p.ready(ctx)
	if err = errors.Join(err, p.stop()); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.profiles, "start-inittrace.txt"), []byte(p.errors.String()+"\n"), 0o644)
}

// measureMemory compares the memory of idle servers.
func (w *workshop) measureMemory(ctx context.Context) ([]figure, error) {
	hubhook, err := w.build(ctx, "")
	if err != nil {
		return nil, err
	}
	bare, err := w.build(ctx, barePackage)
	if err != nil {
		return nil, err
	}
	data, err := w.data("memory")
	if err != nil {
		return nil, err
	}
	held, err := w.residentAtRest(ctx, func() (*process, error) { return launchHubhook(ctx, hubhook, data) })
	if err != nil {
		return nil, err
	}
	heldBare, err := w.residentAtRest(ctx, func() (*process, error) { return launchBare(ctx, bare) })
	if err != nil {
		return nil, err
	}
	under45 := target{atMost: true, bound: 45, unit: " MiB"}
	const what = "memory after the start"
	figures := []figure{{what: what, hubhook: mebibytes(held), against: "bare " + mebibytes(heldBare),
		target: under45.String(), short: under45.missed(float64(held) / (1 << 20))}}
	python, err := w.python(ctx)
	if err != nil {
		return nil, err
	}
	if python.missing == nil {
		heldPython, err := w.residentAtRest(ctx, func() (*process, error) { return w.launchWebhooksServer(ctx, python.program) })
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure{what: what, hubhook: mebibytes(held), against: webhooksServer + " " + mebibytes(heldPython)})
	}
	return figures, nil
}

func (w *workshop) residentAtRest(ctx context.Context, start func() (*process, error)) (int64, error) {
	p, err := start()
	if err != nil {
		return 0, err
	}
	_, err = p.ready(ctx)
	var held int64
	if err == nil {
		held, err = w.rested(ctx, p)
	}
	return held, errors.Join(err, p.stop())
}

// rested leaves a process idle for a while, and returns the memory that it then holds, in bytes.
func (w *workshop) rested(ctx context.Context, p *process) (int64, error) {
	select {
	case <-time.After(w.rest):
		return p.resident()
	case <-p.ended:
		return 0, p.broken("it ended while it had nothing to do", p.err)
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for %s to be at rest: %w", p.name, ctx.Err())
	}
}
