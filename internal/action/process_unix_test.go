//go:build unix

package action

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// needsMark skips a test of what only Linux can do.
func needsMark(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system shows no process's environment, so what left its group and lost its parent is not found")
	}
}

// lives reports whether a process that is no zombie has that pid.
func lives(t *testing.T, pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false // it has ended since
	}
	return !strings.HasPrefix(strings.TrimSpace(string(stat)), "Z")
}

func TestListsOfProcessesAgree(t *testing.T) {
	t.Parallel()
	p, out := startChild(t, t.Context(), "a -- b session")
	pids := out.pids(t, 2)
	own, err := processTable()
	if err != nil {
		t.Fatal(err)
	}
	portable, err := listWithPs()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []row{
		{pid: pids["a"], parent: os.Getpid(), group: p.Pid()},
		{pid: pids["b"], parent: pids["a"], group: pids["b"]},
	} {
		for name, table := range map[string][]row{"the system's list": own, "ps": portable} {
			found := false
			for _, r := range table {
				r.started = ""
				found = found || r == want
			}
			if !found {
				t.Errorf("%s lacks %+v", name, want)
			}
		}
	}
}

// What stands in the pipe is read without the goroutine that else does it, and once alone.
func TestReadOutputNow(t *testing.T) {
	t.Parallel()
	text := newPrinted()
	o, write, err := newOutput(text)
	if err != nil {
		t.Fatal(err)
	}
	o.readNow()
	if _, err := write.WriteString("handled it\n"); err != nil {
		t.Fatal(err)
	}
	o.readNow()
	o.readNow()
	if text.String() != "handled it\n" {
		t.Errorf("have read %q", text)
	}
	long := strings.Repeat("x", 3*outputPart)
	go func() {
		defer write.Close()
		write.WriteString(long)
	}()
	within(t, "the rest", o.copy)
	o.readNow()
	if text.String() != "handled it\n"+long {
		t.Errorf("have read %d bytes", len(text.String()))
	}
}

// Where hubhook is killed, all of the group is ended, and what a command has left in the background where hubhook was not killed meanwhile
// is not.
func TestGuard(t *testing.T) {
	t.Parallel()
	p, out := startChild(t, t.Context(), "hubhook starts -- a -- b")
	pids := out.pids(t, 3)
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "the end of what it has started", func() {
		for lives(t, pids["a"]) || lives(t, pids["b"]) { // nobody tells
			time.Sleep(5 * time.Millisecond)
		}
	})
	left, out := startChild(t, t.Context(), "a leaves -- b")
	b := out.pids(t, 2)["b"]
	within(t, "the end of a", func() { <-left.Done() })
	left.guard.release()
	left.guard.release()
	if !lives(t, b) {
		t.Error("the guard has ended a process though hubhook was not killed")
	}
}

// A process that goes on starting others while it is being stopped.
func TestStopOfOneThatBreeds(t *testing.T) {
	t.Parallel()
	p, out := startChild(t, t.Context(), "a deaf breeds")
	name := fmt.Sprintf("sleep 100.%d", out.pids(t, 1)["a"])
	children := func() int {
		list, err := exec.Command("ps", "-A", "-o", "args=").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(list), name)
	}
	within(t, "the first child", func() {
		for children() == 0 { // nobody tells
		}
	})
	within(t, "Stop", func() { p.Stop(0) })
	if n := children(); n > 0 {
		t.Errorf("%d children live on", n)
	}
}
