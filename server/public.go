package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/ui"
)

// provider returns what opens the public URL, nil where there is to be none.
func (r *run) provider() tunnel.Provider {
	switch {
	case r.config.production():
		return nil
	case r.config.Provider != nil:
		return r.config.Provider
	}
	return tunnel.NewNgrok(tunnel.NgrokConfig{
		Authtoken:       r.config.NgrokAuthtoken,
		AuthtokenSource: r.config.tokenSource,
		ConfigFile:      r.config.NgrokConfig,
		URL:             r.config.URL,
		Getenv: func(name string) string {
			value, _ := r.config.Getenv(name)
			return value
		},
		Version: Version(),
		Prove:   r.prober.check,
		Connecting: func(try int, err error) {
			if try&(try-1) != 0 { // the first, then ever fewer: 2, 4, 8
				return
			}
			r.showTunnel(ui.Tunnel{Provider: "ngrok", Phase: tunnel.Connecting.String(), Error: fmt.Sprintf("try %d: %s", try, cause(err))})
		},
	})
}

const credentialHint = `for a public URL get a free token at https://dashboard.ngrok.com/get-started/your-authtoken,
then start again with NGROK_AUTHTOKEN=TOKEN set (once for good: ngrok config add-authtoken TOKEN)`

// cause is err without the act that a tunnel's error names, which its line on the screen names already.
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

// openTunnel opens the public URL, or says why there is none. The local server serves in the meantime, and goes on in any case.
func (r *run) openTunnel(ctx context.Context) {
	p := r.provider()
	if p == nil {
		return
	}
	r.where.set(func(w *places) { w.tunnel.Provider = p.Name() })
	slow := time.AfterFunc(time.Second, func() {
		r.screen.Info(ui.Notice{Text: fmt.Sprintf("Opening the %s tunnel. %s works meanwhile.", p.Name(), r.where.get().local)})
	})
	t, err := p.Open(ctx)
	slow.Stop()
	switch {
	case err != nil && ctx.Err() != nil: // asked to stop meanwhile
	case errors.Is(err, tunnel.ErrNoCredential):
		r.showTunnel(ui.Tunnel{Provider: p.Name(), Phase: "failed", Error: "no ngrok authtoken was found, so only this machine can reach the endpoints", Hint: credentialHint})
	case err != nil:
		r.showTunnel(ui.Tunnel{Provider: p.Name(), Phase: "failed", Error: cause(err), Hint: hintOf(err)})
	default:
		r.tunnel = t
		r.listenTunnel()
		if url := t.URL(); url != "" {
			r.where.set(func(w *places) { w.public = url })
			r.metrics.tunnelUp.Store(1)
			r.noteTunnel(ui.Tunnel{Provider: p.Name(), Phase: tunnel.Online.String(), URL: url})
		}
	}
}

// watchTunnel shows what becomes of the tunnel until it has ended.
func (r *run) watchTunnel() {
	for state := range r.tunnel.States() {
		before := r.where.get()
		view := ui.Tunnel{Provider: before.tunnel.Provider, Phase: state.Phase.String(), URL: state.URL}
		if state.Err != nil {
			view.Error, view.Hint = cause(state.Err), hintOf(state.Err)
		}
		online := state.Phase == tunnel.Online || state.Phase == tunnel.URLChanged
		if online && state.URL == before.tunnel.URL && before.tunnel.Phase == tunnel.Online.String() {
			continue // the banner has said it
		}
		if online {
			r.metrics.tunnelUp.Store(1)
			r.prober.wanted()
			if state.URL != before.public {
				r.where.set(func(w *places) { w.public = state.URL })
				view.Endpoints = r.endpointURLs(state.URL)
			}
		} else {
			r.metrics.tunnelUp.Store(0)
		}
		r.showTunnel(view)
	}
}

// showTunnel puts the tunnel's state on the screen and into the inspector.
func (r *run) showTunnel(t ui.Tunnel) {
	r.noteTunnel(t)
	r.screen.Tunnel(t)
}

// noteTunnel puts the tunnel's state into the inspector.
func (r *run) noteTunnel(t ui.Tunnel) {
	r.where.set(func(w *places) { w.tunnel, w.tunnelSince, w.lost = t, time.Now(), false })
	if r.Server.private != nil {
		r.Server.private.Tunnel(t)
	}
}

// retireTunnel stops new requests at the far end and lets those under way come through.
func (r *run) retireTunnel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r.tunnel.Retire(ctx)
}
