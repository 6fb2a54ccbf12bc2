// Package api has what hubhook says of itself as JSON: one definition for the inspector's HTTP API and stream, the client of that API, the
// lines of --json, and the commands. A delivery looks the same in all of them. It is a leaf: it imports nothing of ours but payload.
package api

import (
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// Time is a moment in JSON: RFC 3339 in UTC with exactly three digits of a second, so that texts sort as times do.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(make([]byte, 0, 32), `"2006-01-02T15:04:05.000Z"`), nil
}

// Milliseconds returns d as JSON has durations: rounded to whole milliseconds.
func Milliseconds(d time.Duration) int64 {
	return int64(math.Round(float64(d) / float64(time.Millisecond)))
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

// Source says where a delivery came from.
type Source string

// The sources of deliveries. A replay has the source of the delivery that it repeats.
const (
	Hub    Source = "hub"    // posted to the endpoint, by the Hub as far as hubhook can tell
	Sample Source = "sample" // made by hubhook, to try an endpoint
	// Follow and CatchUp deliveries are made by hubhook from what it reads on the Hub: without a webhook, and where a webhook should
	// have brought them.
	Follow  Source = "follow"
	CatchUp Source = "catch-up"
)

// Delivery is one accepted delivery as lists, the stream and --json show it. Every field is always there, but for RunAt and Duplicate.
type Delivery struct {
	ID         string `json:"id"`              // as in the header `Hubhook-Delivery`; IDs sort by time
	Endpoint   string `json:"endpoint"`        // its name
	State      string `json:"state"`           // waiting, running, retrying, done, dead, skipped, merged or discarded
	Reason     string `json:"reason"`          // why it is dead, skipped or discarded, or how its last attempt failed
	WebhookID  string `json:"webhook_id"`      // the Hub's `Webhook-Id`, "" without one
	ReplayOf   string `json:"replay_of"`       // the ID of the delivery that it repeats, or ""
	MergedInto string `json:"merged_into"`     // the ID of the delivery that runs for its burst, or ""
	Source     Source `json:"source"`          // hub; sample for a sample event; follow or catch-up if hubhook made it from what it read on the Hub. A replay has the source of the delivery that it repeats
	Synthetic  bool   `json:"synthetic"`       // true for every source but hub
	Received   Time   `json:"received"`        // when it came
	Event      Event  `json:"event"`           // `scope` and `action`, "" if the payload could not be read
	Repo       Repo   `json:"repo"`            // `type` and `name`, "" if the payload could not be read
	Attempts   int    `json:"attempts"`        // how many were started, interrupted ones included
	Duplicates int    `json:"duplicates"`      // how many repeats were answered as duplicates of it
	Replays    int    `json:"replays"`         // how many deliveries repeat it
	DurationMS int64  `json:"duration_ms"`     // how long the last ended attempt took, rounded to milliseconds; 0 before that
	RunAt      Time   `json:"run_at,omitzero"` // when a retrying delivery is due

	// In a line of `--json`: true if the request repeats the delivery with this ID.
	Duplicate bool `json:"duplicate,omitzero"`
}

// Attempt is one run of a delivery's handler.
type Attempt struct {
	N          int             `json:"n"`           // from 1
	Started    Time            `json:"started"`     // when it started
	DurationMS *int64          `json:"duration_ms"` // null while it runs
	Error      string          `json:"error"`       // why it failed, "" if it succeeded or still runs
	Stack      string          `json:"stack"`       // of a panic
	Output     string          `json:"output"`      // what the handler printed; if it runs in this process, what it has printed so far. Bytes that are not UTF-8 are replaced
	Result     json.RawMessage `json:"result"`      // what the handler returned; null for nothing

	// If the attempt runs in this process: how many bytes it has printed so far, with those that `output` leaves out. It is the offset
	// of the first event `output` of the stream that is not in the field `output` yet.
	OutputBytes int64 `json:"output_bytes,omitzero"`
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

// List is one page of deliveries, newest first.
type List struct {
	Deliveries []Delivery `json:"deliveries"`
	Next       *string    `json:"next"` // the cursor of the next page; null on the last one
}

// AttemptEvent says that an attempt has started or ended, or that a delivery has ended without one, in the stream and in --json. What the
// attempt printed and returned is not in it, as that can be large; GET /api/deliveries/ID has it.
type AttemptEvent struct {
	Delivery   string `json:"delivery"`             // its ID
	Endpoint   string `json:"endpoint"`             // its name
	N          int    `json:"n"`                    // from 1; of a delivery that ended without an attempt, how many it had before
	Started    Time   `json:"started,omitzero"`     // when it started
	State      string `json:"state"`                // of the delivery now
	DurationMS *int64 `json:"duration_ms"`          // null for an attempt that has just started, 0 without an attempt
	Error      string `json:"error"`                // how the attempt failed, "" if it did not
	Reason     string `json:"reason,omitempty"`     // why the delivery was skipped, discarded or handed back
	Status     int    `json:"status,omitzero"`      // of the answer that told this to the sender; in --json alone
	RetryAt    Time   `json:"retry_at,omitzero"`    // when a retrying delivery is due
	MergedInto string `json:"merged_into,omitzero"` // the ID of the delivery that stands for a merged one
}

// OutputEvent is a piece of what a running attempt prints. One whose offset is beyond the end of the piece before says that the attempt
// printed too fast for some to be told; GET /api/deliveries/ID has it, if it is kept.
type OutputEvent struct {
	Delivery string `json:"delivery"` // its ID
	N        int    `json:"n"`        // of the attempt
	Offset   int64  `json:"offset"`   // of the text, in bytes from the beginning of all that the attempt has printed
	Text     string `json:"text"`     // the piece itself
}

// Missed says that events of the stream were left out here, and that whoever shows deliveries should fetch the list again.
type Missed struct {
	Events *uint64 `json:"events"` // how many; null where it is not known, after a reconnection
}

// Answer is what hubhook answers to a request about a delivery: to one that posts it, where the answer is not the handler's own result,
// and to one that triggers, replays or discards it.
type Answer struct {
	Delivery string `json:"delivery"`         // its ID; of a new one where it is a replay, of the first one where it is a duplicate
	State    string `json:"state,omitempty"`  // of the delivery, or duplicate; "" where it was only accepted
	Error    string `json:"error,omitempty"`  // how it failed; only where a secret was checked
	Reason   string `json:"reason,omitempty"` // why it was skipped, merged or discarded
}

// Error is the body of every answer that refuses a request.
type Error struct {
	Error string `json:"error"`
}
