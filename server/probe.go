package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/tunnel"
)

const (
	probeTries = 3
	// Deliveries have stopped when none came for so many times their usual distance, and for at least silenceFloor.
	silenceFactor = 10
	silenceFloor  = 10 * time.Minute
	silenceAfter  = 5 // deliveries that must have come for a usual distance
)

// tunnelRechecks is how often a tunnel's URL is checked again if it could not be asked from here.
const tunnelRechecks = 3

// recheckAfter is how long to wait before the public URL is checked again. If somebody else forwards, the forwarding program may start
// after hubhook, so the last wait is repeated. A [tunnel.Proof] makes 12 checks an hour.
var recheckAfter = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}

// The ways a probe can end.
const (
	reachable   = "reachable"
	unreachable = "unreachable" // something else answers at the public URL
	unchecked   = "unchecked"   // nothing is proven: the public URL could not be asked from here
)

// prober checks that the public URL leads to this process when there is a reason to. Nothing waits for it.
type prober struct {
	*tunnel.Proof
	ask chan struct{} // holds one, which serves all who ask meanwhile

	renewed bool // the tunnel was opened again since the URL was last proven; of the goroutine that runs probe

	came     atomic.Int64 // deliveries so far
	lastCame atomic.Int64 // in Unix nanoseconds
}

func newProber(client *http.Client) *prober {
	return &prober{Proof: tunnel.NewProof(client, "hubhook/"+version.String()), ask: make(chan struct{}, 1)}
}

// wanted asks for a probe soon.
func (p *prober) wanted() {
	select {
	case p.ask <- struct{}{}:
	default:
	}
}

// delivered notes that the way was open just now.
func (p *prober) delivered(now time.Time) {
	p.came.Add(1)
	p.lastCame.Store(now.UnixNano())
}

// probe makes the checks that are asked for until ctx ends.
func (r *run) probe(ctx context.Context) {
	silence := time.NewTimer(silenceFloor)
	defer silence.Stop()
	recheck := time.NewTimer(time.Hour)
	recheck.Stop()
	defer recheck.Stop()
	rechecks := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.prober.ask:
			rechecks = 0
			r.proveWay(ctx, probeTries, false)
		case <-recheck.C:
			if r.wantsRecheck(rechecks) { // the tunnel may have gone down meanwhile
				rechecks++
				r.proveWay(ctx, 1, true)
			}
		case <-silence.C:
			if r.prober.silent(time.Now(), r.where.get().started) {
				r.proveWay(ctx, probeTries, false)
			}
			silence.Reset(silenceFloor)
		}
		if r.wantsRecheck(rechecks) {
			recheck.Reset(r.settings.recheckWait(rechecks))
		} else {
			recheck.Stop()
		}
	}
}

// wantsRecheck reports whether the URL is to be checked once more, after n rechecks. A tunnel's URL is, a few times, if it could not be
// asked from here: name servers may not know a new name yet.
func (r *run) wantsRecheck(n int) bool {
	p := r.where.get()
	switch {
	case p.probe == nil || p.probe.OK:
		return false
	case p.tunnel.Phase != tunnel.Online.String() && p.tunnel.Phase != tunnel.URLChanged.String():
		return false // the way is checked once it is back
	case r.settings.provesPublicURL():
		return true
	}
	return !p.lost && n < tunnelRechecks
}

// recheckWait is how long to wait after n rechecks.
func (s *settings) recheckWait(n int) time.Duration {
	waits := recheckAfter
	if s.recheckAfter != nil {
		waits = s.recheckAfter
	}
	return waits[min(n, len(waits)-1)]
}

// silent reports whether deliveries have stopped that came before. It says so once for each silence.
func (p *prober) silent(now, since time.Time) bool {
	came := p.came.Load()
	if came < silenceAfter {
		return false
	}
	last := time.Unix(0, p.lastCame.Load())
	usual := last.Sub(since) / time.Duration(came)
	if quiet := now.Sub(last); quiet < silenceFloor || quiet < silenceFactor*usual {
		return false
	}
	p.came.Store(0)
	return true
}

// proveWay checks the public URL and says what it found. If something else answers, it tries again, because the tunnel's service may need a
// moment, and then opens the tunnel again.
//
// With onlyNews it says nothing if the result is that of the check before.
func (r *run) proveWay(ctx context.Context, tries int, onlyNews bool) {
	url := r.where.get().public
	if url == "" {
		return
	}
	var err error
	for try := range tries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(try) * time.Second):
			}
		}
		if err = r.prober.Check(ctx, url); !errors.Is(err, tunnel.ErrElsewhere) {
			break
		}
	}
	if ctx.Err() != nil || r.where.get().public != url {
		return // another URL is asked for, or none any more
	}
	before := r.where.get().probe
	view := api.TunnelChange{Time: api.Time{Time: time.Now()}, Provider: r.where.get().tunnel.Provider, Phase: reachable, URL: url}
	var renew func(cause error) // once for each time that the way is lost
	switch {
	case errors.Is(err, tunnel.ErrElsewhere):
		view.Phase, view.Error = unreachable, err.Error()
		view.Hint = "look whether another program has taken this URL"
		if r.settings.provesPublicURL() {
			view.Hint = "have what answers there forward to " + r.where.get().local + "; it is checked again from time to time"
		}
		if renew = tunnel.Renewer(r.tunnel); r.prober.renewed {
			renew = nil
		}
		if renew != nil {
			view.Hint = "the tunnel is opened again; if that does not help, look whether another program has taken this URL"
		}
	case err != nil:
		view.Phase, view.Error = unchecked, err.Error()
	}
	r.where.set(func(p *places) {
		p.probe = &api.Probe{Time: view.Time, OK: err == nil, Error: view.Error}
		p.lost = view.Phase == unreachable
	})
	r.setWay(url, map[string]keep.Proof{reachable: keep.Reachable, unreachable: keep.Unreachable, unchecked: keep.Unchecked}[view.Phase])
	r.metrics.probed(view.Phase)
	if !onlyNews || before == nil || before.Error != view.Error {
		r.tell(view)
	}
	switch {
	case view.Phase == reachable:
		r.prober.renewed = false
	case renew != nil:
		r.prober.renewed = true
		renew(err)
	}
}

// tell shows something about the tunnel that is no change of its state.
func (r *run) tell(t api.TunnelChange) {
	r.publishTunnel(t)
	r.screen.Tunnel(t)
}

// watchDown ends the run once the tunnel has been down for as long as --exit-on-down says.
func (r *run) watchDown(ctx context.Context) {
	tick := time.NewTicker(min(time.Second, r.settings.ExitOnDown/4+1))
	defer tick.Stop()
	var since time.Time // since when it is down; zero while it is not
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p := r.where.get()
			if p.tunnel.Phase == tunnel.Online.String() && !p.lost {
				since = time.Time{}
				continue
			}
			if since.IsZero() {
				since = now
			}
			if now.Sub(since) >= r.settings.ExitOnDown {
				why := p.tunnel.Error
				if why == "" && p.probe != nil {
					why = p.probe.Error
				}
				if why == "" {
					why = p.tunnel.Phase
				}
				r.failed <- text.WithHint(fmt.Errorf("keep the public URL open: it has been down for %v (--exit-on-down): %s", r.settings.ExitOnDown, why),
					"whatever supervises hubhook can start it again now")
				return
			}
		}
	}
}
