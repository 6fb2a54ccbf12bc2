package action

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// Commands runs commands for deliveries, and knows those that run. The zero value is ready.
type Commands struct {
	// Secret returns the webhook secret that commands get in WEBHOOK_SECRET, "" for none. It is asked for each attempt; nil means none.
	Secret func() string

	// Upstream is told of each URL that deliveries are forwarded to when it does not answer any more, and when it answers again. It must be
	// quick; nil means nobody.
	Upstream func(endpoint string, h Health)

	// Hub returns what filters ask for changed files and authors. It is called for each attempt with a filter that asks; nil means that
	// such attempts fail.
	Hub func() (Hub, error)

	grace   time.Duration // between SIGTERM and SIGKILL; 0 for stopGrace
	running sync.WaitGroup
}

// Handler returns a handler that runs line with `sh -c` in the directory dir, "" for the working directory.
//
// The command gets the payload byte for byte on its standard input, and in its environment WEBHOOK_PAYLOAD, or, where the payload is too
// large for a variable, the path of a file with it in WEBHOOK_PAYLOAD_FILE, which is removed after the attempt; WEBHOOK_REPO_ID (the
// repo's name), WEBHOOK_REPO_TYPE, WEBHOOK_SECRET and WEBHOOK_ID (the Webhook-Id, or the delivery's ID without one). No shell reads any
// of them as code. What the command prints goes to server.Output as it comes.
//
// A status other than 0 is an error that ends with the last line that the command printed. When the context ends, the command and all
// that it started are asked to end with SIGTERM, and killed after 5 s. What a command leaves in the background lives on.
func (c *Commands) Handler(line, dir string) server.Handler {
	return func(ctx context.Context, p *payload.Payload) (any, error) {
		c.running.Add(1)
		defer c.running.Done()
		return nil, c.run(ctx, line, dir, p)
	}
}

// Wait returns once no command runs. A server that shuts down gives up on handlers that take long to return, but a command that is being
// ended needs its 5 s: call Wait after the server's Run, or the command outlives the program.
func (c *Commands) Wait() { c.running.Wait() }

func (c *Commands) run(ctx context.Context, line, dir string, p *payload.Payload) error {
	last := &lastLine{to: server.Output(ctx)}
	spec := processSpec{Args: []string{"sh", "-c", line}, Dir: dir, Output: last}
	variables := c.variables(ctx, p)
	inFile := len(p.Raw()) > maxVariable-len(env.JobPayload) || bytes.IndexByte(p.Raw(), 0) >= 0
	started, err := startWithPayload(ctx, spec, variables, p.Raw(), inFile)
	if errors.Is(err, syscall.E2BIG) && !inFile { // all variables together are too large
		started, err = startWithPayload(ctx, spec, variables, p.Raw(), true)
	}
	if err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	defer started.release()
	select {
	case <-started.Done():
		return started.ended(last)
	case <-ctx.Done():
		asked, grace := time.Now(), cmp.Or(c.grace, stopGrace)
		started.Stop(grace)
		how := "ended with SIGTERM"
		if time.Since(asked) >= grace {
			how = fmt.Sprintf("killed, %v after SIGTERM", grace)
		}
		return fmt.Errorf("the command was %s: %w", how, context.Cause(ctx))
	}
}

// ended returns how a command ended by itself.
func (c *command) ended(last *lastLine) error {
	err := c.Err()
	if text := last.text(); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// variables returns the environment of a command, but for the payload.
func (c *Commands) variables(ctx context.Context, p *payload.Payload) []string {
	var vars []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case env.JobPayload, env.JobPayloadFile, env.JobRepo, env.JobRepoType, env.WebhookSecret, env.JobWebhookID: // another webhook's
		default:
			vars = append(vars, v)
		}
	}
	// A variable ends at the first NUL, which the name of a repo never has but in a forged payload.
	clean := func(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
	vars = append(vars, env.JobRepo+"="+clean(p.Repo.Name), env.JobRepoType+"="+clean(string(p.Repo.Type)))
	if c.Secret != nil {
		if secret := c.Secret(); secret != "" {
			vars = append(vars, env.WebhookSecret+"="+secret)
		}
	}
	if d, ok := server.DeliveryFrom(ctx); ok {
		id := d.WebhookID
		if id == "" {
			id = d.ID
		}
		vars = append(vars, env.JobWebhookID+"="+clean(id))
	}
	return vars
}

// maxVariable is the most bytes that a variable may have, its name and the sign between included. Linux allows 128 KiB with a NUL at the
// end; Windows 32,767 characters; others bound only all together.
var maxVariable = map[bool]int{true: 32 << 10, false: 128 << 10}[runtime.GOOS == "windows"] - 2

// command is a process that may have a file with the payload.
type command struct {
	*process
	file string // "" for none
}

func startWithPayload(ctx context.Context, spec processSpec, variables []string, body []byte, inFile bool) (*command, error) {
	c := &command{}
	variable := env.JobPayload + "=" + string(body)
	if inFile {
		var err error
		if c.file, err = writePayload(body); err != nil {
			return nil, err
		}
		variable = env.JobPayloadFile + "=" + c.file
	}
	spec.Env = append(variables[:len(variables):len(variables)], variable)
	spec.Stdin = bytes.NewReader(body)
	var err error
	if err = ctx.Err(); err == nil {
		c.process, err = startProcess(context.WithoutCancel(ctx), spec) // run stops it, and says how that went
	}
	if err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// writePayload puts body into a file that this user alone can read.
func writePayload(body []byte) (path string, err error) {
	f, err := os.CreateTemp("", "hubhook-payload-*.json")
	if err != nil {
		return "", fmt.Errorf("write the payload to a file: %w", err)
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write the payload to a file: %w", err)
	}
	return f.Name(), nil
}

// release leaves alone what the command has started in the background, and removes the file. If it can't remove the file, it leaves that to
// whoever cleans the temporary directory.
func (c *command) release() {
	if c.process != nil {
		c.guard.release()
	}
	if c.file != "" {
		_ = os.Remove(c.file)
	}
}

// lastLine passes text on and keeps its end.
type lastLine struct {
	to io.Writer

	mu  sync.Mutex
	end []byte
}

// keptEnd is enough for the last line that is shown, with escape sequences and empty lines after it.
const keptEnd = 4 << 10

// Write implements io.Writer.
func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.end = append(l.end, b[max(0, len(b)-keptEnd):]...)
	if len(l.end) > 2*keptEnd {
		l.end = append(l.end[:0], l.end[len(l.end)-keptEnd:]...)
	}
	l.mu.Unlock()
	return l.to.Write(b)
}

// escapes are sequences for terminals, colours for example.
var escapes = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)|[@-Z\\\\^_])")

// text returns the last line that is not empty, "" if there is none.
func (l *lastLine) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.FieldsFunc(string(escapes.ReplaceAll(l.end, nil)), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		if text := oneLine(lines[i], maxShown); text != "" {
			return text
		}
	}
	return ""
}
