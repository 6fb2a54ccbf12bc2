package server

import (
	"io"
	"net/http"
	"os"
	"time"

	"github.com/hubhook/hubhook/tunnel"
)

// Config says how a Server listens, stores and answers. The zero Config is that of `hubhook serve`: local port 7860, an ngrok tunnel, an
// inspector, everything stored under $XDG_STATE_HOME/hubhook.
//
// Where a field is zero, the variables that it names are read, in that order. A flag of Flags sets its field, and so outweighs them.
type Config struct {
	// Addr is the local address, host:port. An empty Addr means 127.0.0.1, or 0.0.0.0 in a Space, and the first free port from 7860 to
	// 7959, in a Space always 7860. In an Addr, an empty host means all of the machine's addresses, as in package net; an empty port means
	// that range, port 0 any free port, and another one exactly that.
	// HUBHOOK_HOST and HUBHOOK_PORT, then PORT.
	Addr string

	// Data is the data directory. By default it is one for each program and working directory, under $XDG_STATE_HOME/hubhook.
	// One process at a time can use it. HUBHOOK_DATA.
	Data string

	// Database is the URL of a PostgreSQL database, postgres://USER:PASSWORD@HOST/NAME, in which any number of processes keep their
	// deliveries together. Without one they are in Data, for this process alone. With one, and without Data, a process takes a free
	// directory of its own beside the default one. Fresh can't go with it. HUBHOOK_DATABASE.
	Database string

	// Secrets are the webhook secrets that are accepted; several while one replaces another. None leaves the endpoints open to everyone.
	// An empty one is an error. HUBHOOK_SECRET, then WEBHOOK_SECRET, both separated by commas.
	Secrets []string

	// NoTunnel opens no public URL and sets the defaults of production. HUBHOOK_NO_TUNNEL (1 or true).
	NoTunnel bool
	// Tunnel names the provider of the public URL; "ngrok" is the default and the only one so far. HUBHOOK_TUNNEL.
	Tunnel string
	// Provider opens the tunnel instead of the one that Tunnel names. It has no variable.
	Provider tunnel.Provider
	// URL is the public URL, or domain, that the provider is asked for; by default it chooses. HUBHOOK_URL, then NGROK_DOMAIN.
	URL string
	// PublicURL says that something else forwards from this URL to Addr: no tunnel is opened, and the defaults are those of production.
	// HUBHOOK_PUBLIC_URL.
	PublicURL string
	// ExitOnDown ends Run with an error once there has been no way in through the tunnel for so long, from the start on, so that whatever
	// supervises the program starts it anew. 0 means never. HUBHOOK_EXIT_ON_DOWN.
	ExitOnDown time.Duration
	// NgrokAuthtoken is ngrok's credential; without one ngrok's own configuration file is looked at. HUBHOOK_NGROK_AUTHTOKEN, then NGROK_AUTHTOKEN.
	NgrokAuthtoken string
	// NgrokConfig is the path of ngrok's configuration file, if it isn't in its usual place. HUBHOOK_NGROK_CONFIG.
	NgrokConfig string

	// Inspector is the loopback address of the inspector, host:port, or "off". By default it is 127.0.0.1 and the first free port from
	// 7861. HUBHOOK_INSPECTOR.
	Inspector string
	// InspectorToken lets callers in. By default it is a random one, which the data directory keeps from one start to the next.
	// HUBHOOK_INSPECTOR_TOKEN.
	InspectorToken string

	// ReplyWithin is how long an answer waits for the handler; 0 means 3 s, a negative value never waits. HUBHOOK_REPLY_WITHIN (where 0 never waits).
	ReplyWithin time.Duration
	// Answer says when a delivery is answered 2xx: "stored", the default, once it is stored; "handled" only once the handler is done, the
	// delivery was skipped or can't be handled at all. What is not so far within 25 s, or failed for good, is answered 503 then, and
	// ReplyWithin has no meaning. It is for data directories that don't outlive a restart. HUBHOOK_ANSWER.
	Answer string
	// MaxBody is the largest body accepted, in bytes; 0 means 16 MiB. It has no variable.
	MaxBody int64
	// MaxInFlight bounds the bytes of all bodies that are being read or stored; what is beyond it is refused with 503. 0 means 256 MiB. It has no variable.
	MaxInFlight int64

	// Keep is how long finished deliveries are kept; 0 means 168 h. HUBHOOK_KEEP.
	Keep time.Duration
	// KeepCount is how many finished deliveries are kept, dead ones not counted; 0 means 100,000. HUBHOOK_KEEP_COUNT.
	KeepCount int
	// MaxWaiting is how many deliveries may wait; what is beyond it is refused with 503. 0 means 100,000. HUBHOOK_MAX_WAITING.
	MaxWaiting int
	// Fresh discards what an earlier run left unfinished. It is an error with Database. HUBHOOK_FRESH.
	Fresh bool

	// Home replaces the home page.
	Home http.Handler
	// Output gets the banner and the event lines; nil means standard output, io.Discard silences.
	Output io.Writer
	// Errors gets warnings; nil means standard error.
	Errors io.Writer
	// JSON prints one JSON object a line instead of banner and event lines. HUBHOOK_JSON.
	JSON bool
	// Keys is a terminal whose keys are obeyed while Run runs: t, r, c, i and q. nil means none.
	Keys *os.File

	// Getenv reads variables; nil means os.LookupEnv.
	Getenv func(string) (string, bool)

	host, port string            // of the flags --host and --port, which outweigh Addr
	provider   map[string]string // of the flags of providers that have no field
	given      map[string]bool   // flags that were given, some perhaps with a field's zero value
	file       layer             // what a configuration file says; nil without one

	// For tests.
	tunnelRetry  time.Duration // before the second try to open a tunnel, 0 for 5 s; doubled up to a minute
	handledLimit time.Duration // how long an answer waits with Answer "handled", 0 for 25 s
	probeClient  *http.Client  // asks the public URL; nil for one of its own
}

// ConfigError is a wrong setting. Its text says where it was set, and what is wrong with it.
type ConfigError struct {
	text string
	hint string // may be empty
}

func (e *ConfigError) Error() string { return e.text }

// Hint returns how to mend the setting, or "".
func (e *ConfigError) Hint() string { return e.hint }
