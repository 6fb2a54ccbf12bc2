// Package tunnel opens a public URL and hands over what arrives there as a [net.Listener].
//
// A [Provider] is one way to get such a URL; the packages below this one, tunnel/ngrok for example, have one each. A provider opens a
// [Tunnel], which outlives its connection to the service: when the connection is lost, the tunnel reconnects by itself, and says so on
// [Tunnel.States]. A [Proof] tells whether the public URL leads to this process.
//
// # Writing a provider
//
// All tunnels open within a limit, reconnect with growing waits, prove their URL, report their state, retire and close. [Open] does
// that for every provider. A provider brings a [Dialer], which makes one [Session] after the other. A session is one connection to the
// service: it has a public URL, accepts connections, and ends. [Register] gives a provider a name by which users choose it, and its own
// flags. These parts may still grow with the providers below this package; [Provider], [Tunnel], [State] and [Error] keep their form.
package tunnel

import (
	"context"
	"fmt"
	"net"
	"time"
)

// A Provider opens tunnels.
type Provider interface {
	// Name is the word that users choose the provider by, "ngrok" for example.
	Name() string

	// Open returns a tunnel once it is online, or once it is known that it needs longer than a caller wants to wait and may
	// still succeed: then [Tunnel.URL] is empty and [Tunnel.States] tells the rest. It returns an error, an [*Error] unless
	// ctx ended first, where the tunnel cannot be opened. ctx bounds opening only, not the tunnel's life.
	Open(ctx context.Context) (Tunnel, error)
}

// A Tunnel is a listener on a public URL.
type Tunnel interface {
	// Listener hands over the connections that arrive at the public URL. It survives reconnects: Accept fails only once
	// the tunnel is closed or has stopped.
	//
	// The first Close makes Accept fail with [net.ErrClosed] and returns at once, as [net/http.Server.Shutdown] needs it:
	// connections that Accept has returned stay up, and the way to the provider is taken down with the last of them. The
	// second Close takes it down at once and waits until that is done, for some seconds at most.
	net.Listener

	// URL is the current public URL without a trailing slash, or empty as long as there has been none.
	URL() string

	// States tells what becomes of the tunnel, beginning with the state that Open left it in. The channel is bounded: a
	// reader that falls behind misses older states, never the latest. It is closed after [Stopped]. All callers share
	// one channel, so there is one reader.
	States() <-chan State

	// Retire takes no new request and keeps those in flight. It returns once the provider has been told, or ctx has ended.
	// The tunnel does not come back afterwards; Close is still needed.
	Retire(ctx context.Context)
}

// State is what a tunnel is doing, and why.
type State struct {
	Phase Phase
	// URL is the public URL; in [Reconnecting] and [Stopped] the last one that was known. It can be empty.
	URL string
	// Err is why the tunnel is not online, an [*Error] in most cases. It is nil in [Online] and [URLChanged], and in
	// [Stopped] where the tunnel was closed. It never contains a token.
	Err error
	// Since is when the phase began; it stays while the reason for [Connecting] or [Reconnecting] changes. It has no monotonic clock
	// reading, so that [time.Since] counts a machine's sleep.
	Since time.Time
}

// String describes the state in a line without its hint.
func (s State) String() string {
	text := s.Phase.String()
	if s.URL != "" {
		text += " " + s.URL
	}
	if s.Err != nil {
		text += ": " + s.Err.Error()
	}
	return text
}

// Phase is the kind of a [State].
type Phase int

const (
	// Connecting: the tunnel has not been online yet and is still tried.
	Connecting Phase = iota
	// Online: what is sent to the URL arrives.
	Online
	// Reconnecting: the connection was lost and is being restored.
	Reconnecting
	// URLChanged: online again, at another URL than before. Whoever was given the old one has to be told.
	URLChanged
	// Stopped: the tunnel has ended and does not come back.
	Stopped
)

// String returns the phase in lower case, as in "url changed".
func (p Phase) String() string {
	switch p {
	case Connecting:
		return "connecting"
	case Online:
		return "online"
	case Reconnecting:
		return "reconnecting"
	case URLChanged:
		return "url changed"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("phase %d", int(p))
}
