// Package machine notices what happens to the computer that a connection cannot notice: sleep, and another network.
package machine

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// standstill is how long the program must have been stopped for that to count. By then a service may have given up its connection,
	// and a network in between may have forgotten it.
	standstill = 10 * time.Second

	// lookInterval is between two looks at the clocks and the network addresses.
	lookInterval = time.Second
)

// Machine is what there is to look at of a computer. A test has one of its own.
type Machine struct {
	// Interval is the time between two looks.
	Interval time.Duration
	// Clocks are the time of day and the time that the machine has been running, from any beginning on. The second stands still while
	// the machine sleeps, except on systems where it goes on like the first.
	Clocks func() (wall time.Time, running time.Duration)
	// Addresses are those of the machine's network interfaces.
	Addresses func() (map[netip.Addr]bool, error)
}

// This is the computer that the program runs on.
func This() Machine {
	began := time.Now()
	return Machine{
		Interval:  lookInterval,
		Clocks:    func() (time.Time, time.Duration) { return time.Now().Round(0), time.Since(began) },
		Addresses: interfaceAddresses,
	}
}

func interfaceAddresses() (map[netip.Addr]bool, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's network addresses: %w", err)
	}
	addrs := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			addrs[prefix.Addr().Unmap()] = true
		}
	}
	return addrs, nil
}

// Change is what happened to a machine: it was asleep, or it has other addresses.
type Change struct {
	Cause string // in words; empty where nothing happened
	Slept bool
	Gone  map[netip.Addr]bool // addresses that it had
}

// Watcher compares a machine with what it was at the last look.
type Watcher struct {
	machine Machine
	wall    time.Time
	running time.Duration
	addrs   map[netip.Addr]bool
}

// Watch takes the first look at m.
func Watch(m Machine) *Watcher {
	w := &Watcher{machine: m}
	w.Look()
	return w
}

// Look returns what has happened since the last look.
func (w *Watcher) Look() Change {
	wall, running := w.machine.Clocks()
	onWall, ran := wall.Sub(w.wall), running-w.running
	w.wall, w.running = wall, running
	before := w.addrs
	// Where the system does not say, the addresses are taken for unchanged; heartbeats find out then.
	if addrs, err := w.machine.Addresses(); err == nil {
		w.addrs = addrs
	}
	if before == nil {
		return Change{}
	}
	var c Change
	switch {
	case onWall-ran > standstill:
		// A clock that is set forward looks the same, which costs one reconnect.
		c = Change{Cause: "the machine slept for " + inWords(onWall-ran), Slept: true}
	case max(onWall, ran) > standstill+w.machine.Interval:
		// Stopped by a signal or a debugger, or asleep on a system whose clocks both go on.
		c = Change{Cause: "this program stood still for " + inWords(max(onWall, ran)), Slept: true}
	}
	came := false
	for addr := range w.addrs {
		came = came || !before[addr]
	}
	for addr := range before {
		if !w.addrs[addr] {
			if c.Gone == nil {
				c.Gone = make(map[netip.Addr]bool)
			}
			c.Gone[addr] = true
		}
	}
	if c.Cause == "" && (came || c.Gone != nil) {
		c.Cause = "the network has changed"
	}
	return c
}

// inWords is d as people say it, without the parts that don't matter: "3 h 5 min", "40 s".
func inWords(d time.Duration) string {
	d = d.Round(time.Second)
	if d >= time.Hour {
		d = d.Round(time.Minute)
	}
	var parts []string
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := d / unit.of; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, unit.name))
			d %= unit.of
		}
	}
	return strings.Join(parts, " ")
}
