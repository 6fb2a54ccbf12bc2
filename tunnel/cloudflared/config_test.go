package cloudflared

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// selfConfig is a Config whose program is there.
func selfConfig(t *testing.T, file string) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Program: self, Getenv: func(string) string { return "" }}
	if file != "" {
		c.ConfigFile = filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(c.ConfigFile, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c.URL = "https://hooks.example.com"
	}
	return c
}

func TestSettingsThatCannotBeRight(t *testing.T) {
	for name, test := range map[string]struct {
		file      string
		change    func(*Config)
		says, fix string
	}{
		"not installed":            {change: func(c *Config) { c.Program = "no-such-cloudflared" }, says: "is not installed", fix: "downloads"},
		"a URL without a tunnel":   {change: func(c *Config) { c.URL = "hooks.example.com" }, says: "quick tunnel", fix: "--cloudflared-config"},
		"a tunnel without a URL":   {file: "tunnel: mine", change: func(c *Config) { c.URL = "" }, says: "under which name", fix: "--url"},
		"a URL with a path":        {file: "tunnel: mine", change: func(c *Config) { c.URL = "https://a.example/b" }, says: "without a path", fix: "https://"},
		"http":                     {file: "tunnel: mine", change: func(c *Config) { c.URL = "http://a.example" }, says: "https URL", fix: "https://"},
		"no file":                  {change: func(c *Config) { c.ConfigFile, c.URL = "/nowhere/config.yml", "a.example" }, says: "/nowhere/config.yml", fix: "--cloudflared-config"},
		"no YAML":                  {file: "tunnel: mine\nsecret: [hush", says: "line", fix: "validate"},
		"no tunnel":                {file: "ingress: []", says: "names no tunnel", fix: "tunnel: NAME"},
		"a rule that leads away":   {file: "tunnel: mine\ningress: [{hostname: hooks.example.com, service: 'http://10.0.0.1:80'}]", says: "http://10.0.0.1:80", fix: "http://127.0.0.1:PORT"},
		"a rule with https":        {file: "tunnel: mine\ningress: [{service: 'https://localhost:443'}]", says: "no HTTP port on loopback", fix: "http://127.0.0.1:PORT"},
		"a rule without a port":    {file: "tunnel: mine\ningress: [{service: 'http://localhost'}]", says: "no HTTP port on loopback", fix: "http://127.0.0.1:PORT"},
		"rules for something else": {file: "tunnel: mine\ningress: [{hostname: other.example.com, service: 'http://localhost:80'}]", says: "no ingress rule", fix: "http://127.0.0.1:PORT"},
	} {
		c := selfConfig(t, test.file)
		if test.change != nil {
			test.change(&c)
		}
		_, err := c.settings()
		var e *tunnel.Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), test.says) || !strings.Contains(e.Fix, test.fix) || !e.Final || e.Temporary {
			t.Errorf("%s: %+v", name, err)
			continue
		}
		if strings.Contains(e.Error(), "hush") {
			t.Errorf("%s: it repeats the file: %v", name, err)
		}
	}
	if _, err := New(Config{Program: "no-such-cloudflared"}).Open(t.Context()); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("not installed: %v", err)
	}
}

func TestWhereTheRulesLead(t *testing.T) {
	for rules, want := range map[string]string{
		"":                                   "127.0.0.1:0",
		"[{service: 'http://localhost:81'}]": "127.0.0.1:81",
		"[{hostname: '*.example.com', service: 'http://127.0.0.1:82'}]":                                                                 "127.0.0.1:82",
		"[{hostname: HOOKS.example.com, service: 'http://[::1]:83'}]":                                                                   "[::1]:83",
		"[{hostname: hooks.example.com, path: ^/api, service: 'http://10.0.0.1:80'}, {service: 'http://localhost:84'}]":                 "127.0.0.1:84",
		"[{hostname: hooks.example.com, path: ^/webhooks, service: 'http://localhost:85'}, {service: 'http_status:404'}]":               "127.0.0.1:85",
		"[{hostname: other.example.com, service: 'http://10.0.0.1:80'}, {hostname: hooks.example.com, service: 'http://localhost:86'}]": "127.0.0.1:86",
	} {
		text := "tunnel: mine\n"
		if rules != "" {
			text += "ingress: " + rules
		}
		s, err := selfConfig(t, text).settings()
		if err != nil || s.listen != want || s.ingress != (rules != "") {
			t.Errorf("%s: %s, %v; want %s", rules, s.listen, err, want)
		}
	}
}

// A configuration of one's own would make a quick tunnel lead elsewhere.
func TestAQuickTunnelBesideAConfiguration(t *testing.T) {
	home := t.TempDir()
	c := selfConfig(t, "")
	c.Getenv = func(name string) string { return map[string]string{"HOME": home}[name] }
	args := func() string {
		s, err := c.settings()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(s.arguments("127.0.0.1:1", "127.0.0.1:2"), " ")
	}
	plain := "tunnel --url http://127.0.0.1:1 --metrics 127.0.0.1:2 --no-autoupdate"
	if got := args(); !strings.HasPrefix(got, plain) {
		t.Errorf("arguments %q; want %q", got, plain)
	}
	if err := os.MkdirAll(filepath.Join(home, ".cloudflared"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".cloudflared", "config.yml"), []byte("tunnel: other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := args(), plain+" --config "+os.DevNull; got != want {
		t.Errorf("arguments %q; want %q", got, want)
	}
}

func TestTheProgramsEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "WEBHOOK_SECRET=a", "HF_TOKEN=b", "NGROK_AUTHTOKEN=c", "HUBHOOK_DATABASE=d", "TUNNEL_TOKEN=e", "TUNNEL_TRANSPORT_PROTOCOL=http2"}
	if got := (settings{}).environment(env); !slices.Equal(got, []string{"PATH=/bin", "TUNNEL_TRANSPORT_PROTOCOL=http2"}) {
		t.Errorf("of a quick tunnel: %q", got)
	}
	if got := (settings{file: "config.yml"}).environment(env); !slices.Equal(got, []string{"PATH=/bin", "TUNNEL_TOKEN=e", "TUNNEL_TRANSPORT_PROTOCOL=http2"}) {
		t.Errorf("of a named tunnel: %q", got)
	}
}

func TestNoSecretIsShown(t *testing.T) {
	r := newRedactor("known-secret").with("another one")
	for text, want := range map[string]string{
		"a known-secret\nand another one":                     "a (hidden) and (hidden)",
		`--token eyJhIjoiYWNjb3VudCJ9.abc`:                    "--token (hidden)",
		`{"TunnelSecret":"abc=", "TunnelID":"1"}`:             `{"TunnelSecret":"(hidden)", "TunnelID":"1"}`,
		`authorization: Bearer abc.def`:                       "authorization: Bearer (hidden)",
		`proxy http://me:pass@10.0.0.1:80 is https://a.b/c?d`: "proxy http://me:(hidden)@10.0.0.1:80 is https://a.b/c?d",
		`failed to dial to edge with quic: timeout`:           "failed to dial to edge with quic: timeout",
	} {
		if got := r.line(text); got != want {
			t.Errorf("%q: %q; want %q", text, got, want)
		}
	}
}

func TestLastLines(t *testing.T) {
	l := &lastLines{}
	for range 3 * maxLines {
		l.Write([]byte("a line\n\n"))
	}
	l.Write([]byte(strings.Repeat("x", 3*maxLine)))
	l.Write([]byte("y\nhalf"))
	got := l.all()
	if len(got) != maxLines+1 || got[0] != "a line" || got[maxLines-1] != strings.Repeat("x", maxLine) || got[maxLines] != "half" {
		t.Errorf("%d lines: %q", len(got), got)
	}
}
