package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/testing/tail"
)

const (
	startTime = time.Minute      // for a server to be ready
	stopTime  = 40 * time.Second // for a server to end after a request to stop; hubhook lets handlers finish for 30 s
)

// A process is a server under measurement.
type process struct {
	name    string
	addr    string // host:port that it serves on
	probe   []byte // a request that is answered with 200 once the server is ready
	started time.Time
	cmd     *exec.Cmd
	orders  io.WriteCloser // a role's standard input, nil for other programs
	replies *bufio.Reader  // a role's standard output
	errors  *tail.Tail
	ended   chan struct{}
	err     error // how it ended; valid once ended is closed
}

// launch starts program, which has to serve on addr. Its environment holds only env and what every program needs, so that the user's
// settings change no figure.
func launch(ctx context.Context, name, addr string, env []string, program string, args ...string) (*process, error) {
	return launchIn(ctx, "", name, addr, env, program, args...)
}

// launchIn is launch in a working directory.
func launchIn(ctx context.Context, dir, name, addr string, env []string, program string, args ...string) (*process, error) {
	p := &process{name: name, addr: addr, probe: healthProbe(addr), errors: new(tail.Tail), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	p.cmd.Stderr = p.errors
	return p, p.start()
}

// launchRole starts this program again in one of its roles.
func launchRole(ctx context.Context, role, addr string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: find this program: %w", role, err)
	}
	return launchRoleOf(ctx, self, role, addr, args...)
}

// launchRoleOf starts a build of this program in one of its roles.
func launchRoleOf(ctx context.Context, program, role, addr string, args ...string) (_ *process, err error) {
	p := &process{name: role, addr: addr, probe: healthProbe(addr), errors: new(tail.Tail), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, append([]string{roleArgument, role, addr}, args...)...)
	p.cmd.Stderr = p.errors
	if p.orders, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	out, in := io.Pipe()
	p.replies, p.cmd.Stdout = bufio.NewReader(out), in
	if err := p.start(); err != nil {
		return nil, err
	}
	go func() {
		<-p.ended
		in.CloseWithError(io.ErrUnexpectedEOF)
	}()
	return p, nil
}

// launchServe starts `hubhook serve` in a working directory, as in production. env is beside the secret and a home directory.
func (w *workshop) launchServe(ctx context.Context, dir string, env []string, args ...string) (*process, error) {
	return w.launchCommand(ctx, dir, "serve", append([]string{"WEBHOOK_SECRET=" + deliverySecret}, env...), args...)
}

// launchCommand starts a command of the hubhook binary that serves, in a working directory. Unless env has another home directory, it has one
// of its own.
func (w *workshop) launchCommand(ctx context.Context, dir, command string, env []string, args ...string) (*process, error) {
	binary, err := w.build(ctx, "")
	if err != nil {
		return nil, err
	}
	data, err := w.data(command)
	if err != nil {
		return nil, err
	}
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	args = append([]string{command, "--no-tunnel", "--port", port, "--data", data}, args...)
	return launchIn(ctx, dir, "hubhook "+command, addr, append([]string{"HOME=" + data}, env...), binary, args...)
}

func (p *process) start() error {
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// ready waits until the server answers its probe with 200, and returns the time since just before the process was started. At first it
// probes without a pause. A slow server gets pauses of a hundredth of the time so far, so that the probes don't slow it.
func (p *process) ready(ctx context.Context) (time.Duration, error) {
	for {
		ok := answersOK(p.addr, p.probe)
		took := time.Since(p.started)
		if ok {
			return took, nil
		}
		select {
		case <-p.ended:
			return 0, p.broken("it ended before it served", p.err)
		default:
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if took > startTime {
			return 0, p.broken(fmt.Sprintf("it was not ready within %v", startTime), nil)
		}
		if took > 100*time.Millisecond {
			time.Sleep(took / 100)
		}
	}
}

// healthProbe is the probe of a server that has /healthz.
func healthProbe(addr string) []byte {
	return []byte("GET /healthz HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
}

// answersOK asks on a connection of its own, without the cost of an http.Client.
func answersOK(addr string, request []byte) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := conn.Write(request); err != nil {
		return false
	}
	status := make([]byte, len("HTTP/1.1 200"))
	_, err = io.ReadFull(conn, status)
	return err == nil && string(status) == "HTTP/1.1 200"
}

// broken describes a failure of the process with what it wrote to standard error.
func (p *process) broken(what string, err error) error {
	text := p.name + ": " + what
	if said := p.errors.String(); said != "" {
		text += "; it said:\n" + said
	}
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return errors.New(text)
}

// order sends an order to a role, and returns once the role has done it.
func (p *process) order(words ...string) error {
	if _, err := fmt.Fprintln(p.orders, strings.Join(words, " ")); err != nil {
		return p.broken("it does not take orders", err)
	}
	reply, err := p.replies.ReadString('\n')
	if err != nil {
		return p.broken("it did not reply", err)
	}
	if reply != doneReply+"\n" {
		return p.broken("it replied "+strconv.Quote(reply), nil)
	}
	return nil
}

// profiled runs work while a role writes a CPU profile to file.
func (p *process) profiled(file string, work func() error) error {
	if err := p.order("profile", file); err != nil {
		return err
	}
	return errors.Join(work(), p.order("stop"))
}

// stop ends the process as its user would, and kills it if that takes too long. An exit status other than 0 is an error.
func (p *process) stop() error {
	var err error
	if p.orders != nil {
		err = p.orders.Close()
	} else if err = p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		err = p.cmd.Process.Kill() // Windows has no signal to send
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		return errors.Join(p.broken(fmt.Sprintf("it did not stop within %v", stopTime), nil), p.cmd.Process.Kill())
	}
	// A status below 0 means that a signal ended the process: it has no handler for signals.
	if exit := (*exec.ExitError)(nil); errors.As(p.err, &exit) && exit.ExitCode() > 0 {
		return p.broken("it ended in failure", p.err)
	}
	return nil
}

// kill ends the process without a warning.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.ended
	return nil
}

// resident returns the physical memory that the process holds, in bytes. Without /proc it asks ps.
func (p *process) resident() (int64, error) { return p.memory("VmRSS") }

// peak returns the most physical memory that the process has held, in bytes. Without /proc it is what the process holds now.
func (p *process) peak() (int64, error) { return p.memory("VmHWM") }

// memory reads a field of /proc/PID/status.
func (p *process) memory(field string) (int64, error) {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if errors.Is(err, os.ErrNotExist) {
		out, err := exec.Command("ps", "-o", "rss=", "-p", pid).Output()
		if err != nil {
			return 0, fmt.Errorf("ask ps for the memory of %s: %w", p.name, err)
		}
		return kibibytes(string(out))
	}
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return kibibytes(strings.TrimSuffix(strings.TrimSpace(value), "kB"))
		}
	}
	return 0, fmt.Errorf("read the memory of %s: no %s in /proc/%s/status", p.name, field, pid)
}

func kibibytes(text string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read a process's memory: %w", err)
	}
	return n << 10, nil
}

// counted reads the sums of one metric of hubhook by the label state, over all endpoints.
func counted(ctx context.Context, inspector, metric string) (map[string]int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+inspector+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("read hubhook's metrics: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read hubhook's metrics: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read hubhook's metrics: %s: %s", response.Status, bytes.TrimSpace(text))
	}
	return sumByState(string(text), metric)
}

// sumByState adds up the series of metric in Prometheus's text format.
func sumByState(text, metric string) (map[string]int, error) {
	sums := make(map[string]int)
	for line := range strings.Lines(text) {
		labels, ok := strings.CutPrefix(line, metric+"{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(labels, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", metric, err)
		}
		_, state, ok := strings.Cut(labels, `state="`)
		if !ok {
			return nil, fmt.Errorf("read %s: %q has no state", metric, labels)
		}
		state, _, _ = strings.Cut(state, `"`)
		sums[state] += int(n)
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("read %s: hubhook's metrics don't have it", metric)
	}
	return sums, nil
}
