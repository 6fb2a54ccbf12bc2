package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine/machinetest"
)

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
