package tunnel

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// A Dialer is what a provider adds to the life that all tunnels share: it makes one session after the other. [Open] does the rest.
type Dialer interface {
	// Dial makes one try to come online, and takes limit at most. Finding the reason for a failure may take some seconds more. It asks
	// for the public URL url, or for any where url is empty: the one that the user wants, or else the one that the tunnel had. ctx bounds the try, not the session's life; once ctx has ended, Dial
	// returns soon.
	//
	// An error that is no [*Error] counts as a failure of the network, which passes.
	Dial(ctx context.Context, url string, limit time.Duration) (Session, error)

	// Wait returns once nothing is left of the tries that have failed.
	Wait()
}

// A Session is one connection to the service and the public URL that came with it, from Dial to Close. Accept is called on a goroutine of
// its own, and so may Retire be; the other methods are called one at a time.
type Session interface {
	// Accept returns the next connection from the public side, with the RemoteAddr of the client there. It is called without a pause
	// until it fails, which ends the session for good.
	Accept() (net.Conn, error)

	// URL is the public URL that the session is online at. sure is false where the service may have moved the session to another
	// one without saying so.
	URL() (url string, sure bool)

	// Events tells what becomes of a session that comes back by itself: an error when its connection is lost and after each failed try
	// to restore it, nil when it is back, and when it is at another URL. A session that does not come back by itself returns nil.
	Events() <-chan error

	// Resume cuts the connection, with what is in flight, so that the session comes back by itself over a new one. It reports false
	// where the session cannot do that, and has done nothing then.
	Resume() bool

	// Local are the network addresses at this end of the session's connections. It can be empty.
	Local() []netip.Addr

	// Retire takes the public URL off the service, so that no new connection comes, and keeps those that are open. A tunnel does
	// not wait for it for long.
	Retire()

	// Cut closes the connection to the service at once, with all that goes over it. Close is still needed.
	Cut()

	// Close ends the session, with a goodbye where the connection is up, and closes all that goes over it. It takes some seconds
	// at most.
	Close()
}

// Options say how [Open] keeps a tunnel.
type Options struct {
	// Name is the provider's name, for error texts: "open the ngrok tunnel".
	Name string
	// URL is the public URL that the user wants. Empty: the one that the service gives.
	URL string
	// Connecting, where set, is told of each failed try while Open is still waiting: its number, from 1, and why it failed.
	// It is called on the goroutine of Open and must not block.
	Connecting func(try int, err error)
	// Prove, where set, checks through the public side that url still leads here. It is asked after a lost session came back by itself
	// and is not sure of its URL. With an error, or without a Prove, the session is replaced by a new one, whose URL is announced.
	// The context ends after 5 s.
	Prove func(ctx context.Context, url string) error
	// Resume is how long a session may take to come back by itself, and ResumeTries how many of its tries may fail, before the tunnel
	// dials a new one. They matter only for sessions with Events.
	Resume      time.Duration
	ResumeTries int
	// Lost puts an error of Accept or Events into words. Nil: such an error counts as a failure of the network, which passes.
	Lost func(err error) *Error
	// Redact takes secrets out of a text that is not the provider's own, and returns it in one line. Nil: there are no secrets.
	Redact func(text string) string
	// Elsewhere is the fix that is named where a session is replaced because its public URL may not lead here.
	Elsewhere string
	// Terms are for the tests of this module's own providers. Nil: the terms of all tunnels.
	Terms *terms.Terms
}
