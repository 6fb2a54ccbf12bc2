package api

// Status is how a running hubhook stands.
type Status struct {
	Version   string     `json:"version"`   // hubhook's version
	PID       int        `json:"pid"`       // of its process
	Started   Time       `json:"started"`   // when it started
	Data      string     `json:"data"`      // the data directory
	Addresses Addresses  `json:"addresses"` // `local`, `public` ("" without a tunnel) and `inspector`, without tokens
	Tunnel    *Tunnel    `json:"tunnel"`    // null without one
	Secret    string     `json:"secret"`    // how hard the webhook secrets are to guess: strong, weak, or none where there is none
	Program   *Program   `json:"program"`   // null unless it is `hubhook dev`
	Endpoints []Endpoint `json:"endpoints"` // each with `name` and `url`
	Webhooks  []Webhook  `json:"webhooks"`  // on the Hub, those that hubhook keeps
	Followed  []Followed `json:"followed"`  // on the Hub, without a webhook
	Loops     []Loop     `json:"loops"`     // those that go on or did within the last hour, latest first
	Upstreams []Upstream `json:"upstreams"` // of endpoints that forward, in this process

	Counts           map[string]int64            `json:"counts"`             // of stored deliveries by state; every state is there
	CountsByEndpoint map[string]map[string]int64 `json:"counts_by_endpoint"` // the same for each endpoint
}

// Addresses are the base URLs of a running hubhook, without tokens.
type Addresses struct {
	Local     string `json:"local"`
	Public    string `json:"public"` // "" without a tunnel
	Inspector string `json:"inspector"`
}

// Endpoint is a name under /webhooks with the URL to paste into the Hub's settings.
type Endpoint struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// Loop is a handler that seems to change what it watches: each of its deliveries came soon after its handler had ended.
type Loop struct {
	Endpoint   string `json:"endpoint"`   // its name
	Scope      string `json:"scope"`      // of the events
	Repo       Repo   `json:"repo"`       // `type` and `name`
	Deliveries int    `json:"deliveries"` // how many came in a row
	Since      Time   `json:"since"`      // when the first of them came
	Last       Time   `json:"last"`       // when the last of them came
	Text       string `json:"text"`       // the same in words
	Hint       string `json:"hint"`       // what to do about it
}

// Program is how the program of `hubhook dev` stands.
type Program struct {
	Name  string `json:"name"`  // the program's
	Phase string `json:"phase"` // starting, listening, ready, restarting, exited, crash loop or stopped
	Since Time   `json:"since"` // when it came into this phase
	Text  string `json:"text"`  // the same in words
	Hint  string `json:"hint"`  // what to do about it
}

// Upstream is how a URL stands that an endpoint forwards to.
type Upstream struct {
	Endpoint string `json:"endpoint"` // its name
	URL      string `json:"url"`      // where its deliveries go, without a password and query
	State    string `json:"state"`    // ok: it answered the last request, with whatever status; failing: it did not; untried: there was none yet
	Since    *Time  `json:"since"`    // when it came into this state; null while untried
	Error    string `json:"error"`    // why the last failed attempt failed, "" if none has
	Failed   *Time  `json:"failed"`   // when it failed, null if none has
}

// Tunnel is how the tunnel stands.
type Tunnel struct {
	Provider  string `json:"provider"`   // ngrok, ssh, cloudflared or another one
	Phase     string `json:"phase"`      // connecting, online, reconnecting, url changed, stopped or failed
	URL       string `json:"url"`        // the public URL
	Error     string `json:"error"`      // why it is down, "" if it is not
	Since     Time   `json:"since"`      // when it came into this phase
	LastProbe *Probe `json:"last_probe"` // the last check: `time`, `ok` and `error`; null before the first one
}

// Probe is one look at our own public URL from outside.
type Probe struct {
	Time  Time   `json:"time"`
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

// TunnelChange is a change of the tunnel's state, or what a check of it has found.
type TunnelChange struct {
	Time      Time       `json:"time"`                // when it was
	Provider  string     `json:"provider"`            // ngrok, ssh, cloudflared or another one
	Phase     string     `json:"phase"`               // connecting, online, reconnecting, url changed, stopped or failed; of a check reachable, unreachable or unchecked
	URL       string     `json:"url"`                 // the public URL
	Error     string     `json:"error"`               // what is wrong, "" for nothing
	Hint      string     `json:"hint"`                // what to do about it
	Endpoints []Endpoint `json:"endpoints,omitempty"` // with their new URLs, if the URL changed
	Kept      bool       `json:"-"`                   // hubhook tells the Hub of the new URLs itself
}

// TunnelChanges is the answer to GET /api/tunnel.
type TunnelChanges struct {
	Changes []TunnelChange `json:"changes"` // the newest of this process, newest first
}

// Rejected is a request that was refused at the front door. It holds nothing of the request's body and no secret. Nothing of the request
// was stored, unless the answer waited in vain for its handler.
type Rejected struct {
	Time      Time   `json:"time"`       // when it came
	Endpoint  string `json:"endpoint"`   // as asked for, at most 80 bytes
	Status    int    `json:"status"`     // of the answer
	Reason    string `json:"reason"`     // the label of `hubhook_refused_total`: `wrong_secret`, `bad_json` ...
	Error     string `json:"error"`      // what was answered
	Fix       string `json:"fix"`        // how to fix it
	UserAgent string `json:"user_agent"` // the header, at most 200 bytes
	Times     int    `json:"times"`      // how many requests in a row differ in time alone; `time` is that of the newest
}

// RejectedList is the answer to GET /api/rejected.
type RejectedList struct {
	Rejected []Rejected `json:"rejected"` // the newest of this process, newest first
	Total    int64      `json:"total"`    // requests that this process has refused
}

// Series is what has become of the deliveries of the last hour or day, step by step of the time at which they were received. All its
// lists are as long as Times.
type Series struct {
	StepMS     int64              `json:"step_ms"`     // how long a step is
	Times      []int64            `json:"times"`       // when each step begins, in Unix seconds, oldest first; the last one goes on
	States     map[string][]int64 `json:"states"`      // for every state, how many of the step's deliveries are in it now
	DurationMS SeriesDurations    `json:"duration_ms"` // of the last attempts of finished deliveries: `p50`, `p95` and `max`, null in a step without any; `p50` and `p95` are at most 5 % or 1 µs too long
}

// SeriesDurations are durations in milliseconds, with three digits after the point, null for a step without any.
type SeriesDurations struct {
	P50 []*float64 `json:"p50"` // as P95 at most 5 % or 1 µs too long
	P95 []*float64 `json:"p95"`
	Max []*float64 `json:"max"`
}
