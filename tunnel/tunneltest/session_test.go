package tunneltest

import "testing"

// An agent that dies while its request is answered leaves nothing behind: the next one would find its URL online for ever.
func TestASessionThatIsOverBindsNothing(t *testing.T) {
	e := NewEdge(t, Options{})
	s := &session{edge: e}
	login := authRequest{}
	login.Extra.Authtoken = DefaultToken
	if a := s.auth(login); a.Error != "" {
		t.Fatal(a.Error)
	}
	e.mu.Lock()
	e.forgetLocked(s)
	e.mu.Unlock()
	if a := s.bind(bindRequest{Proto: "https"}); a.Error == "" {
		t.Errorf("it has %s", a.URL)
	}
	if a := s.auth(login); a.Error == "" {
		t.Error("it logs in again")
	}
	next := &session{edge: e}
	if a, b := next.auth(login), next.bind(bindRequest{Proto: "https"}); a.Error != "" || b.Error != "" {
		t.Errorf("the next one is refused: %s%s", a.Error, b.Error)
	}
	e.mu.Lock()
	e.forgetLocked(next)
	e.mu.Unlock()
}
