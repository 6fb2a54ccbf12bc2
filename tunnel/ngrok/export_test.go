package ngrok

import (
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// Patient returns a provider that gives a busy machine a minute to open a tunnel.
func Patient(config Config) *Provider {
	p := New(config)
	limits := terms.Default()
	limits.Open = time.Minute
	p.terms = &limits
	return p
}
