package tunnel

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine"
)

var (
	// errMoved ends a session that may not be behind its public URL.
	errMoved = errors.New("the public URL may have changed")
	// errChanged ends what was begun before the machine slept or changed its network.
	errChanged = errors.New("the machine or its network has changed")
)

// Renewer returns a function that replaces the session of t at once and keeps the listener and what is in flight. Call it when
// the public URL turns out not to lead here although nothing is wrong from this side: cause says how, and is shown in [Reconnecting].
// It does not wait. Renewer returns nil where t is not from [Open].
func Renewer(t Tunnel) (renew func(cause error)) {
	if l, ok := t.(*life); ok {
		return func(cause error) { l.renewals.Send(renewal{why: l.moved(cause)}) }
	}
	return nil
}

// renewal asks for a new session.
type renewal struct {
	why *Error // wraps errMoved or errChanged
	// needed is asked about a session that is up, with errChanged. Nil: yes.
	needed func(Session) bool
}

// watch asks for a new session when the machine has slept or changed its network.
func (t *life) watch(on machine.Machine) {
	w := machine.Watch(on)
	tick := time.NewTicker(on.Interval)
	defer tick.Stop()
	for {
		select {
		case <-t.trying.Done():
			return
		case <-tick.C:
		}
		c := w.Look()
		if c.Cause == "" {
			continue
		}
		r := renewal{why: &Error{
			Op:        t.keepOp(),
			Cause:     c.Cause,
			Fix:       "nothing; it comes back as soon as there is a network",
			Temporary: true,
			Err:       errChanged,
		}}
		if !c.Slept {
			// A connection whose address the machine has lost cannot carry another byte. Others may go on; their heartbeats tell.
			r.needed = func(s Session) bool {
				return slices.ContainsFunc(s.Local(), func(a netip.Addr) bool { return c.Gone[a] })
			}
		}
		t.renewals.Send(r)
	}
}

// pause waits for d. woken says that it was cut short because the machine or its network changed; ok says whether there is to be
// another try at all.
func (t *life) pause(d time.Duration) (woken, ok bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, t.trying.Err() == nil
	case <-t.renewals.C:
		return true, t.trying.Err() == nil
	case <-t.trying.Done():
		return false, false
	}
}
