package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui/inspector"
)

// newInspector wires the private face to this server.
func (s *Server) newInspector(q *queue.Queue, token string) *inspector.Inspector {
	return inspector.New(inspector.Config{
		Queue:   q,
		Token:   token,
		Replay:  s.replay,
		Trigger: s.trigger,
		Status:  s.status,
		Output:  s.liveOutput,
		Metrics: s.metrics.handler(),
	})
}

// replay stores the delivery id once more, with another body unless body is nil, and returns the new one's ID.
func (s *Server) replay(ctx context.Context, id string, body []byte) (string, error) {
	q := s.queue.Load()
	record, err := q.Get(ctx, id)
	if err != nil {
		return "", err
	}
	e := s.endpointOf(record.Endpoint)
	if e == nil {
		return "", &inspector.Refusal{Status: http.StatusConflict, Err: fmt.Errorf("replay %s: no endpoint is called %q any more", id, record.Endpoint)}
	}
	if body == nil {
		body = record.Body
	}
	p, unusable := payload.Parse(body)
	a := newArrival(e.name, record.Header, body, p, unusable)
	s.askKeys(&a, e, false) // a replay is not held back: the user wants this delivery handled, and no later one in its place
	a.WebhookID, a.ReplayOf, a.Synthetic = record.WebhookID, record.ID, record.Synthetic
	receipt, err := q.Accept(ctx, a)
	if err != nil {
		return "", err
	}
	return receipt.ID, nil
}

// sampleKey marks the context of a request that trigger makes.
type sampleKey struct{}

func isSample(ctx context.Context) bool {
	_, is := ctx.Value(sampleKey{}).(bool)
	return is
}

// trigger sends a sample event, or a stored delivery's body with changes, through the front door and returns the delivery's ID.
func (s *Server) trigger(ctx context.Context, t api.Trigger) (string, error) {
	body, err := s.sampleBody(ctx, &t)
	if err != nil {
		return "", err
	}
	name := t.Endpoint
	if name == "" {
		endpoints := s.listed()
		if len(endpoints) != 1 {
			return "", &inspector.Refusal{Status: http.StatusUnprocessableEntity,
				Err: fmt.Errorf("trigger: name one of the endpoints %v", s.names())}
		}
		name = endpoints[0].name
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), sampleKey{}, true)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/webhooks/"+name, bytes.NewReader(body))
	if err != nil {
		return "", &inspector.Refusal{Status: http.StatusUnprocessableEntity, Err: fmt.Errorf("trigger: %w", err)}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "hubhook/"+version.String())
	if s.secrets.defined() {
		r.Header.Set(secretHeader, s.secrets.texts[0])
	}
	w := &kept{header: http.Header{}}
	s.public.ServeHTTP(w, r)
	if id := w.header.Get(deliveryHeader); id != "" {
		return id, nil
	}
	var refused api.Error
	if err := json.Unmarshal(w.body.Bytes(), &refused); err != nil {
		return "", fmt.Errorf("trigger %s: the endpoint answered %d without saying why", name, w.status)
	}
	err = fmt.Errorf("trigger %s: %s", name, refused.Error)
	if w.status < 500 {
		return "", &inspector.Refusal{Status: w.status, Err: err}
	}
	return "", err
}

// kept is an answer that is kept in memory, for a request of this process itself.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) WriteHeader(status int)      { k.status = status }
func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }

// sampleBody returns the body that t asks for. If t starts from a stored delivery and names no endpoint, it goes to that delivery's
// endpoint.
func (s *Server) sampleBody(ctx context.Context, t *api.Trigger) ([]byte, error) {
	if t.From == "" {
		p, err := payload.Sample(payload.Scope(t.Scope), payload.Action(t.Action), t.Set)
		if err != nil {
			return nil, &inspector.Refusal{Status: http.StatusUnprocessableEntity, Err: fmt.Errorf("trigger: %w", err)}
		}
		return p.Raw(), nil
	}
	record, err := s.queue.Load().Get(ctx, t.From)
	if err != nil {
		return nil, err
	}
	if t.Endpoint == "" {
		t.Endpoint = record.Endpoint
	}
	return record.Body, nil
}

func (s *Server) status(context.Context) (api.Status, error) {
	w := s.where.get()
	st := api.Status{
		Version: version.String(),
		PID:     os.Getpid(),
		Started: api.Time{Time: w.started},
		Data:    s.settings.Data,
		Addresses: api.Addresses{
			Local:     w.local,
			Public:    w.public,
			Inspector: w.inspector,
		},
		Endpoints: s.endpointURLs(s.publicBase()),
		Upstreams: []api.Upstream{},
		Loops:     s.loops.current(time.Now()),
		Webhooks:  s.webhooks(),
		Followed:  s.followed(),
		Secret:    strength(s.secrets.texts),
	}
	if s.joined != nil {
		st.Program = s.joined.state()
	}
	if s.upstreams != nil {
		st.Upstreams = s.upstreams.Now()
		for i := range st.Upstreams {
			st.Upstreams[i].Error = s.secrets.hide.Redact(st.Upstreams[i].Error)
		}
	}
	if w.tunnel.Provider != "" {
		t := w.tunnel
		st.Tunnel = &api.Tunnel{Provider: t.Provider, Phase: t.Phase, URL: t.URL, Error: t.Error, Since: t.Time, LastProbe: w.probe}
	}
	return st, nil
}
