// Package ngrok is the [tunnel.Provider] that opens public URLs through the ngrok service, within the process and with ngrok's own SDK.
//
// Whoever has ngrok set up needs nothing more: the zero [Config] finds the authtoken in NGROK_AUTHTOKEN or in ngrok's own
// configuration file.
package ngrok

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

const (
	// resume is how long the SDK may try to bring a lost session back: it does so at once and after 0.5, 1.5 and 3.5 s, and keeps
	// the session's identity. After resumeTries or this time the tunnel takes over, for the SDK's waits grow to 30 s.
	resume = 4 * time.Second
	// resumeTries are those at once, after 0.5 and after 1.5 s.
	resumeTries = 3
)

// Config says how to reach the ngrok service. Its zero value finds everything in the environment and in ngrok's own
// configuration.
type Config struct {
	// Authtoken is the account's token. If it is empty, NGROK_AUTHTOKEN counts, then authtoken in ngrok.yml.
	Authtoken string
	// AuthtokenSource says in error texts where Authtoken came from, "--ngrok-authtoken" for example. Empty: "Config.Authtoken".
	AuthtokenSource string
	// ConfigFile is the path of ngrok.yml, version 2 or 3. Empty: where ngrok's own program keeps it, if it is there:
	// $XDG_CONFIG_HOME/ngrok or ~/.config/ngrok, ~/Library/Application Support/ngrok, %LocalAppData%\ngrok. Its
	// connect_url, connect_cas and proxy_url count as they do there. Without proxy_url, HTTPS_PROXY counts, then ALL_PROXY (both also
	// in lower case), but for the hosts that NO_PROXY names and for loopback.
	ConfigFile string
	// URL is the wanted public URL or domain. If it is empty, NGROK_DOMAIN counts, then the one that the account is assigned.
	URL string
	// ConnectURL is the host:port of the service. Empty: connect_url in ngrok.yml, then ngrok's own.
	ConnectURL string
	// ConnectCAs are the authorities that may have signed the service's certificate. Nil: connect_cas in ngrok.yml, then ngrok's own.
	ConnectCAs *x509.CertPool
	// Getenv reads the environment. Nil: os.Getenv.
	Getenv func(string) string
	// Logger gets what the SDK logs, at debug level and without tokens. Nil: nobody does.
	Logger *slog.Logger
	// Version is hubhook's own version, as the service's dashboard shows it. Empty: "dev".
	Version string
	// Connecting, where set, is told of each failed try while Open is still waiting: its number, from 1, and why it failed.
	// It is called on the goroutine of Open and must not block.
	Connecting func(try int, err error)
	// Prove, where set, checks through the public side that url still leads here. It is asked after a lost connection came back, if the URL
	// was assigned rather than wanted: the service may then have moved on to another one without saying so. After an error, or without a
	// Prove, the tunnel is opened again, at the same URL if the service grants it. The context ends after 5 s.
	Prove func(ctx context.Context, url string) error
}

// Provider opens tunnels through the ngrok service.
type Provider struct {
	config Config
	// terms and resume are those of a test, or zero.
	terms  *terms.Terms
	resume time.Duration
}

// New returns a provider. Nothing is read and nothing is connected to before Open.
func New(config Config) *Provider { return &Provider{config: config, resume: resume} }

// name is the word that users choose this provider by.
const name = "ngrok"

// Name returns "ngrok".
func (p *Provider) Name() string { return name }

// Open connects to the ngrok service and binds the public URL. It takes 15 s at most.
//
// An error wraps [tunnel.ErrNoCredential] where no authtoken was found; that is known without any network.
func (p *Provider) Open(ctx context.Context) (tunnel.Tunnel, error) {
	d, options, err := p.dialer()
	if err != nil {
		return nil, err
	}
	return tunnel.Open(ctx, d, options)
}

// dialer reads the settings and returns what [tunnel.Open] needs.
func (p *Provider) dialer() (*dialer, tunnel.Options, error) {
	s, err := p.config.settings()
	if err != nil {
		return nil, tunnel.Options{}, err
	}
	d := newDialer(p.config, s)
	return d, tunnel.Options{
		Name:        p.Name(),
		URL:         s.url,
		Connecting:  p.config.Connecting,
		Prove:       p.config.Prove,
		Resume:      p.resume,
		ResumeTries: resumeTries,
		Lost:        d.lossOf,
		Redact:      d.hide.line,
		Elsewhere:   "look at https://dashboard.ngrok.com/endpoints if this goes on",
		Terms:       p.terms,
	}, nil
}

func newDialer(config Config, s settings) *dialer {
	getenv := config.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	secrets := []string{s.credential.token}
	if via, err := newServiceDialer(s, getenv).proxyFor(s.address()); err == nil && via != nil && via.User != nil {
		password, _ := via.User.Password()
		secrets = append(secrets, password)
	}
	hide := newRedactor(secrets...)
	return &dialer{
		settings: s,
		getenv:   getenv,
		logger:   newSDKLogger(config.Logger, hide),
		hide:     hide,
		version:  orDefault(config.Version, "dev"),
	}
}
