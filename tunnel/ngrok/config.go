package ngrok

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/tunnel"
)

// credential is an authtoken and the place it came from, in words for the user.
type credential struct {
	token  string
	source string
}

// settings is all that decides how to reach the ngrok service, put together from the three places it can stand in.
type settings struct {
	credential credential
	url        string         // the wanted public URL, or empty
	connectURL string         // host:port, or empty for ngrok's own
	connectCAs *x509.CertPool // nil for ngrok's own
	casSource  string         // what connectCAs was read from
	proxyURL   *url.URL       // nil for what the environment says
}

// address is the host:port of the service.
func (s settings) address() string {
	return orDefault(s.connectURL, "connect.ngrok-agent.com:443")
}

// file is the part of ngrok.yml that matters here. In version 3 it stands under "agent", in version 2 at the top, where
// connect_url and connect_cas were called server_addr and root_cas once.
type file struct {
	fileAgent  `yaml:",inline"`
	ServerAddr string    `yaml:"server_addr"`
	RootCAs    string    `yaml:"root_cas"`
	Agent      fileAgent `yaml:"agent"`
}

type fileAgent struct {
	Authtoken  string `yaml:"authtoken"`
	ConnectURL string `yaml:"connect_url"`
	ConnectCAs string `yaml:"connect_cas"`
	ProxyURL   string `yaml:"proxy_url"`
}

// settings reads every place that ngrok is configured in. Its errors are of type *tunnel.Error, and no network is used.
func (c Config) settings() (settings, error) {
	getenv := c.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	file, path, err := c.readFile(getenv)
	if err != nil {
		return settings{}, err
	}
	s := settings{
		credential: firstCredential(
			credential{c.Authtoken, orDefault(c.AuthtokenSource, "Config.Authtoken")},
			credential{getenv(env.NgrokAuthtoken), env.NgrokAuthtoken},
			credential{file.Authtoken, path},
		),
	}
	if s.credential.token == "" {
		return s, &tunnel.Error{
			Op:    openAct,
			Cause: "there is no ngrok authtoken in the flags, in NGROK_AUTHTOKEN or in " + path,
			Fix:   "copy the authtoken of your (free) account from " + tokenPage + " and set NGROK_AUTHTOKEN",
			Err:   tunnel.ErrNoCredential,
		}
	}
	if s.url, err = publicURL(orDefault(c.URL, getenv(env.NgrokDomain))); err != nil {
		return s, err
	}
	if s.connectURL, err = connectAddress(orDefault(c.ConnectURL, file.ConnectURL), path); err != nil {
		return s, err
	}
	if s.connectCAs, s.casSource, err = connectPool(c.ConnectCAs, file.ConnectCAs, path); err != nil {
		return s, err
	}
	if file.ProxyURL != "" {
		if s.proxyURL, err = proxyURL(file.ProxyURL); err != nil {
			return s, configError("read proxy_url of "+path, err.Error(), "write it as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
		}
	}
	return s, nil
}

func firstCredential(places ...credential) credential {
	for _, c := range places {
		if c.token = strings.TrimSpace(c.token); c.token != "" {
			return c
		}
	}
	return credential{}
}

func orDefault(s, def string) string {
	if s != "" {
		return s
	}
	return def
}

func configError(op, cause, fix string) *tunnel.Error {
	return &tunnel.Error{Op: op, Cause: cause, Fix: fix}
}

// readFile reads ngrok.yml, version 2 or 3. A file that is not where ngrok would put it is as good as an empty one.
func (c Config) readFile(getenv func(string) string) (fileAgent, string, error) {
	path := c.ConfigFile
	if path == "" {
		path = defaultFile(runtime.GOOS, getenv)
		if path == "" {
			return fileAgent{}, "ngrok.yml", nil
		}
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && c.ConfigFile == "" {
		return fileAgent{}, path, nil
	}
	if err != nil {
		return fileAgent{}, path, configError("read ngrok's configuration", err.Error(), "check the path and its permissions, or name another file with --ngrok-config")
	}
	var file file
	if err := yaml.Unmarshal(text, &file); err != nil {
		// The parser's message can quote a value, and the value can be a token: only its line numbers are passed on.
		return fileAgent{}, path, configError("read ngrok's configuration", path+" is not the YAML that ngrok writes"+yamlLines(err), "correct it, run `ngrok config check`, or name another file with --ngrok-config")
	}
	agent := file.Agent
	agent.Authtoken = orDefault(agent.Authtoken, file.Authtoken)
	agent.ConnectURL = orDefault(agent.ConnectURL, orDefault(file.ConnectURL, file.ServerAddr))
	agent.ConnectCAs = orDefault(agent.ConnectCAs, orDefault(file.ConnectCAs, file.RootCAs))
	agent.ProxyURL = orDefault(agent.ProxyURL, file.ProxyURL)
	return agent, path, nil
}

// defaultFile is where ngrok's own program keeps its configuration, or empty where the environment does not say.
func defaultFile(goos string, getenv func(string) string) string {
	under := func(dir string, parts ...string) string {
		if dir == "" {
			return ""
		}
		return filepath.Join(append([]string{dir}, parts...)...)
	}
	switch goos {
	case "windows":
		return under(getenv(env.LocalAppData), "ngrok", "ngrok.yml")
	case "darwin":
		return under(getenv(env.Home), "Library", "Application Support", "ngrok", "ngrok.yml")
	}
	if dir := getenv(env.ConfigHome); dir != "" {
		return under(dir, "ngrok", "ngrok.yml")
	}
	return under(getenv(env.Home), ".config", "ngrok", "ngrok.yml")
}

// publicURL makes a URL of what a user may write for it: a URL or a bare domain.
func publicURL(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimSpace(s), "/")
	if s == "" {
		return "", nil
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", configError("read the wanted public URL", fmt.Sprintf("%q is not a domain or an http(s) URL without a path", s), "write it as https://name.ngrok-free.app")
	}
	return s, nil
}

// connectAddress makes host:port of a connect_url.
func connectAddress(s, path string) (string, error) {
	if s = strings.TrimSpace(s); s == "" {
		return "", nil
	}
	if u, err := url.Parse(s); err == nil && u.Scheme != "" && u.Host != "" {
		s = u.Host
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		s = net.JoinHostPort(strings.Trim(s, "[]"), "443")
	}
	if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" || strings.ContainsAny(host, " /") {
		return "", configError("read connect_url", fmt.Sprintf("%q (%s) is not HOST:PORT", s, path), "write it as HOST:PORT, or remove it to use ngrok's own")
	}
	return s, nil
}

// connectPool finds the certificate authorities to trust for the connection to the service. "trusted" is ngrok's word for its own
// and "host" for those of this machine; anything else is a PEM file, relative to the directory of ngrok.yml.
func connectPool(given *x509.CertPool, setting, path string) (*x509.CertPool, string, error) {
	switch {
	case given != nil:
		return given, "Config.ConnectCAs", nil
	case setting == "" || setting == "trusted":
		return nil, "", nil
	case setting == "host":
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, "", configError("read this machine's certificate authorities (connect_cas: host)", err.Error(), "name a PEM file in connect_cas of "+path)
		}
		return pool, "connect_cas: host of " + path, nil
	}
	file := setting
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(path), file)
	}
	fix := "correct connect_cas in " + path + ", or remove it to trust ngrok's own"
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, "", configError("read connect_cas", err.Error(), fix)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, "", configError("read connect_cas", file+" has no certificate in PEM form", fix)
	}
	return pool, "connect_cas of " + path, nil
}

func proxyURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		// url.Parse repeats its input, which can contain a password.
		return nil, errors.New("it is not a URL")
	}
	if !knownProxy(u.Scheme) {
		return nil, fmt.Errorf("proxies of scheme %q are not supported", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("it names no host")
	}
	return u, nil
}

// knownProxy reports whether proxies of the scheme can be used.
func knownProxy(scheme string) bool {
	switch scheme {
	case "http", "https", "socks5", "socks5h":
		return true
	}
	return false
}

// yamlLines is the place of a YAML error in the words ", line 3", or nothing.
func yamlLines(err error) string {
	if at, ok := errors.AsType[*yaml.LoadError](err); ok && at.Mark.Line > 0 {
		return fmt.Sprintf(", line %d", at.Mark.Line)
	}
	return ""
}
