//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// A service manager's SIGTERM and Ctrl-C end the program, once the running handlers have ended.
func TestSignalsLetHandlersFinish(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "Ctrl-C": syscall.SIGINT} {
		for _, tunnelled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tunnel %v", name, tunnelled), func(t *testing.T) {
				t.Parallel()
				h := newHome(t)
				flags := []string{"--port", "0", "--reply-within", "0"}
				var p *program
				if tunnelled {
					p, _ = viaEdge(t, h, tunneltest.NewEdge(t, tunneltest.Options{}), bot, flags...)
				} else {
					p = h.serve(t, bot, append(flags, "--no-tunnel")...)
				}
				body := push(t)
				running, waiting := p.post("single", body).delivery(), p.post("single", body).delivery()
				p.poll("the handler starts", func() (bool, string) {
					starts, _ := h.handled(t)
					return starts[running] == 1, fmt.Sprint(starts)
				})

				p.signal(signal)
				p.poll("it stops accepting", func() (bool, string) {
					a, err := tryPost(t, p.client, p.base+"/webhooks/trigger_training", body)
					return err != nil || a.status == http.StatusServiceUnavailable, a.body
				})
				select {
				case <-p.exited:
					t.Fatalf("it ended, %v, while a handler was running", p.cmd.ProcessState)
				default:
				}
				h.open(t)
				if status := p.exit(); status != 0 {
					t.Errorf("exit status %d; want 0", status)
				}
				starts, ends := h.handled(t)
				if ends[running] != 1 || starts[waiting] != 0 {
					t.Errorf("the running handler ended %d times, the waiting one started %d times; want 1 and 0", ends[running], starts[waiting])
				}
				if e := p.await("stopped", patience, func(e event) bool { return e.Type == "stopped" }); e.Unfinished == nil || *e.Unfinished != 1 {
					t.Errorf("it stopped with %+v; want 1 unfinished", e)
				}
				if _, err := os.Stat(filepath.Join(p.ready.Data, "inspector.json")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the inspector's address is still there: %v", err)
				}

				// A delivery that was handed back has no failed attempt, and runs at the next start.
				next := h.serve(t, bot, "--port", "0", "--no-tunnel")
				named := "An earlier run left 1 delivery unfinished, handled now:\n  " + waiting + "  single  repo.content/update"
				next.poll("standard error names the delivery that was left", func() (bool, string) {
					return strings.Contains(next.errs.String(), named), next.errs.String()
				})
				if r := next.settled(waiting, queue.Done, queue.Dead); r.State != string(queue.Done) || r.Attempts != 1 {
					t.Errorf("the delivery that waited is %s after %d attempts; want done after 1", r.State, r.Attempts)
				}
				if r := next.record(running); r.State != string(queue.Done) || r.Attempts != 1 {
					t.Errorf("the delivery that ran is %s after %d attempts; want done after 1", r.State, r.Attempts)
				}
				next.stop()
			})
		}
	}
}

// A request in flight at the stop still gets its answer.
func TestAnAnswerUnderWayAtTheEnd(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--reply-within", "20s")
	type got struct {
		answer
		err error
	}
	answers := make(chan got, 1)
	go func() {
		a, err := tryPost(t, p.client, p.base+"/webhooks/held", push(t))
		answers <- got{a, err}
	}()
	p.poll("the handler starts", func() (bool, string) {
		starts, _ := h.handled(t)
		return len(starts) == 1, ""
	})
	p.signal(syscall.SIGTERM)
	p.waitUnready()
	h.open(t)
	if a := <-answers; a.err != nil || a.status != 200 || a.body != "{}" {
		t.Errorf("answer %d %s, %v; want 200 {}", a.status, a.body, a.err)
	}
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
}

// A program with its own HTTP server may still get requests while it drains. It answers when to try again, and that it is alive but not ready.
func TestAServerOfOnesOwnWhileItDrains(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.run(t, mounted)
	p.poll("it listens", func() (bool, string) {
		lines, _ := p.out.since(0)
		if len(lines) > 0 {
			p.base = lines[0]
		}
		return len(lines) > 0, tail(p.errs)
	})
	body := push(t)
	a := p.post("held", body)
	if a.status != 202 || !a.says(t, map[string]string{"delivery": "*", "state": "running"}) {
		t.Fatalf("answer %d %s; want 202 running", a.status, a.body)
	}
	if ready := p.get("/readyz"); ready.status != 200 {
		t.Errorf("/readyz: %d %s; want 200", ready.status, ready.body)
	}

	p.signal(syscall.SIGTERM)
	p.waitUnready()
	p.wantUnavailable(p.post("held", body), "shutting down")
	if a := p.get("/healthz"); a.status != 200 {
		t.Errorf("/healthz: %d %s; want 200", a.status, a.body)
	}
	h.open(t)
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
	if _, ends := h.handled(t); ends[a.delivery()] != 1 || len(ends) != 1 {
		t.Errorf("handlers that came to their end: %v; want that of %s alone", ends, a.delivery())
	}
}

// A handler that takes too long does not keep the process alive. A SIGTERM ends the process at once, and so does a second Ctrl-C, unless
// it comes so soon that it may be the first one sent twice. The delivery runs again.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(second.String(), func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--reply-within", "0")
			id := p.post("held", push(t)).delivery()
			p.signal(syscall.SIGINT)
			p.waitUnready()
			asked := time.Now()
			p.signal(second)
			for ended := second != syscall.SIGINT; !ended && time.Since(asked) < patience; {
				select {
				case <-p.exited:
					ended = true
				case <-time.After(100 * time.Millisecond): // as an impatient user does
					if err := p.cmd.Process.Signal(second); err != nil && !errors.Is(err, os.ErrProcessDone) {
						t.Fatal(err)
					}
				}
			}
			if p.exit(); time.Since(asked) > 3*time.Second || p.cmd.ProcessState.Success() {
				t.Errorf("%v after %v; want a quick end that is no success", p.cmd.ProcessState, time.Since(asked))
			}
			h.open(t)
			next := h.serve(t, bot, "--port", "0", "--no-tunnel")
			next.settled(id, queue.Done)
			next.stop()
		})
	}
}

// Only one process can use a data directory. The second one names the first, before it opens a port.
func TestASecondProcessOnTheSameData(t *testing.T) {
	t.Parallel()
	for name, binary := range map[string]string{"hubhook": hubhook, "library": bot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			port := freePort(t)
			first := h.serve(t, binary, "--port", port, "--no-tunnel", "--secret", secret)
			// With the same port, the error shows what it checked first.
			second := h.start(t, binary, "--port", port, "--no-tunnel", "--secret", secret)
			if status := second.exit(); status != 1 {
				t.Errorf("exit status %d; want 1", status)
			}
			second.wantError(fmt.Sprintf("process %d", first.cmd.Process.Pid), "--data")
			if !strings.Contains(second.errs.String(), first.ready.Data) {
				t.Errorf("standard error does not name the directory %s", first.ready.Data)
			}
			if second.out.String() != "" {
				t.Errorf("standard output %q; want none", second.out)
			}
			if a := first.post("none", "{}"); a.status != 404 {
				t.Errorf("the first one answers %d", a.status)
			}
			// With another directory it works.
			third := h.serve(t, binary, "--port", "0", "--no-tunnel", "--data", filepath.Join(h.dir, "other"))
			third.stop()
			first.stop()
		})
	}
}

func TestAPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, binary := range map[string]string{"hubhook": hubhook, "library": bot} {
		t.Run(name, func(t *testing.T) {
			p := newHome(t).start(t, binary, "--port", port, "--no-tunnel")
			if status := p.exit(); status != 1 {
				t.Errorf("exit status %d; want 1", status)
			}
			p.wantError("127.0.0.1:"+port+" is in use", "--port")
		})
		t.Run(name+", the inspector's", func(t *testing.T) {
			p := newHome(t).start(t, binary, "--port", "0", "--inspector", "127.0.0.1:"+port, "--no-tunnel")
			if status := p.exit(); status != 1 {
				t.Errorf("exit status %d; want 1", status)
			}
			p.wantError("127.0.0.1:"+port+" is in use", "--inspector")
		})
	}
}

// wantError checks that standard error has an error in the form of all commands, with these words in the error and in the hint.
func (p *program) wantError(text, hint string) {
	p.t.Helper()
	var errs, hints []string
	for line := range strings.Lines(p.errs.String()) {
		if rest, ok := strings.CutPrefix(line, "hubhook: "); ok {
			errs = append(errs, rest)
		}
		if rest, ok := strings.CutPrefix(line, "  hint: "); ok {
			hints = append(hints, rest)
		}
	}
	if len(errs) != 1 || len(hints) != 1 || !strings.Contains(errs[0], text) || !strings.Contains(hints[0], hint) {
		p.t.Errorf("standard error:\n%s\nwant one error that says %q, and one hint that says %q", p.errs, text, hint)
	}
}

// --fresh begins without the unfinished deliveries of an earlier run.
func TestFreshDiscardsWhatWasLeft(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--reply-within", "0")
	body := push(t)
	ids := []string{p.post("single", body).delivery(), p.post("single", body).delivery()}
	p.kill()
	h.open(t)
	next := h.serve(t, bot, "--port", "0", "--no-tunnel", "--fresh")
	for _, id := range ids {
		if r := next.record(id); r.State != string(queue.Discarded) || !strings.Contains(r.Reason, "--fresh") {
			t.Errorf("delivery %s is %s (%s); want discarded by --fresh", id, r.State, r.Reason)
		}
	}
	if _, ends := h.handled(t); len(ends) != 0 {
		t.Errorf("handlers that came to their end: %v; want none", ends)
	}
	next.stop()
}

// get requests a page that has to be there.
func (p *program) get(path string) answer {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	a, err := do(p.client, r)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// waitUnready waits until the program has begun to shut down.
func (p *program) waitUnready() {
	p.t.Helper()
	p.poll("it is not ready", func() (bool, string) {
		a := p.get("/readyz")
		return a.status == 503, a.body
	})
}
