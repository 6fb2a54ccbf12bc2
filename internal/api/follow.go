package api

// Followed is something on the Hub that hubhook follows without a webhook, as the status, the stream and --json show it.
type Followed struct {
	Item         string `json:"item"`                    // TYPE:NAME
	Endpoint     string `json:"endpoint"`                // "" for every endpoint
	State        string `json:"state"`                   // starting, following, failing, gone, off, or standby while another process follows
	Since        Time   `json:"since"`                   // when this state began
	Error        string `json:"error"`                   // why it fails, "" for nothing
	Hint         string `json:"hint"`                    // what to do about that
	EverySeconds int64  `json:"every_seconds"`           // how often it is looked at, 0 for the live feed of a bucket
	Looked       Time   `json:"looked,omitzero"`         // the last look that succeeded
	Deliveries   int    `json:"deliveries"`              // made by this process
	Delivered    Time   `json:"last_delivered,omitzero"` // when the last one was made
}

// FollowLine says that the state of a followed item has changed.
type FollowLine struct {
	Line
	Followed
}
