// Package terms has what every tunnel takes as given: its time limits and the machine that it runs on. Tests of the providers set their own.
package terms

import (
	"context"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine"
)

// Terms are the limits and waits of a tunnel, and the machine that it watches.
type Terms struct {
	// Open bounds the tries of Open. To find the reason for the last failure a provider may take some seconds more: 15 s in all.
	Open time.Duration
	// Refused is how long a tunnel asks again when the service refuses it. The reason can be its own last session, which the service
	// still takes for alive.
	Refused time.Duration
	// Try bounds one try to come back.
	Try time.Duration
	// Steady is how long a session has to last to end a row of quick losses.
	Steady time.Duration
	// QuickLosses is how many sessions in a row may be lost soon after they came online before the tunnel waits between them.
	QuickLosses int
	// Prove bounds Options.Prove.
	Prove time.Duration
	// Retire is how long the service may take to take the public URL off.
	Retire time.Duration
	// Replace is the same while a session is being replaced. The next session has to wait for it.
	Replace time.Duration
	// Linger is how long a session that was replaced keeps its requests in flight.
	Linger time.Duration
	// Drop is how long Accept of a session may take to fail once the session is closed.
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

// Bound returns step with a limit on how long it may take.
func Bound(limit time.Duration, step func(context.Context) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return step(ctx)
	}
}
