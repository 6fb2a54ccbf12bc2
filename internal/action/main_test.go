package action

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// be is the first argument of this test binary where it is a child of a test: see beChild.
const be = "be"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == be {
		os.Exit(beChild(os.Args[2:]))
	}
	// Most tests wait, for programs that start, end or do not end. So run more at once than one for each core, the default.
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0)))); err != nil {
			log.Fatal(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// beChild is a process that prints its name and pid, and then waits to be ended. Its arguments are its name and what it is like; after
// "--" come those of a child of its own.
//
//	deaf     it ignores SIGTERM
//	session  it leaves its parent's group and session
//	bare     it is started without any environment
//	leaves   it ends by itself once its child has printed its name
//	fails    it ends with status 3 when it gets SIGTERM
//	starts   it starts its child as hubhook does
//	breeds   it starts one child after the other, in sessions of their own and without any environment: sleep 100.PID, with its own pid
func beChild(args []string) int {
	own, child := args, []string(nil)
	if i := slices.Index(args, "--"); i >= 0 {
		own, child = args[:i], args[i+1:]
	}
	terminated := make(chan os.Signal, 1)
	switch {
	case slices.Contains(own, "deaf"):
		signal.Ignore(syscall.SIGTERM)
	case slices.Contains(own, "fails"):
		signal.Notify(terminated, syscall.SIGTERM)
	}
	if child != nil {
		like := child[1:]
		if i := slices.Index(like, "--"); i >= 0 {
			like = like[:i]
		}
		cmd := exec.Command(os.Args[0], append([]string{be}, child...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		printed, tells, err := os.Pipe() // the child's input, of which it only uses that it can be closed
		if err != nil {
			fmt.Println(err)
			return 1
		}
		cmd.Stdin = tells
		if slices.Contains(like, "bare") {
			cmd.Env = []string{}
		}
		if slices.Contains(like, "session") {
			cmd.SysProcAttr = ownSession()
		}
		start := cmd.Start
		if slices.Contains(own, "starts") {
			start = func() error {
				_, err := startProcess(context.Background(), processSpec{Args: cmd.Args, Output: os.Stdout})
				return err
			}
		}
		if err := start(); err != nil {
			fmt.Println(err)
			return 1
		}
		tells.Close()
		if slices.Contains(own, "leaves") {
			_, _ = io.ReadAll(printed)
		}
	}
	fmt.Println(own[0], os.Getpid())
	os.Stdin.Close()
	if slices.Contains(own, "breeds") {
		for range 2000 {
			cmd := exec.Command("sleep", fmt.Sprintf("100.%d", os.Getpid()))
			cmd.Env, cmd.SysProcAttr = []string{}, ownSession()
			if err := cmd.Start(); err != nil {
				return 1
			}
		}
	}
	if slices.Contains(own, "leaves") {
		return 0
	}
	select {
	case <-terminated:
		return 3
	case <-time.After(time.Minute):
		return 4
	}
}

// printed is an Output whose text can be waited for.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newPrinted() *printed { return &printed{more: make(chan struct{}, 1)} }

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// pids waits until n processes have printed their names, and returns their pids.
func (p *printed) pids(t *testing.T, n int) map[string]int {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		text := p.String()
		if pids := make(map[string]int); strings.Count(text, "\n") >= n {
			for line := range strings.Lines(text) {
				name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
				pid, err := strconv.Atoi(number)
				if err != nil {
					t.Fatalf("a child printed %q", line)
				}
				pids[name] = pid
			}
			return pids
		}
		select {
		case <-p.more:
		case <-deadline:
			t.Fatalf("want %d processes, have printed %q", n, text)
		}
	}
}

// startChild starts a process as beChild describes it. What is left of it is ended with the test.
func startChild(t *testing.T, ctx context.Context, args string) (*process, *printed) {
	t.Helper()
	out := newPrinted()
	p, err := startProcess(ctx, processSpec{Args: append([]string{os.Args[0], be}, strings.Fields(args)...), Output: out})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p, out
}

// within fails the test where f takes longer than anything here should.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s takes more than 30 s", what)
	}
}
