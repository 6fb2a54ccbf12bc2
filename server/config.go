package server

import (
	"io"
	"net/http"
	"os"
	"time"

	"github.com/hubhook/hubhook/tunnel"
)

// Config says how a [Server] listens, stores and answers. The zero Config is that of `hubhook serve`: local port 7860, an ngrok tunnel, an
// inspector, and everything stored under $XDG_STATE_HOME/hubhook.
//
// A field that is zero takes its value from the first variable that its comment names and that is set. The flags of [Config.Flags] set
// fields, so they override variables too.
type Config struct {
	// Addr is the local address, host:port. Without a host, ":8080", it means all addresses of this machine, as in package net. Without a
	// port it means the first free one from 7860 to 7959; port 0 is any free port. An empty Addr means 127.0.0.1 and the first free port,
	// in a Space 0.0.0.0 and port 7860. HUBHOOK_HOST and HUBHOOK_PORT, then PORT.
	Addr string

	// Data is the data directory. By default each program has one for each working directory, under $XDG_STATE_HOME/hubhook. One process
	// at a time can use it. HUBHOOK_DATA.
	Data string

	// Database is the URL of a PostgreSQL database, postgres://USER:PASSWORD@HOST/NAME, in which any number of processes keep their
	// deliveries together. Without it deliveries are in Data, for this process alone. With it, and without Data, each process takes a free
	// directory beside the default one. It is an error together with Fresh. HUBHOOK_DATABASE.
	Database string

	// Secrets are the webhook secrets to accept: several while you change the secret. Without any, everyone can post to the endpoints. An
	// empty secret is an error. HUBHOOK_SECRET, then WEBHOOK_SECRET, both separated by commas.
	Secrets []string

	// NoTunnel opens no public URL, and sets the defaults of production, but those of development where `hubhook dev` runs the program.
	// HUBHOOK_NO_TUNNEL (1 or true).
	NoTunnel bool
	// Tunnel names the provider of the public URL: "ngrok", the default, "ssh", which SSH chooses too, or "cloudflared". Where neither a provider
	// nor a credential is set, Run asks once on the terminal of Keys, if Output is a terminal as well, and the data directory keeps the answer.
	// "ask" makes Run ask again. HUBHOOK_TUNNEL.
	Tunnel string
	// Provider opens the tunnel in place of the one that Tunnel names. It has no variable.
	Provider tunnel.Provider
	// URL is the public URL, or domain, to ask the provider for. By default the provider chooses. HUBHOOK_URL, then NGROK_DOMAIN.
	URL string
	// PublicURL is a URL from which something else forwards to Addr. It opens no tunnel, and sets the defaults of production.
	// It is https, or http on loopback, without a path. Run checks that it leads here, unless under go test.
	// HUBHOOK_PUBLIC_URL.
	PublicURL string
	// Watch are items on the Hub, TYPE:NAME or ENDPOINT=TYPE:NAME, with model, dataset, space, bucket, user or org as the type. For each endpoint
	// that has any, Run keeps one webhook of the user of HF_TOKEN on the Hub: it watches them all, for both domains, and posts to the public URL
	// with the first of Secrets, or with a secret of its own where there are none. It follows the URL, is enabled again after a suspension, and is
	// disabled at the end. The token is looked for as by [hub.FindToken]. HUBHOOK_WATCH, separated by commas.
	Watch []string
	// Webhooks are IDs, or ENDPOINT=ID, of webhooks on the Hub that are borrowed: while Run runs, they post to the public URL. Then they get
	// back the URL and the state that they had. HUBHOOK_WEBHOOK, separated by commas.
	Webhooks []string
	// Follow are items on the Hub, TYPE:NAME or ENDPOINT=TYPE:NAME, with model, dataset, space or bucket as the type. Run reads them on the Hub and
	// makes the deliveries that a webhook would have brought, with the source "follow". That needs no webhook and no public URL: if nothing
	// else wants one, no tunnel is opened. Public repos need no token. HUBHOOK_FOLLOW, separated by commas.
	Follow []string
	// FollowEvery is how often followed repos are looked at. 0 means a minute; 10 s is the least. Buckets have a live feed.
	// HUBHOOK_FOLLOW_EVERY.
	FollowEvery time.Duration
	// CatchUp has Run compare the repos that kept webhooks watch with what was last seen of them: at the start, when the Hub can reach the public
	// URL again, when a suspension has ended, once an hour, and buckets every 10 minutes. Run delivers what the Hub has not delivered, with the
	// source "catch-up". It needs Watch or Webhooks, or those options of an endpoint. HUBHOOK_CATCH_UP.
	CatchUp bool
	// ExitOnDown ends Run with an error once the tunnel has been down for so long, at the start too, so that a supervisor can start the
	// program again. 0 means never. HUBHOOK_EXIT_ON_DOWN.
	ExitOnDown time.Duration
	// NgrokAuthtoken is ngrok's credential. Without it ngrok's own configuration file counts. HUBHOOK_NGROK_AUTHTOKEN, then NGROK_AUTHTOKEN.
	NgrokAuthtoken string
	// NgrokConfig is the path of ngrok's configuration file, if it is not in its usual place. HUBHOOK_NGROK_CONFIG.
	NgrokConfig string
	// SSH is the SSH server of tunnel "ssh": localhost.run, pinggy, serveo, or [user@]host[:port]. It chooses that tunnel where Tunnel is not set.
	// HUBHOOK_SSH.
	SSH string
	// SSHKey is the path of the private key to log in with there. By default the keys of the agent count, then those in ~/.ssh.
	// HUBHOOK_SSH_KEY.
	SSHKey string
	// SSHForward is what the SSH server is asked to listen on, [host:]port. By default it is what the service wants, or any free port.
	// HUBHOOK_SSH_FORWARD.
	SSHForward string
	// CloudflaredConfig is the path of a configuration of cloudflared that names a tunnel of your account, whose public name is URL. It
	// chooses the tunnel "cloudflared" where Tunnel is not set. By default that needs no account. HUBHOOK_CLOUDFLARED_CONFIG.
	CloudflaredConfig string

	// Inspector is the inspector's address, host:port on the loopback interface, or "off". By default it is 127.0.0.1 and the first free
	// port from 7861. HUBHOOK_INSPECTOR.
	Inspector string
	// InspectorToken lets callers in. By default it is random, and the data directory keeps it from one start to the next.
	// HUBHOOK_INSPECTOR_TOKEN.
	InspectorToken string

	// ReplyWithin is how long an answer waits for the handler. 0 means 3 s, and a negative value never waits. HUBHOOK_REPLY_WITHIN, where 0
	// never waits.
	ReplyWithin time.Duration
	// Answer says when the Hub is answered 2xx. "stored", the default, does so once the delivery is stored. "handled" does so once the
	// handler is done, or has nothing to do; a delivery that is not handled within 25 s, or has failed for good, gets 503, and ReplyWithin
	// has no meaning. It is for a data directory that does not outlive a restart. HUBHOOK_ANSWER.
	Answer string
	// MaxBody is the largest body to accept, in bytes. 0 means 16 MiB. It has no variable.
	MaxBody int64
	// MaxInFlight is how many bytes of bodies may be read or stored at a time. A delivery beyond it gets 503. 0 means 256 MiB. It has no
	// variable.
	MaxInFlight int64

	// Keep is how long finished deliveries are kept. 0 means 168 h. HUBHOOK_KEEP.
	Keep time.Duration
	// KeepCount is how many finished deliveries are kept, dead ones not counted. 0 means 100,000. HUBHOOK_KEEP_COUNT.
	KeepCount int
	// MaxWaiting is how many deliveries may wait. A delivery beyond it gets 503. 0 means 100,000. HUBHOOK_MAX_WAITING.
	MaxWaiting int
	// Fresh discards the deliveries that an earlier run left unfinished. It is an error together with Database. HUBHOOK_FRESH.
	Fresh bool

	// Home replaces the home page. nil means hubhook's own.
	Home http.Handler
	// Output gets the banner and the event lines. nil means standard output; io.Discard silences them.
	Output io.Writer
	// Errors gets warnings. nil means standard error.
	Errors io.Writer
	// JSON prints one JSON object a line in place of the banner and the event lines. HUBHOOK_JSON.
	JSON bool
	// Keys is a terminal whose keys t, r, c, i and q work while Run serves. nil means none.
	Keys *os.File

	// Getenv looks up a variable. nil means os.LookupEnv.
	Getenv func(string) (string, bool)
	// File looks a setting up in a configuration file of the program's own. name is the setting's flag without dashes. The values are written
	// as that flag takes them, several where it may be repeated, and none where the file does not set it. place says where they stand, for
	// messages. Flags, fields and variables override the file. nil means no file.
	File func(name string) (values []string, place string)

	host, port string            // of the flags --host and --port, which outweigh Addr
	provider   map[string]string // of the flags of providers that have no field
	given      map[string]bool   // flags that were given, some perhaps with a field's zero value

	// For tests.
	tunnelRetry  time.Duration   // before the second try to open a tunnel, 0 for 5 s; doubled up to a minute
	handledLimit time.Duration   // how long an answer waits with Answer "handled", 0 for 25 s
	recheckAfter []time.Duration // between checks of a PublicURL that was not reachable; nil for longer ones
	probeClient  *http.Client    // asks the public URL; nil for one of its own
}

// ConfigError is the error of [New] for a wrong setting. Its text names the setting, or the flag or variable that set it, and what is wrong.
type ConfigError struct {
	text string
	hint string // may be empty
}

func (e *ConfigError) Error() string { return e.text }

// Hint says how to fix the setting. It may be empty.
func (e *ConfigError) Hint() string { return e.hint }
