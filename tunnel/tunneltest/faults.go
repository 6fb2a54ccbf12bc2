package tunneltest

import (
	"fmt"
	"net"
	"time"
)

// faults are the faults that are switched on.
type faults struct {
	refusing func() bool // nil: it refuses nothing
	hanging  bool
	frozen   bool
	life     time.Duration // of a session after it has got its public URL; 0: unlimited

	// An Edge's alone.
	latency  time.Duration
	auth     refusals
	bind     refusals
	requests cuts
	answers  cuts

	// An SSH server's alone.
	name     string // for every client; "" for none
	forwards int    // to refuse; negative: all
	silent   bool
}

// cuts say which bodies end too early.
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

// refusals are error answers to come.
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

// Drop cuts every client's connection without a close message. Clients may come back at once.
func (s *standIn[C]) Drop() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.sessions))
	for session := range s.sessions {
		conns = append(conns, session.carrier())
	}
	s.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

// Refuse cuts every client's connection and resets each new one for d.
func (s *standIn[C]) Refuse(d time.Duration) {
	back := time.Now().Add(d)
	s.RefuseUntil(func() bool { return time.Now().After(back) })
}

// RefuseUntil cuts every client's connection and resets each new one until back() is true, checked at each new connection.
func (s *standIn[C]) RefuseUntil(back func() bool) {
	s.set(func(f *faults) { f.refusing = func() bool { return !back() } })
	s.Drop()
}

// Hang makes the stand-in accept connections and answer nothing on them. After it is turned off, those connections go on.
func (s *standIn[C]) Hang(on bool) { s.set(func(f *faults) { f.hanging = on }) }

// FreezeHeartbeats makes the stand-in leave heartbeats unanswered, as on a connection that died silently. After it is turned off, the
// stand-in answers them.
func (s *standIn[C]) FreezeHeartbeats(on bool) { s.set(func(f *faults) { f.frozen = on }) }

// SessionLife makes the stand-in cut each session d after it has got its public URL, as a failing load balancer does: every session looks
// good and none lasts. 0 ends the fault.
func (s *standIn[C]) SessionLife(d time.Duration) { s.set(func(f *faults) { f.life = d }) }

// BlackHole drops all bytes between the stand-in and its clients, both ways, while the connections stay up, as when a NAT has forgotten them
// or the machine has left the network. New connections come up, and their bytes vanish too. After it is turned off, new connections work
// again, and the old ones stay dead. The stand-in keeps the URL of a dead connection until its client comes back as the client that it was,
// or for a while after the client has closed the connection: an Edge for 10 s, an SSH server for SSHOptions.Stale. Meanwhile the URL is
// refused to others.
func (s *standIn[C]) BlackHole(on bool) { s.holes.set(on) }

// CutRequests lets the first after bytes of a public request's body through to the agent, and then cuts the connections on both sides.
// It cuts the next times longer bodies; if times is negative it cuts all, if 0 none. Chunk sizes count as body.
func (e *Edge) CutRequests(after int64, times int) {
	e.set(func(f *faults) { f.requests = cuts{after, times} })
}

// CutAnswers is CutRequests for the bodies of answers to the client.
func (e *Edge) CutAnswers(after int64, times int) {
	e.set(func(f *faults) { f.answers = cuts{after, times} })
}

// Heal ends all faults. It does not restore their damage: sessions that were in a black hole stay dead.
func (s *standIn[C]) Heal() {
	s.set(func(f *faults) { *f = faults{} })
	s.holes.set(false)
}

// Latency delays each public request on its way to the agent by d.
func (e *Edge) Latency(d time.Duration) { e.set(func(f *faults) { f.latency = d }) }

// FailAuth refuses the next times log-ins, whatever the agent's token, with a code of ngrok's ("ERR_NGROK_108") and a sentence.
// If times is negative it refuses all, if 0 none.
func (e *Edge) FailAuth(code, message string, times int) {
	e.set(func(f *faults) { f.auth = refusals{serviceText(message, code), times} })
}

// FailBind is FailAuth for endpoints.
func (e *Edge) FailBind(code, message string, times int) {
	e.set(func(f *faults) { f.bind = refusals{serviceText(message, code), times} })
}

// AssignDomain makes the edge assign another domain from the next bind on. An endpoint that was assigned a domain before, and comes back
// after a Drop, gets the new one too. The SDK does not notice that.
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

func (s *standIn[C]) set(change func(*faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
	s.wakeLocked()
}

// waitWhile waits until is returns false, and then returns true. It returns false if gone is closed first.
func (s *standIn[C]) waitWhile(is func(faults) bool, gone <-chan struct{}) bool {
	for {
		s.mu.Lock()
		yes, changed := is(s.faults) && !s.closed, s.changed
		s.mu.Unlock()
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

// serviceText returns an error in the service's form: the code is the last paragraph.
func serviceText(message, code string) string {
	return message + "\n\n" + code + "\n"
}
