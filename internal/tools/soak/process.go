//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/testing/tail"
	"github.com/hubhook/hubhook/ui/inspector"
)

const (
	startTime = 20 * time.Second // for a process to become ready
	stopTime  = 45 * time.Second // for a process to end after SIGTERM; handlers may take 30 s of it
)

// All webhooks of a soak share secret, all inspectors share token.
const (
	secret = "s3cret-of-the-soak"
	token  = "t0ken-of-the-soak"
)

// A process is one hubhook, started again whenever it ends.
type process struct {
	s         *soak
	args      []string
	base      string // URL of its public server
	inspector *inspector.Client

	mu     sync.Mutex
	cmd    *exec.Cmd     // the running program, nil while none runs
	ended  chan struct{} // closed when cmd has ended
	wanted bool          // the soak asked it to end
	hold   bool          // don't start it again
}

// addProcess takes free ports for a process. The process runs once keep is called.
func (s *soak) addProcess(n int) error {
	public, err := freeport.Address()
	if err != nil {
		return err
	}
	private, err := freeport.Address()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(public)
	if err != nil {
		return err
	}
	data := s.data
	if s.cfg.sharing() {
		data = filepath.Join(s.dir, fmt.Sprintf("data%d", n))
	}
	p := &process{
		s:         s,
		base:      "http://" + public,
		inspector: inspector.NewClient("http://"+private, token),
		args: []string{"--json", "--no-tunnel", "--port", port, "--inspector", private, "--data", data,
			"--reply-within", "100ms", "--keep-count", fmt.Sprint(keepCount)},
	}
	s.processes = append(s.processes, p)
	return nil
}

// keep runs the process again and again, until ctx ends and the process is asked to stop.
func (p *process) keep(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.run(ctx); err != nil {
			p.s.violation("%v", err)
			if sleep(ctx, time.Second) != nil {
				return
			}
		}
	}
}

// bad matches text that no process may print to standard error.
var bad = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE)`)

// run starts the process and waits for its end. It fails if nobody asked for the end.
func (p *process) run(ctx context.Context) error {
	errs := new(tail.Tail)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start a worker: find this program: %w", err)
	}
	cmd := exec.Command(self, append([]string{workerArgument}, p.args...)...)
	cmd.Env = append(os.Environ(), notesVariable+"="+p.s.notes, "WEBHOOK_SECRET="+secret, "HUBHOOK_INSPECTOR_TOKEN="+token)
	if p.s.cfg.database != "" {
		cmd.Env = append(cmd.Env, "HUBHOOK_DATABASE="+p.s.cfg.database)
	}
	cmd.Stderr = errs
	p.mu.Lock()
	if p.hold || ctx.Err() != nil {
		p.mu.Unlock()
		<-ctx.Done()
		return nil
	}
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return fmt.Errorf("start a worker: %w", err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.wanted = cmd, ended, false
	p.mu.Unlock()

	var waiting sync.WaitGroup
	wasReady := false
	waiting.Go(func() { wasReady = p.wantReady(ended) })
	err = cmd.Wait()
	close(ended)
	waiting.Wait()
	pid := cmd.Process.Pid
	p.mu.Lock()
	p.cmd = nil
	wanted := p.wanted
	p.mu.Unlock()
	if err := appendNote(p.s.notes, noteLine(noteGone, "", pid, "", nil)); err != nil {
		return err
	}
	if found := bad.FindStringIndex(errs.String()); found != nil {
		return fmt.Errorf("process %d printed %s", pid, errs.String()[found[0]:])
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	killed := status.Signaled() && status.Signal() == syscall.SIGKILL
	switch {
	case wanted && !wasReady && status.Signaled(): // before it could catch the signal
	case killed && !wanted:
		p.s.count("killed by its own handler") // the notes show whether a handler did
	case !wanted && p.s.disk != "" && strings.Contains(errs.String(), "disk is full"):
		p.s.count("starts refused on a full disk")
	case !wanted && !wasReady && p.s.postgres != nil && saysNoServer(errs.String()):
		p.s.count("starts refused without PostgreSQL")
	case !wanted:
		return fmt.Errorf("process %d ended by itself: %v\n%s", pid, err, errs.String())
	case !killed && err != nil:
		return fmt.Errorf("process %d ended after SIGTERM: %v\n%s", pid, err, errs.String())
	}
	return nil
}

// wantReady waits until the process accepts deliveries, and notes a violation if that takes too long. It reports false if the process ends first.
func (p *process) wantReady(ended <-chan struct{}) bool {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for !p.ready(ctx) {
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			p.s.violation("a process was not ready within %v", startTime)
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.s.noteReady(time.Since(began))
	return true
}

// ready asks the process once whether it accepts deliveries.
func (p *process) ready(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := p.s.client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}

// end ends the process with a signal, and waits until it is gone. It reports false if the process did not run.
func (p *process) end(signal syscall.Signal, forGood bool) bool {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.hold = p.hold || forGood
	if cmd == nil {
		p.mu.Unlock()
		return false
	}
	p.wanted = true
	err := cmd.Process.Signal(signal)
	p.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.s.violation("send %v to process %d: %v", signal, cmd.Process.Pid, err)
	}
	select {
	case <-ended:
	case <-time.After(stopTime):
		p.s.violation("process %d did not end within %v after %v", cmd.Process.Pid, stopTime, signal)
		cmd.Process.Kill()
		<-ended
	}
	return true
}

func appendNote(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("note the end of a process: %w", err)
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// saysNoServer reports whether a process could not start because PostgreSQL was gone, or went away during the connection.
func saysNoServer(errs string) bool {
	return strings.Contains(errs, "the database: ") || strings.Contains(errs, "check that the server runs and can be reached from here")
}
