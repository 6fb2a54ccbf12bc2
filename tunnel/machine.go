package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// standstill is how long this program must have been stopped for its session to be renewed. By then the service may have given the
	// session up already, and a network in between may have forgotten its connection.
	standstill = 10 * time.Second

	// lookInterval is between two looks at the clocks and the network addresses.
	lookInterval = time.Second
)

// machine is what a tunnel watches of the computer it runs on. A test has one of its own.
type machine struct {
	interval time.Duration
	// clocks are the time of day and the time that the machine has been running, from any beginning on. The second stands still while
	// the machine sleeps, except on systems where it goes on like the first.
	clocks func() (wall time.Time, running time.Duration)
	// addresses are those of the machine's network interfaces.
	addresses func() (map[netip.Addr]bool, error)
}

func thisMachine() machine {
	began := time.Now()
	return machine{
		interval:  lookInterval,
		clocks:    func() (time.Time, time.Duration) { return time.Now().Round(0), time.Since(began) },
		addresses: interfaceAddresses,
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

// change is what happened to the machine: it was asleep, or it has other addresses.
type change struct {
	cause string // in words; empty where nothing happened
	slept bool
	gone  map[netip.Addr]bool // addresses that it had
}

// watcher compares the machine with what it was at the last look.
type watcher struct {
	machine machine
	wall    time.Time
	running time.Duration
	addrs   map[netip.Addr]bool
}

func newWatcher(m machine) *watcher {
	w := &watcher{machine: m}
	w.look()
	return w
}

// look returns what has happened since the last look.
func (w *watcher) look() change {
	wall, running := w.machine.clocks()
	onWall, ran := wall.Sub(w.wall), running-w.running
	w.wall, w.running = wall, running
	before := w.addrs
	// Where the system does not say, the addresses are taken for unchanged; heartbeats find out then.
	if addrs, err := w.machine.addresses(); err == nil {
		w.addrs = addrs
	}
	if before == nil {
		return change{}
	}
	var c change
	switch {
	case onWall-ran > standstill:
		// A clock that is set forward looks the same, which costs one reconnect.
		c = change{cause: "the machine slept for " + inWords(onWall-ran), slept: true}
	case max(onWall, ran) > standstill+w.machine.interval:
		// Stopped by a signal or a debugger, or asleep on a system whose clocks both go on.
		c = change{cause: "this program stood still for " + inWords(max(onWall, ran)), slept: true}
	}
	came := false
	for addr := range w.addrs {
		came = came || !before[addr]
	}
	for addr := range before {
		if !w.addrs[addr] {
			if c.gone == nil {
				c.gone = make(map[netip.Addr]bool)
			}
			c.gone[addr] = true
		}
	}
	if c.cause == "" && (came || c.gone != nil) {
		c.cause = "the network has changed"
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
