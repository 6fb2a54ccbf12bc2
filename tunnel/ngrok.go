package tunnel

import (
	"context"
	"crypto/x509"
	"log/slog"
)

// The acts that errors of this provider name.
const (
	openNgrok = "open the ngrok tunnel"
	keepNgrok = "keep the ngrok tunnel open"
)

// NgrokConfig says how to reach the ngrok service. Its zero value finds everything in the environment and in ngrok's own
// configuration.
type NgrokConfig struct {
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
	// Prove, where set, checks through the public side that url still leads here. It is asked after a lost connection came
	// back, where the URL was assigned rather than wanted: the service may then have moved on to another one without
	// saying so. With an error, or without a Prove, the tunnel is bound anew once and announces what URL it got. The context ends after 5 s.
	Prove func(ctx context.Context, url string) error
}

// Ngrok opens tunnels through the ngrok service.
type Ngrok struct {
	config  NgrokConfig
	timing  timing
	machine machine
}

// NewNgrok returns a provider. Nothing is read and nothing is connected to before Open.
func NewNgrok(config NgrokConfig) *Ngrok {
	return &Ngrok{config: config, timing: defaultTiming, machine: thisMachine()}
}

// Name returns "ngrok".
func (n *Ngrok) Name() string { return "ngrok" }

// Open connects to the ngrok service and binds the public URL. It takes 15 s at most.
//
// An error wraps [ErrNoCredential] where no authtoken was found; that is known without any network.
//
// The tunnel renews its session by itself when the machine has slept, when this program has stood still for more than 10 s, and when
// the machine has lost the network address that the session goes over. It also has a method Renew(cause error), for whoever has found
// that the public URL does not lead here: the session is replaced at once, what is in flight is kept, and cause is shown as the reason.
func (n *Ngrok) Open(ctx context.Context) (Tunnel, error) {
	settings, err := n.config.settings()
	if err != nil {
		return nil, err
	}
	return openNgrokTunnel(ctx, n.config, settings, n.timing, n.machine)
}
