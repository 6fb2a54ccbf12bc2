package tunneltest

import (
	"fmt"
	"net"
	"time"
)

// sshFaults are the faults that are switched on.
type sshFaults struct {
	refusing func() bool // nil: it refuses nothing
	hanging  bool
	frozen   bool
	life     time.Duration // of a session after its forward; 0: unlimited
	name     string        // for every client, "" for none
	forwards int           // to refuse; negative: all
	silent   bool
}

// Drop cuts every client's connection without a close message. Clients may come back at once.
func (s *SSH) Drop() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.sessions))
	for session := range s.sessions {
		conns = append(conns, session.transport)
	}
	s.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

// Refuse cuts every client's connection and resets each new one for d.
func (s *SSH) Refuse(d time.Duration) {
	back := time.Now().Add(d)
	s.RefuseUntil(func() bool { return time.Now().After(back) })
}

// RefuseUntil cuts every client's connection and resets each new one until back() is true, checked at each new connection.
func (s *SSH) RefuseUntil(back func() bool) {
	s.set(func(f *sshFaults) { f.refusing = func() bool { return !back() } })
	s.Drop()
}

// Hang makes the server accept connections and answer nothing on them. After it is turned off, those connections go on.
func (s *SSH) Hang(on bool) { s.set(func(f *sshFaults) { f.hanging = on }) }

// FreezeHeartbeats makes the server leave keepalives unanswered. After it is turned off, it answers them.
func (s *SSH) FreezeHeartbeats(on bool) { s.set(func(f *sshFaults) { f.frozen = on }) }

// BlackHole drops all bytes between the server and its clients, both ways, while the connections stay up. After it is turned off, new
// connections work, and the old ones stay dead. The server keeps a dead connection's name for SSHOptions.Stale.
func (s *SSH) BlackHole(on bool) { s.holes.set(on) }

// SessionLife makes the server cut each session d after its forward. 0 ends the fault.
func (s *SSH) SessionLife(d time.Duration) { s.set(func(f *sshFaults) { f.life = d }) }

// AssignName makes the server give this name to every client, whatever it asks for. "" ends the fault.
func (s *SSH) AssignName(name string) { s.set(func(f *sshFaults) { f.name = name }) }

// FailForward refuses the next times forwards. If times is negative it refuses all, if 0 none.
func (s *SSH) FailForward(times int) { s.set(func(f *sshFaults) { f.forwards = times }) }

// Silence makes the server say no URL.
func (s *SSH) Silence(on bool) { s.set(func(f *sshFaults) { f.silent = on }) }

// Heal ends all faults. Sessions that were in a black hole stay dead.
func (s *SSH) Heal() {
	s.set(func(f *sshFaults) { *f = sshFaults{} })
	s.holes.set(false)
}

// Move moves the client that is online as host to the given name, and tells it so on its session, as localhost.run does after some hours.
func (s *SSH) Move(host, name string) error {
	s.mu.Lock()
	session := s.bound[host]
	to := name + "." + s.domain()
	if session == nil {
		s.mu.Unlock()
		return fmt.Errorf("move %s: it is not online", host)
	}
	delete(s.bound, host)
	s.bound[to] = session
	s.wakeLocked()
	s.mu.Unlock()
	return session.say(s.announce(to, session.command, true))
}

// Expire says words to the client that is online as host, and ends its session, as a free service does.
func (s *SSH) Expire(host, words string) error {
	s.mu.Lock()
	session := s.bound[host]
	s.mu.Unlock()
	if session == nil {
		return fmt.Errorf("let %s expire: it is not online", host)
	}
	if err := session.say(words + "\r\n"); err != nil {
		return err
	}
	return session.conn.Close()
}

func (s *SSH) set(change func(*sshFaults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
	s.wakeLocked()
}

// waitWhile waits until is returns false, and then returns true. It returns false if gone is closed first.
func (s *SSH) waitWhile(is func(sshFaults) bool, gone <-chan struct{}) bool {
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
