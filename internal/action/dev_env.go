package action

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/internal/env"
)

// programEnv is what a program under dev learns from its environment.
type programEnv struct {
	port       int
	secret     string // "" for none; several are separated by commas, and the first is the one in use
	noSpace    bool   // --no-space-env
	attempts   bool   // SupervisorConfig.Attempts
	publicHost string // with its port, if any; what the program prints its endpoints with
}

// environ returns base with the variables by which the program listens where hubhook looks for it, and without those that are meant for
// hubhook alone.
func (e programEnv) environ(base []string) []string {
	port := strconv.Itoa(e.port)
	set := []string{
		"PORT=" + port, "GRADIO_SERVER_PORT=" + port, "UVICORN_PORT=" + port,
		"GRADIO_NUM_PORTS=1", // a taken port is an error, not the next port
		"PYTHONUNBUFFERED=1",
		"HUBHOOK_NO_TUNNEL=1", "HUBHOOK_INSPECTOR=off",
	}
	if e.attempts {
		// A program that is written with hubhook answers once its handler has ended: only then its output and its failure are those of our
		// attempt.
		set = append(set, env.Dev+"=1", env.Variable("reply-within")+"="+attemptTime.String())
	}
	first, _, _ := strings.Cut(e.secret, ",")
	if first != "" {
		set = append(set, "WEBHOOK_SECRET="+first)
	}
	environ := slices.DeleteFunc(slices.Clone(base), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		// HUBHOOK_DATA, HUBHOOK_DATABASE or HUBHOOK_PORT would make a program that is written with hubhook use the directory, database or
		// port of the hubhook that runs it.
		return strings.HasPrefix(name, "HUBHOOK_") && name != markVariable || name == env.WebhookSecret || slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	})
	has := func(name string) bool {
		return slices.ContainsFunc(environ, func(variable string) bool { return strings.HasPrefix(variable, name+"=") })
	}
	if !e.noSpace {
		if !has(env.SpaceID) {
			set = append(set, "SPACE_ID=hubhook/dev")
		}
		if !has(env.SpaceHost) && e.publicHost != "" {
			set = append(set, "SPACE_HOST="+e.publicHost)
		}
	}
	return append(environ, set...)
}

// runners start a program that one of their arguments names.
var runners = []string{
	"python", "python3", "pypy3", "node", "bun", "deno", "ruby", "perl", "php", "sh", "bash", "env", "uv", "poetry", "pipenv", "pdm", "hatch", "rye", "npx", "npm",
	"pnpm", "yarn", "tsx", "ts-node", "go", "cargo", "dotnet", "java", "uvicorn", "gunicorn", "hypercorn", "flask", "fastapi", "gradio", "nodemon", "time", "nice",
}

// programName is what stands before each line that a program prints: the file that its command names, or else the command.
func programName(args []string, dir string) string {
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	if !slices.Contains(runners, strings.TrimRight(name, "0123456789.")) && !slices.Contains(runners, name) {
		return name
	}
	for _, arg := range args[1:] {
		if strings.HasPrefix(arg, "-") {
			continue
		}
		path := arg
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if info, err := os.Stat(path); err == nil && (info.Mode().IsRegular() || arg == "." || strings.HasPrefix(arg, "./")) {
			if info.IsDir() {
				if abs, err := filepath.Abs(path); err == nil {
					return filepath.Base(abs)
				}
			}
			return filepath.Base(path)
		}
		if module, _, ok := strings.Cut(arg, ":"); ok && module != "" && !strings.ContainsAny(module, "/\\=") {
			return module // uvicorn main:app
		}
	}
	return name
}
