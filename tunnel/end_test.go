package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRenewer replaces a session that looks well: what is in flight keeps the old one, for a time.
func TestRenewer(t *testing.T) {
	for _, test := range []struct {
		name  string
		lasts time.Duration // of what is in flight
		hangs bool          // the service does not answer to Retire
		ended time.Duration // when the old session is ended
	}{
		{"short", 10 * time.Second, false, 10 * time.Second},
		{"long", time.Hour, false, 30 * time.Second},
		{"no answer", time.Hour, true, 700 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(func(try int, _ string) (*scene, error) {
					session := newScene([]string{home, another}[try])
					if try == 0 && test.hangs {
						session.hangs = make(chan struct{})
					}
					return session, nil
				})
				tun := play(t, s, Options{Elsewhere: "look there", Redact: func(text string) string { return strings.ReplaceAll(text, "secret", "...") }})
				tun.next(t, Online)
				old := s.newest()
				near, far := net.Pipe()
				defer near.Close()
				old.conns <- far
				c, err := tun.Accept()
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				time.AfterFunc(test.lasts, func() { c.Close() })
				Renewer(tun)(errors.New("somebody with a secret answers"))
				var e *Error
				if state := tun.next(t, Reconnecting); !errors.As(state.Err, &e) || e.Cause != "it is opened again: somebody with a ... answers" || e.Fix != "look there" {
					t.Errorf("state: %v", state)
				}
				if state := tun.next(t, URLChanged); state.URL != another || tun.URL() != another {
					t.Errorf("state: %v", state)
				}
				if !old.is(&old.retired) {
					t.Error("the old URL is still there")
				}
				<-old.over
				if took := time.Since(began); took != test.ended {
					t.Errorf("the old session ended after %v; want %v", took, test.ended)
				}
				if old.hangs != nil {
					close(old.hangs)
				}
				time.Sleep(test.lasts)
			})
		})
	}
	if Renewer(foreign{}) != nil {
		t.Error("a tunnel that is not of Open has a renewer")
	}
}

type foreign struct{ Tunnel }

// TestRetire takes no new request and keeps the one in flight until it is done.
func TestRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(always(home))
		tun := play(t, s, Options{})
		tun.next(t, Online)
		session := s.newest()
		near, far := net.Pipe()
		defer near.Close()
		session.conns <- far
		c, err := tun.Accept()
		if err != nil {
			t.Fatal(err)
		}
		tun.Retire(t.Context())
		if !session.is(&session.retired) || session.closed() {
			t.Errorf("retired %v, closed %v", session.retired, session.closed())
		}
		session.end(errNoNetwork) // it does not come back now
		time.Sleep(time.Minute)
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		if _, err := tun.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		time.Sleep(time.Minute)
		if len(tun.states.C) != 0 {
			t.Errorf("with a connection open: %v", <-tun.States())
		}
		for range 2 { // counted once
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if state := tun.next(t, Stopped); state.Err != nil || state.URL != home {
			t.Errorf("state: %v", state)
		}
		if len(s.since(0)) != 1 {
			t.Errorf("tries at %v", s.tries)
		}
		tun.Retire(context.Background()) // returns, too, when all is over
	})
}

// TestRetireLimits has a service that does not answer to Retire: its caller waits as long as it wants, the tunnel for 2 s.
func TestRetireLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		session := newScene(home)
		session.hangs = make(chan struct{})
		tun := play(t, newScript(func(int, string) (*scene, error) { return session, nil }), Options{})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tun.Retire(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Retire returned after %v", took)
		}
		tun.Retire(t.Context())
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("Retire returned after %v", took)
		}
		close(session.hangs)
	})
}

// TestClose closes tunnels at the first call where nothing is in flight, and at the second where something is.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(always(home))
		tun := play(t, s, Options{})
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		<-tun.done
		if !s.newest().closed() {
			t.Error("nothing is in flight, and the session goes on")
		}

		s = newScript(always(home))
		tun = play(t, s, Options{})
		near, far := net.Pipe()
		defer near.Close()
		s.newest().conns <- far
		if _, err := tun.Accept(); err != nil {
			t.Fatal(err)
		}
		tun.Close()
		time.Sleep(time.Hour)
		if s.newest().closed() {
			t.Error("the connection in flight was cut")
		}
		if err := tun.Close(); err != nil || !s.newest().closed() {
			t.Errorf("the second Close: %v", err)
		}
	})
}

// TestCloseLimit has a session that does not end.
func TestCloseLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		session := newScene(home)
		session.hangs = make(chan struct{})
		tun := play(t, newScript(func(int, string) (*scene, error) { return session, nil }), Options{})
		tun.Close()
		began := time.Now()
		err := tun.Close()
		var e *Error
		if !errors.As(err, &e) || e.Op != "close the script tunnel" || e.Hint() == "" || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(session.hangs)
	})
}

// TestCloseWhileAway closes while the tunnel waits for its next try, and while a try hangs.
func TestCloseWhileAway(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint("a try hangs: ", hangs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(nil)
				s.answer = func(try int, _ string) (*scene, error) {
					if try > 0 {
						return nil, errNoNetwork
					}
					return newScene(home), nil
				}
				tun := play(t, s, Options{})
				tun.next(t, Online)
				s.setHang(hangs)
				s.newest().end(errNoNetwork)
				tun.next(t, Reconnecting)
				time.Sleep(10 * time.Second)
				began := time.Now()
				tun.Retire(t.Context())
				for range 2 {
					if err := tun.Close(); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("closed after %v", took)
				}
			})
		})
	}
}

// TestNobodyAccepts has connections that nobody takes: they are closed with the tunnel.
func TestNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(always(home))
		tun := play(t, s, Options{})
		near, far := net.Pipe()
		s.newest().conns <- far
		synctest.Wait()
		for range 2 {
			if err := tun.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := near.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is left open")
		}
	})
}
