package tunneltest

import "fmt"

// AssignName makes the server give this name to every client, whatever it asks for. "" ends the fault.
func (s *SSH) AssignName(name string) { s.set(func(f *faults) { f.name = name }) }

// FailForward refuses the next times forwards. If times is negative it refuses all, if 0 none.
func (s *SSH) FailForward(times int) { s.set(func(f *faults) { f.forwards = times }) }

// Silence makes the server say no URL.
func (s *SSH) Silence(on bool) { s.set(func(f *faults) { f.silent = on }) }

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
