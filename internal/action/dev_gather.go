package action

import (
	"maps"
	"slices"
	"time"
)

// A gatherer collects names until nothing has been added for gatherQuiet, and no longer than gatherMost: an editor that saves by way of
// other files, or a checkout of many, is one change.
type gatherer struct {
	names map[string]struct{}
	first time.Time // when the first of names was added
	timer *time.Timer
}

func newGatherer() *gatherer {
	g := &gatherer{names: make(map[string]struct{}), timer: time.NewTimer(time.Hour)}
	g.timer.Stop()
	return g
}

func (g *gatherer) add(name string) {
	if len(g.names) == 0 {
		g.first = time.Now()
	}
	g.names[name] = struct{}{}
	g.timer.Reset(min(gatherQuiet, max(0, gatherMost-time.Since(g.first))))
}

func (g *gatherer) has(name string) bool {
	_, ok := g.names[name]
	return ok
}

// due fires once the names are to be taken.
func (g *gatherer) due() <-chan time.Time { return g.timer.C }

// take returns the names, sorted, and starts anew.
func (g *gatherer) take() []string {
	names := slices.Sorted(maps.Keys(g.names))
	clear(g.names)
	return names
}
