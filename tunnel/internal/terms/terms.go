// Package terms has what every tunnel takes as given: its time limits and the computer it runs on. Tests of the providers set their own.
package terms

import (
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine"
)

// Terms are the limits and waits of a tunnel, and the machine that it watches.
type Terms struct {
	// Open bounds the tries of Open. A provider may take some seconds more to find the reason for the last failure: 15 s in all.
	Open time.Duration
	// Refused is how long a tunnel asks again that is refused. The reason can be its own last session, which the service still
	// takes for alive.
	Refused time.Duration
	// Try bounds one try to come back.
	Try time.Duration
	// Steady is how long a session has to last for its loss not to count as one of a row.
	Steady time.Duration
	// QuickLosses are as many sessions as may be lost in a row, each soon after it was online, before the next ones have to wait.
	QuickLosses int
	// Prove bounds Options.Prove.
	Prove time.Duration
	// Retire is how long the service may take to take the public URL off.
	Retire time.Duration
	// Replace is the same for a session that is being replaced, which the next one has to wait for.
	Replace time.Duration
	// Linger is how long a session that was replaced keeps its requests in flight.
	Linger time.Duration
	// Drop is how long the pump of a session may take to end once the session is closed.
	Drop time.Duration
	// Close bounds the second Close.
	Close time.Duration

	Machine machine.Machine
}

// Default returns the terms of all tunnels outside of tests.
func Default() Terms {
	return Terms{
		Open:        12 * time.Second,
		Refused:     60 * time.Second,
		Try:         6 * time.Second,
		Steady:      2 * time.Second,
		QuickLosses: 5,
		Prove:       5 * time.Second,
		Retire:      2 * time.Second,
		Replace:     700 * time.Millisecond,
		Linger:      30 * time.Second,
		Drop:        time.Second,
		Close:       5 * time.Second,
		Machine:     machine.This(),
	}
}
