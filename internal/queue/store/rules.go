package store

// The rule for deliveries that are interrupted: their process died while they ran.
const (
	AloneAfter      = 2 // interruptions from which a delivery is started alone
	DeadAfter       = 5 // interruptions after which it is dead
	DiedReason      = "the process died while it ran"
	InterruptedText = "interrupted: the process ended while it ran"
)

// MaxName bounds the bytes of a scope, action, repo type or name, Webhook-Id and reason in lists.
const MaxName = 512
