package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeProgram is a program that ends when it is told to.
type fakeProgram struct {
	once    sync.Once
	done    chan struct{}
	err     error
	stopped bool
	takes   time.Duration // to end once it is asked to
	output  io.Writer
	unread  string // printed, and in its pipe until it is read
}

func (p *fakeProgram) Done() <-chan struct{} { return p.done }
func (p *fakeProgram) Err() error            { return p.err }
func (p *fakeProgram) Pid() int              { return -1 }
func (p *fakeProgram) ReadOutput()           { io.WriteString(p.output, p.unread) }

func (p *fakeProgram) Stop(grace time.Duration) {
	p.once.Do(func() {
		p.stopped = true
		time.Sleep(min(p.takes, grace))
		p.err = errors.New("signal: terminated")
		close(p.done)
	})
}

func (p *fakeProgram) exit(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.done)
	})
}

// supervised is a Supervisor of fake programs in a bubble of synctest.
type supervised struct {
	t *testing.T
	*Supervisor
	changes  chan Change
	programs []*fakeProgram
	started  atomic.Int32 // programs, also those that a timer has started
	lines    []ProgramLine
	refuse   error // to start
	began    time.Time
	end      func()
}

func supervise(t *testing.T) *supervised {
	s := &supervised{t: t, changes: make(chan Change), began: time.Now()}
	var err error
	s.Supervisor, err = NewSupervisor(SupervisorConfig{
		Args: []string{"app"}, Env: []string{}, Changes: s.changes,
		start: func(spec processSpec) (program, error) {
			if s.refuse != nil {
				return nil, s.refuse
			}
			p := &fakeProgram{done: make(chan struct{}), output: spec.Output}
			s.started.Add(1)
			s.programs = append(s.programs, p)
			return p, nil
		},
		look:  func(context.Context, *ProgramRun) {},
		Lines: func(l ProgramLine) { s.lines = append(s.lines, l) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for i, p := range s.programs {
			select {
			case <-p.done:
			default:
				t.Errorf("program %d still runs", i+1)
			}
		}
	}
	return s
}

func (s *supervised) last() *fakeProgram { return s.programs[len(s.programs)-1] }

// expect waits until nothing moves and compares the events since the last time, as "1 starting", with what is added for some.
func (s *supervised) expect(want ...string) {
	s.t.Helper()
	synctest.Wait()
	var got []string
	for {
		select {
		case e, ok := <-s.Events():
			if ok {
				got = append(got, describe(e))
				continue
			}
		default:
		}
		break
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("events:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func describe(e ProgramEvent) string {
	text := fmt.Sprintf("%d %s", e.Run, e.Phase)
	if len(e.Files) > 0 {
		text += " for " + strings.Join(e.Files, " ")
	}
	if e.Exit != nil {
		text += fmt.Sprintf(": %s, next in %s", e.Exit.How, e.Wait)
	}
	return text
}

func TestSuperviseRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		s.expect("1 starting")
		s.last().takes = time.Hour
		s.changes <- Change{Files: []string{"app.py", "lib.py"}}
		s.expect("1 restarting for app.py lib.py")
		time.Sleep(stopGrace)
		s.expect("2 starting")
		s.Restart()
		s.expect("2 restarting", "3 starting")
		s.end()
		s.expect("3 stopped")
	})
}

func TestSuperviseBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		s.expect("1 starting")
		crash := errors.New("exit status 1")
		wait := firstBackoff
		for run := 1; run <= 8; run++ {
			s.last().exit(crash)
			events := []string{fmt.Sprintf("%d exited: exit status 1, next in %s", run, wait)}
			if run == loopAfter {
				events = append(events, fmt.Sprintf("%d crash loop: exit status 1, next in %s", run, wait))
			}
			s.expect(events...)
			time.Sleep(wait - time.Nanosecond)
			s.expect()
			time.Sleep(time.Nanosecond)
			s.expect(fmt.Sprintf("%d starting", run+1))
			wait = min(2*wait, mostBackoff)
		}
		if wait != mostBackoff {
			t.Errorf("the last wait was %s", wait)
		}

		// An edit starts it at once, and forgets what was.
		s.last().exit(crash)
		s.expect("9 exited: exit status 1, next in 30s")
		s.changes <- Change{Files: []string{"app.py"}}
		s.expect("9 restarting for app.py", "10 starting")
		s.last().exit(nil)
		s.expect("10 exited: exit status 0, next in 1s")
		// A delivery that waits starts it at once, where it has not failed before,
		s.Wake()
		s.expect("11 starting")
		s.last().exit(nil)
		s.expect("11 exited: exit status 0, next in 2s")
		// and after a second where it has.
		time.Sleep(100 * time.Millisecond)
		s.Wake()
		s.expect()
		time.Sleep(900 * time.Millisecond)
		s.expect("12 starting")
		// One that lives for a while is well.
		time.Sleep(healthyFor)
		s.last().exit(nil)
		s.expect("12 exited: exit status 0, next in 1s")
		s.Restart()
		s.expect("12 restarting", "13 starting")
		s.refuse = errors.New("no such program")
		s.last().exit(nil)
		s.Wake()
		s.expect("13 exited: exit status 0, next in 1s", "14 starting", "14 exited: no such program, next in 2s")
		s.refuse = nil
		s.end()
		s.expect("14 stopped")
	})
}

func TestSupervisePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		s.expect("1 starting")
		s.Pause()
		s.Pause()
		s.expect("1 paused")
		s.changes <- Change{Files: []string{"a"}}
		s.changes <- Change{Files: []string{"b"}}
		time.Sleep(time.Hour)
		s.expect()
		s.Resume()
		s.expect("1 resumed", "1 restarting for a b", "2 starting")
		s.Pause()
		s.expect("2 paused")
		s.Restart()
		s.expect("2 restarting", "3 starting")
		s.last().exit(nil)
		s.expect("3 exited: exit status 0, next in 1s")
		s.Wake()
		s.changes <- Change{Files: []string{"c"}}
		time.Sleep(time.Hour)
		s.expect()
		s.Restart()
		s.expect("3 restarting for c", "4 starting")
		s.last().exit(nil)
		s.expect("4 exited: exit status 0, next in 1s")
		s.Resume()
		s.expect("4 resumed", "5 starting")
		s.Resume()
		s.expect()
		s.end()
		s.expect("5 stopped")
	})
}

// A program that writes below its own directory is told apart from a person who edits.
func TestSuperviseSelfEdit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		advised := 0
		edit := func(files ...string) {
			s.changes <- Change{Files: files}
			synctest.Wait()
			for len(s.Events()) > 0 {
				if e := <-s.Events(); e.Advice != nil && e.Phase == ProgramRestarting {
					advised++
					if e.Advice.Fix != "leave it out: --ignore out.csv" {
						t.Errorf("the fix is %q", e.Advice.Fix)
					}
				}
			}
		}
		edit("out.csv")
		edit("out.csv")
		edit("app.py")
		edit("out.csv")
		edit("out.csv")
		time.Sleep(time.Hour)
		edit("out.csv")
		edit("out.csv", "other.csv")
		if advised != 0 {
			t.Errorf("advised %d times for edits", advised)
		}
		for range 4 {
			edit("out.csv")
		}
		if runs := len(s.programs); advised != 1 {
			t.Errorf("advised %d times", advised)
		} else if edit("out.csv"); advised != 2 || len(s.programs) != runs+1 {
			t.Errorf("advised %d times, and started %d times since", advised, len(s.programs)-runs)
		}
		// From now on its changes right after a start wait, and none is lost. Others don't wait.
		runs := s.started.Load()
		edit("out.csv")
		time.Sleep(heldFor - time.Millisecond)
		if synctest.Wait(); s.started.Load() != runs {
			t.Error("a file that the program writes itself restarts it at once")
		}
		time.Sleep(time.Millisecond)
		if synctest.Wait(); s.started.Load() != runs+1 {
			t.Error("an edit that was held back is lost")
		}
		edit("out.csv")
		if edit("app.py"); s.started.Load() != runs+2 {
			t.Error("an edit of another file waits")
		}
		for range heldAfter {
			edit("out.csv")
		}
		runs = s.started.Load()
		time.Sleep(heldWithin + time.Millisecond)
		if edit("out.csv"); s.started.Load() != runs+1 {
			t.Error("an edit waits that came later than right after the start")
		}
		for range heldAfter {
			edit("out.csv")
		}
		runs = s.started.Load()
		s.last().exit(nil)
		if edit("out.csv"); s.started.Load() != runs {
			t.Error("a program that has ended is restarted at once for what it wrote")
		}
		time.Sleep(mostBackoff)
		if synctest.Wait(); s.started.Load() != runs+1 {
			t.Error("a program that has ended is not started again")
		}
		s.end()
	})
}

func TestSuperviseEventsUnreceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		for range eventBuffer {
			synctest.Wait()
			s.Restart()
		}
		synctest.Wait()
		s.end()
		var events []ProgramEvent
		for e := range s.Events() {
			events = append(events, e)
		}
		missed := 0
		for _, e := range events {
			missed += e.Missed
		}
		if all := 2*eventBuffer + 2; len(events) != eventBuffer || len(events)+missed != all {
			t.Errorf("%d events, %d missed, of %d", len(events), missed, all)
		}
		if last := events[len(events)-1]; last.Phase != ProgramStopped {
			t.Errorf("the last event is %s", last.Phase)
		}
	})
}

func TestSuperviseOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		s.expect("1 starting")
		fmt.Fprint(s.last().output, "ready\nTraceback\nKeyError: 'sha'")
		s.last().exit(errors.New("exit status 1"))
		synctest.Wait()
		e := <-s.Events()
		if e.Phase != ProgramExited || !slices.Equal(e.Exit.Lines, []string{"ready", "Traceback", "KeyError: 'sha'"}) {
			t.Errorf("%s, after %q", describe(e), e.Exit.Lines)
		}
		if e.Advice == nil || e.Advice.Cause != "the program ended: KeyError: 'sha'" {
			t.Errorf("advice %v", e.Advice)
		}
		if want := []ProgramLine{{"app", 1, "ready"}, {"app", 1, "Traceback"}, {"app", 1, "KeyError: 'sha'"}}; !slices.Equal(s.lines, want) {
			t.Errorf("lines %v", s.lines)
		}
		s.end()
	})
}

func TestJudge(t *testing.T) {
	type step struct {
		after    time.Duration
		status   int
		err      error
		replaced bool
		named    bool // the program has named its endpoints
		want     Verdict
	}
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	for name, steps := range map[string][]step{
		"routes come later": {
			{status: 404, want: NotYet}, {after: notYetFor - 1, status: 405, want: NotYet}, {status: 200, want: Handled}, {status: 404, want: Failed}, {status: 405, want: Failed},
		},
		"named before they come":       {{named: true, status: 404, want: NotYet}, {named: true, status: 200, want: Handled}, {named: true, status: 404, want: Failed}},
		"routes never come":            {{status: 404, want: NotYet}, {after: notYetFor, status: 404, want: Failed}},
		"a refusal is an answer":       {{status: 422, want: Failed}, {status: 404, want: Failed}, {status: 204, want: Handled}, {status: 301, want: Failed}},
		"nobody there":                 {{err: refused, want: NotYet}, {after: time.Hour, err: refused, want: NotYet}},
		"cut":                          {{err: io.ErrUnexpectedEOF, want: Failed}},
		"cut by a restart":             {{err: io.ErrUnexpectedEOF, replaced: true, want: Replaced}},
		"refused by one that ends":     {{status: 503, replaced: true, want: Replaced}, {status: 404, replaced: true, want: NotYet}},
		"handled by one that ends":     {{status: 200, replaced: true, want: Handled}},
		"failed while it was to end":   {{status: 500, replaced: true, want: Failed}},
		"unloaded by one that ends":    {{status: 200, want: Handled}, {status: 404, replaced: true, want: Replaced}},
		"unavailable for its own sake": {{status: 503, want: Failed}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := NewSupervisor(SupervisorConfig{Args: []string{"app"}})
				if err != nil {
					t.Fatal(err)
				}
				r := &ProgramRun{N: 1, supervisor: s, ended: make(chan struct{}), listening: time.Now()}
				for i, step := range steps {
					time.Sleep(step.after)
					r.replaced, r.ready = step.replaced, r.ready || step.named
					if got := r.Judge(step.status, step.err); got != step.want {
						t.Errorf("step %d: status %d, error %v is %v; want %v", i+1, step.status, step.err, got, step.want)
					}
				}
			})
		})
	}
}

func TestProgramLines(t *testing.T) {
	var got []string
	l := programLines{each: func(line string) { got = append(got, line) }}
	for _, part := range []string{"a\nb", "c\r\n", "\n10%\r20%", "\r100%\n", "x\r", "\ny\r", "z\n", strings.Repeat("w", lineLimit+3), "\nopen"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	l.flush()
	l.flush()
	want := []string{"a", "bc", "", "100%", "x", "z", strings.Repeat("w", lineLimit), "www", "open"}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q\nwant %q", got, want)
	}
	for i := range 2 * keptLines {
		fmt.Fprintln(&l, i)
	}
	if kept := l.kept(); len(kept) != keptLines || kept[keptLines-1] != fmt.Sprint(2*keptLines-1) {
		t.Errorf("kept %q", kept)
	}
}

// A program keeps its port over restarts, as long as nothing else listens on it.
func TestSupervisorPort(t *testing.T) {
	t.Parallel()
	ports := make(chan string, 1)
	p := runReal(t, SupervisorConfig{
		Args: []string{"app"},
		start: func(spec processSpec) (program, error) {
			i := slices.IndexFunc(spec.Env, func(v string) bool { return strings.HasPrefix(v, "PORT=") })
			ports <- strings.TrimPrefix(spec.Env[i], "PORT=")
			return &fakeProgram{done: make(chan struct{}), output: spec.Output}, nil
		},
		look: func(context.Context, *ProgramRun) {},
	})
	first := <-ports
	p.Restart()
	if again := <-ports; again != first {
		t.Errorf("port %s after a restart, %s before", again, first)
	}
	other, err := net.Listen("tcp", "127.0.0.1:"+first)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.Restart()
	if again := <-ports; again == first {
		t.Errorf("port %s again, on which another program listens", again)
	}
}
