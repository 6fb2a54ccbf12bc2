package inspector

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
)

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1":                 true,
		"127.0.0.1:7861":            true,
		"127.8.9.1:80":              true,
		"localhost":                 true,
		"LocalHost:7861":            true,
		"[::1]":                     true,
		"[::1]:7861":                true,
		"[::ffff:127.0.0.1]:7861":   true,
		"":                          false,
		":7861":                     false,
		"evil.example":              false,
		"evil.example:7861":         false,
		"127.0.0.1.nip.io:7861":     false,
		"localhost.evil.example":    false,
		"localhost@evil.example":    false,
		"evil.example#localhost":    false,
		"0.0.0.0:7861":              false,
		"[::]:7861":                 false,
		"10.0.0.7:7861":             false,
		"[fe80::1%25lo]:7861":       false,
		"[::1%25lo]:7861":           false,
		"127.1:7861":                false,
		"2130706433:7861":           false,
		"0x7f.0.0.1":                false,
		"example.ngrok-free.app":    false,
		"127.0.0.1:7861, localhost": false,
		"localhost:":                false,
		"localhost:http":            false,
		"localhost:99999":           false,
	} {
		if got := loopbackHost(host); got != want {
			t.Errorf("loopbackHost(%q) = %v, want %v", host, got, want)
		}
	}
}

func FuzzLoopbackHost(f *testing.F) {
	for _, seed := range []string{"localhost", "[::1]:7861", "127.0.0.1:7861", "evil.example", "[", "]", "::1", "[::1", ":", "127.0.0.1:7861:7861"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !loopbackHost(host) {
			return
		}
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		name = strings.Trim(name, "[]")
		if ip := net.ParseIP(name); !strings.EqualFold(name, "localhost") && (ip == nil || !ip.IsLoopback()) {
			t.Errorf("loopbackHost(%q) is true", host)
		}
	})
}

// paths has one path of each route, with its method.
var paths = []struct{ method, path string }{
	{"GET", "/"},
	{"GET", "/api/deliveries"},
	{"GET", "/api/deliveries/ID"},
	{"POST", "/api/deliveries/ID/replay"},
	{"POST", "/api/deliveries/ID/discard"},
	{"POST", "/api/trigger"},
	{"POST", "/api/pass"},
	{"GET", "/api/stream"},
	{"GET", "/api/status"},
	{"GET", "/api/samples"},
	{"POST", "/api/payload"},
	{"GET", "/api/rejected"},
	{"GET", "/api/tunnel"},
	{"GET", "/api/series"},
	{"GET", "/nothing/here"},
	{"DELETE", "/api/deliveries/ID"},
}

func TestWalls(t *testing.T) {
	f := newFixture(t)
	id := f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	host := strings.TrimPrefix(f.server.URL, "http://")
	cookie := &http.Cookie{Name: cookieName(host), Value: cookieValue(testToken, cookieName(host))}

	attacks := []struct {
		name   string
		status int
		change func(*http.Request)
	}{
		{"foreign host", 403, func(r *http.Request) { r.Host = "evil.example" }},
		{"host of a rebound name", 403, func(r *http.Request) { r.Host = "evil.example:" + portOf(host) }},
		{"host of the tunnel", 403, func(r *http.Request) { r.Host = "example.ngrok-free.app" }},
		{"cross-site", 403, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }},
		{"page of another port", 403, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }},
		{"cross-site with the cookie", 403, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(cookie)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://evil.example")
		}},
		{"old browser's cross-site with the cookie", 403, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(cookie)
			r.Header.Set("Origin", "https://evil.example")
		}},
		{"origin of another port", 403, func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") }},
		{"sandboxed frame", 403, func(r *http.Request) { r.Header.Set("Origin", "null") }},
		{"no token", 401, func(r *http.Request) { r.Header.Del("Authorization") }},
		{"wrong token", 401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.Repeat("0", len(testToken))) }},
		{"shorter token", 401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+testToken[:31]) }},
		{"longer token", 401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+testToken+"0") }},
		{"empty token", 401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }},
		{"token of another scheme", 401, func(r *http.Request) { r.SetBasicAuth("hubhook", testToken) }},
		{"token as the cookie", 401, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: cookie.Name, Value: testToken})
		}},
		{"cookie of another port", 401, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookieValue(testToken, "hubhook_inspector_1")})
		}},
		{"cookie of another token", 401, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookieValue("another", cookie.Name)})
		}},
		{"token in an API's URL", 401, func(r *http.Request) {
			r.Header.Del("Authorization")
			if r.URL.Path != "/" { // there it is exchanged for the cookie
				r.URL.RawQuery = "token=" + testToken
			}
		}},
		{"wrong token in the URL", 401, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "token=wrong"
		}},
	}
	program, browser := func(*http.Request) {}, func(r *http.Request) { r.Header.Set("Accept", browserAccept) }
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			for i := range 2 * len(paths) {
				p, as := paths[i/2], program
				if i%2 == 1 {
					as = browser
				}
				path := strings.ReplaceAll(p.path, "ID", id)
				response, body := f.request(p.method, path, "", a.change, as)
				if response.StatusCode != a.status {
					t.Errorf("%s %s: status %d, want %d", p.method, path, response.StatusCode, a.status)
				}
				if strings.Contains(body, id) || strings.Contains(body, testToken) {
					t.Errorf("%s %s: the answer tells what it should not: %s", p.method, path, body)
				}
				if i%2 == 1 && a.status == http.StatusUnauthorized && p.method == http.MethodGet {
					parsePage(t, response, body)
				} else {
					wantError(t, body)
				}
				if len(response.Cookies()) > 0 {
					t.Errorf("%s %s: sets a cookie", p.method, path)
				}
			}
		})
	}

	if record, err := f.queue.Get(t.Context(), id); err != nil || record.Replays != 0 || record.State != queue.Done {
		t.Errorf("after the attacks: %+v, %v, want it untouched", record, err)
	}
	if list, _, err := f.queue.List(t.Context(), queue.Filter{}); err != nil || len(list) != 1 {
		t.Errorf("after the attacks there are %d deliveries, %v, want 1", len(list), err)
	}
}

// wantError checks that body is {"error": TEXT} and nothing else.
func wantError(t *testing.T, body string) {
	t.Helper()
	var answer map[string]string
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer["error"] == "" || len(answer) != 1 {
		t.Errorf(`body %q, want {"error": TEXT}`, body)
	}
}

func portOf(host string) string {
	_, port, _ := net.SplitHostPort(host)
	return port
}

func TestWallsLetThrough(t *testing.T) {
	f := newFixture(t)
	host := strings.TrimPrefix(f.server.URL, "http://")
	for name, change := range map[string]func(*http.Request){
		"bearer":              func(*http.Request) {},
		"bearer in any case":  func(r *http.Request) { r.Header.Set("Authorization", "bearer "+testToken) },
		"localhost":           func(r *http.Request) { r.Host = "localhost:" + portOf(host) },
		"through ssh -L 9000": func(r *http.Request) { r.Host = "localhost:9000" },
		"typed in a browser":  func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") },
		"the page's own": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			r.Header.Set("Origin", f.server.URL)
		},
		"cookie": func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: cookieName(host), Value: "stale"})
			r.AddCookie(&http.Cookie{Name: cookieName(host), Value: cookieValue(testToken, cookieName(host))})
		},
	} {
		if response, body := f.request("GET", "/api/status", "", change); response.StatusCode != 200 {
			t.Errorf("%s: status %d: %s", name, response.StatusCode, body)
		}
	}
}

func TestMetricsNeedNoToken(t *testing.T) {
	f := newFixture(t)
	anonymous := func(r *http.Request) { r.Header.Del("Authorization") }
	if response, body := f.request("GET", "/metrics", "", anonymous); response.StatusCode != 200 || body != "hubhook_up 1\n" {
		t.Errorf("status %d: %s", response.StatusCode, body)
	}
	if response, _ := f.request("GET", "/metrics", "", anonymous, func(r *http.Request) { r.Host = "evil.example" }); response.StatusCode != 403 {
		t.Errorf("with a foreign Host: status %d, want 403", response.StatusCode)
	}
	if response, _ := f.request("GET", "/metrics", "", anonymous, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); response.StatusCode != 403 {
		t.Errorf("cross-site: status %d, want 403", response.StatusCode)
	}
}

// TestPathsThatAreNone sends request lines that no client library would.
func TestPathsThatAreNone(t *testing.T) {
	f := newFixture(t)
	host := strings.TrimPrefix(f.server.URL, "http://")
	for _, c := range []struct {
		target, authorization string
		status                int
	}{
		{"/metrics/../api/deliveries", "", 401},
		{"/metrics/%2e%2e/api/deliveries", "", 401},
		{"//metrics/../api/status", "", 401},
		{"/metrics/", "", 401},
		{"//metrics", "", 401},
		{"/metrics/../api/deliveries", testToken, 404},
		{"/api/../api/deliveries", testToken, 404},
		{"//api/deliveries", testToken, 404},
		{"/api/deliveries/", testToken, 404},
		{"/api/deliveries/..", testToken, 404},
		{"/api/deliveries/%2e%2e%2fstatus", testToken, 404},
		{"http://evil.example/metrics", testToken, 403},
		{"http://evil.example/api/deliveries", testToken, 403},
	} {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", c.target, host)
		if c.authorization != "" {
			fmt.Fprintf(conn, "Authorization: Bearer %s\r\n", c.authorization)
		}
		io.WriteString(conn, "\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.target, err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatalf("%s: %v", c.target, err)
		}
		conn.Close()
		if response.StatusCode != c.status {
			t.Errorf("GET %s: status %d, want %d", c.target, response.StatusCode, c.status)
		}
		wantError(t, string(body))
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	f := newFixture(t)
	for _, p := range append(paths, struct{ method, path string }{"GET", "/metrics"}) {
		if p.path == "/api/stream" {
			p.method = "HEAD"
		}
		for _, token := range []string{testToken, "wrong"} {
			response, _ := f.request(p.method, p.path, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
			for name, want := range map[string]string{
				"Cache-Control":          "no-store",
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "no-referrer",
				"X-Frame-Options":        "DENY",
			} {
				if got := response.Header.Get(name); got != want {
					t.Errorf("%s %s: %s is %q, want %q", p.method, p.path, name, got, want)
				}
			}
			if csp := response.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") {
				t.Errorf("%s %s: Content-Security-Policy is %q", p.method, p.path, csp)
			}
			for name := range response.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s: answers other origins with %s", p.method, p.path, name)
				}
			}
		}
	}
}

func TestMethods(t *testing.T) {
	f := newFixture(t)
	for path, allow := range map[string]string{
		"/":                          "GET, HEAD",
		"/api/deliveries":            "GET, HEAD",
		"/api/deliveries/ID":         "GET, HEAD",
		"/api/deliveries/ID/replay":  "POST",
		"/api/deliveries/ID/discard": "POST",
		"/api/trigger":               "POST",
		"/api/samples":               "GET, HEAD",
		"/api/payload":               "POST",
		"/api/rejected":              "GET, HEAD",
		"/api/tunnel":                "GET, HEAD",
		"/api/series":                "GET, HEAD",
		"/api/stream":                "GET, HEAD",
		"/api/status":                "GET, HEAD",
		"/metrics":                   "GET, HEAD",
	} {
		for _, method := range []string{"PUT", "DELETE", "OPTIONS", "PATCH"} {
			response, body := f.request(method, path, "")
			if response.StatusCode != 405 || response.Header.Get("Allow") != allow {
				t.Errorf("%s %s: status %d, Allow %q, want 405 and %q", method, path, response.StatusCode, response.Header.Get("Allow"), allow)
			}
			wantError(t, body)
		}
	}
}
