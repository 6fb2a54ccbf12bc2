package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/follow"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
)

// checkCatchUp returns an error where there is nothing to catch up with. What a program under `hubhook dev` watches is not known yet.
func (s *Server) checkCatchUp() error {
	if !s.settings.CatchUp || s.joined != nil || len(s.settings.watched)+len(s.settings.borrowed) > 0 {
		return nil
	}
	if slices.ContainsFunc(s.endpoints.all(), func(e *endpoint) bool { return len(e.watched)+len(e.borrowed) > 0 }) {
		return nil
	}
	return &ConfigError{text: s.settings.places["catch-up"] + ": there is no webhook to catch up with",
		hint: "add --watch dataset:me/data or --webhook ID; what is followed with --follow needs no catching up"}
}

// openCatchUp makes the CatchUp if the settings ask for it. client is that of the keeper.
func (r *run) openCatchUp(client *hub.Client) {
	if !r.settings.CatchUp {
		return
	}
	keeper := r.keeping.keeper
	r.catchUp.Store(follow.NewCatchUp(follow.CatchUpConfig{
		Hub: client, Store: past{followStore{s: r.Server, q: r.store, sameFor: follow.LateFor}}, Task: keepTask,
		Items: func() (items []follow.CatchUpItem) {
			for _, it := range keeper.Watched() {
				items = append(items, follow.CatchUpItem(it))
			}
			return items
		},
		Warn: func(err error) { r.screen.Warn(ui.Notice{Text: err.Error(), Hint: text.Hint(err)}) },
	}))
}

// keepAndCatchUp keeps webhooks and catches up until ctx ends.
func (r *run) keepAndCatchUp(ctx context.Context) {
	var catching sync.WaitGroup
	if c := r.catchUp.Load(); c != nil {
		catching.Go(func() { c.Run(ctx) })
	}
	r.keeping.keeper.Run(ctx)
	catching.Wait()
}

// wayIs notes whether the Hub can reach the endpoints. If it can again, hubhook catches up, because deliveries that the Hub sent before may
// be lost.
func (s *Server) wayIs(p keep.Proof) {
	if was := s.wayOpen.Swap(p.Open()); p.Open() && !was {
		s.catchUpNow()
	}
}

// catchUpNow starts a look at everything, if catching up is on.
func (s *Server) catchUpNow() {
	if c := s.catchUp.Load(); c != nil {
		c.Wake()
	}
}

// sameAsCaughtUp gives a late delivery of the Hub the Webhook-Id of the delivery that catching up made of the same change, so that it is a duplicate.
func (s *Server) sameAsCaughtUp(ctx context.Context, a *queue.Arrival, p *payload.Payload) {
	c := s.catchUp.Load()
	if c == nil || a.Synthetic {
		return
	}
	// If the store can't be asked, the delivery is accepted: twice is better than never.
	if first, err := c.Caught(ctx, a.Endpoint, p); err == nil && first != "" {
		a.WebhookID, a.SameFor = first, follow.LateFor
	}
}

// past is where catching up keeps its marks and deliveries, and looks up the deliveries of the Hub.
type past struct{ followStore }

// Brought implements follow.Past.
func (ps past) Brought(ctx context.Context, endpoint string, repo hub.RepoID, since time.Time) (all []*payload.Payload, err error) {
	f := queue.Filter{Endpoint: endpoint, Scope: string(payload.ScopeRepo), Repo: repo.String(), Since: since, Limit: 1000}
	for {
		page, next, err := ps.q.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, d := range page {
			if d.Synthetic || d.ReplayOf != "" {
				continue
			}
			record, err := ps.q.Get(ctx, d.ID)
			if err != nil {
				return nil, err
			}
			if p, err := payload.Parse(record.Body); err == nil {
				all = append(all, p)
			}
		}
		if f.Before = next; next == "" {
			return all, nil
		}
	}
}
