package cloudflared

import (
	"bytes"
	"os/exec"
	"sync"
	"time"
)

const (
	// pipeGrace is how long the output is read on after the program's end, where a child of it holds the pipe.
	pipeGrace = 500 * time.Millisecond
	// killGrace is how long a killed process may take to go. One that hangs in the kernel takes longer.
	killGrace = 5 * time.Second

	maxLines = 40
	maxLine  = 500 // bytes
)

// child is a run of the program, in a process group of its own.
type child struct {
	cmd    *exec.Cmd
	said   *lastLines
	done   chan struct{} // closed once the program has ended and was waited for
	err    error         // how; set before done is closed
	system processGroup
}

// startChild starts the program. Standard input is empty, and the last lines of its output are kept.
func startChild(path string, args, env []string) (*child, error) {
	c := &child{cmd: exec.Command(path, args...), said: &lastLines{}, done: make(chan struct{})}
	c.cmd.Env = env
	c.cmd.Stdout, c.cmd.Stderr = c.said, c.said
	c.cmd.WaitDelay = pipeGrace
	if err := c.start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		c.err = c.cmd.Wait()
		c.reaped()
	}()
	return c, nil
}

// ended reports whether the program has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// end asks the program to end, kills what lives after grace, and returns once nothing lives, or killGrace is over as well.
func (c *child) end(grace time.Duration) {
	c.terminate()
	if !c.goneWithin(grace) {
		c.kill()
		if !c.goneWithin(killGrace) {
			return
		}
	}
	<-c.done
}

func (c *child) goneWithin(d time.Duration) bool {
	deadline := time.Now().Add(d)
	for wait := 2 * time.Millisecond; c.alive(); wait = min(2*wait, 50*time.Millisecond) {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		time.Sleep(min(wait, left))
	}
	return true
}

// lastLines keeps the last lines that were written to it.
type lastLines struct {
	mu    sync.Mutex
	lines []string
	rest  []byte // of the line that has not ended
}

func (l *lastLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	for {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		l.rest = append(l.rest, line[:min(len(line), maxLine-len(l.rest))]...)
		if !ended {
			return n, nil
		}
		if len(bytes.TrimSpace(l.rest)) > 0 {
			l.lines = append(l.lines, string(l.rest))
			l.lines = l.lines[max(0, len(l.lines)-maxLines):]
		}
		l.rest, b = l.rest[:0], rest
	}
}

// all returns the lines, oldest first.
func (l *lastLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := append([]string{}, l.lines...)
	if len(bytes.TrimSpace(l.rest)) > 0 {
		lines = append(lines, string(l.rest))
	}
	return lines
}
