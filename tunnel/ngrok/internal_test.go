package ngrok

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

func noEnv(string) string { return "" }

// TestGivesUpAfterAWhile has a refusal that could pass by itself and does not.
func TestGivesUpAfterAWhile(t *testing.T) {
	t.Parallel()
	for _, online := range []bool{false, true} {
		t.Run(fmt.Sprint("online before: ", online), func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			refuse := func() { edge.FailAuth("ERR_NGROK_108", "Too many.", -1) }
			if !online {
				refuse()
			}
			provider := Patient(Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: noEnv})
			provider.terms.Refused, provider.resume = 500*time.Millisecond, 200*time.Millisecond
			tun, err := provider.Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if online {
				refuse()
				edge.Drop()
			}
			var last tunnel.State
			for s := range tun.States() {
				last = s
			}
			var e *tunnel.Error
			if last.Phase != tunnel.Stopped || !errors.As(last.Err, &e) || e.Code != "ERR_NGROK_108" {
				t.Errorf("last state: %v", last)
			}
			if _, err := tun.Accept(); !errors.Is(err, last.Err) {
				t.Errorf("Accept: %v", err)
			}
			for range 2 {
				if err := tun.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestRedactor(t *testing.T) {
	t.Parallel()
	const secret = `a/b c"d+é`
	hide := newRedactor("", secret)
	for _, text := range []string{
		secret,
		fmt.Sprintf("%q", secret),
		`{"Authtoken":"a/b c\"d+é"}`,
		"https://x/?t=" + url.QueryEscape(secret),
		"https://x/" + url.PathEscape(secret),
	} {
		if got := hide.text("before " + text + " after"); strings.Contains(got, "b c") || strings.Contains(got, "d+") || strings.Contains(got, "b+c") || strings.Contains(got, "d%2B") || strings.Contains(got, "d%22") || !strings.Contains(got, "before") || !strings.Contains(got, "after") {
			t.Errorf("%q became %q", text, got)
		}
	}
	// What a service repeats may be cut or changed and still be most of a token.
	if got := newRedactor().text("no\nYour authtoken: something_else\nyes"); strings.Contains(got, "something") || !strings.Contains(got, "yes") {
		t.Errorf("%q", got)
	}
}

type valuer struct{ text string }

func (v valuer) LogValue() slog.Value { return slog.StringValue(v.text) }

func TestRedactingLog(t *testing.T) {
	t.Parallel()
	const secret = "the_secret_token"
	var out strings.Builder
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		for _, handler := range []slog.Handler{
			slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level}),
			slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}),
		} {
			log := newSDKLogger(slog.New(handler), newRedactor(secret))
			log.With("with", secret, "n", 7).WithGroup("g").Error("message "+secret,
				"err", errors.New("error "+secret),
				"struct", struct{ Token string }{secret},
				"pointer", &struct{ Token string }{secret},
				"bytes", []byte(secret),
				"valuer", valuer{secret},
				slog.Group("inner", "text", secret, "map", map[string]string{"k": secret}),
			)
		}
		text := out.String()
		if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprint([]byte(secret))) {
			t.Errorf("the token is in\n%s", text)
		}
		if level == slog.LevelInfo && text != "" {
			t.Errorf("logged above debug level:\n%s", text)
		}
		if level == slog.LevelDebug && strings.Count(text, "message ") != 2 {
			t.Errorf("logged:\n%s", text)
		}
		out.Reset()
	}
}

func TestDefaultFile(t *testing.T) {
	t.Parallel()
	env := func(name string) string {
		return map[string]string{"HOME": "/home/x", "XDG_CONFIG_HOME": "/xdg", "LocalAppData": "/local"}[name]
	}
	home := func(name string) string {
		if name == "HOME" {
			return "/home/x"
		}
		return ""
	}
	for _, test := range []struct {
		goos   string
		getenv func(string) string
		want   string
	}{
		{"linux", env, "/xdg/ngrok/ngrok.yml"},
		{"linux", home, "/home/x/.config/ngrok/ngrok.yml"},
		{"linux", noEnv, ""},
		{"freebsd", home, "/home/x/.config/ngrok/ngrok.yml"},
		{"darwin", env, "/home/x/Library/Application Support/ngrok/ngrok.yml"},
		{"windows", env, "/local/ngrok/ngrok.yml"},
		{"windows", noEnv, ""},
	} {
		if got := filepath.ToSlash(defaultFile(test.goos, test.getenv)); got != test.want {
			t.Errorf("%s: %q, want %q", test.goos, got, test.want)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	dir := t.TempDir()
	pem, err := os.ReadFile(edge.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ca.pem": string(pem),
		"v3.yml": "version: 3\nagent:\n  authtoken: token3\n  connect_url: edge.example.com:4443\n  connect_cas: ca.pem\n  proxy_url: socks5://proxy:1080\ntunnels:\n  x: {proto: http, addr: 80}\n",
		"v2.yml": "version: \"2\"\nauthtoken: token2\nconnect_url: edge.example.com\nconnect_cas: host\nproxy_url: proxy:3128\nregion: us\n",
		"v1.yml": "authtoken: token1\nserver_addr: \"[::1]:443\"\nroot_cas: trusted\n",
		"e.yml":  "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, test := range []struct {
		file, flag, env               string
		token, source, connect, proxy string
		pool                          bool
	}{
		{file: "v3.yml", token: "token3", source: at("v3.yml"), connect: "edge.example.com:4443", proxy: "socks5://proxy:1080", pool: true},
		{file: "v2.yml", token: "token2", source: at("v2.yml"), connect: "edge.example.com:443", proxy: "http://proxy:3128", pool: true},
		{file: "v1.yml", token: "token1", source: at("v1.yml"), connect: "[::1]:443"},
		{file: "v3.yml", env: " fromenv\n", token: "fromenv", source: "NGROK_AUTHTOKEN", connect: "edge.example.com:4443", proxy: "socks5://proxy:1080", pool: true},
		{file: "e.yml", env: "fromenv", flag: "fromflag", token: "fromflag", source: "--ngrok-authtoken"},
	} {
		getenv := func(name string) string {
			if name == "NGROK_AUTHTOKEN" {
				return test.env
			}
			return ""
		}
		s, err := Config{ConfigFile: at(test.file), Authtoken: test.flag, AuthtokenSource: "--ngrok-authtoken", Getenv: getenv}.settings()
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		proxy := ""
		if s.proxyURL != nil {
			proxy = s.proxyURL.String()
		}
		if s.credential != (credential{test.token, test.source}) || s.connectURL != test.connect || proxy != test.proxy || (s.connectCAs != nil) != test.pool {
			t.Errorf("%s: %+v, proxy %q", test.file, s, proxy)
		}
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	t.Parallel()
	getenv := func(name string) string {
		return map[string]string{"https_proxy": "http://me:pass@proxy.example.com:3128", "NO_PROXY": ".internal"}[name]
	}
	d := newServiceDialer(settings{}, getenv)
	for addr, want := range map[string]string{
		"connect.ngrok-agent.com:443": "http://me:pass@proxy.example.com:3128",
		"edge.internal:443":           "<nil>",
		"127.0.0.1:443":               "<nil>",
	} {
		u, err := d.proxyFor(addr)
		if got := fmt.Sprint(u); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", addr, got, err, want)
		}
	}
}

// TestConnDeadlines shows that a write deadline does not reach the SDK's stream, and a read deadline does.
func TestConnDeadlines(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := &conn{Conn: near}
	past := time.Now().Add(-time.Second)
	if err := c.SetWriteDeadline(past); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write after the deadline: %v", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go far.Read(make([]byte, 1))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write without a deadline: %v", err)
	}
	if err := c.SetDeadline(past); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read after the deadline: %v", err)
	}
	if got := c.RemoteAddr().String(); got != "0.0.0.0:0" {
		t.Errorf("RemoteAddr of a client that is not known: %s", got)
	}
}
