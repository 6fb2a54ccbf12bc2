// Package ssh is the [tunnel.Provider] that opens public URLs through an SSH server that forwards: one of the services that need no account,
// such as localhost.run, one's own sish, or one's own sshd. The SSH client runs within the process.
//
// What arrives at the public URL passes through that server, which can read it.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// name is the word that users choose this provider by.
const name = "ssh"

// The acts that errors of this provider name.
const (
	openAct = "open the ssh tunnel"
	keepAct = "keep the ssh tunnel open"
)

// Config says which SSH server to use, and as whom.
type Config struct {
	// Server is [user@]host[:port], or the name of a service: localhost.run, pinggy or serveo. Without a user it is the one of the
	// service, or else the one who runs this program. Without a port it is 22.
	Server string
	// KeyFile is the path of the private key to log in with. Empty: the keys of the agent at SSH_AUTH_SOCK, then id_ed25519, id_ecdsa and
	// id_rsa in ~/.ssh. A service that takes anyone is shown none of them.
	KeyFile string
	// Forward is [host:]port, the address that the server is asked to listen on. Empty: what the service wants, or, on a plain sshd, the
	// port of URL, or any free port.
	Forward string
	// URL is the public URL to ask a service for, or, on a plain sshd, the URL that leads to the port there. Empty: the one that the service
	// gives, or http://host:port of the sshd.
	URL string
	// Getenv reads HOME, USER, SSH_AUTH_SOCK and XDG_STATE_HOME. Nil: os.Getenv.
	Getenv func(string) string
	// Connecting, where set, is told of each failed try while Open is still waiting: its number, from 1, and why it failed.
	// It is called on the goroutine of Open and must not block.
	Connecting func(try int, err error)
	// Prove, where set, checks through the public side that url still leads here. See [tunnel.Options].
	Prove func(ctx context.Context, url string) error
	// Say, where set, shows a line to the user: a host key that is trusted from now on, what to expect of a free service. It must not block.
	Say func(line string)
	// Ask, where set, asks the user for a passphrase. Nil: a key that needs one is an error.
	Ask func(ctx context.Context, question string) (answer string, err error)

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // of a test
}

// Provider opens tunnels through an SSH server.
type Provider struct {
	config Config
	pace   pace
	terms  *terms.Terms // of a test, or nil
}

// pace has the waits of this provider.
type pace struct {
	keepalive time.Duration // between a keepalive's answer and the next one
	silence   time.Duration // after which a server that does not answer is taken for gone
	oldName   time.Duration // for which the old name is asked for
	firstWait time.Duration // before the old name is asked for again; the waits double
	announce  time.Duration // for which a server may say an https URL after an http one
}

// With these a connection that died without a word is noticed within 8 s.
var standardPace = pace{
	keepalive: 3 * time.Second,
	silence:   5 * time.Second,
	oldName:   30 * time.Second,
	firstWait: 250 * time.Millisecond,
	announce:  300 * time.Millisecond,
}

// New returns a provider. Nothing is read and nothing is connected to before Open.
func New(config Config) *Provider { return &Provider{config: config, pace: standardPace} }

// Name returns "ssh".
func (p *Provider) Name() string { return name }

// Open logs in at the SSH server and asks for the public URL. It takes 15 s at most, and longer where the user is asked for a passphrase.
//
// An error wraps [tunnel.ErrNoCredential] where no server is named; that is known without any network.
func (p *Provider) Open(ctx context.Context) (tunnel.Tunnel, error) {
	d, err := p.dialer()
	if err != nil {
		return nil, err
	}
	d.trusting = d.config.Say
	for {
		t, err := tunnel.Open(ctx, d, d.options(p))
		locked, is := errors.AsType[*lockedError](err)
		if !is {
			return t, err
		}
		if err := d.keys.unlock(ctx, locked.file, p.config.Ask); err != nil {
			return nil, err
		}
	}
}

// dialer reads the settings. Its errors are of type *tunnel.Error, and no network is used.
func (p *Provider) dialer() (*dialer, error) {
	c := p.config
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
	if c.dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	s, err := parseServer(c.Server, c.Getenv)
	if err != nil {
		return nil, err
	}
	forward, err := parseForward(c.Forward)
	if err != nil {
		return nil, err
	}
	wanted, err := publicURL(c.URL)
	if err != nil {
		return nil, err
	}
	keys, err := newKeys(c, s.anonymous)
	if err != nil {
		return nil, err
	}
	return &dialer{service: s, config: c, pace: p.pace, forward: forward, wanted: wanted, keys: keys, hosts: newHostKeys(c.Getenv, s.address())}, nil
}

func (d *dialer) options(p *Provider) tunnel.Options {
	return tunnel.Options{
		Name:       name,
		URL:        d.wanted,
		Connecting: d.config.Connecting,
		Prove:      d.config.Prove,
		Lost:       d.lossOf,
		Redact:     clean,
		Elsewhere:  fmt.Sprintf("look at what else uses %s", d.service.address()),
		Terms:      p.terms,
	}
}

func configError(op, cause, fix string) *tunnel.Error {
	return &tunnel.Error{Op: op, Cause: cause, Fix: fix}
}
