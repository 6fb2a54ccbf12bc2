package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// A NotTakenError says that no attempt was made of a delivery, so none has failed: it has to wait, and to be sent again.
type NotTakenError struct {
	Why string
	// Interrupted says that hubhook ended the program while it had the delivery. The program may have handled a part of it.
	Interrupted bool
	// Again is how long to wait before another try is worth it. If it is 0, an event with Open says when to try.
	Again time.Duration
}

func (e *NotTakenError) Error() string { return e.Why }

// PutBack returns when the delivery is to be sent again, for the server.
func (e *NotTakenError) PutBack() (after time.Duration) { return e.Again }

// Handler returns the handler of an endpoint: it sends the delivery to the program, and returns its answer. Secret returns the webhook
// secret that the program is to get, "" for none. An error is a *NotTakenError, or that of an attempt that failed, with the cause and
// the fix where they are known.
func (s *Supervisor) Handler(name string, secret func() string) server.Handler {
	return func(ctx context.Context, p *payload.Payload) (any, error) {
		return s.deliver(ctx, name, secret, p)
	}
}

func (s *Supervisor) deliver(ctx context.Context, name string, secret func() string, p *payload.Payload) (any, error) {
	run, path := s.Current(), s.path(name)
	var forward *Forward
	var err error
	if run != nil {
		if forward, err = run.forward(path, secret); err != nil {
			return nil, err
		}
	}
	if forward == nil {
		s.Wake()
		return nil, &NotTakenError{Why: s.name + " does not take deliveries yet"}
	}
	leave := run.enter(ctx)
	defer leave()
	printed := run.lines.count()
	result, header, err := forward.send(ctx, p)
	// What the program printed before it answered belongs to the attempt, which ends with this call. On a busy machine it may not be read yet.
	run.program.ReadOutput()
	if err != nil && ctx.Err() != nil {
		return nil, err // out of time, or discarded: nothing is known of the program
	}
	status := http.StatusOK
	var refused *RefusedError
	if errors.As(err, &refused) {
		status = refused.Status
	}
	if status >= http.StatusInternalServerError {
		run.awaitTrace(ctx)
	}
	verdict := run.Judge(status, cutOf(err, refused))
	seen := Seen{Status: status, Path: path, Posts: s.posts(run), RepoType: p.Repo.Type, Event: p.Event, Secret: secret != nil && secret() != "", Lines: run.lines.since(printed)}
	switch {
	case verdict == Handled:
		body, _ := result.(json.RawMessage)
		if err := ownFailure(header, body); err != nil {
			return nil, err
		}
		if seen.Body = body; len(body) > 0 {
			if advice, ok := Explain(seen); ok {
				s.emit(ProgramEvent{Phase: ProgramAdvice, Run: run.N, Open: true, URL: run.URL(), Advice: &advice})
			}
		}
		return result, nil
	case verdict == NotYet:
		return nil, &NotTakenError{Why: s.name + " does not take deliveries yet", Again: askEvery}
	case verdict == Replaced:
		return nil, &NotTakenError{Why: s.name + " was restarted while it had the delivery", Interrupted: true}
	case refused == nil:
		return nil, run.explainCut(ctx, err)
	}
	seen.Header, seen.Body = refused.Header, refused.Body
	if advice, ok := Explain(seen); ok {
		return nil, &AdvisedError{Advice: advice} // which says what the answer says
	}
	return nil, err
}

// ownFailure is the failure of a handler in a program that is written with hubhook, which answers 200 to what it has stored.
func ownFailure(header http.Header, body []byte) error {
	var own struct{ Delivery, State, Error string }
	id := header.Get("Hubhook-Delivery")
	if id == "" || json.Unmarshal(body, &own) != nil || own.Delivery != id || own.State != "dead" {
		return nil
	}
	if own.Error == "" {
		return errors.New("the program's handler failed, and without a webhook secret its answer does not say why: see its output")
	}
	return fmt.Errorf("the program's handler failed: %s", own.Error)
}

// cutOf is the error of a delivery without an answer.
func cutOf(err error, refused *RefusedError) error {
	if refused != nil {
		return nil
	}
	return err
}

// awaitTrace gives a program whose handler has failed the time to print why: uvicorn and others answer first, and print the trace then.
func (r *ProgramRun) awaitTrace(ctx context.Context) {
	late := time.NewTimer(traceMost)
	defer late.Stop()
	for lines := -1; lines != r.lines.count(); {
		lines = r.lines.count()
		quiet := time.NewTimer(traceQuiet)
		select {
		case <-quiet.C:
			r.program.ReadOutput()
		case <-late.C:
			return
		case <-r.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// explainCut says why there was no answer. After a crash it writes the program's last lines to the attempt, unless lines were printed to
// the attempt already.
func (r *ProgramRun) explainCut(ctx context.Context, err error) error {
	exit := r.Exit()
	if exit == nil {
		return err
	}
	if !r.printedTo(ctx) {
		out := server.Output(ctx)
		for _, line := range exit.Lines {
			fmt.Fprintln(out, escapes.ReplaceAllString(line, ""))
		}
	}
	met := fmt.Errorf("%s ended while it had the delivery (%s)", r.supervisor.name, exit.How)
	if advice, ok := exit.explain(r.port); ok {
		return &AdvisedError{met, advice}
	}
	return met
}

// path returns where the program takes the deliveries of an endpoint. The program may have an endpoint that is not known yet.
func (s *Supervisor) path(name string) string {
	for _, route := range s.Routes() {
		if route.Name == name {
			return route.Path
		}
	}
	return webhooksPrefix + name
}

// posts returns the program's paths, for messages.
func (s *Supervisor) posts(r *ProgramRun) []string {
	posts := r.Found().Posts
	if len(posts) == 0 {
		for _, route := range s.Routes() {
			posts = append(posts, route.Path)
		}
	}
	return posts
}

// forward returns the Forward to a path of this run, nil where it has ended. Its connections are kept as long as the run.
func (r *ProgramRun) forward(path string, secret func() string) (*Forward, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.url == "" {
		return nil, nil
	}
	if f, ok := r.forwards[path]; ok {
		return f, nil
	}
	f, err := NewForward(r.url+path, secret)
	if err != nil {
		return nil, err
	}
	if r.forwards == nil {
		r.forwards = make(map[string]*Forward)
	}
	r.forwards[path] = f
	return f, nil
}

// closeForwards closes the connections of a run that has ended.
func (r *ProgramRun) closeForwards() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.forwards {
		f.Close()
	}
}

// enter notes that the program has the delivery of ctx, until the returned function is called.
func (r *ProgramRun) enter(ctx context.Context) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.having == nil {
		r.having = make(map[context.Context]bool)
	}
	r.having[ctx] = false
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.having, ctx)
	}
}

// printedTo reports whether lines were printed to the attempt of ctx.
func (r *ProgramRun) printedTo(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.having[ctx]
}

// attribute prints a line to the attempt that it belongs to. With several deliveries at a time that is not known, and the line belongs to
// none.
func (r *ProgramRun) attribute(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.having) != 1 {
		return
	}
	for ctx := range r.having {
		r.having[ctx] = true
		fmt.Fprintln(server.Output(ctx), strings.TrimRight(escapes.ReplaceAllString(line, ""), " \t")) // it never blocks
	}
}
