package api

// Line is how each line of --json begins. Its objects are those of the inspector's API.
type Line struct {
	Type string `json:"type"` // ready, delivery, attempt, rejected, tunnel, webhook, program, output or stopped
	Time Time   `json:"time"`
}

// DeliveryLine says that a delivery was accepted.
type DeliveryLine struct {
	Line
	Delivery
}

// AttemptLine says that an attempt has ended, or a delivery without one.
type AttemptLine struct {
	Line
	AttemptEvent
}

// RejectedLine says that a request was refused. Its time is that of the refusal.
type RejectedLine struct {
	Type string `json:"type"`
	Rejected
}

// TunnelLine says that the tunnel has changed or was checked. Its time is that of the change.
type TunnelLine struct {
	Type string `json:"type"`
	TunnelChange
}

// ReadyLine says that everything listens.
type ReadyLine struct {
	Line
	Ready
}

// Ready is where a hubhook that has just started can be reached.
type Ready struct {
	LocalURL     string     `json:"local_url"`
	PublicURL    string     `json:"public_url,omitempty"`    // "" without a tunnel
	InspectorURL string     `json:"inspector_url,omitempty"` // with its token; "" when the inspector is off
	Endpoints    []Endpoint `json:"endpoints"`
	Secret       bool       `json:"secret"`             // whether a secret is configured
	Checking     bool       `json:"checking,omitempty"` // the proof of the public way is under way
	Data         string     `json:"data,omitempty"`     // the data directory
	Version      string     `json:"version"`
	Webhooks     []Webhook  `json:"webhooks,omitempty"` // on the Hub, those that hubhook keeps
	Followed     []Followed `json:"followed,omitempty"` // on the Hub, without a webhook
}

// StoppedLine is the last line.
type StoppedLine struct {
	Line
	Stopped
}

// Stopped is the end of the process.
type Stopped struct {
	Reason     string `json:"reason,omitempty"` // the signal or the error
	Unfinished int    `json:"unfinished"`       // handed back, they run at the next start
}

// ProgramLine says what became of the program that `hubhook dev` runs.
type ProgramLine struct {
	Line
	ProgramEvent
}

// ProgramEvent is one step in the life of a program under `hubhook dev`.
type ProgramEvent struct {
	Program   string     `json:"program"`
	Phase     string     `json:"phase"` // starting, listening, ready, endpoints, restarting, exited, crash loop, paused, resumed, advice or stopped
	Text      string     `json:"text,omitempty"`
	Hint      string     `json:"hint,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"` // with listening, ready and endpoints: all, where they have changed
	Trouble   bool       `json:"-"`                   // it is a warning
	Kept      []Webhook  `json:"-"`                   // webhooks on the Hub that hubhook keeps for the endpoints
}

// OutputLine is a line that the program printed.
type OutputLine struct {
	Line
	ProgramOutput
}

// ProgramOutput is one line of the output of a program under `hubhook dev`.
type ProgramOutput struct {
	Program string `json:"program"`
	Output  string `json:"output"` // without its end, and without escape sequences
}
