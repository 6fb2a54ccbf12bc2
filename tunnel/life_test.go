package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestOldURL has a service that grants, or refuses, the URL that the tunnel had.
func TestOldURL(t *testing.T) {
	unknown := &Error{Op: "open the script tunnel", Cause: "not yours", Refused: true}
	for _, test := range []struct {
		name    string
		wanted  string
		refusal *Error        // of the old URL
		always  bool          // of any other, too
		phase   Phase         // at the end
		after   time.Duration // the loss, within a second
		asked   []string      // in the end
	}{
		{name: "granted", phase: Online, asked: []string{"", home}},
		{name: "refused", refusal: unknown, phase: URLChanged, asked: []string{"", home, ""}},
		{name: "taken", refusal: taken, phase: URLChanged, after: 60 * time.Second, asked: []string{home, home, ""}},
		{name: "taken, and any other", refusal: taken, always: true, phase: Stopped, after: 60 * time.Second, asked: []string{home, home, ""}},
		{name: "final", refusal: final, always: true, phase: Stopped, asked: []string{"", home, ""}},
		{name: "the user's", wanted: home, refusal: taken, phase: Stopped, after: 60 * time.Second, asked: []string{home, home, home}},
		{name: "the user's is refused for good", wanted: home, refusal: final, phase: Stopped, asked: []string{home, home}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(func(try int, url string) (*scene, error) {
					switch {
					case try == 0:
						return newScene(home), nil
					case test.refusal != nil && (url == home || test.always):
						return nil, test.refusal
					case url == "":
						return newScene(another), nil
					}
					return newScene(url), nil
				})
				tun := play(t, s, Options{URL: test.wanted})
				tun.next(t, Online)
				time.Sleep(time.Hour)
				lost := time.Now()
				s.newest().end(errNoNetwork)
				state := tun.next(t, Reconnecting)
				for state.Phase == Reconnecting {
					if state = <-tun.States(); state.Phase == Reconnecting && state.Err == unknown {
						t.Errorf("told of a URL that nobody asked for: %v", state)
					}
				}
				if took := time.Since(lost); state.Phase != test.phase || took < test.after || took > test.after+2*time.Second {
					t.Errorf("%v after %v; want %v after %v", state, took, test.phase, test.after)
				}
				if asked := s.urls[len(s.urls)-len(test.asked):]; !slices.Equal(asked, test.asked) {
					t.Errorf("asked for %q; want %q", asked, test.asked)
				}
				if test.phase != URLChanged {
					return
				}
				// The next session asks for the new one.
				s.newest().end(errNoNetwork)
				tun.next(t, Reconnecting)
				if state := tun.next(t, Online); state.URL != another || s.urls[len(s.urls)-1] != another {
					t.Errorf("%v, asked for %q", state, s.urls)
				}
			})
		})
	}
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
		wanted string // URL
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
		{name: "final", wanted: home, sure: true, events: []error{final}, phase: Stopped, dials: 1},
		{name: "its old URL is refused", sure: true, events: []error{errNoNetwork, final}, phase: URLChanged, dials: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(func(try int, url string) (*scene, error) {
					if try > 0 && url == "" {
						return newScene(another), nil
					}
					return comingBack(home, test.sure), nil
				})
				o := recovery
				o.URL, o.Prove = test.wanted, test.prove
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

// TestSince shows since when a phase lasts, whatever becomes of its reason.
func TestSince(t *testing.T) {
	t.Parallel()
	tun := newListener("script", 0)
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
