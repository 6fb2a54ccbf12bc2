package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

const (
	probeTimeout = 5 * time.Second
	probeTries   = 3
	// A free ngrok account has 20,000 requests a month. 12 an hour are 8,640, and need a tunnel that is lost every five minutes.
	probesAnHour = 12
	// Deliveries have stopped when none came for so many times their usual distance, and for at least silenceFloor.
	silenceFactor = 10
	silenceFloor  = 10 * time.Minute
	silenceAfter  = 5 // deliveries that must have come for a usual distance
)

// The ways a probe can end.
const (
	reachable   = "reachable"
	unreachable = "unreachable" // something else answers at the public URL
	unchecked   = "unchecked"   // nothing is proven: the public URL could not be asked from here
)

// prober proves that the public URL leads to this process: it sends a nonce there and looks for the signature that only this process
// can make. Nothing waits for it.
type prober struct {
	key    []byte
	client *http.Client
	ask    chan struct{} // holds one, which serves all who ask meanwhile
	mu     sync.Mutex
	recent []time.Time // checks of the last hour

	renewed bool // the tunnel was opened anew since the way was last proven; of the goroutine that runs probe

	came     atomic.Int64 // deliveries so far
	lastCame atomic.Int64 // in Unix nanoseconds
}

func newProber(client *http.Client) *prober {
	p := &prober{key: make([]byte, 32), client: client, ask: make(chan struct{}, 1)}
	rand.Read(p.key)
	if p.client == nil {
		p.client = &http.Client{
			// A redirect is an answer that isn't ours.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		}
	}
	return p
}

// sign is what /healthz answers to a nonce.
func (p *prober) sign(nonce string) string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(nonce))
	return hex.EncodeToString(mac.Sum(nil))
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

// errNotOurs says that the public URL answers, but not with our signature.
type errNotOurs struct{ what string }

func (e *errNotOurs) Error() string { return e.what }

var errBudget = fmt.Errorf("%d checks were made within the last hour already", probesAnHour)

// check sends one nonce to url. The error is nil where the signature is ours, an *errNotOurs where another answer came, and any other one
// where nothing is proven.
func (p *prober) check(ctx context.Context, url string) error {
	if !p.spend(time.Now()) {
		return errBudget
	}
	nonce := rand.Text()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz?nonce="+nonce, nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "hubhook/"+Version())
	r.Header.Set("ngrok-skip-browser-warning", "1")
	resp, err := p.client.Do(r)
	if err != nil {
		return withoutNonce(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return withoutNonce(err)
	}
	var answer health
	if json.Unmarshal(body, &answer) == nil && hmac.Equal([]byte(answer.Signature), []byte(p.sign(nonce))) {
		return nil
	}
	what := fmt.Sprintf("something else answers there: %s", resp.Status)
	if code := tunnel.Code(string(body)); code != "" {
		what += ", " + code
	}
	return &errNotOurs{what}
}

// spend takes one of the checks that the last hour allows, and reports whether there was one left.
func (p *prober) spend(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.recent) > 0 && now.Sub(p.recent[0]) >= time.Hour {
		p.recent = p.recent[1:]
	}
	if len(p.recent) >= probesAnHour {
		return false
	}
	p.recent = append(p.recent, now)
	return true
}

// withoutNonce drops the request's URL from an error: the line it stands in names the URL already.
func withoutNonce(err error) error {
	var wrapped interface{ Unwrap() error }
	if errors.As(err, &wrapped) && wrapped.Unwrap() != nil && strings.Contains(err.Error(), "nonce=") {
		return wrapped.Unwrap()
	}
	return err
}

// probe makes the checks that are asked for until ctx ends.
func (r *run) probe(ctx context.Context) {
	silence := time.NewTimer(silenceFloor)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.prober.ask:
			r.proveWay(ctx)
		case <-silence.C:
			if r.prober.silent(time.Now(), r.where.get().started) {
				r.proveWay(ctx)
			}
			silence.Reset(silenceFloor)
		}
	}
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

// proveWay checks the public URL and says what it found. Where something else answers it tries again, since the far end may need a moment,
// and then has the tunnel opened anew.
func (r *run) proveWay(ctx context.Context) {
	url := r.where.get().public
	if url == "" {
		return
	}
	var err error
	var notOurs *errNotOurs
	for try := range probeTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(try) * time.Second):
			}
		}
		if err = r.prober.check(ctx, url); !errors.As(err, &notOurs) {
			break
		}
	}
	if ctx.Err() != nil || r.where.get().public != url {
		return // another URL is asked for, or none any more
	}
	view := ui.Tunnel{Provider: r.where.get().tunnel.Provider, Phase: reachable, URL: url}
	switch {
	case errors.As(err, &notOurs):
		view.Phase, view.Error = unreachable, err.Error()
		view.Hint = "look whether another program has taken this URL"
		if r.canRenew() {
			view.Hint = "the tunnel is opened anew; if that does not help, look whether another program has taken this URL"
		}
	case err != nil:
		view.Phase, view.Error = unchecked, err.Error()
	}
	r.where.set(func(p *places) {
		p.probe = &inspector.Probe{Time: inspector.Time{Time: time.Now()}, OK: err == nil, Error: view.Error}
		p.lost = view.Phase == unreachable
	})
	r.metrics.probed(view.Phase)
	r.tell(view)
	switch {
	case view.Phase == reachable:
		r.prober.renewed = false
	case view.Phase == unreachable && r.canRenew():
		r.prober.renewed = true
		r.tunnel.(renewer).Renew(err)
	}
}

// renewer is a tunnel that can be opened anew while it keeps its listener.
type renewer interface{ Renew(cause error) }

// canRenew reports whether opening the tunnel anew is worth a try: once for each time that the way is lost.
func (r *run) canRenew() bool {
	_, ok := r.tunnel.(renewer)
	return ok && !r.prober.renewed
}

// tell shows something about the tunnel that is no change of its state.
func (r *run) tell(t ui.Tunnel) {
	r.publishTunnel(t, time.Now())
	r.screen.Tunnel(t)
}

// watchDown ends the run once there has been no way in for as long as --exit-on-down says.
func (r *run) watchDown(ctx context.Context) {
	tick := time.NewTicker(min(time.Second, r.config.ExitOnDown/4+1))
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
			if now.Sub(since) >= r.config.ExitOnDown {
				why := p.tunnel.Error
				if why == "" && p.probe != nil {
					why = p.probe.Error
				}
				if why == "" {
					why = p.tunnel.Phase
				}
				r.failed <- text.WithHint(fmt.Errorf("keep the public URL open: it has been down for %v (--exit-on-down): %s", r.config.ExitOnDown, why),
					"whatever supervises hubhook can start it again now")
				return
			}
		}
	}
}
