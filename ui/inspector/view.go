package inspector

import (
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// Time is a moment in JSON: RFC 3339 in UTC with exactly three digits of a second, so that texts sort as times do.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// Event is what a payload says happened. Both are "" where the payload could not be read.
type Event struct {
	Scope  string `json:"scope"`
	Action string `json:"action"`
}

// Repo is the repository a payload is about. Both are "" where the payload could not be read.
type Repo struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

// Delivery is one accepted delivery as lists and the stream show it.
// Every field is always there, but for RunAt.
type Delivery struct {
	ID         string      `json:"id"`
	Endpoint   string      `json:"endpoint"`
	State      queue.State `json:"state"`
	Reason     string      `json:"reason"`     // why it is dead, skipped or discarded, or how its last attempt failed
	WebhookID  string      `json:"webhook_id"` // the Hub's Webhook-Id header
	ReplayOf   string      `json:"replay_of"`
	MergedInto string      `json:"merged_into"`
	Synthetic  bool        `json:"synthetic"` // a sample event, not the Hub's
	Received   Time        `json:"received"`
	Event      Event       `json:"event"`
	Repo       Repo        `json:"repo"`
	Attempts   int         `json:"attempts"`
	Duplicates int         `json:"duplicates"`      // arrivals that were answered as duplicates of this one
	Replays    int         `json:"replays"`         // deliveries that repeat this one
	DurationMS int64       `json:"duration_ms"`     // of the last attempt that ended, 0 before that
	RunAt      Time        `json:"run_at,omitzero"` // when a retrying delivery is due
}

// FromQueue returns the view of a stored delivery.
func FromQueue(d queue.Delivery) Delivery {
	return Delivery{
		ID:         d.ID,
		Endpoint:   d.Endpoint,
		State:      d.State,
		Reason:     d.Reason,
		WebhookID:  d.WebhookID,
		ReplayOf:   d.ReplayOf,
		MergedInto: d.MergedInto,
		Synthetic:  d.Synthetic,
		Received:   Time{d.Received},
		Event:      Event{Scope: d.Scope, Action: d.Action},
		Repo:       Repo{Type: d.RepoType, Name: d.RepoName},
		Attempts:   d.Attempts,
		Duplicates: d.Duplicates,
		Replays:    d.Replays,
		DurationMS: milliseconds(d.Duration),
		RunAt:      Time{d.RunAt},
	}
}

// Attempt is one run of a delivery's handler.
type Attempt struct {
	N          int             `json:"n"` // from 1
	Started    Time            `json:"started"`
	DurationMS *int64          `json:"duration_ms"` // null while it runs
	Error      string          `json:"error"`       // "" for one that succeeded or still runs
	Stack      string          `json:"stack"`       // of a panic
	Output     string          `json:"output"`      // what the handler printed, so far for one that runs in this process; bytes that are not UTF-8 are replaced
	Result     json.RawMessage `json:"result"`      // what the handler returned; null for nothing

	// OutputBytes is how much one that runs in this process has printed by now: with the parts that Output leaves out, so that it is the
	// offset of the first OutputEvent that Output lacks.
	OutputBytes int64 `json:"output_bytes,omitzero"`
}

// FromAttempt returns the view of one attempt.
func FromAttempt(a queue.Attempt) Attempt {
	v := Attempt{
		N:          a.N,
		Started:    Time{a.Started},
		DurationMS: durationOf(&a),
		Error:      a.Error,
		Stack:      a.Stack,
		Output:     string(a.Output),
	}
	if json.Valid(a.Result) {
		v.Result = a.Result
	}
	return v
}

// Record is one delivery with all that is kept of it.
type Record struct {
	Delivery
	Summary     string         `json:"summary"`      // what happened, in words; "" where the payload can't be read
	Links       []payload.Link `json:"links"`        // pages of the Hub that the payload is about
	Merged      []string       `json:"merged"`       // IDs of the deliveries that were merged into this one, oldest first
	Headers     http.Header    `json:"headers"`      // as received, secrets replaced
	Body        string         `json:"body"`         // byte for byte; admission has checked that it is UTF-8
	AttemptList []Attempt      `json:"attempt_list"` // oldest first
}

// FromRecord returns the view of a stored delivery with its headers, body and attempts.
func FromRecord(r *queue.Record) Record {
	v := Record{
		Delivery:    FromQueue(r.Delivery),
		Merged:      r.Merged,
		Headers:     r.Header,
		Body:        string(r.Body),
		AttemptList: make([]Attempt, len(r.AttemptList)),
	}
	if v.Merged == nil {
		v.Merged = []string{}
	}
	if v.Headers == nil {
		v.Headers = http.Header{}
	}
	v.tell()
	for i, a := range r.AttemptList {
		v.AttemptList[i] = FromAttempt(a)
	}
	return v
}

// List is one page of deliveries, newest first.
type List struct {
	Deliveries []Delivery `json:"deliveries"`
	Next       *string    `json:"next"` // the cursor of the next page; null on the last one
}

// AttemptEvent is the data of the stream's event "attempt": an attempt that has started or ended. What it printed and
// returned is not in it, as that can be large; GET /api/deliveries/ID has it.
type AttemptEvent struct {
	Delivery   string `json:"delivery"` // its ID
	Endpoint   string `json:"endpoint"`
	N          int    `json:"n"`
	Started    Time   `json:"started"`
	DurationMS *int64 `json:"duration_ms"` // null for one that has just started
	Error      string `json:"error"`
}

// OutputEvent is the data of the stream's event "output": a piece of what a running attempt prints. One whose offset is beyond the end of
// the piece before says that the attempt printed too fast for some to be told; GET /api/deliveries/ID has it, if it is kept.
type OutputEvent struct {
	Delivery string `json:"delivery"` // its ID
	N        int    `json:"n"`        // of the attempt
	Offset   int64  `json:"offset"`   // of the text, in bytes from the beginning of all that the attempt has printed
	Text     string `json:"text"`
}

// Rejected is a request that was refused at the front door, as GET /api/rejected lists it and the stream's event "rejected" tells it.
// It holds nothing of the request's body and no secret.
type Rejected struct {
	Time      Time   `json:"time"`
	Endpoint  string `json:"endpoint"` // as asked for, bounded
	Status    int    `json:"status"`
	Reason    string `json:"reason"`     // one of those of hubhook_refused_total
	Error     string `json:"error"`      // what was answered
	Fix       string `json:"fix"`        // what to mend
	UserAgent string `json:"user_agent"` // the header, bounded
	Times     int    `json:"times"`      // how many like it came in a row, this one included; Time is that of the newest
}

// like reports whether r and other differ in nothing but when and how often they came.
func (r Rejected) like(other Rejected) bool {
	r.Time, r.Times = other.Time, other.Times
	return r == other
}

// RejectedList is the answer to GET /api/rejected.
type RejectedList struct {
	Rejected []Rejected `json:"rejected"` // the newest of this process, newest first
	Total    int64      `json:"total"`    // requests that this process has refused
}

// TunnelChange is a change of the tunnel's state, or what a check of it has found, as GET /api/tunnel lists it and the stream's event
// "tunnel" tells it.
type TunnelChange struct {
	Time      Time       `json:"time"`
	Provider  string     `json:"provider"`
	Phase     string     `json:"phase"` // as in Tunnel; of a check reachable, unreachable or unchecked
	URL       string     `json:"url"`
	Error     string     `json:"error"`
	Hint      string     `json:"hint"`
	Endpoints []Endpoint `json:"endpoints,omitempty"` // with new URLs, where they changed
}

// TunnelChanges is the answer to GET /api/tunnel.
type TunnelChanges struct {
	Changes []TunnelChange `json:"changes"` // the newest of this process, newest first
}

// Sample is a payload of a documented event, to start from.
type Sample struct {
	Scope  string          `json:"scope"`
	Action string          `json:"action"`
	Body   json.RawMessage `json:"body"`
}

// Reading is the answer to POST /api/payload: what the front door makes of a payload.
type Reading struct {
	Summary string         `json:"summary"` // as in Record
	Links   []payload.Link `json:"links"`   // as in Record
	Problem string         `json:"problem"` // why a delivery with it would be stored as dead; "" if it would not
	Refused string         `json:"refused"` // of a text: why it would not be stored at all, being no JSON object; "" if it would
	Event   Event          `json:"event"`
	Repo    Repo           `json:"repo"`
}

// Samples is the answer to GET /api/samples.
type Samples struct {
	Samples []Sample `json:"samples"`
}

func attemptEvent(d *queue.Delivery, a *queue.Attempt) AttemptEvent {
	return AttemptEvent{Delivery: d.ID, Endpoint: d.Endpoint, N: a.N, Started: Time{a.Started}, DurationMS: durationOf(a), Error: a.Error}
}

// durationOf is nil for an attempt that runs.
func durationOf(a *queue.Attempt) *int64 {
	if !a.Ended {
		return nil
	}
	ms := milliseconds(a.Duration)
	return &ms
}

// Missed is the data of the stream's event "missed": events were left out here, and whoever shows deliveries should
// fetch the list again.
type Missed struct {
	Events *uint64 `json:"events"` // how many; null where it is not known, after a reconnection
}

// Trigger asks for a sample event.
type Trigger struct {
	Endpoint string         `json:"endpoint,omitempty"` // may be empty where there is only one
	Scope    string         `json:"scope,omitempty"`    // such as repo.content
	Action   string         `json:"action,omitempty"`
	Set      map[string]any `json:"set,omitempty"`  // what to change in the sample: the value by its path, such as repo.name
	From     string         `json:"from,omitempty"` // ID of a delivery to start from instead of a sample
}

// Accepted is the answer to a replay and to a trigger.
type Accepted struct {
	Delivery string `json:"delivery"` // ID of the new delivery
}

// Discarded is the answer to a discard.
type Discarded struct {
	Delivery string      `json:"delivery"`
	State    queue.State `json:"state"`
}

// Status is how a running hubhook stands.
type Status struct {
	Version   string     `json:"version"`
	PID       int        `json:"pid"`
	Started   Time       `json:"started"`
	Data      string     `json:"data"` // the data directory
	Addresses Addresses  `json:"addresses"`
	Tunnel    *Tunnel    `json:"tunnel"` // null where there is none
	Endpoints []Endpoint `json:"endpoints"`

	// Numbers of stored deliveries. The inspector takes them from the queue, whatever Config.Status has put here.
	Counts           map[queue.State]int64            `json:"counts"` // every state is there
	CountsByEndpoint map[string]map[queue.State]int64 `json:"counts_by_endpoint"`
}

// Addresses are the base URLs of a running hubhook, without tokens.
type Addresses struct {
	Local     string `json:"local"`
	Public    string `json:"public"` // "" without a tunnel
	Inspector string `json:"inspector"`
}

// Tunnel is how the tunnel stands.
type Tunnel struct {
	Provider  string `json:"provider"`
	Phase     string `json:"phase"` // connecting, online, reconnecting, url changed, stopped or failed
	URL       string `json:"url"`
	Error     string `json:"error"`
	Since     Time   `json:"since"`      // when it came into this phase
	LastProbe *Probe `json:"last_probe"` // null before the first one
}

// Probe is one look at our own public URL from outside.
type Probe struct {
	Time  Time   `json:"time"`
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

// Endpoint is a name under /webhooks with its full URL.
type Endpoint struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// count fills in the numbers of deliveries, every state of every endpoint.
func (s *Status) count(counts queue.Counts) {
	s.Counts = make(map[queue.State]int64, len(queue.States()))
	s.CountsByEndpoint = make(map[string]map[queue.State]int64, len(counts))
	for _, state := range queue.States() {
		s.Counts[state] = 0
	}
	for endpoint, byState := range counts {
		all := make(map[queue.State]int64, len(queue.States()))
		for _, state := range queue.States() {
			all[state] = byState[state]
			s.Counts[state] += byState[state]
		}
		s.CountsByEndpoint[endpoint] = all
	}
}

func milliseconds(d time.Duration) int64 {
	return int64(math.Round(float64(d) / float64(time.Millisecond)))
}
