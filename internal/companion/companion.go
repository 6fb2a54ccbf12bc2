// Package companion joins a server to what hubhook's commands run beside it: to the program of `hubhook dev`, so that the server takes
// deliveries for endpoints that only the program knows, and shows what the program does; and to the URLs that `hubhook serve` forwards to. It is no
// part of the server's public face; Run finds it in its context.
package companion

import (
	"context"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
)

// Handler is server.Handler.
type Handler = func(ctx context.Context, p *payload.Payload) (any, error)

// Program is what the server asks of the program's side. All fields are needed. The functions must not block, but for handlers.
type Program struct {
	Attach  func(Server)                  // called once, before anything is opened
	Handler func(endpoint string) Handler // makes the handler of an endpoint
	Waits   func()                        // a delivery was stored and has to wait
	Key     func(key rune)                // a key that the server does not know was typed
	Quit    func()                        // someone asked for the end, which the context of Run is to bring
}

// Server is what the program's side asks of a server. Its methods are safe for concurrent use.
type Server interface {
	// Shown is closed once the banner is shown. The public URL is known by then, unless the tunnel has failed.
	Shown() <-chan struct{}
	// Asking reports whether the person at the terminal is being asked how the public URL is to be opened.
	Asking() bool
	// Secret returns the webhook secret in use, "" for none.
	Secret() string
	// PublicURL returns the base URL at which the Hub reaches the endpoints, "" where there is none.
	PublicURL() string

	// Name makes endpoints known: they are listed, and from now on no others are taken.
	Name(endpoints []string) error
	// Pause has deliveries wait, until Resume.
	Pause()
	Resume()
	// Replay repeats a delivery.
	Replay(ctx context.Context, id string) error

	// Show puts what the program does on the screen, Print a line of its output.
	Show(event api.ProgramEvent)
	Print(line api.ProgramOutput)
	// Warn shows what has to be fixed.
	Warn(text, hint string)
}

type key struct{}

// With returns a context for a server's Run that joins it to p.
func With(ctx context.Context, p *Program) context.Context { return context.WithValue(ctx, key{}, p) }

// From returns the program of With, nil for none.
func From(ctx context.Context) *Program {
	p, _ := ctx.Value(key{}).(*Program)
	return p
}

// Upstreams are the URLs that a server's endpoints forward to. Both fields are needed.
type Upstreams struct {
	// Attach is called once, before anything is opened. changed is to be told of each upstream that no longer answers, or answers again.
	Attach func(changed func(api.Upstream))
	// Now returns how all of them stand.
	Now func() []api.Upstream
}

type upstreamsKey struct{}

// WithUpstreams returns a context for a server's Run that shows u.
func WithUpstreams(ctx context.Context, u *Upstreams) context.Context {
	return context.WithValue(ctx, upstreamsKey{}, u)
}

// UpstreamsFrom returns those of WithUpstreams, nil for none.
func UpstreamsFrom(ctx context.Context) *Upstreams {
	u, _ := ctx.Value(upstreamsKey{}).(*Upstreams)
	return u
}
