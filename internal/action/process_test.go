package action

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestProcessOutputAndEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, test := range []struct {
		name, script, out, err string
	}{
		{"done", "cat; echo problem >&2", "inputproblem\n", ""},
		{"status", "exit 7", "", "exit status 7"},
		{"signal", "kill -KILL $$", "", "signal: killed"},
		{"directory and environment", `pwd; echo "$COLOUR"`, dir + "\nblue\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := newPrinted()
			p, err := startProcess(t.Context(), processSpec{
				Args: []string{"sh", "-c", test.script}, Dir: dir, Env: append(os.Environ(), "COLOUR=blue"), Stdin: strings.NewReader("input"), Output: out,
			})
			if err != nil {
				t.Fatal(err)
			}
			within(t, "the script", func() { <-p.Done() })
			text := ""
			if err := p.Err(); err != nil {
				text = err.Error()
			}
			if text != test.err || out.String() != test.out {
				t.Errorf("have error %q, output %q; want %q, %q", text, out, test.err, test.out)
			}
			within(t, "Stop after the end", func() { p.Stop(time.Minute) })
		})
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	_, err := startProcess(t.Context(), processSpec{Args: []string{"./nothing"}, Dir: t.TempDir()})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v", err)
	}
	if _, err := startProcess(t.Context(), processSpec{Args: []string{"hubhook-no-such-program"}}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("have %v", err)
	}
	if _, err := startProcess(t.Context(), processSpec{}); err == nil {
		t.Error("a process without a command has started")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := startProcess(ended, processSpec{Args: []string{"sh"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
}

func TestProcessErrWhileItRuns(t *testing.T) {
	p, out := startChild(t, t.Context(), "a")
	out.pids(t, 1)
	if !errors.Is(p.Err(), errRunning) {
		t.Errorf("have %v", p.Err())
	}
	select {
	case <-p.Done():
		t.Error("it is done")
	default:
	}
}

func TestStopEndsAll(t *testing.T) {
	for _, test := range []struct {
		name, tree string
		grace      time.Duration // a long one where all end by themselves
		ended      bool          // the first process ends before Stop
	}{
		{"group", "a -- b", time.Minute, false},
		{"first ends with a status", "a fails", time.Minute, false},
		{"ignores SIGTERM", "a deaf -- b deaf", 50 * time.Millisecond, false},
		{"session of its own", "a -- b session", time.Minute, false},
		{"session of its own, ignores SIGTERM", "a -- b session deaf -- c deaf", 50 * time.Millisecond, false},
		{"nothing in its environment", "a -- b session bare deaf -- c session deaf", 50 * time.Millisecond, false},
		{"outlives its parent", "a leaves -- b deaf", 50 * time.Millisecond, true},
		{"outlives its parent in a session of its own", "a leaves -- b session deaf", 50 * time.Millisecond, true},
		{"outlives two parents", "a leaves -- b leaves session -- c session deaf", 50 * time.Millisecond, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.ended && strings.Contains(test.tree, "session") {
				needsMark(t)
			}
			p, out := startChild(t, context.Background(), test.tree)
			pids := out.pids(t, 1+strings.Count(test.tree, "--"))
			if test.ended {
				within(t, "the end of the first process", func() { <-p.Done() })
			}
			within(t, "Stop", func() { p.Stop(test.grace) })
			for name, pid := range pids {
				if lives(t, pid) {
					t.Errorf("%s lives on", name)
				}
			}
			select {
			case <-p.Done():
			default:
				t.Error("Stop has returned, and Done is not closed")
			}
		})
	}
}

func TestStopLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	p, out := startChild(t, t.Context(), "a -- b session")
	other, otherOut := startChild(t, t.Context(), "a -- b session")
	out.pids(t, 2)
	pids := otherOut.pids(t, 2)
	within(t, "Stop", func() { p.Stop(time.Minute) })
	for name, pid := range pids {
		if !lives(t, pid) {
			t.Errorf("%s of the other process is gone", name)
		}
	}
	if !errors.Is(other.Err(), errRunning) {
		t.Errorf("the other process has ended: %v", other.Err())
	}
}

func TestStopAtOnceByMany(t *testing.T) {
	t.Parallel()
	p, out := startChild(t, t.Context(), "a -- b session")
	pids := out.pids(t, 2)
	var stops sync.WaitGroup
	for range 4 {
		stops.Go(func() {
			p.Stop(time.Minute)
			if lives(t, pids["b"]) {
				t.Error("a Stop has returned, and b lives on")
			}
		})
	}
	within(t, "Stop", stops.Wait)
}

func TestEndOfContextStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	p, out := startChild(t, ctx, "a -- b session")
	pids := out.pids(t, 2)
	cancel()
	within(t, "the end", func() { <-p.Done(); p.Stop(time.Minute) })
	for name, pid := range pids {
		if lives(t, pid) {
			t.Errorf("%s lives on", name)
		}
	}
}

func TestDoneWhileAnotherHoldsTheOutput(t *testing.T) {
	t.Parallel()
	p, out := startChild(t, t.Context(), "a leaves -- b session")
	within(t, "the end of the first process", func() { <-p.Done() })
	if err := p.Err(); err != nil {
		t.Errorf("the first process has ended well, and Err is %v", err)
	}
	if pid := out.pids(t, 2)["b"]; !lives(t, pid) {
		t.Error("b is gone without Stop")
	}
}

func TestInputThatNobodyReads(t *testing.T) {
	p, err := startProcess(t.Context(), processSpec{Args: []string{"sh", "-c", "exit 0"}, Stdin: strings.NewReader(strings.Repeat("x", 5<<20))})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the script", func() { <-p.Done() })
	if p.Err() != nil {
		t.Error(p.Err())
	}
}

func TestMarksOfHubhookUnderHubhook(t *testing.T) {
	inner := marks([]string{"A=b", markVariable + "=old", markVariable + "=outer"}, "inner")
	if inner != "outer:inner" {
		t.Errorf("have %q", inner)
	}
	if alone := marks(nil, "inner"); alone != "inner" {
		t.Errorf("have %q", alone)
	}
}

func TestStartKeepsTheCallersEnvironment(t *testing.T) {
	env := slices.Grow([]string{"A=b"}, 4)
	p, err := startProcess(t.Context(), processSpec{Args: []string{"/bin/sh", "-c", "exit 0"}, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the script", func() { <-p.Done() })
	if spare := env[:2][1]; spare != "" {
		t.Errorf("the caller's array has got %q", spare)
	}
}
