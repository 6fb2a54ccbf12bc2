package cloudflared

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// FuzzFile reads anything as the configuration of a named tunnel. What comes of it is an address on loopback, or an error that says what to do.
func FuzzFile(f *testing.F) {
	for _, text := range []string{
		"tunnel: mine\ncredentials-file: /nowhere.json\ningress:\n  - hostname: hooks.example.com\n    service: http://localhost:7860\n  - service: http_status:404\n",
		"tunnel: mine", "tunnel: mine\ningress: [{service: 'http://[::1]:80'}]", "tunnel: mine\ningress: [{hostname: '*.example.com', path: '^/webhooks/', service: 'http://127.0.0.1:1'}]",
		"tunnel: mine\ningress: [{path: '(', service: x}, {hostname: '*', service: 'http://127.0.0.1:0'}]", "tunnel: &t [*t]", "ingress: {}", "tunnel: !!binary aGk=", "tunnel: mine\nsecret: [hush", "",
	} {
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "config.yml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := settings{file: path, url: "https://hooks.example.com", listen: "127.0.0.1:0"}
		err := s.read()
		if err != nil {
			var e *tunnel.Error
			if !errors.As(err, &e) || e.Fix == "" {
				t.Errorf("%q: the error %#v says not what to do", text, err)
			}
			return
		}
		host, _, err := net.SplitHostPort(s.listen)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			t.Errorf("%q: hubhook would listen on %q", text, s.listen)
		}
	})
}

// FuzzSaid reads anything as a line of the program's log. It becomes one line without the secrets that are known.
func FuzzSaid(f *testing.F) {
	const secret = "s3cretOfTheTunnel"
	for _, line := range []string{
		"2026-11-27T10:00:00Z ERR Failed to serve tunnel connection error=\"Unauthorized: " + secret + "\" connIndex=0", "2026-11-27T10:00:00Z INF +----+", "error parsing tunnel ID: \x1b[31m\n",
		"token=eyJhIjoiYiIsInQiOiJjIn0=.x", `{"TunnelSecret": "abc"}`, "https://me:word@example.com", "2026-11-27T10:00:00Z FTL " + strings.Repeat("é", 200), "",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		complaint(line)
		said := settings{hide: newRedactor(secret)}.said(line)
		if strings.Contains(said, secret) || strings.ContainsAny(said, "\n\r\t") || len(said) > 310 {
			t.Errorf("%q is told as %q", line, said)
		}
	})
}
