package server

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/tunnel"
)

const (
	firstPort          = 7860
	lastPort           = 7959
	firstInspectorPort = 7861

	answerStored  = "stored"
	answerHandled = "handled"

	inspectorOff = "off"

	defaultHandledLimit = 25 * time.Second // the Hub gives up after 30 s
	defaultTunnelRetry  = 5 * time.Second
	defaultMaxBody      = 16 << 20
	defaultMaxInFlight  = 256 << 20

	productionAttempts = 5
	productionDedupe   = time.Hour
)

// settings are a Config in which everything is decided, and what follows from it.
type settings struct {
	Config
	places    map[string]string // where each setting was set, by its name; "" where nothing has set it
	askAnew   bool              // Tunnel was askTunnel
	inSpace   bool
	underDev  bool   // run by `hubhook dev`, which has the tunnel and makes the attempts
	spaceHost string // that of the Space, or of the hubhook that runs this program; "" if it is not known
	localHost string
	localPort int
	portFixed bool // no other port will do
	watched   []forEndpoint[hub.Watched]
	borrowed  []forEndpoint[string] // IDs of webhooks
	followed  []forEndpoint[hub.RepoID]
}

// devSpace is the SPACE_ID of programs under `hubhook dev`. It keeps a WebhooksServer from opening a share link. Such programs run in no
// Space.
const devSpace = "hubhook/dev"

// resolve decides every setting: by the flag or the field of c, by hubhook's own variable, by a customary one, by the configuration file, or
// as hubhook does where nobody says anything.
func (c Config) resolve() (settings, error) {
	if c.Getenv == nil {
		c.Getenv = os.LookupEnv
	}
	s := settings{Config: c}
	space, _ := c.Getenv(env.SpaceID)
	s.inSpace = space != "" && space != devSpace
	dev, _ := c.Getenv(env.Dev)
	s.underDev = dev != ""
	hosts, _ := c.Getenv(env.SpaceHost)
	if space != "" {
		s.spaceHost, _, _ = strings.Cut(hosts, ",")
	}
	if err := s.splitAddr(); err != nil {
		return s, err
	}
	inJob := inJob(c.Getenv)
	own := environment(c.Getenv, func(of *setting) []string { return []string{env.Variable(of.name)} })
	customary := environment(c.Getenv, func(of *setting) []string {
		if s.inSpace && of.name == "port" {
			return nil // a Space documents no PORT; its one port to the outside is fixed
		}
		if inJob && of.name == "secret" {
			return nil // see secretOfJob
		}
		return of.customary
	})
	file := func(of *setting) ([]string, string) {
		if c.File == nil {
			return nil, ""
		}
		return c.File(of.name)
	}
	var err error
	if s.places, err = s.fill(own, customary, secretOfJob(c.Getenv, inJob), file, initialValues); err != nil {
		return s, err
	}
	s.tunnelRetry = cmp.Or(s.tunnelRetry, defaultTunnelRetry)
	s.handledLimit = cmp.Or(s.handledLimit, defaultHandledLimit)
	s.MaxBody = cmp.Or(s.MaxBody, defaultMaxBody)
	s.MaxInFlight = cmp.Or(s.MaxInFlight, defaultMaxInFlight)
	for _, check := range []func() error{s.checkSecrets, s.decideAddress, s.checkInspector, s.decideTunnel, s.checkDatabase, s.checkAnswer, s.checkKept, s.checkFollow, s.checkNumbers} {
		if err := check(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// opensTunnel reports whether a public URL is to be opened, unless following is all there is to do: see Server.opensTunnel.
func (s *settings) opensTunnel() bool { return !s.NoTunnel && s.PublicURL == "" }

// production reports whether the defaults are those of production: no tunnel in front, neither ours nor that of the `hubhook dev` that runs
// this program.
func (s *settings) production() bool { return !s.opensTunnel() && !s.underDev }

// longestAnswer is how long a sender may have to wait for its answer once its delivery is stored.
func (s *settings) longestAnswer() time.Duration {
	if s.Answer == answerHandled {
		return s.handledLimit
	}
	return max(s.ReplyWithin, 0)
}

// splitAddr takes host and port out of Addr where no flag has set them.
func (s *settings) splitAddr() error {
	if s.Addr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return &ConfigError{text: fmt.Sprintf("Addr %q: %v", s.Addr, err), hint: "write it as host:port, 127.0.0.1:7860 for example"}
	}
	if strings.HasPrefix(s.Addr, ":") {
		host = allAddresses
	}
	s.host, s.port = cmp.Or(s.host, host), cmp.Or(s.port, port)
	return nil
}

const allAddresses = "0.0.0.0"

// decideAddress decides where to listen for deliveries.
func (s *settings) decideAddress() error {
	s.localHost, s.localPort, s.portFixed = s.host, firstPort, s.inSpace
	if strings.HasPrefix(s.host, "[") && strings.HasSuffix(s.host, "]") {
		s.localHost = s.host[1 : len(s.host)-1]
	}
	if s.localHost == "" {
		s.localHost = "127.0.0.1"
		if s.inSpace {
			s.localHost = allAddresses
		}
	}
	if s.port != "" {
		n, err := strconv.Atoi(s.port)
		if err != nil || n < 0 || n > 65535 {
			return &ConfigError{text: fmt.Sprintf("%s: %q is no port", s.places["port"], s.port), hint: "want a number from 0 to 65535"}
		}
		s.localPort, s.portFixed = n, true
	}
	return nil
}

func (s *settings) checkSecrets() error {
	s.Secrets = slices.Clone(s.Secrets)
	for i, secret := range s.Secrets {
		secret = strings.TrimSpace(secret)
		if secret == "" {
			return &ConfigError{
				text: s.places["secret"] + ": the webhook secret is empty",
				hint: "give the secret that stands in the webhook's settings on the Hub, or leave the setting out altogether to go without one",
			}
		}
		for _, r := range secret {
			if r < 0x20 || r > 0x7e {
				return &ConfigError{
					text: fmt.Sprintf("%s: secret %d of %d has a character that is not printable ASCII", s.places["secret"], i+1, len(s.Secrets)),
					hint: "the Hub sends the secret as a plain header, so use ASCII letters, digits and signs only",
				}
			}
		}
		s.Secrets[i] = secret
	}
	return nil
}

func (s *settings) checkInspector() error {
	if s.Inspector == "" || s.Inspector == inspectorOff {
		return nil
	}
	host, _, err := net.SplitHostPort(s.Inspector)
	if err != nil {
		return &ConfigError{text: fmt.Sprintf("inspector address %q: %v", s.Inspector, err), hint: "write it as host:port, 127.0.0.1:7861 for example, or off"}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return &ConfigError{
			text: fmt.Sprintf("inspector address %q is not on the loopback interface", s.Inspector),
			hint: "the inspector shows payloads and can replay them, so it listens on 127.0.0.1, ::1 or localhost only; reach it from elsewhere with ssh -L",
		}
	}
	return nil
}

// decideTunnel decides whether there may be a tunnel: none inside a Space, and none under `go test`.
func (s *settings) decideTunnel() error {
	if s.inSpace || testing.Testing() && s.Provider == nil {
		s.NoTunnel = true
	}
	if err := s.checkPublicURL(); err != nil {
		return err
	}
	if s.Tunnel == askTunnel {
		s.askAnew, s.Tunnel = true, providerNames()[0]
	}
	s.chooseTunnel()
	if _, ok := tunnel.Lookup(s.Tunnel); !ok {
		return &ConfigError{
			text: fmt.Sprintf("tunnel %q: no such provider", s.Tunnel),
			hint: "known: " + strings.Join(providerNames(), ", ") + ", and " + askTunnel + " to be asked; if something else forwards to hubhook, name its URL with --public-url",
		}
	}
	return nil
}

// checkPublicURL refuses what can't be the base of the endpoints' URLs, or would send the secret in the clear over the internet.
func (s *settings) checkPublicURL() error {
	if s.PublicURL == "" {
		return nil
	}
	wrong := func(what, hint string) error {
		return &ConfigError{text: fmt.Sprintf("%s: public URL %q %s", s.places["public-url"], s.PublicURL, what), hint: hint}
	}
	const form = "write it as https://example.com"
	text := strings.TrimRight(strings.TrimSpace(s.PublicURL), "/")
	u, err := url.Parse(text)
	switch {
	case !strings.Contains(text, "://"):
		return wrong("has no scheme", form)
	case err != nil || u.Hostname() == "":
		return wrong("can't be read", form)
	case u.User != nil:
		return &ConfigError{text: s.places["public-url"] + ": public URL has a user name or a password in it", hint: form} // which is not repeated
	case u.Scheme != "https" && u.Scheme != "http":
		return wrong("is neither https nor http", form)
	case u.RawQuery != "": // which may have a secret in it, as webhook URLs do
		return &ConfigError{text: s.places["public-url"] + ": public URL has more than a host in it, a query", hint: form + "; the endpoints are at /webhooks/NAME below it"}
	case u.Path != "" || u.Fragment != "" || strings.ContainsAny(text, "?#"):
		return wrong("has more than a host in it", form+"; the endpoints are at /webhooks/NAME below it, and nothing else can be")
	case u.Scheme == "http" && !onLoopback(u.Hostname()):
		return wrong("is not https, so anyone on the way could read the webhook's secret", "write it as https://"+u.Host+", and have what forwards to hubhook take https")
	}
	s.PublicURL = text
	return nil
}

// onLoopback reports whether the host is this machine: for trying out what forwards to hubhook.
func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// provesPublicURL reports whether Run checks that PublicURL leads here. Nothing is asked under `go test`.
func (s *settings) provesPublicURL() bool {
	return s.PublicURL != "" && !s.inSpace && (!testing.Testing() || s.probeClient != nil)
}

// checkDatabase refuses what is no URL of a PostgreSQL database, without repeating it: there may be a password in it.
func (s *settings) checkDatabase() error {
	if s.Database == "" {
		return nil
	}
	u, err := url.Parse(s.Database)
	if err != nil {
		return &ConfigError{text: "database: its URL can't be read", hint: databaseHint + "; write special characters in user name and password as %XX, and give each of several hosts its port"}
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return &ConfigError{text: "database: not the URL of a PostgreSQL database", hint: databaseHint}
	}
	if s.Fresh {
		return &ConfigError{
			text: "--fresh can't go with --database: what is unfinished there may be another process's",
			hint: "leave --fresh (HUBHOOK_FRESH) out, and discard single deliveries with: hubhook deliveries discard ID",
		}
	}
	return nil
}

const databaseHint = "write it as postgres://USER:PASSWORD@HOST:5432/NAME, best in HUBHOOK_DATABASE"

func (s *settings) checkAnswer() error {
	if s.Answer != answerStored && s.Answer != answerHandled {
		return &ConfigError{text: fmt.Sprintf("answer %q: there is no such value", s.Answer), hint: "known: stored, the default, and handled"}
	}
	return nil
}

// checkNumbers refuses what only a field can be: flags and variables are refused before.
func (s *settings) checkNumbers() error {
	for _, n := range []struct {
		field    string
		negative bool
		value    any
	}{
		{"Keep", s.Keep < 0, s.Keep}, {"ExitOnDown", s.ExitOnDown < 0, s.ExitOnDown}, {"KeepCount", s.KeepCount < 0, s.KeepCount},
		{"MaxWaiting", s.MaxWaiting < 0, s.MaxWaiting}, {"MaxBody", s.MaxBody < 0, s.MaxBody}, {"MaxInFlight", s.MaxInFlight < 0, s.MaxInFlight},
	} {
		if n.negative {
			return &ConfigError{text: fmt.Sprintf("Config.%s: want 0 or more, have %v", n.field, n.value)}
		}
	}
	return nil
}
