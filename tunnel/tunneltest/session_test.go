package tunneltest

import (
	"bytes"
	"io"
	"sync"
	"testing"

	"golang.ngrok.com/muxado/v2"
)

// stuckWire is a connection whose writes take until released. Its reads fail once it is lost.
type stuckWire struct {
	wrote          chan []byte // what the first write was given
	lost, released chan struct{}
	first          sync.Once
}

func (w *stuckWire) Read([]byte) (int, error) {
	<-w.lost
	return 0, io.EOF
}

func (w *stuckWire) Write(b []byte) (int, error) {
	w.first.Do(func() { w.wrote <- b })
	<-w.released
	return len(b), nil
}

func (w *stuckWire) Close() error { return nil }

// A session that dies may still be sending the bytes of a Write that has failed. They stay as they were.
func TestAFailedWriteKeepsItsBytes(t *testing.T) {
	t.Parallel()
	w := &stuckWire{wrote: make(chan []byte, 1), lost: make(chan struct{}), released: make(chan struct{})}
	defer close(w.released)
	opened, err := muxado.Client(w, nil).OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	s := &agentStream{Stream: opened}
	failed := make(chan error, 1)
	go func() {
		_, err := s.Write([]byte("sent"))
		failed <- err
	}()
	sending := <-w.wrote
	before := bytes.Clone(sending)
	close(w.lost)
	if err := <-failed; err == nil {
		t.Fatal("the write has not failed")
	}
	s.Close()
	if !bytes.Equal(sending, before) {
		t.Errorf("the session is sending %q; want %q", sending, before)
	}
}

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
