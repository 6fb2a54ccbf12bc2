package tunnel

import (
	"sync"
	"time"
)

// link is one session of a tunnel, with what is in flight on it.
type link struct {
	Session
	since   time.Time     // when it came online
	dropped chan struct{} // closed when drop begins
	ended   chan error    // why Accept failed; closed after that
	open    openConns
}

func newLink(s Session) *link {
	return &link{Session: s, since: time.Now(), dropped: make(chan struct{}), ended: make(chan error, 1)}
}

// pump accepts until the session ends, whatever becomes of the tunnel: a session whose connections nobody takes may hang.
func (t *life) pump(l *link) {
	for {
		c, err := l.Accept()
		if err != nil {
			l.ended <- err
			close(l.ended)
			return
		}
		t.handOver(c, l)
	}
}

// unbind takes the URL off the service and keeps what is in flight. It reports whether that was done within limit: where it was
// not, the service may keep the URL until the session ends.
func (l *link) unbind(background *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	background.Go(func() {
		defer close(done)
		l.Retire()
	})
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// drop ends the session, cuts what is in flight, and waits a moment for the pump to end.
func (l *link) drop(limit time.Duration) {
	close(l.dropped)
	l.Close()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case _, running := <-l.ended:
			if !running {
				return
			}
		case <-timer.C:
			return
		}
	}
}

// replaceLater takes l's URL off the service now and ends its session when what is in flight on it is done. Where the URL does not
// come off, the session has to end first: nothing could take the URL over.
func (t *life) replaceLater(l *link) {
	if !l.unbind(&t.background, t.terms.Replace) {
		t.dropNow(l)
		return
	}
	t.background.Go(func() {
		timer := time.NewTimer(t.terms.Linger)
		defer timer.Stop()
		select {
		case <-l.open.drained():
		case <-timer.C:
		case <-t.down:
		}
		l.drop(t.terms.Drop)
	})
}

// dropNow cuts l's connection and leaves the rest of taking it down, which can take seconds, to the background: the next session
// does not wait for it.
func (t *life) dropNow(l *link) {
	l.Cut()
	t.background.Go(func() { l.drop(t.terms.Drop) })
}
