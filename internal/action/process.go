package action

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// stopGrace is how long a process may take to end after SIGTERM, before it is killed.
	stopGrace = 5 * time.Second
	// pipeGrace is how long after the end of a process its output is still read, where a child of it holds the pipe open.
	pipeGrace = 500 * time.Millisecond
	// killGrace is how long Stop waits for killed processes to go. One that hangs in the kernel may take longer, and Stop must return.
	killGrace = 10 * time.Second
)

// markVariable is set in the environment of every process that is started here. Its children inherit it, so those that left the
// process group can be found. Where hubhook runs under hubhook, it holds the marks of both, with a colon between.
const markVariable = "HUBHOOK_PROCESS"

// processSpec says what to start.
type processSpec struct {
	Args []string // the program and its arguments; no shell reads them
	Dir  string   // working directory, "" for ours
	Env  []string // the whole environment, NAME=VALUE; nil for ours. Of several values of a name the last counts
	// Stdin is read to its end, or until the process no longer wants it; nil is an empty input.
	Stdin io.Reader
	// Output gets standard output and standard error as they come, one Write at a time; nil discards them. A Write that blocks makes the
	// process wait.
	Output io.Writer
}

// process is a child process in a process group of its own, and all that it starts.
//
// What Stop ends, by system. Linux: the group; what left the group and still has the mark in its environment; all descendants whose
// parents live. A process that left the group, erased its environment and lost its parent is not found. Other Unix systems: the group,
// and descendants whose parents live. Windows: all members of a job object, which cannot be left; but a child of the first process that
// starts before that process is in the job stays outside.
type process struct {
	cmd    *exec.Cmd
	mark   string
	group  group   // of the system
	output *output // nil where nobody wants it
	guard  *guard  // ends the group where hubhook is killed; nil for none

	done chan struct{}
	err  error // set before done is closed

	stopping sync.Mutex // held by the one Stop that works
	stopped  bool
}

// errRunning is the Err of a process that has not ended.
var errRunning = errors.New("the process has not ended")

// startProcess starts a process. When ctx ends before the process, the process is stopped as by Stop(stopGrace).
func startProcess(ctx context.Context, s processSpec) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(s.Args) == 0 {
		return nil, errors.New("there is no command")
	}
	p := &process{cmd: exec.Command(s.Args[0], s.Args[1:]...), mark: rand.Text(), done: make(chan struct{})}
	env := s.Env
	if env == nil {
		env = os.Environ()
	}
	p.cmd.Env = append(env[:len(env):len(env)], markVariable+"="+marks(env, p.mark))
	p.cmd.Dir = s.Dir
	p.cmd.Stdin = s.Stdin
	p.cmd.WaitDelay = pipeGrace
	if s.Output != nil {
		out, write, err := newOutput(s.Output)
		if err != nil {
			return nil, fmt.Errorf("make a pipe for its output: %w", err)
		}
		defer write.Close() // only the process and its children write
		p.output, p.cmd.Stdout, p.cmd.Stderr = out, write, write
	}
	if err := p.start(); err != nil {
		if p.output != nil {
			p.output.read.Close()
		}
		if _, missing := os.Stat(s.Dir); s.Dir != "" && missing != nil {
			return nil, missing // which err says of the program
		}
		return nil, err
	}
	p.guard = newGuard(p.Pid())
	unhook := context.AfterFunc(ctx, func() { p.Stop(stopGrace) })
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		if p.output != nil {
			p.output.copy()
		}
	}()
	go func() {
		defer unhook()
		err := p.cmd.Wait()
		if p.output != nil {
			p.output.endWithin(pipeGrace)
		}
		<-copied
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil // it ended well, and a child of it holds its input open
		}
		p.reaped()
		p.err = err
		close(p.done)
	}()
	return p, nil
}

// marks returns the value of markVariable for a child that gets env.
func marks(env []string, mark string) string {
	outer := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, markVariable+"="); ok {
			outer = value
		}
	}
	if outer == "" {
		return mark
	}
	return outer + ":" + mark
}

// Pid returns the process id of the first process.
func (p *process) Pid() int { return p.cmd.Process.Pid }

// ReadOutput writes to Output what the process has printed until now, so that nothing of it comes later. It does nothing on Windows, where
// a pipe can't be read without waiting for more.
func (p *process) ReadOutput() {
	if p.output != nil {
		p.output.readNow()
	}
}

// Done is closed once the first process has ended and its output is written. Children of it may live on: Stop ends them.
func (p *process) Done() <-chan struct{} { return p.done }

// Err returns how the first process ended: nil for status 0, an *exec.ExitError for another status or a signal. Before Done it returns
// an error that says so.
func (p *process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return errRunning
	}
}

// Stop ends the process and all that it started. It asks them with SIGTERM, on Windows with Ctrl-Break, and kills what lives after
// grace. It returns once nothing of it lives. Where killed processes hang in the kernel, or belong to another user, it returns 10 s later.
// After Done it ends what the first process left. It may be called again, and by several goroutines at a time: the grace is that of the
// first, and all return together.
func (p *process) Stop(grace time.Duration) {
	p.stopping.Lock()
	defer p.stopping.Unlock()
	if p.stopped {
		return
	}
	p.stopped = p.end(grace)
	if p.stopped {
		<-p.done
		p.guard.release()
	}
}
