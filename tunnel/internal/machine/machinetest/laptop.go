// Package machinetest has a computer that does what a test says.
package machinetest

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine"
)

// Laptop sleeps and changes its network when a test says so.
type Laptop struct {
	mu     sync.Mutex
	asleep time.Duration // so far
	stood  time.Duration // so far, with both clocks going on
	addrs  map[netip.Addr]bool
	lost   error
}

// New returns a laptop with these network addresses.
func New(addrs ...string) *Laptop {
	l := new(Laptop)
	l.MoveTo(addrs...)
	return l
}

// MoveTo gives it other network addresses.
func (l *Laptop) MoveTo(addrs ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs = make(map[netip.Addr]bool)
	for _, a := range addrs {
		l.addrs[netip.MustParseAddr(a)] = true
	}
}

// Sleep has it sleep for d, or, where d is negative, sets its clock back.
func (l *Laptop) Sleep(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asleep += d
}

// Stop has the program stand still for d.
func (l *Laptop) Stop(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stood += d
}

// HideAddresses makes its addresses unreadable with err, or readable with nil.
func (l *Laptop) HideAddresses(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = err
}

// Machine's clocks stand still but for what the test does, so that a slow test machine changes nothing.
func (l *Laptop) Machine() machine.Machine {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return machine.Machine{
		Interval: 5 * time.Millisecond,
		Clocks: func() (time.Time, time.Duration) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return began.Add(l.asleep + l.stood), l.stood
		},
		Addresses: func() (map[netip.Addr]bool, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.addrs, l.lost
		},
	}
}
