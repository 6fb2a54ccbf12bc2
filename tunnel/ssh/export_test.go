package ssh

import (
	"context"
	"net"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// Hurried has a provider that waits less.
func Hurried(config Config, keepalive, silence, oldName time.Duration, t *terms.Terms) *Provider {
	p := New(config)
	p.pace.keepalive, p.pace.silence, p.pace.oldName = keepalive, silence, oldName
	p.pace.firstWait, p.pace.announce = 20*time.Millisecond, 2*time.Second
	p.terms = t
	return p
}

// At has all connections made to addr: the services have addresses of their own.
func At(config Config, addr string) Config {
	config.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return config
}
