package tunneltest

import (
	"fmt"
	"net"
	"time"
)

// faults are the ways in which an edge misbehaves at the moment.
type faults struct {
	refusing  func() bool // nil: not
	hanging   bool
	frozen    bool
	blackHole bool
	latency   time.Duration
	life      time.Duration // of a session after its bind; 0: unlimited
	auth      refusals
	bind      refusals
	requests  cuts
	answers   cuts
}

// cuts are bodies that end before their time.
type cuts struct {
	after int64 // bytes that pass
	left  int   // how many more; negative: all
}

func (c *cuts) take() bool {
	if c.left == 0 {
		return false
	}
	if c.left > 0 {
		c.left--
	}
	return true
}

// refusals are answers with an error instead of a yes.
type refusals struct {
	text string
	left int // how many more; negative: all
}

func (r *refusals) take() (string, bool) {
	if r.left == 0 {
		return "", false
	}
	if r.left > 0 {
		r.left--
	}
	return r.text, true
}

// Drop cuts every agent's connection, without a goodbye. They may come back at once.
func (e *Edge) Drop() {
	e.mu.Lock()
	conns := make([]net.Conn, 0, len(e.sessions))
	for s := range e.sessions {
		conns = append(conns, s.transport)
	}
	e.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

// Refuse cuts every agent's connection and resets each new one for d.
func (e *Edge) Refuse(d time.Duration) {
	back := time.Now().Add(d)
	e.RefuseUntil(func() bool { return time.Now().After(back) })
}

// RefuseUntil cuts every agent's connection and resets each new one until back says yes. It is asked at each new connection.
func (e *Edge) RefuseUntil(back func() bool) {
	e.set(func(f *faults) { f.refusing = func() bool { return !back() } })
	e.Drop()
}

// Hang makes the edge accept connections and answer nothing on them. Turned off, the connections that hang go on.
func (e *Edge) Hang(on bool) { e.set(func(f *faults) { f.hanging = on }) }

// FreezeHeartbeats makes the edge leave heartbeats unanswered, as behind a connection that died without a word. Turned off, those
// that were held back are answered.
func (e *Edge) FreezeHeartbeats(on bool) { e.set(func(f *faults) { f.frozen = on }) }

// SessionLife makes the edge cut each session d after it has bound an endpoint, as behind a load balancer that is failing: every
// session looks good and none lasts. 0 ends that.
func (e *Edge) SessionLife(d time.Duration) { e.set(func(f *faults) { f.life = d }) }

// CutRequests lets after bytes of the body of a public request through to the agent and then cuts the connections on both sides,
// for the next times bodies that are longer. Chunk sizes count as body. With a negative times it cuts all, with 0 none.
func (e *Edge) CutRequests(after int64, times int) {
	e.set(func(f *faults) { f.requests = cuts{after, times} })
}

// CutAnswers is CutRequests for the bodies of answers on their way to the client.
func (e *Edge) CutAnswers(after int64, times int) {
	e.set(func(f *faults) { f.answers = cuts{after, times} })
}

// Heal ends all faults that are switched on. What a fault has destroyed is not restored: sessions that were in a black hole stay dead.
func (e *Edge) Heal() { e.set(func(f *faults) { *f = faults{} }) }

// Latency delays each public request on its way to the agent by d.
func (e *Edge) Latency(d time.Duration) { e.set(func(f *faults) { f.latency = d }) }

// FailAuth refuses the next times agents that log in, whatever their token, with one of ngrok's codes ("ERR_NGROK_108") and a
// sentence. With a negative times it refuses all, with 0 none.
func (e *Edge) FailAuth(code, message string, times int) {
	e.set(func(f *faults) { f.auth = refusals{serviceText(message, code), times} })
}

// FailBind is FailAuth for endpoints.
func (e *Edge) FailBind(code, message string, times int) {
	e.set(func(f *faults) { f.bind = refusals{serviceText(message, code), times} })
}

// AssignDomain makes the edge assign another domain from the next bind on, also to an endpoint that was assigned one before and
// comes back after a Drop. The SDK does not notice that.
func (e *Edge) AssignDomain(domain string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.domain = domain
}

// StopEndpoint ends the endpoint of a public URL and keeps its session, as the Stop button of ngrok's dashboard does. message is shown
// to the user; code is one of ngrok's or empty.
func (e *Edge) StopEndpoint(url, code, message string) error {
	e.mu.Lock()
	var found *endpoint
	for host, p := range e.bound {
		if p.url == url {
			found = p
			delete(e.bound, host)
			e.wakeLocked()
		}
	}
	e.mu.Unlock()
	if found == nil {
		return fmt.Errorf("stop the endpoint %s: it is not online", url)
	}
	return found.session.stopEndpoint(found, code, message)
}

func (e *Edge) set(change func(*faults)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.faults)
	e.wakeLocked()
}

// waitWhile returns when is says no, or gone is closed; it reports whether the first was the case.
func (e *Edge) waitWhile(is func(faults) bool, gone <-chan struct{}) bool {
	for {
		e.mu.Lock()
		yes, changed := is(e.faults) && !e.closed, e.changed
		e.mu.Unlock()
		if !yes {
			return true
		}
		select {
		case <-changed:
		case <-gone:
			return false
		}
	}
}

// serviceText is an error as the service words it: the code stands at the end of the text, in a paragraph of its own.
func serviceText(message, code string) string {
	return message + "\n\n" + code + "\n"
}
