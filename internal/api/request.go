package api

import (
	"encoding/json"

	"github.com/hubhook/hubhook/payload"
)

// Trigger asks for a sample event.
type Trigger struct {
	Endpoint string         `json:"endpoint,omitempty"` // which one; needed if there are several
	Scope    string         `json:"scope,omitempty"`    // of the sample, such as `repo.content`
	Action   string         `json:"action,omitempty"`   // by default the first one of the scope
	Set      map[string]any `json:"set,omitempty"`      // what to change, by path: `{"repo.name": "me/data"}`
	From     string         `json:"from,omitempty"`     // instead of `scope`: the ID of a delivery whose body is sent
}

// SampleEvent is a payload of a documented event, to start from.
type SampleEvent struct {
	Scope  string          `json:"scope"`  // of the event
	Action string          `json:"action"` // of the event
	Body   json.RawMessage `json:"body"`   // the payload
}

// Samples is the answer to GET /api/samples.
type Samples struct {
	Samples []SampleEvent `json:"samples"`
}

// Reading is the answer to POST /api/payload: what the front door makes of a payload.
type Reading struct {
	Summary string         `json:"summary"` // as of a delivery
	Links   []payload.Link `json:"links"`   // as of a delivery
	Problem string         `json:"problem"` // why a delivery with it would be stored as dead; "" if it would not
	Refused string         `json:"refused"` // of a text: why it would not be stored at all, being no JSON object; "" if it would
	Event   Event          `json:"event"`   // `scope` and `action`, "" if they could not be read
	Repo    Repo           `json:"repo"`    // `type` and `name`, "" if they could not be read
}

// Pass is the answer to POST /api/pass.
type Pass struct {
	Pass string `json:"pass"`
}
