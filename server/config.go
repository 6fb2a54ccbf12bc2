package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
)

// Config says how a Server listens, stores and answers. The zero Config is that of `hubhook serve`: local port 7860, an ngrok tunnel, an
// inspector, everything stored under $XDG_STATE_HOME/hubhook.
//
// Where a field is zero, the variable it names is read; a variable counts only where the field (or the flag behind it) is not set.
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

	host, port   string             // of the flags --host and --port
	given        map[string]bool    // flags that were given, whose variables don't count
	tunnelRetry  time.Duration      // before the second try to open a tunnel; doubled up to a minute
	probeClient  *http.Client       // asks the public URL; nil for one of its own
	handledLimit time.Duration      // how long an answer waits with Answer "handled"
	provider     map[string]*string // flags of providers that have no field
	space        string             // SPACE_ID
	spaceHost    string             // the first name of SPACE_HOST
	portFixed    bool               // only this port will do
	localHost    string
	localPort    int
	inspectorOff bool
}

// The defaults that more than one place names.
const (
	DefaultPort          = 7860
	lastPort             = 7959
	DefaultInspectorPort = 7861
	answerStored         = "stored"
	answerHandled        = "handled"
	defaultHandledLimit  = 25 * time.Second // the Hub gives up after 30 s
	defaultReplyWithin   = 3 * time.Second
	defaultMaxBody       = 16 << 20
	defaultMaxInFlight   = 256 << 20
	defaultKeep          = 168 * time.Hour
	defaultKeepCount     = 100_000
	defaultMaxWaiting    = 100_000
	productionAttempts   = 5
	productionDedupe     = time.Hour
)

// production reports whether the defaults are those of production: no tunnel of ours in front.
func (c *Config) production() bool {
	return c.NoTunnel || c.PublicURL != "" || c.space != ""
}

// withDefaults returns c with every zero field filled from its variable or its default, or an error that names the field or variable at fault.
func (c Config) withDefaults() (Config, error) {
	if c.Getenv == nil {
		c.Getenv = os.LookupEnv
	}
	env := environment{lookup: c.Getenv, given: c.given}
	c.space = env.text("SPACE_ID")
	c.spaceHost, _, _ = strings.Cut(env.text("SPACE_HOST"), ",")

	env.fill(&c.Data, "data")
	env.fill(&c.Database, "database")
	env.fill(&c.Answer, "answer")
	env.fill(&c.Tunnel, "tunnel")
	env.fill(&c.URL, "url")
	env.fill(&c.PublicURL, "public-url")
	env.fill(&c.Inspector, "inspector")
	env.fill(&c.InspectorToken, "inspector-token")
	env.flag(&c.NoTunnel, "no-tunnel")
	env.flag(&c.Fresh, "fresh")
	env.flag(&c.JSON, "json")
	env.duration(&c.ReplyWithin, "reply-within")
	env.duration(&c.Keep, "keep")
	env.duration(&c.ExitOnDown, "exit-on-down")
	env.number(&c.KeepCount, "keep-count")
	env.number(&c.MaxWaiting, "max-waiting")
	if env.err != nil {
		return c, env.err
	}
	if err := c.fillSecrets(env); err != nil {
		return c, err
	}
	if err := c.fillAddress(env); err != nil {
		return c, err
	}
	if err := c.fillTunnel(); err != nil {
		return c, err
	}
	if err := c.checkDatabase(); err != nil {
		return c, err
	}
	fallback(&c.Answer, answerStored)
	if c.Answer != answerStored && c.Answer != answerHandled {
		return c, &ConfigError{Text: fmt.Sprintf("answer %q: no such moment to answer at", c.Answer), Advice: "known: stored, the default, and handled"}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"keep", int64(c.Keep)}, {"exit-on-down", int64(c.ExitOnDown)}, {"keep-count", int64(c.KeepCount)}, {"max-waiting", int64(c.MaxWaiting)}, {"MaxBody", c.MaxBody}, {"MaxInFlight", c.MaxInFlight}} {
		if n.value < 0 {
			return c, &ConfigError{Text: fmt.Sprintf("%s: want more than 0, have %d", n.name, n.value)}
		}
	}
	fallback(&c.tunnelRetry, 5*time.Second)
	fallback(&c.handledLimit, defaultHandledLimit)
	fallback(&c.ReplyWithin, defaultReplyWithin)
	fallback(&c.MaxBody, defaultMaxBody)
	fallback(&c.MaxInFlight, defaultMaxInFlight)
	fallback(&c.Keep, defaultKeep)
	fallback(&c.KeepCount, defaultKeepCount)
	fallback(&c.MaxWaiting, defaultMaxWaiting)
	return c, nil
}

func fallback[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) fillSecrets(env environment) error {
	source := "Secrets"
	if c.given["secret"] {
		source = "--secret"
	}
	if len(c.Secrets) == 0 {
		for _, name := range []string{"HUBHOOK_SECRET", "WEBHOOK_SECRET"} {
			if v, ok := env.lookup(name); ok {
				c.Secrets, source = strings.Split(v, ","), name
				break
			}
		}
	}
	c.Secrets = slices.Clone(c.Secrets)
	for i, s := range c.Secrets {
		s = strings.TrimSpace(s)
		if s == "" {
			return &ConfigError{
				Text:   fmt.Sprintf("%s: the webhook secret is empty", source),
				Advice: "give the secret that stands in the webhook's settings on the Hub, or leave the setting out altogether to go without one",
			}
		}
		for _, r := range s {
			if r < 0x20 || r > 0x7e {
				return &ConfigError{
					Text:   fmt.Sprintf("%s: secret %d of %d has a character that is not printable ASCII", source, i+1, len(c.Secrets)),
					Advice: "the Hub sends the secret as a plain header, so use ASCII letters, digits and signs only",
				}
			}
		}
		c.Secrets[i] = s
	}
	return nil
}

// fillAddress resolves the local address and the inspector's. Each part of the local one comes from the first place that names it.
func (c *Config) fillAddress(env environment) error {
	host, port, source := "", "", "Addr"
	if c.Addr != "" {
		var err error
		if host, port, err = net.SplitHostPort(c.Addr); err != nil {
			return &ConfigError{Text: fmt.Sprintf("Addr %q: %v", c.Addr, err), Advice: "write it as host:port, 127.0.0.1:7860 for example"}
		}
	}
	if c.host != "" {
		host = c.host
	}
	if c.port != "" {
		port, source = c.port, "--port"
	}
	if host == "" && !strings.HasPrefix(c.Addr, ":") {
		host = env.text("HUBHOOK_HOST")
	}
	for _, name := range []string{"HUBHOOK_PORT", "PORT"} {
		// A Space documents no PORT variable; its one outward port is fixed.
		if port == "" && (name != "PORT" || c.space == "") {
			port, source = env.text(name), name
		}
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	switch {
	case host != "":
		c.localHost = host
	case c.space != "" || strings.HasPrefix(c.Addr, ":"):
		c.localHost = "0.0.0.0"
	default:
		c.localHost = "127.0.0.1"
	}
	c.localPort, c.portFixed = DefaultPort, c.space != ""
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 0 || n > 65535 {
			return &ConfigError{Text: fmt.Sprintf("%s: %q is no port", source, port), Advice: "want a number from 0 to 65535"}
		}
		c.localPort, c.portFixed = n, true
	}

	if c.Inspector == "off" {
		c.inspectorOff = true
		return nil
	}
	if c.Inspector != "" {
		host, _, err := net.SplitHostPort(c.Inspector)
		if err != nil {
			return &ConfigError{Text: fmt.Sprintf("inspector address %q: %v", c.Inspector, err), Advice: "write it as host:port, 127.0.0.1:7861 for example, or off"}
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return &ConfigError{
				Text:   fmt.Sprintf("inspector address %q is not on the loopback interface", c.Inspector),
				Advice: "the inspector shows payloads and can replay them, so it listens on 127.0.0.1, ::1 or localhost only; reach it from elsewhere with ssh -L",
			}
		}
	}
	return nil
}

func (c *Config) fillTunnel() error {
	if c.space != "" || testing.Testing() && c.Provider == nil {
		c.NoTunnel = true
	}
	if c.PublicURL != "" {
		u := strings.TrimRight(c.PublicURL, "/")
		if !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
			return &ConfigError{Text: fmt.Sprintf("public URL %q has no scheme", c.PublicURL), Advice: "write it as https://example.com"}
		}
		c.PublicURL = u
	}
	if _, ok := tunnel.Lookup(c.Tunnel); !ok {
		return &ConfigError{Text: fmt.Sprintf("tunnel %q: no such provider", c.Tunnel), Advice: "known: " + strings.Join(providerNames(), ", ") + "; where something else forwards to hubhook, name its URL with --public-url"}
	}
	return nil
}

// checkDatabase refuses what is no URL of a PostgreSQL database, without repeating it: there may be a password in it.
func (c *Config) checkDatabase() error {
	if c.Database == "" {
		return nil
	}
	u, err := url.Parse(c.Database)
	if err != nil {
		return &ConfigError{Text: "database: its URL can't be read", Advice: databaseAdvice + "; write special characters in user name and password as %XX, and give each of several hosts its port"}
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return &ConfigError{Text: "database: not the URL of a PostgreSQL database", Advice: databaseAdvice}
	}
	if c.Fresh {
		return &ConfigError{
			Text:   "--fresh can't go with --database: what is unfinished there may be another process's",
			Advice: "leave --fresh (HUBHOOK_FRESH) out, and discard single deliveries with: hubhook deliveries discard ID",
		}
	}
	return nil
}

const databaseAdvice = "write it as postgres://USER:PASSWORD@HOST:5432/NAME, best in HUBHOOK_DATABASE"

// longestAnswer is how long a sender may have to wait for its answer once its delivery is stored.
func (c *Config) longestAnswer() time.Duration {
	if c.Answer == answerHandled {
		return c.handledLimit
	}
	return max(c.ReplyWithin, 0)
}

// environment reads variables for the fields that nothing else has set, and keeps the first error.
type environment struct {
	lookup func(string) (string, bool)
	given  map[string]bool
	err    error
}

func (e *environment) text(name string) string {
	v, _ := e.lookup(name)
	return v
}

// variable returns the value of the flag's variable, "" where the flag was given.
func (e *environment) variable(flag string) (name, value string) {
	if e.given[flag] {
		return "", ""
	}
	name = Variable(flag)
	return name, e.text(name)
}

// Variable returns the name of the variable that stands for a flag: HUBHOOK_REPLY_WITHIN for reply-within.
func Variable(flag string) string {
	return "HUBHOOK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (e *environment) fill(field *string, flag string) {
	if *field == "" {
		_, *field = e.variable(flag)
	}
}

func (e *environment) fail(name, value, want string) {
	if e.err == nil {
		e.err = &ConfigError{Text: fmt.Sprintf("%s: %q is not %s", name, value, want), Advice: fmt.Sprintf("set %s to %s, or leave it unset", name, want)}
	}
}

func (e *environment) flag(field *bool, flag string) {
	if name, v := e.variable(flag); v != "" && !*field {
		b, err := strconv.ParseBool(v)
		if err != nil {
			e.fail(name, v, "true or false")
		}
		*field = b
	}
}

func (e *environment) duration(field *time.Duration, flag string) {
	if name, v := e.variable(flag); v != "" && *field == 0 {
		d, err := parseWait(flag, v)
		if err != nil {
			e.fail(name, v, "a duration such as 3s, 2m or 168h")
		}
		*field = d
	}
}

func (e *environment) number(field *int, flag string) {
	if name, v := e.variable(flag); v != "" && *field == 0 {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			e.fail(name, v, "a number above 0")
		}
		*field = n
	}
}

// parseWait parses a duration as flags and variables have it. Zero would read as "the default" in Config, so where it is allowed
// (reply-within: never wait) it becomes negative.
func parseWait(flag, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if text == "0" {
		d, err = 0, nil
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as 3s, 2m or 168h", text)
	case d == 0 && flag == "reply-within":
		return -1, nil
	case d <= 0:
		return 0, fmt.Errorf("want a duration above 0, have %q", text)
	}
	return d, nil
}

// ConfigError is a wrong setting.
type ConfigError struct {
	Text   string // names the setting and what is wrong with it
	Advice string // how to mend it; may be empty
}

func (e *ConfigError) Error() string { return e.Text }

// Hint returns how to mend the setting, or "".
func (e *ConfigError) Hint() string { return e.Advice }
