//go:build unix

package e2e_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/ui/inspector"
)

// newBrowser returns a browser without cookies.
func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
}

// browse opens a page in a browser, and returns the status of the page after redirects.
func browse(t *testing.T, browser *http.Client, address string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	response, err := browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// A developer's program is killed and started again at each change. An open page goes on working, and so does a script's token, until
// somebody else could have read the token.
func TestTheInspectorsTokenOutlivesARestart(t *testing.T) {
	t.Parallel()
	for _, binary := range []string{hubhook, bot} {
		t.Run(filepath.Base(binary), func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			address := "127.0.0.1:" + freePort(t)
			flags := []string{"--port", "0", "--inspector", address, "--no-tunnel", "--secret", secret}
			p := h.serve(t, binary, flags...)
			printed, err := url.Parse(p.ready.InspectorURL)
			if err != nil {
				t.Fatal(err)
			}
			token := printed.Query().Get("token")

			browser := newBrowser(t)
			page := "http://" + address + "/"
			if status := browse(t, browser, page); status != http.StatusUnauthorized {
				t.Errorf("without the token: status %d, want 401", status)
			}
			if status := browse(t, browser, p.ready.InspectorURL); status != http.StatusOK {
				t.Fatalf("the printed URL: status %d, want 200", status)
			}
			works := func(p *program, when string) {
				t.Helper()
				if status := browse(t, browser, page); status != http.StatusOK {
					t.Errorf("%s: the browser's cookie gets status %d, want 200", when, status)
				}
				if _, err := inspector.NewClient(page, token).Status(t.Context()); err != nil {
					t.Errorf("%s: the token: %v", when, err)
				}
				if p.ready.InspectorURL != printed.String() {
					t.Errorf("%s: the banner has another URL", when)
				}
			}
			works(p, "at the first start")

			p.kill()
			p = h.serve(t, binary, flags...)
			works(p, "after kill -9")
			p.stop()
			p = h.serve(t, binary, append(flags, "--fresh")...)
			works(p, "after SIGTERM, with --fresh")
			p.stop()

			kept := filepath.Join(p.ready.Data, "inspector-token")
			if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("the token's file: %v, %v, want mode 600", info, err)
			}
			if err := os.Chmod(kept, 0o644); err != nil {
				t.Fatal(err)
			}
			p = h.serve(t, binary, flags...)
			if status := browse(t, browser, page); status != http.StatusUnauthorized {
				t.Errorf("with a token that others could read: status %d, want 401", status)
			}
			if said := p.errs.String(); !strings.Contains(said, "other users could read or change it (mode 0644); the inspector has a new one\n  hint: ") || strings.Contains(said, token) {
				t.Errorf("it says %q", said)
			}
			p.stop()

			h.env = append(h.env, "HUBHOOK_INSPECTOR_TOKEN="+token)
			p = h.serve(t, binary, flags...)
			works(p, "with the variable")
			p.stop()
		})
	}
}
