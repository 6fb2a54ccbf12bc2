package api

import (
	"encoding/json"

	"github.com/hubhook/hubhook/payload"
)

// Trigger asks for a sample event.
type Trigger struct {
	Endpoint string         `json:"endpoint,omitempty"` // may be empty where there is only one
	Scope    string         `json:"scope,omitempty"`    // such as repo.content
	Action   string         `json:"action,omitempty"`
	Set      map[string]any `json:"set,omitempty"`  // what to change in the sample: the value by its path, such as repo.name
	From     string         `json:"from,omitempty"` // ID of a delivery to start from instead of a sample
}

// SampleEvent is a payload of a documented event, to start from.
type SampleEvent struct {
	Scope  string          `json:"scope"`
	Action string          `json:"action"`
	Body   json.RawMessage `json:"body"`
}

// Samples is the answer to GET /api/samples.
type Samples struct {
	Samples []SampleEvent `json:"samples"`
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

// Pass is the answer to POST /api/pass.
type Pass struct {
	Pass string `json:"pass"`
}
