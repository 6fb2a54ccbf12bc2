package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hubhook/hubhook/internal/freeport"
)

// webhooksServer is the name of huggingface_hub's server in figures.
const webhooksServer = "WebhooksServer"

// webhooksServerDir holds the program and its requirements, below the module's root.
const webhooksServerDir = "internal/tools/bench/webhooksserver"

// A python is an interpreter with the packages of WebhooksServer.
type python struct {
	program string
	missing error // why there is none
}

// python returns the interpreter of a virtual environment. The first call makes or updates the environment. If that fails, the run goes
// on without WebhooksServer and says so.
func (w *workshop) python(ctx context.Context) (*python, error) {
	if w.interpreter == nil {
		p := new(python)
		p.program, p.missing = w.virtualEnvironment(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if p.missing != nil {
			w.skip(fmt.Sprintf("%s is skipped: %v", webhooksServer, p.missing))
		}
		w.interpreter = p
	}
	return w.interpreter, nil
}

// virtualEnvironment makes the environment and installs exactly the packages of requirements.txt. If they are there already, pip makes
// no requests.
func (w *workshop) virtualEnvironment(ctx context.Context) (program string, err error) {
	dir := w.venv
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a place for its packages: %w; -venv DIR names one", err)
		}
		dir = filepath.Join(cache, "hubhook-bench", "webhooksserver")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("find a place for its packages: %w", err)
	}
	program = filepath.Join(dir, "bin", "python")
	if runtime.GOOS == "windows" {
		program = filepath.Join(dir, "Scripts", "python.exe")
	}
	if err := exec.CommandContext(ctx, program, "-m", "pip", "--version").Run(); err != nil {
		system, err := exec.LookPath("python3")
		if err != nil {
			return "", fmt.Errorf("%w; it needs Python 3.11 or later, with venv", err)
		}
		w.say("installing %s into %s, once: about 350 MB", webhooksServer, dir)
		if err := run(ctx, system, "-m", "venv", dir); err != nil {
			return "", fmt.Errorf("make a virtual environment in %s: %w", dir, err)
		}
	}
	w.progress("looking after %s's packages", webhooksServer)
	if err := run(ctx, program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:",
		"-r", filepath.Join(w.root, webhooksServerDir, "requirements.txt")); err != nil {
		return "", fmt.Errorf("install its packages into %s: %w", dir, err)
	}
	return program, nil
}

// run runs a command. Its error has the last lines of the command's output.
func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	const shown = 5
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("%w: %s", err, strings.Join(lines[max(0, len(lines)-shown):], "\n"))
}

// launchWebhooksServer starts the program without the user's settings, and so that it makes no requests to the internet. The server adds
// its endpoints after it has begun to serve, so it is ready when it answers a delivery.
func (w *workshop) launchWebhooksServer(ctx context.Context, interpreter string) (*process, error) {
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	home, err := w.data("home")
	if err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + home, "USERPROFILE=" + home, "HF_HOME=" + home, "GRADIO_TEMP_DIR=" + home,
		"HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_EXPERIMENTAL_WARNING=1", "GRADIO_ANALYTICS_ENABLED=False",
	}
	p, err := launch(ctx, webhooksServer, addr, env, interpreter, filepath.Join(w.root, webhooksServerDir, "webhooksserver.py"), host, port, deliverySecret)
	if err != nil {
		return nil, err
	}
	p.probe = newLoad(addr, addr, deliveryPath, deliverySecret, w.payload).request
	return p, nil
}

// startWebhooksServer returns nil if the server can't be had.
func (w *workshop) startWebhooksServer(ctx context.Context) (*contender, error) {
	python, err := w.python(ctx)
	if err != nil || python.missing != nil {
		return nil, err
	}
	p, err := w.launchWebhooksServer(ctx, python.program)
	return w.contend(ctx, p, err)
}
