package cloudflared

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/latest"
)

// session is one run of the program, with the listener that it forwards to.
type session struct {
	dialer  *dialer
	child   *child
	ln      net.Listener
	metrics string // the address that answers for the program
	began   time.Time
	events  *latest.Chan[error]
	again   chan struct{} // holds one: say once more that the program is online

	stopOnce sync.Once
	stop     chan struct{}
	watching sync.WaitGroup

	mu  sync.Mutex
	url string
	err error // why it has ended
}

// ask does not use a proxy: the program is on this machine.
var ask = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// look asks the program for its public URL and whether it is connected to Cloudflare. Its error is final where the program can't answer.
func (s *session) look(ctx context.Context) (url string, ready bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.dialer.limits.answer)
	defer cancel()
	status, _, err := s.get(ctx, "/ready")
	if err != nil {
		return "", false, err
	}
	switch status {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return "", false, nil
	default:
		return "", false, tooOld("/ready", status)
	}
	if !s.dialer.settings.quick() {
		return s.dialer.settings.url, true, nil
	}
	status, body, err := s.get(ctx, "/quicktunnel")
	if err != nil {
		return "", false, err
	}
	var answer struct {
		Hostname string `json:"hostname"`
	}
	if status != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		return "", false, tooOld("/quicktunnel", status)
	}
	if answer.Hostname == "" {
		return "", true, nil
	}
	url, err = publicURL(strings.TrimPrefix(answer.Hostname, "https://"))
	return url, true, err
}

func (s *session) get(ctx context.Context, path string) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := ask.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, body, err
}

func tooOld(path string, status int) error {
	return &tunnel.Error{
		Op:    openOp,
		Cause: fmt.Sprintf("this cloudflared does not say how it stands: it answers %s with %d", path, status),
		Fix:   "install a current one, see https://developers.cloudflare.com/tunnel/downloads",
		Final: true, Refused: true,
	}
}

// watch looks at the program until the session ends, and tells what becomes of it.
func (s *session) watch() {
	limits := s.dialer.limits
	tick := time.NewTicker(limits.poll)
	defer tick.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.watching.Go(func() { // so that a look that is under way ends with the program or the session
		defer cancel()
		select {
		case <-s.child.done:
		case <-s.stop:
		case <-ctx.Done():
		}
	})
	online, misses := true, 0
	for {
		select {
		case <-s.stop:
			return
		case <-s.child.done:
			why, _ := s.dialer.settings.explain("cloudflared has ended, "+howEnded(s.child), s.child)
			s.fail(why)
			return
		case <-s.again:
			online = false
		case <-tick.C:
		}
		url, ready, err := s.look(ctx)
		if ctx.Err() != nil {
			continue // one of the cases above says why
		}
		if err != nil {
			if misses++; misses >= limits.misses {
				why, _ := s.dialer.settings.explain("cloudflared does not answer any more", s.child)
				why.Final, why.Refused, why.Temporary = false, false, true
				s.fail(why)
				return
			}
			continue
		}
		misses = 0
		switch {
		case !ready && online:
			online = false
			s.events.Send(&tunnel.Error{Op: keepOp, Cause: "cloudflared has lost its connections to Cloudflare, and connects again by itself",
				Fix: "check the network, if this goes on", Temporary: true})
		case ready && url != "" && (!online || url != s.address()):
			online = true
			s.mu.Lock()
			s.url = url
			s.mu.Unlock()
			s.events.Send(nil)
		}
	}
}

// fail ends the session by itself.
func (s *session) fail(why *tunnel.Error) {
	s.mu.Lock()
	s.err = why
	s.mu.Unlock()
	s.ln.Close()
}

func (s *session) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Accept returns the next connection of the program.
func (s *session) Accept() (net.Conn, error) {
	c, err := s.ln.Accept()
	if err == nil {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if errors.Is(err, net.ErrClosed) {
		return nil, net.ErrClosed
	}
	return nil, err
}

// URL is the public URL that the program last said.
func (s *session) URL() (string, bool) { return s.address(), true }

// Events tells of the program's lost and new connections. The program connects again by itself, and keeps its name.
func (s *session) Events() <-chan error { return s.events.C }

// Resume asks the program for its state at once. The program notices a dead connection within seconds and connects again under its name.
// It is not started again, because a quick tunnel would get another name.
func (s *session) Resume() bool {
	select {
	case s.again <- struct{}{}:
	default:
	}
	return true
}

// Local is empty: the connections are the program's.
func (s *session) Local() []netip.Addr { return nil }

// Retire has the program take its leave of Cloudflare. It ends once what is in flight is done.
func (s *session) Retire() {
	s.quiet()
	s.child.terminate()
	if s.dialer.settings.ingress {
		s.ln.Close() // the next session needs the port
	}
}

// quiet ends the watch over the program.
func (s *session) quiet() {
	s.stopOnce.Do(func() { close(s.stop) })
	s.watching.Wait()
}

// Cut kills the program.
func (s *session) Cut() {
	s.child.kill()
	s.ln.Close()
}

// Close ends the program, with a goodbye where it listens, and kills it otherwise.
func (s *session) Close() {
	s.quiet()
	s.child.end(s.dialer.limits.grace)
	s.ln.Close()
}
