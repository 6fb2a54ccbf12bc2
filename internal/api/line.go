package api

// The types of the lines of --json. The comment of each begins with the object that the line has; `make docs` makes a table of them.
const (
	LineReady    = "ready"    // Ready: once, when everything listens
	LineDelivery = "delivery" // Delivery: a delivery was accepted; of a repeat, the first one's with `duplicate`
	LineAttempt  = "attempt"  // AttemptEvent: an attempt ended, or a delivery ended without an attempt
	LineRejected = "rejected" // Rejected: a request was refused; `times` is always 1
	LineTunnel   = "tunnel"   // TunnelChange: the tunnel changed or was checked
	LineWebhook  = "webhook"  // WebhookChange: a webhook that hubhook keeps on the Hub changed
	LineFollow   = "follow"   // Followed: the state of a followed item changed
	LineProgram  = "program"  // ProgramEvent: `hubhook dev`: a step in the life of the program
	LineOutput   = "output"   // ProgramOutput: `hubhook dev`: the program printed a line
	LineStopped  = "stopped"  // Stopped: at the end
)

// Line is how each line of --json begins. Its objects are those of the inspector's API.
type Line struct {
	Type string `json:"type"` // LineReady, or another one
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
	LocalURL     string     `json:"local_url"`               // the local address
	PublicURL    string     `json:"public_url,omitempty"`    // "" without a tunnel
	InspectorURL string     `json:"inspector_url,omitempty"` // with its token; "" when the inspector is off
	Endpoints    []Endpoint `json:"endpoints"`               // each with `name` and `url`
	Secret       bool       `json:"secret"`                  // whether a secret is configured
	Checking     bool       `json:"checking,omitempty"`      // the proof of the public way is under way
	Data         string     `json:"data,omitempty"`          // the data directory
	Version      string     `json:"version"`                 // hubhook's version
	Webhooks     []Webhook  `json:"webhooks,omitempty"`      // on the Hub, those that hubhook keeps
	Followed     []Followed `json:"followed,omitempty"`      // on the Hub, without a webhook
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
	Program   string     `json:"program"`             // its name
	Phase     string     `json:"phase"`               // starting, listening, ready, endpoints, restarting, exited, crash loop, paused, resumed, advice or stopped
	Text      string     `json:"text,omitempty"`      // what happened, in words
	Hint      string     `json:"hint,omitempty"`      // what to do about it
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
	Program string `json:"program"` // its name
	Output  string `json:"output"`  // without its end, and without escape sequences
}
