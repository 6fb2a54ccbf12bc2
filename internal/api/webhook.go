package api

// Webhook is a webhook on the Hub that hubhook keeps.
type Webhook struct {
	Endpoint string   `json:"endpoint"` // its name
	ID       string   `json:"id"`       // "" until the Hub has made it
	Borrowed bool     `json:"borrowed"` // it was there before, and gets back what it had
	State    string   `json:"state"`    // left, waiting, active, suspended, disabled, taken, returned, elsewhere or failed
	Since    Time     `json:"since"`    // when it came into this state
	URL      string   `json:"url"`      // to which it posts, without a secret; "" until it is known
	Watched  []string `json:"watched"`  // TYPE:NAME
	Error    string   `json:"error"`    // what is wrong, "" for nothing
	Hint     string   `json:"hint"`     // what to do about it

	// What hubhook has changed or found changed, each with `time` and `text`: newest first, ten at most.
	Changes []WebhookNote `json:"changes"`

	Deliveries    int64 `json:"deliveries"`     // how many came from the Hub in the last 24 hours, as far as they are stored here
	DeliveryLimit int64 `json:"delivery_limit"` // how many the Hub sends in 24 hours at most
}

// WebhookNote is one thing that was changed.
type WebhookNote struct {
	Time Time   `json:"time"`
	Text string `json:"text"`
}

// WebhookChange is a change of a kept webhook, in the stream and in --json.
type WebhookChange struct {
	Webhook
	Text string `json:"text"` // what was changed, "" where only the state is another

	Again bool `json:"-"` // another webhook has had the same error just before
}

// WebhookLine says that a kept webhook has changed.
type WebhookLine struct {
	Line
	WebhookChange
}
