package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/ui"
)

// endpoints are those that are registered. Reading them takes no lock; who changes them holds Server.mu.
type endpoints struct {
	now atomic.Pointer[endpointTable] // nil for none
}

// endpointTable never changes once it is stored.
type endpointTable struct {
	list   []*endpoint // in the order in which they were registered
	byName map[string]*endpoint
}

// named returns the endpoint of that name, nil for none.
func (all *endpoints) named(name string) *endpoint { return all.now.Load().named(name) }

func (t *endpointTable) named(name string) *endpoint {
	if t == nil {
		return nil
	}
	return t.byName[name]
}

// all returns the endpoints. The caller must not change the list.
func (all *endpoints) all() []*endpoint {
	if t := all.now.Load(); t != nil {
		return t.list
	}
	return nil
}

// change stores a changed copy.
func (all *endpoints) change(change func(*endpointTable)) {
	t := &endpointTable{byName: map[string]*endpoint{}}
	if old := all.now.Load(); old != nil {
		t.list, t.byName = slices.Clone(old.list), maps.Clone(old.byName)
	}
	change(t)
	all.now.Store(t)
}

// set adds e, in the place of another one of its name.
func (all *endpoints) set(e *endpoint) {
	all.change(func(t *endpointTable) {
		if i := slices.IndexFunc(t.list, func(other *endpoint) bool { return other.name == e.name }); i >= 0 {
			t.list[i] = e
		} else {
			t.list = append(t.list, e)
		}
		t.byName[e.name] = e
	})
}

func (all *endpoints) remove(name string) {
	all.change(func(t *endpointTable) {
		t.list = slices.DeleteFunc(t.list, func(e *endpoint) bool { return e.name == name })
		delete(t.byName, name)
	})
}

// Handle registers h for POST /webhooks/NAME. A name has letters, digits, '_', '-' and '.' in segments joined by '/'; a leading or
// trailing '/' is cut. With a nil h, deliveries are stored, shown and answered {}. Handle panics if the name is bad or taken, if an option
// is wrong, or once the server runs; [Server.Replace] is for later.
func (s *Server) Handle(name string, h Handler, opts ...Option) {
	e, err := newEndpoint(name, h, opts)
	if err != nil {
		panic("server: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		panic(fmt.Sprintf("server: endpoint %s registered after the server was started", e.name))
	}
	if s.endpoints.named(e.name) != nil {
		panic(fmt.Sprintf("server: endpoint %s is registered already", e.name))
	}
	s.endpoints.set(e)
}

// Add is Handle under the function's own name in snake_case: TriggerTraining serves /webhooks/trigger_training. It panics for a
// closure, which has no usable name.
func (s *Server) Add(h Handler, opts ...Option) {
	if h == nil {
		panic("server: Add of a nil handler; a handler-less endpoint needs a name, so use Handle")
	}
	name, ok := functionName(h)
	if !ok {
		panic("server: Add of a function without a name of its own; use Handle, which takes the name of the endpoint")
	}
	s.Handle(name, h, opts...)
}

// Replace is [Server.Handle] at any time, before the server runs and while it does. The endpoint of that name, if there is one, has this
// handler and these options from now on; attempts that run end with the handler that they have. Where deliveries wait for an endpoint that
// is new, they are handled; with a nil h they wait for the next handler. Options that are left out have their defaults: nothing is kept of
// the earlier ones. The error is a bad name or option, one that comes too late, as [Watch] says, or that the server shuts down.
func (s *Server) Replace(name string, h Handler, opts ...Option) error {
	e, err := newEndpoint(name, h, opts)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.endpoints.set(e)
		return nil
	}
	q, known := s.queue.Load(), s.endpoints.named(e.name) != nil
	switch err = e.checkKeptSince(s.atStart.named(e.name)); {
	case err != nil:
	case q == nil: // a Job
		err = errNotOpen
	case known:
		err = q.Change(s.queueEndpoint(e))
	default:
		s.metrics.add(e.name)
		err = q.Serve(s.queueEndpoint(e), false)
	}
	if err != nil {
		return fmt.Errorf("replace endpoint %s: %w", e.name, err)
	}
	s.endpoints.set(e)
	s.warnOfHolding(e)
	if base := s.publicBase(); !known && base != "" {
		s.screen.Info(ui.Notice{Text: "New endpoint: POST " + s.endpointURL(base, e.name)})
	}
	s.endpointsChanged()
	if known && !e.handles() {
		s.warnOfLeft(q, e.name)
	}
	return nil
}

// Remove ends an endpoint at any time. New deliveries to it are answered 404. Attempts that run go on to their end. Deliveries that wait, for
// a first or another attempt, stay: they are handled once the endpoint is there again, in this run or a later one. Remove returns an error if
// there is no such endpoint, or if the server shuts down.
func (s *Server) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoints.named(name) == nil {
		return fmt.Errorf("remove endpoint %s: there is none of that name", name)
	}
	if !s.started {
		s.endpoints.remove(name)
		return nil
	}
	q, err := s.queue.Load(), errNotOpen
	if q != nil {
		err = q.Unserve(name)
	}
	if err != nil {
		return fmt.Errorf("remove endpoint %s: %w", name, err)
	}
	s.endpoints.remove(name)
	s.screen.Info(ui.Notice{Text: fmt.Sprintf("Endpoint %s is gone; deliveries to it are answered 404.", name)})
	s.endpointsChanged()
	s.warnOfLeft(q, name)
	return nil
}

// warnOfLeft looks for deliveries that wait for an endpoint that handles nothing any more, and warns of them.
func (s *Server) warnOfLeft(q *queue.Queue, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, err := q.Counts(ctx)
	if err != nil && !errors.Is(err, queue.ErrStopping) {
		s.screen.Warn(ui.Notice{Text: fmt.Sprintf("look for what waits for endpoint %s: %v", name, err)})
	}
	s.warnOfUnserved(name, counts[name])
}

// handles reports whether deliveries of an endpoint are handled here.
func (s *Server) handles(name string) bool {
	e := s.endpointOf(name)
	return e != nil && e.handles()
}

// warnOfUnserved warns of the deliveries that wait for an endpoint that is not served, or has no handler, and returns how many those are.
func (s *Server) warnOfUnserved(name string, counts map[queue.State]int64) (n int) {
	for state, count := range counts {
		if !state.Finished() && state != queue.Running {
			n += int(count)
		}
	}
	if n == 0 {
		return 0
	}
	wait := "wait"
	if n == 1 {
		wait = "waits"
	}
	is, fix := "is not served", "serve "+name+" again"
	if s.endpointOf(name) != nil {
		is, fix = "has no handler", "give it one"
	}
	s.screen.Warn(ui.Notice{
		Text: fmt.Sprintf("%s %s for endpoint %s, which %s", deliveries(n), wait, name, is),
		Hint: fmt.Sprintf("%s to have them handled; hubhook deliveries list --endpoint %s shows them, hubhook deliveries discard ID... gives them up", fix, name),
	})
	return n
}

// endpointsChanged tells those who need to know which endpoints there are.
func (s *Server) endpointsChanged() {
	s.keepEndpoints()
	s.statusChanged()
}

// statusChanged has the inspector's page ask for the status.
func (s *Server) statusChanged() {
	if private := s.private.Load(); private != nil {
		private.StatusChanged()
	}
}

// upstreamChanged says that what an endpoint forwards to no longer answers, or answers again.
func (s *Server) upstreamChanged(u api.Upstream) {
	if u.State == "ok" {
		s.screen.Info(ui.Notice{Text: fmt.Sprintf("Endpoint %s: %s answers again.", u.Endpoint, u.URL)})
	} else {
		s.screen.Warn(ui.Notice{Text: s.secrets.hide.Redact(fmt.Sprintf("endpoint %s: %s", u.Endpoint, u.Error)), Hint: "start the program that listens there"})
	}
	s.statusChanged()
}
