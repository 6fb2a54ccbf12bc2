//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// soakedWay is a provider's stand-in in the soak, and how it fails.
type soakedWay struct {
	farSide
	flags  []string // of the program behind it
	faults []fault
}

// fault is one way to fail, until it returns.
type fault struct {
	name string
	// unnoticed says that the fault ends no connection, so that only heartbeats notice it.
	unnoticed bool
	// restarts says that a program is started again, which takes its time on a busy machine.
	restarts bool
	fail     func(durations)
}

// durations returns random durations between the two.
type durations func(least, most time.Duration) time.Duration

// passedFault is a fault that is over.
type passedFault struct {
	fault
	began, ended time.Time
}

// limit is how long the tunnel may be closed after the fault's end.
func (f passedFault) limit() time.Duration {
	lasted := f.ended.Sub(f.began)
	switch {
	case f.restarts:
		return backStarted
	case f.unnoticed:
		return backUnfrozen + busy
	case lasted <= shortFault+100*time.Millisecond: // the clock of the stand-in and ours
		return soonBack + busy
	default:
		return max(lasted, soonBack) + busy
	}
}

const (
	tenth  = 100 * time.Millisecond
	second = time.Second
)

// soakedWays are all providers. The public names are ones that no resolver knows.
var soakedWays = map[string]func(*testing.T, *home) soakedWay{
	"ngrok":       soakedEdge,
	"ssh":         soakedSSH,
	"cloudflared": soakedCloudflared,
}

// breakable is a stand-in that clients keep a connection with.
type breakable interface {
	Drop()
	Refuse(time.Duration)
	Hang(bool)
	SessionLife(time.Duration)
	FreezeHeartbeats(bool)
	BlackHole(bool)
}

// connectionFaults are those of every service that clients keep a connection with.
func connectionFaults(s breakable) []fault {
	return []fault{
		{name: "drop", fail: func(durations) { s.Drop() }},
		{name: "refuse", fail: func(random durations) {
			lasts := random(tenth, shortFault)
			s.Refuse(lasts)
			time.Sleep(lasts)
		}},
		{name: "refuse for long", fail: func(random durations) {
			lasts := random(4*second, 7*second)
			s.Refuse(lasts)
			time.Sleep(lasts)
		}},
		{name: "hang", fail: func(random durations) {
			s.Hang(true)
			s.Drop()
			time.Sleep(random(tenth, shortFault))
			s.Hang(false)
		}},
		{name: "short sessions", fail: func(random durations) {
			s.SessionLife(random(tenth, 3*tenth))
			s.Drop()
			time.Sleep(random(second, shortFault))
			s.SessionLife(0)
		}},
		{name: "frozen heartbeats", unnoticed: true, fail: func(random durations) {
			s.FreezeHeartbeats(true)
			time.Sleep(random(3*second, 9*second))
			s.FreezeHeartbeats(false)
		}},
		{name: "black hole", unnoticed: true, fail: func(random durations) {
			s.BlackHole(true)
			time.Sleep(random(tenth, shortFault))
			s.BlackHole(false)
		}},
	}
}

// soakedEdge grants no domain but the one that it assigns: once it assigns another one, the old one is lost.
func soakedEdge(t *testing.T, h *home) soakedWay {
	e := tunneltest.NewEdge(t, tunneltest.Options{Domain: "soak.invalid", Domains: []string{}})
	writeConfig(t, h, e, tunneltest.DefaultToken)
	return soakedWay{farSide: e, faults: append(connectionFaults(e), []fault{
		{name: "session limit", fail: func(random durations) {
			e.FailAuth("ERR_NGROK_108", "Your account is limited to 3 simultaneous ngrok agent sessions.", -1)
			e.Drop()
			time.Sleep(random(tenth, shortFault))
			e.FailAuth("", "", 0)
		}},
		{name: "URL online already", fail: func(random durations) {
			e.FailBind("ERR_NGROK_334", "The endpoint is already online.", -1)
			e.Drop()
			time.Sleep(random(tenth, shortFault))
			e.FailBind("", "", 0)
		}},
		{name: "latency", fail: func(random durations) {
			e.Latency(random(tenth, 5*tenth))
			time.Sleep(random(second, shortFault))
			e.Latency(0)
		}},
		{name: "cut requests", fail: func(random durations) {
			e.CutRequests(300, -1)
			time.Sleep(random(tenth, second))
			e.CutRequests(0, 0)
		}},
		{name: "cut answers", fail: func(random durations) {
			e.CutAnswers(1, -1)
			time.Sleep(random(tenth, second))
			e.CutAnswers(0, 0)
		}},
		{name: "stopped endpoint", fail: func(durations) {
			for _, url := range e.URLs() {
				// The endpoint may have gone offline since, which is what the fault wants.
				_ = e.StopEndpoint(url, "", "stopped by its owner")
			}
		}},
		{name: "another URL", fail: func(durations) {
			e.AssignDomain(fmt.Sprintf("soak-%d.invalid", time.Now().UnixNano()))
			e.Drop()
		}},
	}...)}
}

// soakedSSH keeps the name of a dead connection for a moment, so that hubhook has to ask for it again.
func soakedSSH(t *testing.T, _ *home) soakedWay {
	s := tunneltest.NewSSH(t, tunneltest.SSHOptions{Stale: 500 * time.Millisecond})
	// The session of a URL may have ended since, which is what the faults want.
	each := func(do func(host string) error) {
		for _, url := range s.URLs() {
			_ = do(strings.TrimPrefix(url, "https://"))
		}
	}
	return soakedWay{farSide: s, flags: []string{"--ssh", s.Addr()}, faults: append(connectionFaults(s), []fault{
		{name: "forward refused", fail: func(random durations) {
			s.FailForward(-1)
			s.Drop()
			time.Sleep(random(tenth, shortFault))
			s.FailForward(0)
		}},
		{name: "hour over", fail: func(durations) {
			each(func(host string) error { return s.Expire(host, "Your hour is over.") })
		}},
		{name: "another URL", fail: func(durations) {
			each(func(host string) error { return s.Move(host, fmt.Sprintf("soak-%d", time.Now().UnixNano())) })
		}},
	}...)}
}

func soakedCloudflared(t *testing.T, h *home) soakedWay {
	c := tunneltest.NewCloudflared(t)
	h.env = append(h.env, "PATH="+c.Dir()+":/usr/bin:/bin")
	// until waits until so many more programs have been started.
	until := func(more int, begin func()) {
		_, before := c.Sessions()
		begin()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.WaitFor(ctx, func([]string, int) bool {
			return len(c.PIDs()) >= before+more
		}); err != nil {
			t.Error(err)
		}
	}
	return soakedWay{farSide: c, flags: []string{"--tunnel", "cloudflared"}, faults: []fault{
		{name: "lost connections", fail: func(random durations) {
			c.Disconnect()
			time.Sleep(random(tenth, shortFault))
			c.Connect()
		}},
		{name: "crash", restarts: true, fail: func(durations) { until(1, c.Crash) }},
		{name: "crash, and a start refused", restarts: true, fail: func(durations) {
			c.RefuseStart("ERR Couldn't start tunnel error=\"the edge is not well\"")
			until(2, c.Crash)
		}},
		{name: "crash while Cloudflare is away", restarts: true, fail: func(random durations) {
			c.Disconnect()
			until(1, c.Crash)
			time.Sleep(random(tenth, shortFault))
			c.Connect()
		}},
		{name: "crash, and the old name again", restarts: true, fail: func(durations) {
			for _, url := range c.URLs() {
				c.NextHost(strings.TrimPrefix(url, "https://"))
			}
			until(1, c.Crash)
		}},
		{name: "hang", restarts: true, fail: func(durations) { until(1, c.Hang) }},
	}}
}
