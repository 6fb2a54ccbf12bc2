package ui

import (
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

// Ready is what the banner shows once everything listens. Without a secret it begins with a warning.
type Ready struct {
	api.Ready
	Keys        bool // keys are read from this terminal
	OnlyFollows bool // no tunnel is opened, because hubhook only follows the Hub
}

// Notice is a warning or an error with the hint that goes with it.
type Notice struct {
	Text string // what was tried and what went wrong, without a full stop
	Hint string // what to do, "" for none; may have several lines
}

// Outcome is the end of an attempt, or the end of a delivery without one. With Config.JSON the AttemptEvent is printed.
type Outcome struct {
	api.AttemptEvent
	Attempts int           // allowed in all; 0 if that is not known
	Duration time.Duration // that of the AttemptEvent, unrounded
}

// Stopped is the end of the process.
type Stopped struct {
	api.Stopped
	HadTunnel bool
}
