package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/ui"
)

// provider returns what opens the public URL: the provider of the settings, or that of an answer, if there is one.
func (r *run) provider(answer choice) tunnel.Provider {
	if r.settings.Provider != nil {
		return r.settings.Provider
	}
	chosen, _ := tunnel.Lookup(cmp.Or(answer.provider, r.settings.Tunnel)) // decideTunnel has refused what is not there
	settings := r.providerSettings(answer)
	settings.Prove = r.prober.Check
	settings.Connecting = func(try int, err error) {
		if try&(try-1) != 0 { // the first, then ever fewer: 2, 4, 8
			return
		}
		r.showTunnel(api.TunnelChange{Provider: chosen.Name, Phase: tunnel.Connecting.String(), Error: fmt.Sprintf("try %d: %s", try, cause(err))})
	}
	settings.Say = func(line string) { r.screen.Info(ui.Notice{Text: line}) }
	if r.settings.Keys != nil && !r.settings.JSON && ui.CanReadKeys(r.settings.Keys) {
		settings.Ask = r.ask
	}
	return chosen.New(settings)
}

// ask asks for something that must not be shown. Only the first try to open the tunnel may ask: later ones have keys typed beside them.
func (r *run) ask(ctx context.Context, question string) (string, error) {
	if r.shown.Load() {
		return "", errors.New("the time to ask for it is over; start again")
	}
	r.screen.Info(ui.Notice{Text: question + " (it is not shown; Enter alone gives up):"})
	return ui.ReadSecret(ctx, r.settings.Keys)
}

// cause returns the text of err without what was tried, which the tunnel's line on the screen says already.
func cause(err error) string {
	var e *tunnel.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e.Code != "" {
		return e.Code + ": " + e.Cause
	}
	return e.Cause
}

// publicURLProvider stands for a provider where something else forwards to hubhook, from Config.PublicURL.
const publicURLProvider = "public-url"

// notePublicURL notes Config.PublicURL as the public URL. It counts as online, because there is nothing to open; the checks say whether it
// leads here.
func (r *run) notePublicURL() {
	url := r.settings.PublicURL
	r.setWay(url, keep.Pending)
	r.noteTunnel(api.TunnelChange{Time: api.Time{Time: time.Now()}, Provider: publicURLProvider, Phase: tunnel.Online.String(), URL: url})
}

// openTunnel opens the public URL, or says why there is none, and then reports whether a later try may succeed. The local server serves in
// the meantime, and goes on in any case.
func (r *run) openTunnel(ctx context.Context, p tunnel.Provider) (again bool) {
	t, err := p.Open(ctx)
	if err != nil {
		if ctx.Err() == nil { // nobody asked to stop
			again = r.showFailure(p, err)
			r.setWay("", keep.Unchecked)
		}
		return again
	}
	r.tunnel = t
	r.listenTunnel()
	if url := t.URL(); url != "" {
		r.where.set(func(w *places) { w.public = url })
		r.setWay(url, keep.Pending)
		r.metrics.tunnelUp.Store(1)
		r.noteTunnel(api.TunnelChange{Time: api.Time{Time: time.Now()}, Provider: p.Name(), Phase: tunnel.Online.String(), URL: url})
	}
	return false
}

// showFailure says why the tunnel could not be opened, once for each cause in a row, and reports whether a later try may succeed.
func (r *run) showFailure(p tunnel.Provider, err error) (again bool) {
	view := api.TunnelChange{Provider: p.Name(), Phase: "failed", Error: cause(err), Hint: text.Hint(err)}
	if known, ok := tunnel.Lookup(p.Name()); ok && errors.Is(err, tunnel.ErrNoCredential) {
		view.Error, view.Hint = known.NoCredential, known.NoCredentialHint
	}
	var e *tunnel.Error
	if again = errors.As(err, &e) && e.Temporary; again {
		view.Hint += "\nit is tried again from time to time"
	}
	if before := r.where.get().tunnel; before.Phase != view.Phase || before.Error != view.Error {
		r.showTunnel(view)
	}
	return again
}

// firstTunnel calls openTunnel at the start, where the banner waits for it.
func (r *run) firstTunnel(ctx context.Context, p tunnel.Provider) (again bool) {
	r.where.set(func(w *places) { w.tunnel.Provider = p.Name() })
	slow := time.AfterFunc(time.Second, func() {
		r.screen.Info(ui.Notice{Text: fmt.Sprintf("Opening the %s tunnel. %s works meanwhile.", p.Name(), r.where.get().local)})
	})
	defer slow.Stop()
	return r.openTunnel(ctx, p)
}

// keepOpening tries again to open a tunnel that could not be opened at the start, on a laptop that was offline then, say.
func (r *run) keepOpening(ctx context.Context, p tunnel.Provider) {
	again := true
	for wait := r.settings.tunnelRetry; again; wait = min(2*wait, time.Minute) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		again = r.openTunnel(ctx, p)
	}
	if r.tunnel == nil {
		return
	}
	if url := r.tunnel.URL(); url != "" {
		r.screen.Tunnel(api.TunnelChange{Time: api.Time{Time: time.Now()}, Provider: p.Name(), Phase: tunnel.Online.String(), URL: url, Endpoints: r.endpointURLs(url), Kept: r.keepsAll()})
	}
	r.attendTunnel(ctx)
}

// attendTunnel shows what becomes of the tunnel and checks that it leads here.
func (r *run) attendTunnel(ctx context.Context) {
	r.tasks.Go(r.watchTunnel)
	r.tasks.Go(func() { r.probe(ctx) })
	r.prober.wanted()
}

// watchTunnel shows what becomes of the tunnel until it has ended.
func (r *run) watchTunnel() {
	for state := range r.tunnel.States() {
		before := r.where.get()
		view := api.TunnelChange{Time: api.Time{Time: state.Since}, Provider: before.tunnel.Provider, Phase: state.Phase.String(), URL: state.URL}
		if state.Err != nil {
			view.Error, view.Hint = cause(state.Err), text.Hint(state.Err)
		}
		online := state.Phase == tunnel.Online || state.Phase == tunnel.URLChanged
		if online && state.URL == before.tunnel.URL && before.tunnel.Phase == tunnel.Online.String() {
			continue // the banner has said it
		}
		r.setWay(cmp.Or(state.URL, before.public), keep.Pending)
		if online {
			r.metrics.tunnelUp.Store(1)
			r.prober.wanted()
			if state.URL != before.public {
				r.where.set(func(w *places) { w.public = state.URL })
				view.Endpoints, view.Kept = r.endpointURLs(state.URL), r.keepsAll()
			}
		} else {
			r.metrics.tunnelUp.Store(0)
		}
		r.noteTunnel(view)
		r.screen.Tunnel(view)
	}
}

// showTunnel shows a new state of the tunnel on the screen and in the inspector.
func (r *run) showTunnel(t api.TunnelChange) {
	t.Time = api.Time{Time: time.Now()}
	r.noteTunnel(t)
	r.screen.Tunnel(t)
}

// noteTunnel puts the tunnel's state into the inspector.
func (r *run) noteTunnel(t api.TunnelChange) {
	r.where.set(func(w *places) { w.tunnel, w.lost = t, false })
	r.publishTunnel(t)
}

// publishTunnel adds a change to the inspector's history of the tunnel.
func (r *run) publishTunnel(t api.TunnelChange) {
	if private := r.private.Load(); private != nil {
		private.Tunnel(t)
	}
}

// retireTunnel stops new requests at the tunnel's service and lets running ones finish.
func (r *run) retireTunnel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r.tunnel.Retire(ctx)
}
