//go:build unix

package action

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// pushOf is a payload whose repo is named after i.
func pushOf(t *testing.T, i int, set map[string]any) *payload.Payload {
	t.Helper()
	if set == nil {
		set = make(map[string]any)
	}
	set["repo.name"] = fmt.Sprintf("me/%d", i)
	p, err := payload.Sample(payload.ScopeRepoContent, payload.Update, set)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// deliverUntilTaken sends a delivery as a queue does that puts back what was not taken.
func (p *realProgram) deliverUntilTaken(payload *payload.Payload) (any, error) {
	p.t.Helper()
	handle := p.Handler("x", func() string { return "s3cret" })
	deadline := time.Now().Add(time.Minute)
	for {
		result, err := handle(context.Background(), payload)
		var notTaken *NotTakenError
		if !errors.As(err, &notTaken) {
			return result, err
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not taken for a minute: %v", err)
		}
		time.Sleep(max(notTaken.Again, 5*time.Millisecond))
	}
}

// A program that is written with hubhook answers 200 to a delivery whose handler has failed. The attempt has failed all the same.
func TestDeliverKnowsAFailureBehind200(t *testing.T) {
	t.Parallel()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Hubhook-Delivery", "01M8")
		w.Header().Set("Content-Type", "application/json")
		answer, err := url.QueryUnescape(r.Header.Get("Answer"))
		if err != nil {
			t.Error(err)
		}
		w.Write([]byte(answer))
	}))
	defer answers.Close()
	p := runReal(t, SupervisorConfig{
		Args: []string{"app"},
		start: func(spec processSpec) (program, error) {
			return &fakeProgram{done: make(chan struct{}), output: spec.Output}, nil
		},
		look: func(_ context.Context, r *ProgramRun) { r.nowListening(answers.URL, nil) },
	})
	p.await(ProgramListening)
	s := run(t, func(s *server.Server) { s.Handle("x", p.Handler("x", nil), once) })
	for answer, want := range map[string]string{
		`{"delivery": "01M8", "state": "dead", "error": "boom"}`: "the program's handler failed: boom",
		`{"delivery": "01M8", "state": "dead"}`:                  "the program's handler failed, and without a webhook secret its answer does not say why: see its output",
		`{"delivery": "01M8", "state": "skipped"}`:               "",
		`{"delivery": "my own", "state": "dead"}`:                "",
		`{"state": "dead"}`:                                      "",
	} {
		if list := s.attempts(s.deliver("x", push, "Answer", url.QueryEscape(answer)).id); len(list) != 1 || list[0].Error != want {
			t.Errorf("%s: %+v; want the error %q", answer, list, want)
		}
	}
}

// What a program printed before it answered belongs to the attempt, also where nobody has read it yet when the answer comes.
func TestDeliverKeepsWhatWasPrintedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer answers.Close()
	p := runReal(t, SupervisorConfig{
		Args: []string{"app"},
		start: func(spec processSpec) (program, error) {
			return &fakeProgram{done: make(chan struct{}), output: spec.Output, unread: "handled it\n"}, nil
		},
		look: func(_ context.Context, r *ProgramRun) { r.nowListening(answers.URL, nil) },
	})
	p.await(ProgramListening)
	s := run(t, func(s *server.Server) { s.Handle("x", p.Handler("x", nil)) })
	a := s.deliver("x", push)
	if list := s.attempts(a.id); len(list) != 1 || list[0].Output != "handled it\n" {
		t.Errorf("%d %s: %+v", a.status, a.body, list)
	}
}

// A program that answers 500 and prints the trace after that, as uvicorn does, is given time until it is quiet, 2 s at most.
func TestDeliverAwaitsTheTrace(t *testing.T) {
	for lines, want := range map[int]time.Duration{0: 200 * time.Millisecond, 5: 800 * time.Millisecond, 30: 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := &ProgramRun{ended: make(chan struct{})}
			r.program = &fakeProgram{output: &r.lines}
			var printing sync.WaitGroup
			defer printing.Wait()
			printing.Go(func() {
				for range lines {
					time.Sleep(100 * time.Millisecond)
					fmt.Fprintln(&r.lines, "File app.py, line 1")
				}
			})
			began := time.Now()
			r.awaitTrace(t.Context())
			if took := time.Since(began); took != want {
				t.Errorf("with %d lines it has waited for %v", lines, took)
			}
		})
	}
}

func TestDeliverFailures(t *testing.T) {
	t.Parallel()
	p, _ := runPython(t, `
import json
print("- POST http://127.0.0.1/webhooks/x", flush=True)
class Reading(Handler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.name = body["repo"]["name"]
        if self.name == "me/1":
            print("KeyError: 'x'", flush=True)
            os._exit(3)
        self.answer({"me/2": 404, "me/3": 500, "me/4": 422, "me/6": 500}.get(self.name, 200))
    def answer(self, status):
        text = b'[{"error": "no"}, 400]' if self.command == "POST" and self.name == "me/5" else b'{"ok": true}'
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        if self.command == "POST" and self.name == "me/3": # uvicorn, too, answers before it prints the trace
            print("KeyError: 'late'", flush=True)
Handler = Reading
serve()
`)
	p.await(ProgramReady)
	if result, err := p.deliverUntilTaken(pushOf(t, 0, nil)); err != nil || fmt.Sprintf("%s", result) != `{"ok": true}` {
		t.Errorf("%s, %v", result, err)
	}
	for i, want := range map[int]string{
		1: "app.py ended while it had the delivery (exit status 3): the program ended: KeyError: 'x'",
		2: "the program has no /webhooks/x",
		3: "the handler failed (500): KeyError: 'late'",
		4: "the program's payload model refuses a bucket",
	} {
		set := map[string]any(nil)
		if i == 4 {
			set = map[string]any{"repo.type": payload.Bucket}
		}
		_, err := p.deliverUntilTaken(pushOf(t, i, set))
		var advised *AdvisedError
		if !errors.As(err, &advised) || !strings.Contains(err.Error(), want) || advised.Hint() == "" {
			t.Errorf("delivery %d: %v", i, err)
		}
		if i == 1 {
			p.Wake()
			p.await(ProgramReady)
			if _, err := p.deliverUntilTaken(pushOf(t, 0, nil)); err != nil { // from now on 404 does not mean that its routes are still to come
				t.Error(err)
			}
		}
	}
	// This one has printed nothing: the trace before it is not its own.
	if _, err := p.deliverUntilTaken(pushOf(t, 6, nil)); err == nil || err.Error() != `the handler failed (500): {"ok": true}` {
		t.Errorf("delivery 6: %v", err)
	}
	if _, err := p.deliverUntilTaken(pushOf(t, 5, nil)); err != nil {
		t.Error(err)
	}
	p.await(ProgramAdvice).wantAdvice(t, "does not set the status", "HTTPException(400)")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Handler("x", nil)(ctx, pushOf(t, 0, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("discarded: %v", err)
	}
}

// A program that is ready and names no endpoints may take deliveries at any path, unless it has answered one already.
func TestReadyWithoutEndpoints(t *testing.T) {
	t.Parallel()
	for answered, want := range map[bool]bool{false: true, true: false} {
		p := runReal(t, SupervisorConfig{
			Args: []string{"app"},
			start: func(spec processSpec) (program, error) {
				return &fakeProgram{done: make(chan struct{}), output: spec.Output}, nil
			},
			look: func(_ context.Context, r *ProgramRun) {
				r.nowListening("http://127.0.0.1:1", nil)
				if answered {
					r.Judge(http.StatusOK, nil)
				}
				r.becomeReady()
			},
		})
		if advice := p.await(ProgramReady).Advice; (advice != nil) != want || want && !strings.Contains(advice.Fix, "--path") {
			t.Errorf("answered %v: advice %+v", answered, advice)
		}
	}
}
