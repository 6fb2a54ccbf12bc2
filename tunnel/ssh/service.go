package ssh

import (
	"fmt"
	"net"
	"net/url"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/tunnel"
)

// service is the SSH server to use, and its habits.
type service struct {
	title string // as messages call it
	user  string
	host  string
	port  string

	preset bool
	// anonymous says that it takes anyone, so that none of the user's keys are shown to it.
	anonymous bool
	// command is what to run there for text that programs can read. Empty: a shell.
	command string
	// anyPort says that it wants to be asked for port 0, and not for 80.
	anyPort bool
	// names says that it can be asked for a name.
	names bool
	// limits is what to expect of its free tunnels, in sentences.
	limits string
}

// services are those that users can choose by name. Their limits are in the words of their documentation, and can change.
var services = []service{
	{
		title: "localhost.run", host: "localhost.run", port: "22", user: "nokey", command: "--output json",
		limits: "localhost.run needs no account. It gives a new name after some hours, and hubhook says so when it does.",
	},
	{
		title: "pinggy", host: "free.pinggy.io", port: "443", user: "free", anyPort: true,
		limits: "pinggy needs no account for tunnels of 60 minutes. After that the tunnel comes back under a new name, and hubhook says so when it does.",
	},
	{
		title: "serveo", host: "serveo.net", port: "22", user: "hubhook", names: true,
		limits: "serveo needs no account. Its names can change when the connection was lost, and hubhook says so when they do.",
	},
}

// serviceNames are the words for those services.
func serviceNames() []string {
	var names []string
	for _, s := range services {
		names = append(names, s.title)
	}
	return names
}

// of reports whether host is one of the service's.
func (s service) of(host string) bool {
	if host == s.title || host == s.host {
		return true
	}
	return s.title == "pinggy" && strings.HasSuffix(host, ".pinggy.io")
}

func (s service) address() string { return net.JoinHostPort(s.host, s.port) }

const chooseServer = "name one with --ssh: localhost.run (free, without an account), pinggy, serveo, or [user@]host[:port] of your own"

// parseServer reads what the user wrote for a server.
func parseServer(text string, getenv func(string) string) (service, error) {
	if text = strings.TrimSpace(text); text == "" {
		return service{}, &tunnel.Error{Op: openAct, Cause: "no SSH server is named", Fix: chooseServer, Err: tunnel.ErrNoCredential}
	}
	bad := func(cause string) (service, error) {
		return service{}, configError("read --ssh", cause, "write it as [user@]host[:port], or as one of "+strings.Join(serviceNames(), ", "))
	}
	rest := strings.TrimSuffix(strings.TrimPrefix(text, "ssh://"), "/")
	// A password in its place must not be repeated, so errors before this one say nothing of the text.
	login, rest, hasUser := cutLast(rest, "@")
	if strings.Contains(login, ":") {
		return bad("there is a password in it, which hubhook does not use")
	}
	host, port := rest, ""
	if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return bad(fmt.Sprintf("%q is no port", port))
	}
	if host == "" || strings.ContainsAny(host, " /@\\\"'") || strings.HasPrefix(host, "-") || hasUser && login == "" {
		return bad(fmt.Sprintf("%q is no server", text))
	}
	s := service{title: host, host: host, port: "22", names: true}
	if i := slices.IndexFunc(services, func(known service) bool { return known.of(host) }); i >= 0 {
		s = services[i]
		if host != s.title {
			s.host = host
		}
		s.preset, s.anonymous = true, !hasUser
	}
	if port != "" {
		s.port = port
	}
	switch {
	case hasUser:
		s.user = login
	case s.user == "":
		s.user = currentUser(getenv)
	}
	if !s.preset {
		s.title = s.address()
	}
	return s, nil
}

// cutLast is strings.Cut at the last separator, with all of s in after where there is none.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return "", s, false
}

func currentUser(getenv func(string) string) string {
	for _, variable := range []string{env.LoginName, env.OldLoginName, env.WindowsLoginName} {
		if name := getenv(variable); name != "" {
			return name
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

// forward is an address that the server is asked to listen on.
type forward struct {
	host string
	port uint32
	set  bool // by the user
}

func parseForward(text string) (forward, error) {
	if text = strings.TrimSpace(text); text == "" {
		return forward{}, nil
	}
	host, port, found := cutLast(text, ":")
	f := forward{host: strings.Trim(host, "[]"), set: true}
	if !found {
		f.host = ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return f, configError("read --ssh-forward", fmt.Sprintf("%q is not [HOST:]PORT", text), "write it as 8080, or as 127.0.0.1:8080")
	}
	f.port = uint32(n)
	return f, nil
}

// publicURL makes a URL of what a user may write for it: a URL, a domain, or a name alone.
func publicURL(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimSpace(s), "/")
	if s == "" {
		return "", nil
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	if origin, ok := originOf(s); ok {
		return origin, nil
	}
	return "", configError("read the wanted public URL", fmt.Sprintf("%q is not a domain or an http(s) URL without a path", s), "write it as https://hooks.example.com")
}

// originOf returns the URL without a slash at its end, where it has no path and nothing else that a public URL must not have.
func originOf(s string) (origin string, ok bool) {
	s = strings.TrimSuffix(s, "/")
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || len(s) > 300 {
		return "", false
	}
	host := u.Hostname()
	if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:") != "" {
		return "", false
	}
	return strings.ToLower(s), true
}

// hostOf is the host of an origin, without its port.
func hostOf(origin string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// portOf is the port that an origin names, 0 where it names none.
func portOf(origin string) uint32 {
	u, err := url.Parse(origin)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// label is what to ask a service for to get the URL: the name alone below the service's own domain, else the whole host.
func (s service) label(origin string, was bool) string {
	host := hostOf(origin)
	first, _, dotted := strings.Cut(host, ".")
	if was || !dotted || strings.HasSuffix(host, "."+s.host) {
		return first
	}
	return host
}

// grants reports whether the URL that a service gave is the one that was asked for.
func grants(wanted, given string) bool {
	w, g := hostOf(wanted), hostOf(given)
	if strings.Contains(w, ".") {
		return w == g
	}
	label, _, _ := strings.Cut(g, ".")
	return w == label
}
