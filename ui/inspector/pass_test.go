package inspector

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestPasses(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p := &passes{now: func() time.Time { return now }}
	if p.use("") || p.use(Token()) {
		t.Error("a code that was never issued gets in")
	}
	first, second := p.issue(), p.issue()
	if first == second || !p.use(second) || !p.use(first) {
		t.Errorf("codes %q and %q, want two that get in once each, in any order", first, second)
	}
	if p.use(first) || p.use(second) {
		t.Error("a code gets in twice")
	}

	early := p.issue()
	now = now.Add(passLife - 1)
	late := p.issue()
	now = now.Add(1)
	if p.use(early) || !p.use(late) {
		t.Error("a code gets in after its minute, or not within it")
	}

	codes := []string{}
	for range maxPasses + 1 {
		codes = append(codes, p.issue())
	}
	if len(p.open) != maxPasses || p.use(codes[0]) || !p.use(codes[1]) || !p.use(codes[maxPasses]) {
		t.Errorf("%d codes are kept, want the newest %d", len(p.open), maxPasses)
	}
}

// TestPassLetsOneBrowserIn: other users can read a pass in the list of processes, but it does not let them in later.
func TestPassLetsOneBrowserIn(t *testing.T) {
	f := newFixture(t)
	anonymous := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, withCookie := range []bool{false, true} {
		response, body := f.request("POST", "/api/pass", "")
		var answer map[string]string
		if err := json.Unmarshal([]byte(body), &answer); err != nil || response.StatusCode != 200 || len(answer) != 1 || len(answer["pass"]) != 32 {
			t.Fatalf("status %d: %s", response.StatusCode, body)
		}
		pass, err := f.client.Pass(t.Context())
		if err != nil || pass == answer["pass"] || strings.Contains(pass, testToken) {
			t.Fatalf("%q, %v, want another pass", pass, err)
		}
		let := func(r *http.Request) {
			if withCookie { // a browser with the cookie needs no pass, and uses it up all the same
				name := cookieName(r.URL.Host)
				r.AddCookie(&http.Cookie{Name: name, Value: cookieValue(testToken, name)})
			}
		}
		response, _ = f.request("GET", "/?delivery=X&token="+pass, "", anonymous, let)
		if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/?delivery=X" || len(response.Cookies()) != 1 {
			t.Errorf("status %d to %q with %d cookies, want 303 with one", response.StatusCode, response.Header.Get("Location"), len(response.Cookies()))
		}
		if response, _ = f.request("GET", "/?delivery=X&token="+pass, "", anonymous); response.StatusCode != 401 || len(response.Cookies()) != 0 {
			t.Errorf("a second time: status %d, cookies %v, want 401", response.StatusCode, response.Cookies())
		}
	}

	pass := f.inspector.Pass()
	for what, change := range map[string]func(*http.Request){
		"as the token of a program": func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+pass) },
		"as a cookie": func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: cookieName(r.URL.Host), Value: cookieValue(pass, cookieName(r.URL.Host))})
		},
	} {
		if response, body := f.request("GET", "/api/status", "", change); response.StatusCode != 401 {
			t.Errorf("%s: status %d: %s", what, response.StatusCode, body)
		}
	}
}
