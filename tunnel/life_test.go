package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/latest"
	"github.com/hubhook/hubhook/tunnel/internal/machine/machinetest"
)

const (
	home    = "https://home.example.com"
	another = "https://another.example.com"
)

var (
	errNoNetwork = errors.New("no\nnetwork")
	final        = &Error{Op: "open the script tunnel", Code: "1", Cause: "no", Fix: "none", Refused: true, Final: true}
	taken        = &Error{Op: "open the script tunnel", Code: "2", Cause: "taken", Fix: "wait", Refused: true, Temporary: true}
)

func seconds(s ...float64) []time.Duration {
	var d []time.Duration
	for _, n := range s {
		d = append(d, time.Duration(n*float64(time.Second)))
	}
	return d
}

func TestWaitBetween(t *testing.T) {
	t.Parallel()
	if w := waitBetween(0, 0); w != 0 {
		t.Errorf("the first try waits %v", w)
	}
	for n := range 1000 {
		if w := waitBetween(n, 4*time.Minute); w > 1500*time.Millisecond || n > 0 && w < 250*time.Millisecond {
			t.Errorf("try %d of the first minutes waits %v", n, w)
		}
		if w := waitBetween(n, time.Hour); w > 15*time.Second || n > 6 && w != 15*time.Second {
			t.Errorf("try %d of a long outage waits %v", n, w)
		}
	}
}

// TestOpenWithoutANetwork shows when Open tries, what it tells meanwhile, and when it gives up.
func TestOpenWithoutANetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(func(int, string) (*scene, error) { return nil, errNoNetwork })
		var told []string
		_, err := Open(t.Context(), s, Options{URL: home, Connecting: func(try int, err error) {
			told = append(told, fmt.Sprint(try, " ", err))
		}}.onLaptop(machinetest.New()))
		var e *Error
		if !errors.As(err, &e) || !e.Temporary || e.Refused || e.Error() != "open the script tunnel: no network" || e.Hint() == "" {
			t.Errorf("%#v", err)
		}
		if want := seconds(0, .25, .75, 1.75, 2.75, 3.75, 4.75, 5.75, 6.75, 7.75, 8.75, 9.75, 10.75, 11.75); !slices.Equal(s.tries, want) {
			t.Errorf("tries at %v; want %v", s.tries, want)
		}
		if len(told) != len(s.tries) || told[0] != "1 open the script tunnel: no network" {
			t.Errorf("told: %q", told)
		}
		if len(slices.Compact(s.urls)) != 1 || s.urls[0] != home {
			t.Errorf("asked for %q", s.urls)
		}
	})
}

// TestOpenLimit has tries that hang: together they take no longer than Open may.
func TestOpenLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		s.hang = true
		_, err := Open(t.Context(), s, Options{}.onLaptop(machinetest.New()))
		if took := time.Since(s.began); err == nil || took != 12*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestOpenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, refusal := range []*Error{final, {Op: "open the script tunnel", Cause: "what is this", Refused: true}, {Op: "open the script tunnel", Cause: "wrong settings"}} {
			s := newScript(func(int, string) (*scene, error) { return nil, refusal })
			if _, err := Open(t.Context(), s, Options{}.onLaptop(machinetest.New())); err != refusal || time.Since(s.began) != 0 || len(s.tries) != 1 {
				t.Errorf("%v after %v and %d tries; want %v at once", err, time.Since(s.began), len(s.tries), refusal)
			}
		}
	})
}

func TestOpenIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		s.hang = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Open(ctx, s, Options{}.onLaptop(machinetest.New()))
		var e *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || !e.Temporary || !strings.HasPrefix(e.Cause, "given up") || time.Since(s.began) != time.Second {
			t.Errorf("%#v after %v", err, time.Since(s.began))
		}
	})
}

// TestOwnLastSession has a refusal that ends when the service notices that the last session is dead.
func TestOwnLastSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		s.answer = func(int, string) (*scene, error) {
			if time.Since(s.began) < 30*time.Second {
				return nil, taken
			}
			return newScene(home), nil
		}
		tun := play(t, s, Options{})
		if state := tun.next(t, Connecting); state.Err != taken || state.URL != "" {
			t.Errorf("state: %v", state)
		}
		if state := tun.next(t, Online); state.URL != home || tun.URL() != home || tun.Addr().String() != "home.example.com" {
			t.Errorf("state: %v", state)
		}
	})
}

func TestRefusedForAMinute(t *testing.T) {
	for _, online := range []bool{false, true} {
		t.Run(fmt.Sprint("online before: ", online), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(func(try int, _ string) (*scene, error) {
					if online && try == 0 {
						return newScene(home), nil
					}
					return nil, taken
				})
				tun := play(t, s, Options{})
				if online {
					tun.next(t, Online)
					s.newest().end(errNoNetwork)
					tun.next(t, Reconnecting)
					tun.next(t, Reconnecting)
				} else {
					tun.next(t, Connecting)
				}
				state := tun.next(t, Stopped)
				if took := time.Since(s.began); state.Err != taken || took < 60*time.Second || took > 62*time.Second {
					t.Errorf("%v after %v", state, took)
				}
				if _, err := tun.Accept(); err != taken {
					t.Errorf("Accept: %v", err)
				}
			})
		})
	}
}

// TestOutage shows when a tunnel tries to come back, in short outages and in long ones.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outage = 10 * time.Minute
		s := newScript(nil)
		lost := time.Duration(0)
		s.answer = func(try int, _ string) (*scene, error) {
			if try > 0 && time.Since(s.began) < lost+outage {
				return nil, errNoNetwork
			}
			return newScene(home), nil
		}
		tun := play(t, s, Options{})
		online := tun.next(t, Online)
		time.Sleep(time.Hour)
		lost = time.Since(s.began)
		s.newest().end(errors.New("the connection broke"))
		state := tun.next(t, Reconnecting)
		if state.URL != home || state.String() != "reconnecting "+home+": keep the script tunnel open: the connection broke" || !state.Since.After(online.Since) {
			t.Errorf("state: %v", state)
		}
		if again := tun.next(t, Reconnecting); again.Err.Error() != "open the script tunnel: no network" || again.Since != state.Since {
			t.Errorf("state: %v since %v", again, again.Since)
		}
		// The reason stays the same, and is not told again.
		tun.next(t, Online)
		tries := s.since(1)
		if want := seconds(0, .25, .75, 1.75, 2.75); tries[0] != lost || tries[1]-lost != want[1] || tries[2]-lost != want[2] || tries[3]-lost != want[3] || tries[4]-lost != want[4] {
			t.Errorf("tries at %v after %v", tries[:5], lost)
		}
		for i, try := range tries[1:] {
			wait := try - tries[i]
			if early := tries[i]-lost <= 5*time.Minute; early && wait > time.Second || !early && wait != 15*time.Second {
				t.Errorf("after %v the wait is %v", tries[i]-lost, wait)
			}
		}
		if back := tries[len(tries)-1] - lost; back < outage || back > outage+15*time.Second {
			t.Errorf("back after %v", back)
		}
	})
}

// TestShortSessions has sessions that are lost as soon as they look good: after five of them the tunnel waits between them.
func TestShortSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		s.answer = func(int, string) (*scene, error) {
			session := newScene(home)
			time.AfterFunc(5*time.Millisecond, func() { session.end(errNoNetwork) })
			return session, nil
		}
		tun := play(t, s, Options{})
		time.Sleep(20 * time.Second)
		tries := s.since(0)
		for i := range 6 {
			if want := time.Duration(i) * 5 * time.Millisecond; tries[i] != want {
				t.Errorf("session %d at %v; want %v", i, tries[i], want)
			}
		}
		for i, want := range seconds(.25, .5, 1, 1) {
			if wait := tries[6+i] - tries[5+i] - 5*time.Millisecond; wait != want {
				t.Errorf("the wait before session %d is %v; want %v", 6+i, wait, want)
			}
		}
		// One that lasts ends the row.
		s.setAnswer(always(home))
		time.Sleep(4 * time.Second)
		for len(tun.states.C) > 0 {
			<-tun.states.C
		}
		before := time.Since(s.began)
		s.newest().end(errNoNetwork)
		tun.next(t, Reconnecting)
		tun.next(t, Online)
		if took := time.Since(s.began) - before; took != 0 {
			t.Errorf("after a session that lasted the wait is %v", took)
		}
	})
}

// TestComingBackByItself has sessions that tell of a loss and bring themselves back, or do not.
func TestComingBackByItself(t *testing.T) {
	recovery := Options{Resume: 4 * time.Second, ResumeTries: 3}
	for _, test := range []struct {
		name   string
		sure   bool
		prove  func(context.Context, string) error
		events []error // one each second
		moved  string  // to where, at the end; empty: not
		phase  Phase   // at the end
		dials  int
	}{
		{name: "back", sure: true, events: []error{errNoNetwork, nil}, phase: Online, dials: 1},
		{name: "back at another URL", sure: true, events: []error{errNoNetwork, nil}, moved: another, phase: URLChanged, dials: 1},
		{name: "at another URL without a loss", sure: true, events: []error{nil}, moved: another, phase: URLChanged, dials: 1},
		{name: "proven", prove: func(context.Context, string) error { return nil }, events: []error{errNoNetwork, nil}, phase: Online, dials: 1},
		{name: "not proven", events: []error{errNoNetwork, nil}, phase: Online, dials: 2},
		{name: "disproven", prove: func(context.Context, string) error { return errNoNetwork }, events: []error{errNoNetwork, nil}, phase: Online, dials: 2},
		{name: "too many tries", sure: true, events: []error{errNoNetwork, errNoNetwork, errNoNetwork, errNoNetwork}, phase: Online, dials: 2},
		{name: "too slow", sure: true, events: []error{errNoNetwork}, phase: Online, dials: 2},
		{name: "final", sure: true, events: []error{final}, phase: Stopped, dials: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(func(int, string) (*scene, error) { return comingBack(home, test.sure), nil })
				o := recovery
				o.Prove = test.prove
				tun := play(t, s, o)
				tun.next(t, Online)
				session := s.newest()
				session.events <- nil // of the dial
				began := time.Since(s.began)
				for i, event := range test.events {
					if i == len(test.events)-1 && test.moved != "" {
						session.moveTo(test.moved, true)
					}
					session.events <- event
					time.Sleep(time.Second)
				}
				time.Sleep(10 * time.Second)
				var last State
				for len(tun.states.C) > 0 {
					last = <-tun.states.C
				}
				if last.Phase != test.phase {
					t.Errorf("state: %v", last)
				}
				if test.moved != "" && (last.URL != test.moved || tun.URL() != test.moved) {
					t.Errorf("%v, URL %s", last, tun.URL())
				}
				if tries := s.since(0); len(tries) != test.dials || test.name == "too slow" && tries[1]-began != recovery.Resume {
					t.Errorf("tries at %v; want %d of them", tries, test.dials)
				}
			})
		})
	}
}

// TestSleepAndMove has a machine that sleeps, or loses the address of the session's connection.
func TestSleepAndMove(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*machinetest.Laptop)
		why    string // empty: nothing happens
	}{
		{"sleep", func(l *machinetest.Laptop) { l.Sleep(time.Hour) }, "the machine slept for 1 h"},
		{"its address is gone", func(l *machinetest.Laptop) { l.MoveTo("198.51.100.9") }, "the network has changed"},
		{"another address has come", func(l *machinetest.Laptop) { l.MoveTo("192.0.2.7", "198.51.100.9") }, ""},
	} {
		for _, resumes := range []bool{true, false} {
			t.Run(fmt.Sprint(test.name, ", comes back by itself: ", resumes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newScript(func(int, string) (*scene, error) {
						session := newScene(home)
						if resumes {
							session = comingBack(home, true)
						}
						session.local = []netip.Addr{netip.MustParseAddr("192.0.2.7")}
						return session, nil
					})
					l := machinetest.New("192.0.2.7")
					opened, err := Open(t.Context(), s, Options{Resume: 4 * time.Second, ResumeTries: 3}.onLaptop(l))
					if err != nil {
						t.Fatal(err)
					}
					tun := opened.(*life)
					defer tun.Close()
					tun.next(t, Online)
					session := s.newest()
					synctest.Wait() // for the first look at the machine
					test.change(l)
					time.Sleep(2 * time.Second)
					if test.why == "" {
						if len(tun.states.C) != 0 || session.resumed != 0 || session.closed() {
							t.Errorf("state: %v", <-tun.States())
						}
						return
					}
					var e *Error
					if state := tun.next(t, Reconnecting); !errors.As(state.Err, &e) || e.Cause != test.why || e.Op != "keep the script tunnel open" || !e.Temporary || e.Hint() == "" {
						t.Errorf("state: %v", state)
					}
					if resumes {
						session.events <- errNoNetwork // its own doing
						session.events <- nil
					}
					tun.next(t, Online)
					if replaced := session.is(&session.cut); replaced == resumes || session.resumed > 1 || resumes && session.resumed != 1 {
						t.Errorf("replaced: %v; resumed %d times", replaced, session.resumed)
					}
				})
			})
		}
	}
}

// TestNetworkReturns shows that a long outage ends at once when there is a network again, not with the next try.
func TestNetworkReturns(t *testing.T) {
	for _, test := range []struct {
		name  string
		wakes func(*machinetest.Laptop)
	}{
		{"addresses", func(l *machinetest.Laptop) { l.MoveTo("127.0.0.1", "192.0.2.7") }},
		{"sleep", func(l *machinetest.Laptop) { l.Sleep(time.Hour) }},
	} {
		for _, hangs := range []bool{false, true} {
			name := test.name + " while waiting for the next try"
			if hangs {
				name = test.name + " while a try hangs"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := machinetest.New("127.0.0.1")
					tun := newLife(newScript(nil), Options{}.onLaptop(l))
					tun.dialer.(*script).hang = true
					defer tun.stopTrying()
					watched := make(chan struct{})
					go func() {
						defer close(watched)
						tun.watch(tun.terms.Machine)
					}()
					synctest.Wait() // for the first look at the machine
					time.AfterFunc(50*time.Millisecond, func() { test.wakes(l) })
					if hangs {
						// A try that hangs on the old network ends.
						if _, err := tun.dial(tun.trying, time.Hour, tun.renewals.C); !errors.Is(err, errChanged) {
							t.Errorf("the try: %v", err)
						}
					} else if woken, ok := tun.pause(time.Hour); !woken || !ok {
						t.Errorf("the wait: woken %v, another try %v", woken, ok)
					}
					tun.stopTrying()
					<-watched
					tun.background.Wait()
					if _, ok := tun.pause(time.Hour); ok {
						t.Error("another try after the end")
					}
				})
			})
		}
	}
}

// TestLateSession has a session that comes online in the moment in which the try for it is given up.
func TestLateSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := newScene(home)
		tun := newLife(dialFunc(func(ctx context.Context) (Session, error) {
			<-ctx.Done()
			return late, nil
		}), Options{}.onLaptop(machinetest.New()))
		renewals := make(chan renewal, 1)
		renewals <- renewal{why: &Error{Err: errChanged}}
		if _, err := tun.dial(tun.trying, time.Hour, renewals); !errors.Is(err, errChanged) {
			t.Errorf("%v", err)
		}
		tun.background.Wait()
		if !late.closed() {
			t.Error("the session is left open")
		}
	})
}

type dialFunc func(context.Context) (Session, error)

func (d dialFunc) Dial(ctx context.Context, _ string, _ time.Duration) (Session, error) {
	return d(ctx)
}
func (d dialFunc) Wait() {}

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
				if state := tun.next(t, Reconnecting); !errors.As(state.Err, &e) || e.Cause != "it is opened anew: somebody with a ... answers" || e.Fix != "look there" {
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

// TestSince shows since when a phase lasts, whatever becomes of its reason.
func TestSince(t *testing.T) {
	t.Parallel()
	tun := &life{states: latest.New[State](16)}
	began := time.Now().Round(0)
	say := func(phase Phase, cause string) State {
		var why *Error
		if cause != "" {
			why = &Error{Cause: cause}
		}
		tun.publish(phase, why)
		return <-tun.States()
	}
	online := say(Online, "")
	if online.Since.Before(began) || strings.Contains(online.Since.String(), "m=") {
		t.Errorf("online since %v", online.Since)
	}
	first, second := say(Reconnecting, "one reason"), say(Reconnecting, "another reason")
	if first.Since.Before(online.Since) || first.Since.IsZero() || !second.Since.Equal(first.Since) {
		t.Errorf("online %v, away %v and %v", online.Since, first.Since, second.Since)
	}
	if back := say(Online, ""); back.Since.Before(first.Since) {
		t.Errorf("away %v, back %v", first.Since, back.Since)
	}
}
