package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/ui"
)

// mostUnnamed bounds the endpoints that deliveries are taken for before the program has named any: strangers choose these names.
const mostUnnamed = 64

// joined is the program of `hubhook dev`, whose endpoints become known while the server runs. It is a companion.Server.
type joined struct {
	server  *Server
	program *companion.Program
	shown   chan struct{}

	askWhich sync.Once // said that a webhook to borrow needs an endpoint

	mu     sync.Mutex // guards what follows
	byName map[string]*endpoint
	named  []*endpoint // those that the program has named; all of them are in byName
	paused bool        // as it is until the program listens
	now    api.Program // how the program stands; without a Name before it was started
}

// join has s take deliveries for p.
func (s *Server) join(p *companion.Program) {
	s.joined = &joined{server: s, program: p, shown: make(chan struct{}), byName: map[string]*endpoint{}, paused: true}
	p.Attach(s.joined)
}

// endpointOf returns the endpoint of that name, nil for none.
func (s *Server) endpointOf(name string) *endpoint {
	if e := s.endpoints.named(name); e != nil || s.joined == nil {
		return e
	}
	s.joined.mu.Lock()
	defer s.joined.mu.Unlock()
	return s.joined.byName[name]
}

// listed returns the endpoints that people are told of.
func (s *Server) listed() []*endpoint {
	if s.joined == nil {
		return s.endpoints.all()
	}
	s.joined.mu.Lock()
	defer s.joined.mu.Unlock()
	return append(slices.Clip(s.endpoints.all()), s.joined.named...)
}

// candidate returns the endpoint that a delivery to an unknown name may go to, nil for none. Until the program has named its endpoints any
// name may be one. The endpoint takes deliveries after admit.
func (j *joined) candidate(name string) *endpoint {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.named) > 0 || len(j.byName) >= mostUnnamed {
		return nil
	}
	e, err := j.make(name)
	if err != nil || e.name != name {
		return nil
	}
	return e
}

func (j *joined) make(name string) (*endpoint, error) {
	e, err := newEndpoint(name, nil, []Option{Concurrency(1)}) // in order, and what it prints belongs to the one that it has
	if err == nil {
		e.handler = j.program.Handler(e.name)
	}
	return e, err
}

// admit serves a candidate, and returns the endpoint of that name.
func (j *joined) admit(candidate *endpoint) (*endpoint, *refusal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, err := j.serve(candidate)
	if err != nil {
		return nil, j.server.storeRefusal(err)
	}
	return e, nil
}

// serve makes the queue take deliveries for an endpoint, unless it does already. The caller holds j.mu.
func (j *joined) serve(e *endpoint) (*endpoint, error) {
	if known := j.byName[e.name]; known != nil {
		return known, nil
	}
	q := j.server.queue.Load()
	if q == nil {
		return nil, errNotOpen
	}
	if err := q.Serve(j.server.queueEndpoint(e), j.paused); err != nil {
		return nil, err
	}
	j.server.metrics.add(e.name)
	j.byName[e.name] = e
	return e, nil
}

// left makes the endpoints for which an earlier run left deliveries. They are served once the queue has started.
func (j *joined) left(ctx context.Context, q *queue.Queue) error {
	counts, err := q.Counts(ctx)
	if err != nil {
		return fmt.Errorf("look for what an earlier run left unfinished: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, states := range counts {
		unfinished := false
		for state, n := range states {
			unfinished = unfinished || n > 0 && !state.Finished()
		}
		if !unfinished || j.server.endpoints.named(name) != nil {
			continue
		}
		if e, err := j.make(name); err == nil { // otherwise it is of another program, and its name can't be served
			j.byName[name] = e
		}
	}
	return nil
}

// serveLeft begins to serve what left has found.
func (j *joined) serveLeft() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, e := range j.byName {
		delete(j.byName, name)
		if _, err := j.serve(e); err != nil {
			return err
		}
	}
	return nil
}

// Shown implements companion.Server.
func (j *joined) Shown() <-chan struct{} { return j.shown }

// Asking implements companion.Server.
func (j *joined) Asking() bool { return j.server.asking.Load() }

// Secret implements companion.Server.
func (j *joined) Secret() string {
	if texts := j.server.secrets.texts; len(texts) > 0 {
		return texts[0]
	}
	return ""
}

// PublicURL implements companion.Server.
func (j *joined) PublicURL() string { return j.server.where.get().public }

// Name implements companion.Server.
func (j *joined) Name(endpoints []string) error {
	defer j.server.keepEndpoints()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, name := range endpoints {
		if slices.ContainsFunc(j.named, func(e *endpoint) bool { return e.name == name }) {
			continue
		}
		e, err := j.make(name)
		if err == nil {
			e, err = j.serve(e)
		}
		if err != nil {
			return err
		}
		j.named = append(j.named, e)
	}
	return nil
}

// hasNamed reports whether the program has said which endpoints it has.
func (j *joined) hasNamed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.named) > 0
}

// Pause implements companion.Server.
func (j *joined) Pause() { j.setPaused(true) }

// Resume implements companion.Server.
func (j *joined) Resume() { j.setPaused(false) }

func (j *joined) setPaused(paused bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.paused = paused
	q := j.server.queue.Load()
	if q == nil {
		return
	}
	for name := range j.byName {
		if paused {
			q.Pause(name)
		} else {
			q.Resume(name)
		}
	}
}

// Replay implements companion.Server.
func (j *joined) Replay(ctx context.Context, id string) error {
	_, err := j.server.replay(ctx, id, nil)
	return err
}

// Show implements companion.Server. It says the endpoints' URLs where the event has their names only.
func (j *joined) Show(event api.ProgramEvent) {
	for i := range event.Endpoints {
		event.Endpoints[i].URL = j.server.endpointURL(j.server.publicBase(), event.Endpoints[i].Name)
	}
	event.Text = j.server.secrets.hide.Redact(event.Text)
	event.Kept = j.server.keptFor(event.Endpoints)
	j.note(event)
	j.server.screen.Program(event)
}

// note keeps the program's state. Some events say nothing of it.
func (j *joined) note(event api.ProgramEvent) {
	switch event.Phase {
	case "endpoints", "advice", "paused", "resumed":
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = api.Program{Name: event.Program, Phase: event.Phase, Since: api.Time{Time: time.Now()}, Text: event.Text, Hint: event.Hint}
}

// state returns the program's state, nil before it was started.
func (j *joined) state() *api.Program {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now.Name == "" {
		return nil
	}
	return new(j.now)
}

// Print implements companion.Server.
func (j *joined) Print(line api.ProgramOutput) {
	line.Output = j.server.secrets.hide.Redact(line.Output)
	j.server.screen.ProgramOutput(line)
}

// Warn implements companion.Server.
func (j *joined) Warn(text, hint string) {
	j.server.screen.Warn(ui.Notice{Text: j.server.secrets.hide.Redact(text), Hint: hint})
}
