package cloudflared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/latest"
)

// dialer makes sessions. Each is a run of the program.
type dialer struct {
	settings settings
	limits   limits

	// Of Dial and Wait, which are called one at a time.
	starting *session  // started by a try that had no time to wait for it
	notUntil time.Time // when the next program may be started
	held     *tunnel.Error
}

func newDialer(s settings, l limits) *dialer { return &dialer{settings: s, limits: l} }

// startPoll is how often a program that starts is asked.
const startPoll = 50 * time.Millisecond

// Dial starts the program and waits until it is online. If an earlier try has started one that is only slow, Dial waits for that one: with
// a new start, a quick tunnel would lose its name.
func (d *dialer) Dial(ctx context.Context, _ string, limit time.Duration) (tunnel.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if wait := time.Until(d.notUntil); wait > 0 {
		if !sleep(ctx, wait) {
			return nil, d.held
		}
	}
	s := d.starting
	d.starting = nil
	if s == nil {
		var err error
		if s, err = d.start(); err != nil {
			return nil, err
		}
	}
	for {
		url, ready, err := s.look(ctx)
		var why *tunnel.Error
		switch {
		case s.child.ended():
			why = d.failed(s)
		case err == nil && ready && url != "":
			s.url = url
			s.watching.Go(s.watch)
			return s, nil
		case isFinal(err):
			why = err.(*tunnel.Error)
		case time.Since(s.began) > d.limits.start:
			why, _ = d.settings.explain(fmt.Sprintf("cloudflared was not connected within %v of its start", d.limits.start), s.child)
		case sleep(ctx, startPoll):
			continue
		default:
			d.starting = s
			what := "cloudflared is not connected to Cloudflare yet"
			if err != nil {
				what = "cloudflared does not answer yet"
			}
			why, _ = d.settings.explain(what, s.child)
			why.Final, why.Refused, why.Temporary = false, false, true
			return nil, why
		}
		s.Close()
		return nil, why
	}
}

// start starts the program with a listener of its own.
func (d *dialer) start() (*session, error) {
	ln, err := net.Listen("tcp", d.settings.listen)
	if err != nil {
		return nil, &tunnel.Error{Op: openOp, Cause: "listen for cloudflared: " + err.Error(), Fix: "end the program that uses this address", Temporary: true, Err: err}
	}
	// If another program takes the port first, cloudflared ends, and the next try takes another port.
	metrics, err := freeport.Address()
	if err != nil {
		ln.Close()
		return nil, &tunnel.Error{Op: openOp, Cause: "find a free port for cloudflared: " + err.Error(), Fix: "end programs that use ports on loopback", Temporary: true, Err: err}
	}
	c, err := startChild(d.settings.program, d.settings.arguments(ln.Addr().String(), metrics), d.settings.environment(os.Environ()))
	if err != nil {
		ln.Close()
		final := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) // others pass: it is being upgraded, or memory is short
		return nil, &tunnel.Error{Op: openOp, Cause: "start cloudflared: " + err.Error(), Fix: "install it, see https://developers.cloudflare.com/tunnel/downloads",
			Temporary: !final, Refused: final, Final: final, Err: err}
	}
	return &session{
		dialer:  d,
		child:   c,
		ln:      ln,
		metrics: metrics,
		began:   time.Now(),
		events:  latest.New[error](16),
		again:   make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}, nil
}

// failed is why a program ended before it was online.
func (d *dialer) failed(s *session) *tunnel.Error {
	why, hold := d.settings.explain("cloudflared has ended, "+howEnded(s.child), s.child)
	if hold {
		d.notUntil, d.held = time.Now().Add(d.limits.hold), why
	}
	return why
}

func howEnded(c *child) string {
	if c.err == nil {
		return "exit status 0"
	}
	return c.err.Error()
}

// Wait ends a program that nobody waits for any more.
func (d *dialer) Wait() {
	if s := d.starting; s != nil {
		d.starting = nil
		s.Close()
	}
}

func isFinal(err error) bool {
	e, ok := err.(*tunnel.Error)
	return ok && e.Final
}

// sleep waits for d and reports whether ctx lasted as long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
