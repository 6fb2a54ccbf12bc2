package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// Live is a configuration file whose endpoints a server has, while the file is edited.
type Live struct {
	start     *File // the version that the server was started with
	endpoints []*liveEndpoint
}

// liveEndpoint is an endpoint of which the newest version handles the deliveries.
type liveEndpoint struct {
	start *Endpoint // as it was registered
	now   atomic.Pointer[Endpoint]
}

// NewLive returns f's endpoints for a server, but for those that leaveOut names.
func NewLive(f *File, leaveOut func(name string) bool) *Live {
	l := &Live{start: f}
	for _, e := range f.Endpoints {
		if leaveOut(e.Name) {
			continue
		}
		live := &liveEndpoint{start: e}
		live.now.Store(e)
		l.endpoints = append(l.endpoints, live)
	}
	return l
}

// Register registers the endpoints with s.
func (l *Live) Register(s *server.Server) {
	for _, e := range l.endpoints {
		if e.start.storesOnly() {
			s.Handle(e.start.Name, nil, e.start.Options()...)
			continue
		}
		// The later of two options counts. The time of an attempt is bounded here, as a server's timeout is fixed.
		s.Handle(e.start.Name, e.handle, append(e.start.Options(), server.WhenChecked(e.keep), server.Timeout(math.MaxInt64))...)
	}
}

// Replace has deliveries handled as f says: attempts that start from now on have its commands, URLs, filters and timeouts. It returns what
// else has changed since the start, and so needs a restart: settings, endpoints and their keys.
func (l *Live) Replace(f *File) (later []string) {
	served := map[string]bool{}
	for _, e := range l.endpoints {
		name := e.start.Name
		served[name] = true
		i := slices.IndexFunc(f.Endpoints, func(other *Endpoint) bool { return other.Name == name })
		if i < 0 {
			later = append(later, "endpoint "+name+" is gone")
			continue
		}
		for _, key := range e.start.fixed(f.Endpoints[i]) {
			later = append(later, name+": "+key)
		}
		e.now.Swap(f.Endpoints[i]).Close()
	}
	for _, e := range f.Endpoints {
		known := func(other *Endpoint) bool { return other.Name == e.Name }
		if !served[e.Name] && !slices.ContainsFunc(l.start.Endpoints, known) {
			later = append(later, "endpoint "+e.Name+" is new")
		}
	}
	return append(later, changedValues(l.start.Values, f.Values)...)
}

// changedValues returns the names of settings that differ.
func changedValues(start, now map[string]Value) []string {
	names := map[string]bool{}
	for name, v := range start {
		names[name] = !slices.Equal(v.Texts, now[name].Texts)
	}
	for name, v := range now {
		names[name] = !slices.Equal(v.Texts, start[name].Texts)
	}
	return slices.DeleteFunc(sorted(names), func(name string) bool { return !names[name] })
}

// Has reports whether an endpoint has that name.
func (l *Live) Has(name string) bool {
	return slices.ContainsFunc(l.endpoints, func(e *liveEndpoint) bool { return e.start.Name == name })
}

// Close lets go of what the endpoints hold.
func (l *Live) Close() {
	for _, e := range l.endpoints {
		e.now.Load().Close()
	}
}

// storesOnly reports whether deliveries of e are stored and shown, and nothing else.
func (e *Endpoint) storesOnly() bool { return e.handler == nil && e.filter == nil }

// fixed returns the keys in which other differs from e and which a running server can't take up.
func (e *Endpoint) fixed(other *Endpoint) (keys []string) {
	for key, differs := range map[string]bool{
		"attempts":    e.Attempts != other.Attempts,
		"serial_by":   e.SerialBy != other.SerialBy,
		"debounce":    e.Debounce != other.Debounce,
		"concurrency": e.Concurrency != other.Concurrency,
		"if":          e.storesOnly() && other.filter != nil,
		"run":         e.storesOnly() && other.Run != "",
		"forward":     e.storesOnly() && other.Forward != "",
	} {
		if differs {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// attemptTime is how long an attempt may take where the file says nothing: as long as the server's default.
const attemptTime = time.Hour

var errAttemptTime = errors.New("the endpoint's timeout has passed")

// keep is the newest filter.
func (l *liveEndpoint) keep(ctx context.Context, p *payload.Payload) (keep bool, why string, err error) {
	e := l.now.Load()
	if e.filter == nil {
		return true, "", nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(e.Timeout, attemptTime), errAttemptTime)
	defer cancel()
	return e.keep(ctx, p)
}

// handle is the newest handler.
func (l *liveEndpoint) handle(ctx context.Context, p *payload.Payload) (any, error) {
	e := l.now.Load()
	if e.handler == nil {
		return nil, nil
	}
	limit := cmp.Or(e.Timeout, attemptTime)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errAttemptTime)
	defer cancel()
	result, err := e.handler(ctx, p)
	if err != nil && errors.Is(context.Cause(ctx), errAttemptTime) {
		err = fmt.Errorf("timed out after %v: %w", limit, err)
	}
	return result, err
}
