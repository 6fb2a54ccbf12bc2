package action

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/server"
)

// Live has the endpoints of a command line and of a configuration file registered with a server, while the file is edited.
type Live struct {
	server *server.Server
	fixed  []*Endpoint // of the command line; they replace those of the file
	spare  string      // the name of the endpoint that is served where neither the command line nor the file has one

	mu      sync.Mutex  // guards what follows
	start   *File       // the version that the server was started with
	serving []*Endpoint // those that are registered
}

// NewLive registers with s the endpoints of f, those of flagged, and one for each of names. An endpoint of names stores and shows its
// deliveries, unless f says more of it. Where that makes none at all, the one called spare is served.
func NewLive(s *server.Server, flagged []*Endpoint, names []string, spare string, f *File) (*Live, error) {
	l := &Live{server: s, fixed: slices.Clone(flagged), spare: spare, start: f}
	for _, name := range names {
		if !has(l.fixed, name) {
			l.fixed = append(l.fixed, &Endpoint{Name: name})
		}
	}
	return l, l.take(f)
}

func has(endpoints []*Endpoint, name string) bool { return find(endpoints, name) != nil }

func find(endpoints []*Endpoint, name string) *Endpoint {
	i := slices.IndexFunc(endpoints, func(e *Endpoint) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return endpoints[i]
}

// wanted are the endpoints that a server has with f: the same whether it is started with f or f comes later.
func (l *Live) wanted(f *File) []*Endpoint {
	var all []*Endpoint
	for _, e := range f.Endpoints {
		if flagged := find(l.fixed, e.Name); flagged == nil || flagged.nameOnly() {
			all = append(all, e)
		}
	}
	for _, e := range l.fixed {
		if !has(all, e.Name) {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		all = append(all, &Endpoint{Name: l.spare})
	}
	return all
}

// Replace makes the server work as f says. Endpoints come and go, and attempts that start from now on have f's settings. Those that run go
// on as they began. It returns the settings whose change waits for the next start.
func (l *Live) Replace(f *File) (later []string, err error) {
	if err := l.take(f); err != nil {
		return nil, err
	}
	return l.start.ChangedSettings(f), nil
}

// take registers what f wants, and removes the rest.
func (l *Live) take(f *File) error {
	wanted := l.wanted(f)
	for i, e := range wanted {
		old := find(l.serving, e.Name)
		if old != nil && old.same(e) {
			if old != e {
				e.Close()
			}
			wanted[i] = old
			continue
		}
		if old != nil {
			e.keepUpstream(old)
		}
		if err := l.server.Replace(e.Name, e.handler, e.Options()...); err != nil {
			return err
		}
	}
	l.mu.Lock()
	gone := l.serving
	l.serving = wanted
	l.mu.Unlock()
	for _, e := range gone {
		if !has(wanted, e.Name) {
			if err := l.server.Remove(e.Name); err != nil {
				return err
			}
		}
		if now := find(wanted, e.Name); now == nil || now.upstream != e.upstream {
			e.Close()
		}
	}
	return nil
}

// Upstreams returns the state of each URL that deliveries are forwarded to.
func (l *Live) Upstreams() []api.Upstream {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []api.Upstream{}
	for _, e := range l.serving {
		if h, ok := e.Health(); ok {
			all = append(all, h.View(e.Name))
		}
	}
	return all
}

// Close lets go of what the endpoints hold.
func (l *Live) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.serving {
		e.Close()
	}
}

// ChangedSettings returns the names of the settings that differ in now, sorted. They take effect when hubhook starts.
func (f *File) ChangedSettings(now *File) []string {
	names := map[string]bool{}
	for name, v := range f.Values {
		names[name] = !slices.Equal(v.Texts, now.Values[name].Texts)
	}
	for name, v := range now.Values {
		names[name] = !slices.Equal(v.Texts, f.Values[name].Texts)
	}
	return slices.DeleteFunc(sorted(names), func(name string) bool { return !names[name] })
}

// nameOnly reports whether nothing but the name of e was given.
func (e *Endpoint) nameOnly() bool { return e.same(&Endpoint{Name: e.Name}) }

// same reports whether two endpoints work alike.
func (e *Endpoint) same(other *Endpoint) bool { return e.settings() == other.settings() }

func (e *Endpoint) settings() string {
	target := ""
	if e.upstream != nil {
		target = e.upstream.user + " " + e.upstream.target.String()
	}
	return fmt.Sprintf("%q %d %d %d %d", []string{e.Name, e.If, e.Run, target, e.SerialBy}, e.Timeout, e.Attempts, e.Debounce, e.Concurrency)
}

// keepUpstream gives e the forward of old, with its connections and its health, if both go to the same URL.
func (e *Endpoint) keepUpstream(old *Endpoint) {
	if e.upstream == nil || old.upstream == nil || e.upstream.user != old.upstream.user || e.upstream.target.String() != old.upstream.target.String() {
		return
	}
	e.Close()
	e.upstream, e.handler = old.upstream, old.handler
}

// View returns h for the inspector.
func (h Health) View(endpoint string) api.Upstream {
	u := api.Upstream{Endpoint: endpoint, URL: h.URL, State: "untried", Error: h.Error}
	if !h.Since.IsZero() {
		u.State, u.Since = "failing", &api.Time{Time: h.Since}
		if h.Up {
			u.State = "ok"
		}
	}
	if !h.Failed.IsZero() {
		u.Failed = &api.Time{Time: h.Failed}
	}
	return u
}
