// Package cloudflared is the [tunnel.Provider] that opens public URLs with Cloudflare's program cloudflared, if that is installed.
//
// Without settings it opens a quick tunnel. That needs no account, has a random name below trycloudflare.com for each run of the program,
// and comes without any guarantee. With [Config].ConfigFile it runs a named tunnel of your account.
//
// The program runs as a child process. It gets the address of a loopback listener that is the tunnel's alone. The package asks it for its
// public name and its state over HTTP (/quicktunnel and /ready of its metrics address). The program ends with the tunnel; on Linux and
// Windows it also ends with the process that opened the tunnel, however that ends.
package cloudflared

import (
	"context"
	"os"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// name is the word that users choose this provider by, and the name of the program.
const name = "cloudflared"

// Config says how to run cloudflared. Its zero value opens a quick tunnel with the program that PATH leads to.
type Config struct {
	// Program is the program's path or name. Empty: cloudflared.
	Program string
	// ConfigFile is the path of a configuration of cloudflared that names a tunnel of one's own: "tunnel" and "credentials-file", and
	// "ingress" if need be. A rule of "ingress" that serves URL decides the loopback port that the tunnel listens on; without "ingress"
	// that is any free one. Empty: a quick tunnel.
	ConfigFile string
	// URL is the public URL or domain of the tunnel of ConfigFile, which has to be routed to it. It goes with ConfigFile alone: Cloudflare
	// chooses the names of quick tunnels.
	URL string
	// Getenv reads the environment. Nil: os.Getenv. The program gets the environment of this process, without the secrets in it that
	// are none of its business.
	Getenv func(string) string
	// Connecting, where set, is told of each failed try while Open is still waiting: its number, from 1, and why it failed.
	// It is called on the goroutine of Open and must not block.
	Connecting func(try int, err error)
	// Say, where set, is told in a line what to expect of a quick tunnel. It must not block.
	Say func(line string)
}

// Provider opens tunnels with cloudflared.
type Provider struct {
	config Config
	terms  *terms.Terms // of a test, or nil
	limits limits
	// service is the host:port that gives quick tunnels their names.
	service string
}

// limits are how long a provider waits for its program.
type limits struct {
	poll   time.Duration // between two looks at a program that is online
	answer time.Duration // for one answer of the program
	misses int           // so many looks without an answer end the session
	start  time.Duration // until a program that was started has to be online
	grace  time.Duration // between SIGTERM and SIGKILL
	resume time.Duration // that a program may take to connect again by itself
	hold   time.Duration // between two tries after Cloudflare has said that there were too many
}

var defaultLimits = limits{
	poll:   time.Second,
	answer: 2 * time.Second,
	misses: 3,
	start:  30 * time.Second,
	grace:  2 * time.Second,
	// A program that starts again has another name, so it is left alone as long as it may still come back under the old one.
	resume: 2 * time.Minute,
	hold:   10 * time.Second,
}

// New returns a provider. Nothing is read and nothing is started before Open.
func New(config Config) *Provider {
	if config.Program == "" {
		config.Program = name
	}
	if config.Getenv == nil {
		config.Getenv = os.Getenv
	}
	return &Provider{config: config, limits: defaultLimits, service: "api.trycloudflare.com:443"}
}

// Name returns "cloudflared".
func (p *Provider) Name() string { return name }

// Open starts the program and waits until it is connected to Cloudflare, for 12 s at most. The RemoteAddr of the tunnel's connections is
// the program's: Cloudflare names the client in the header Cf-Connecting-Ip.
func (p *Provider) Open(ctx context.Context) (tunnel.Tunnel, error) {
	s, err := p.config.settings()
	if err != nil {
		return nil, err
	}
	if s.quick() && p.config.Say != nil {
		p.config.Say("This is a quick tunnel of Cloudflare's: no account, no promise, and another public URL each time that cloudflared starts.")
	}
	return tunnel.Open(ctx, newDialer(s, p.limits), tunnel.Options{
		Name:        name,
		URL:         s.url,
		Connecting:  p.config.Connecting,
		Resume:      p.limits.resume,
		ResumeTries: 2, // a loss is told once
		Redact:      s.hide.line,
		Elsewhere:   "look whether the name is routed to this tunnel: cloudflared tunnel info",
		Terms:       p.terms,
	})
}
