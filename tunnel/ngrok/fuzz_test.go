package ngrok

import (
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// FuzzFile reads anything as ngrok.yml. What comes of it is an address that can be dialled, or an error that says what to do and does not
// repeat the token.
func FuzzFile(f *testing.F) {
	const token = "2s3cretTokenOfNgrok"
	for _, text := range []string{
		"version: 3\nagent:\n  authtoken: " + token + "\n  connect_url: eu.example:443\n  proxy_url: socks5://me:word@127.0.0.1:1080\n",
		"version: 2\nauthtoken: " + token + "\nserver_addr: tunnel.example\nroot_cas: trusted\n",
		"authtoken: " + token + "\nconnect_url: 'https://[::1]:8443/x'\n",
		"authtoken: " + token + "\nproxy_url: 'http://me:pass word@[::1'\n",
		"authtoken: [" + token + "\n", "authtoken: {" + token + ": 1}\n", "agent: &a [*a]\nauthtoken: *a\n", "agent: 7\nauthtoken: !!binary aGk=\n",
		"connect_cas: ../../nowhere.pem\nauthtoken: x\n", "%YAML 1.1\n---\nauthtoken: a\n...\n---\nauthtoken: b\n", "\ufeffauthtoken: a\x00", "",
	} {
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "ngrok.yml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Config{ConfigFile: path, Getenv: func(string) string { return "" }}.settings()
		if err != nil {
			var e *tunnel.Error
			if !errors.As(err, &e) || e.Fix == "" {
				t.Errorf("%q: the error %#v says not what to do", text, err)
			} else if e.Op == "read ngrok's configuration" && strings.Contains(err.Error(), token) {
				t.Errorf("%q: the error repeats the token: %v", text, err)
			}
			return
		}
		if host, port, err := net.SplitHostPort(s.address()); err != nil || host == "" || port == "" {
			t.Errorf("%q: the address is %q (%v)", text, s.address(), err)
		}
		if s.credential.token == "" || s.proxyURL != nil && s.proxyURL.Hostname() == "" {
			t.Errorf("%q: read as %+v", text, s)
		}
	})
}

// FuzzServiceError reads anything as an error of the service's. A code that is found is linked to, and the token is not repeated.
func FuzzServiceError(f *testing.F) {
	const token = "2s3cretTokenOfNgrok"
	for _, text := range []string{
		"authentication failed: The authtoken you specified does not look like a proper ngrok authtoken.\nYour authtoken: " + token + "\r\n\r\nERR_NGROK_105\r\n",
		"ERR_NGROK_108 ERR_NGROK_334", "ERR_NGROK_", "<html>ERR_NGROK_3200</html>", "ERR_NGROK_99999999999999999999", "\x1b[31mERR_NGROK_8012", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e := serviceError(text, credential{token, "NGROK_AUTHTOKEN"}, newRedactor(token))
		if e == nil {
			return
		}
		if all := e.Error() + e.Hint(); strings.Contains(all, token) {
			t.Errorf("%q is told as %q", text, all)
		}
		for _, code := range codesIn(text) {
			if u, err := url.Parse(docsPage(code)); err != nil || u.Host == "" {
				t.Errorf("%q: the page of %q is %q", text, code, docsPage(code))
			}
		}
	})
}
