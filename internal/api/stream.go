package api

// The events of the inspector's stream. The comment of each begins with the object that is its data; `make docs` makes a table of them.
const (
	EventDelivery = "delivery" // Delivery: a delivery came or changed; the data is the delivery as it is now
	EventAttempt  = "attempt"  // AttemptEvent: an attempt started or ended, or a delivery ended without an attempt
	EventOutput   = "output"   // OutputEvent: a running attempt of this process printed something
	EventRejected = "rejected" // Rejected: a request was refused; with `times` above 1 it replaces the one before
	EventTunnel   = "tunnel"   // TunnelChange: the tunnel changed or was checked
	EventWebhook  = "webhook"  // WebhookChange: a webhook that hubhook keeps on the Hub changed
	EventStatus   = "status"   // Nothing: an endpoint came or went, or a URL that one forwards to no longer answers, or does again; `GET /api/status` says more
	EventMissed   = "missed"   // Missed: events were left out here; fetch the list again
)

// Nothing is the data of an event that says all by its name.
type Nothing struct{}
