package ui

import "time"

// Endpoint is a name under /webhooks with the URL to paste into the Hub's settings.
type Endpoint struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// Ready is what the banner shows once everything listens.
type Ready struct {
	LocalURL     string     `json:"local_url"`
	PublicURL    string     `json:"public_url,omitempty"`    // "" without a tunnel
	InspectorURL string     `json:"inspector_url,omitempty"` // with its token; "" when the inspector is off
	Endpoints    []Endpoint `json:"endpoints"`
	Secret       bool       `json:"secret"`             // whether a secret is configured; without one the banner begins with a warning
	Checking     bool       `json:"checking,omitempty"` // the proof of the public way is under way
	Data         string     `json:"data,omitempty"`     // the data directory
	Version      string     `json:"version"`
	Keys         bool       `json:"-"` // keys are read from this terminal
}

// Notice is a warning or an error with the advice that goes with it.
type Notice struct {
	Text string // what was tried and what went wrong, without a full stop
	Hint string // what to do, "" for none; may have several lines
}

// Delivery is one accepted delivery, as its arrival line shows it. With Config.JSON it is printed as the object that the
// inspector lists.
type Delivery struct {
	ID        string
	Endpoint  string
	Scope     string
	Action    string
	RepoType  string
	RepoName  string
	Synthetic bool   // a sample event
	ReplayOf  string // ID of the delivery that this one repeats
	Duplicate bool   // it was answered as a duplicate of the delivery with this ID, and not stored again
	Dead      string // why it can't be handled, "" if it can

	// What follows is for JSON alone.
	State      string // "" is waiting, or dead when Dead says why
	WebhookID  string // the Webhook-Id header
	MergedInto string
	Received   time.Time // zero: when it is printed
	Attempts   int       // started so far
	Duplicates int       // arrivals that were answered as duplicates of this one
	Duration   time.Duration
}

// Outcome is the end of an attempt, or the end of a delivery without one.
type Outcome struct {
	ID       string
	Endpoint string
	State    string // done, retrying, dead, skipped, merged, discarded, or waiting when it was handed back
	Attempt  int    // from 1; 0 without an attempt
	Attempts int    // allowed in all; 0 if that is not known
	Duration time.Duration
	Status   int       // of the answer to the sender; 0 when that was sent before
	Reason   string    // the error, or why it was skipped
	RetryAt  time.Time // with state retrying

	MergedInto string // with state merged: the ID of the delivery that stands for it
}

// Rejected is a request that was refused. Nothing of it was stored, unless the answer waited in vain for its handler.
type Rejected struct {
	Endpoint string `json:"endpoint"` // as asked for, bounded
	Status   int    `json:"status"`
	Error    string `json:"error"` // what was answered
	Fix      string `json:"fix"`   // what to mend
}

// Tunnel is a change of the tunnel's state.
type Tunnel struct {
	Provider  string     `json:"provider"`
	Phase     string     `json:"phase"` // connecting, online, reachable, unreachable, unchecked, reconnecting, url changed, stopped, failed
	URL       string     `json:"url,omitempty"`
	Error     string     `json:"error,omitempty"`
	Hint      string     `json:"hint,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"` // with new URLs, where they changed
}

// Stopped is the end of the process.
type Stopped struct {
	Reason     string `json:"reason,omitempty"` // the signal or the error
	Unfinished int    `json:"unfinished"`       // handed back, they run at the next start
	HadTunnel  bool   `json:"-"`
}
