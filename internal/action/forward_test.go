package action

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// newForward returns a Forward to target that ends with the test.
func newForward(t *testing.T, target, secret string) *Forward {
	t.Helper()
	f, err := NewForward(target, func() string { return secret })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// serveForward runs a server whose endpoint mirror forwards to target.
func serveForward(t *testing.T, target, secret string, opts ...server.Option) (*running, *Forward) {
	t.Helper()
	f := newForward(t, target, secret)
	return run(t, func(s *server.Server) { s.Handle("mirror", f.Handle, append([]server.Option{once}, opts...)...) }), f
}

// upstream answers with handle, and keeps the requests as they came, byte for byte.
type upstream struct {
	URL         string
	connections atomic.Int64
	requests    chan string
}

// listenRaw serves every request with the answers in turn, the last one again and again. An answer of "" closes the connection instead.
func listenRaw(t *testing.T, address string, answers ...string) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{URL: "http://" + l.Addr().String(), requests: make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	var n atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			u.connections.Add(1)
			context.AfterFunc(ctx, func() { conn.Close() })
			go func() {
				defer conn.Close()
				var text strings.Builder
				in := bufio.NewReader(io.TeeReader(conn, &text))
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					u.requests <- text.String()
					text.Reset()
					answer := answers[min(int(n.Add(1)), len(answers))-1]
					if answer == "" {
						return
					}
					io.WriteString(conn, answer)
				}
			}()
		}
	}()
	return u
}

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

func TestForwardSendsWhatCame(t *testing.T) {
	u := listenRaw(t, "127.0.0.1:0", noContent)
	r, _ := serveForward(t, u.URL+"/hook?a=b", "today")
	body := " {\"event\":{\"action\":\"update\",\"scope\":\"repo.content\"},\"repo\":{\"name\":\"me/d\u00e9\",\"type\":\"dataset\"}, \"z\":1.50, \"z\":\"\\u0000\"}\n"
	if got := r.deliver("mirror", body, "Webhook-Id", "W1", "User-Agent", "Hub/1", "Authorization", "Bearer theirs", "Cookie", "a=b",
		"Connection", "keep-alive, X-Hop", "X-Hop", "1", "Te", "trailers", "Accept-Encoding", "br", "X-Forwarded-For", "192.0.2.1"); got.status != 200 || got.body != "{}\n" && got.body != "{}" {
		t.Fatalf("have %+v", got)
	}
	sent := <-u.requests
	head, sentBody, _ := strings.Cut(sent, "\r\n\r\n")
	if sentBody != body {
		t.Errorf("the body is %q, want %q", sentBody, body)
	}
	lines := strings.Split(head, "\r\n")
	if lines[0] != "POST /hook?a=b HTTP/1.1" {
		t.Errorf("have %s", lines[0])
	}
	have := map[string]string{}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		have[name] = value
	}
	for name, want := range map[string]string{
		"Host": strings.TrimPrefix(u.URL, "http://"), "Content-Length": fmt.Sprint(len(body)), "Content-Type": "application/json", "Webhook-Id": "W1",
		"User-Agent": "Hub/1", "X-Forwarded-For": "192.0.2.1", "X-Webhook-Secret": "today",
	} {
		if have[name] != want {
			t.Errorf("%s is %q, want %q", name, have[name], want)
		}
		delete(have, name)
	}
	if len(have) != 0 {
		t.Errorf("these were sent too: %v", have)
	}
}

func TestForwardOfTheSecret(t *testing.T) {
	t.Parallel()
	u := listenRaw(t, "127.0.0.1:0", noContent)
	for _, test := range []struct {
		name, today, delivery, header string
		request, secret               string
	}{
		{"in the header", "today & more", "mirror", testSecret, "POST /hook?a=b HTTP/1.1", "today & more"},
		{"in the URL", "today & more", "mirror?secret=" + testSecret, "", "POST /hook?a=b&secret=today+%26+more HTTP/1.1", "today & more"},
		{"none today", "", "mirror", testSecret, "POST /hook?a=b HTTP/1.1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _ := serveForward(t, u.URL+"/hook?a=b", test.today)
			if got := r.deliver(test.delivery, push, "X-Webhook-Secret", test.header); got.status != 200 || got.state != "" {
				t.Fatalf("have %+v", got)
			}
			sent, err := http.ReadRequest(bufio.NewReader(strings.NewReader(<-u.requests)))
			if err != nil {
				t.Fatal(err)
			}
			request := "POST " + sent.RequestURI + " HTTP/1.1"
			if request != test.request || sent.Header.Get("X-Webhook-Secret") != test.secret {
				t.Errorf("have %s with %q", request, sent.Header.Get("X-Webhook-Secret"))
			}
		})
	}
}

func TestForwardWithAUserInTheURL(t *testing.T) {
	u := listenRaw(t, "127.0.0.1:0", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
	f := newForward(t, strings.Replace(u.URL, "http://", "http://me:pass%20word@", 1)+"/hook?key=hidden#part", "")
	_, err := f.Handle(t.Context(), parse(t, push))
	if want := u.URL + "/hook?... answered 500 Internal Server Error"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
	sent, err := http.ReadRequest(bufio.NewReader(strings.NewReader(<-u.requests)))
	if err != nil {
		t.Fatal(err)
	}
	if name, password, _ := sent.BasicAuth(); name != "me" || password != "pass word" || sent.RequestURI != "/hook?key=hidden" {
		t.Errorf("have %s %s, %s", name, password, sent.RequestURI)
	}
	if agent, ok := sent.Header["User-Agent"]; ok {
		t.Errorf("the sender had no User-Agent, and %q was sent", agent)
	}
}

func parse(t *testing.T, body string) *payload.Payload {
	t.Helper()
	p, err := payload.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestForwardKeepsTheAnswer(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	var status int
	var kind, text string
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hook" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header()["Content-Type"] = []string{kind}
		if kind == "" {
			w.Header()["Content-Type"] = nil
		}
		if status/100 == 3 {
			w.Header().Set("Location", "/hook/")
		}
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	defer web.Close()
	r, _ := serveForward(t, web.URL+"/hook", "")
	for _, test := range []struct {
		name       string
		status     int
		kind, text string
		want       string // the answer's body, or the error of a dead delivery
		dead       bool
	}{
		{"JSON", 200, "application/json; charset=utf-8", `{"a": [1.50, null]}`, `{"a":[1.50,null]}`, false},
		{"JSON of a kind", 201, "application/problem+json", `"x"`, `"x"`, false},
		{"JSON without a type", 200, "", `{"a":1}`, `{"a":1}`, false},
		{"text that looks like JSON", 200, "text/plain", `12`, `"12"`, false},
		{"text", 202, "text/plain; charset=utf-8", "started\n", `"started\n"`, false},
		{"no JSON under its type", 200, "application/json", `{"a":`, `"{\"a\":"`, false},
		{"not UTF-8", 200, "application/octet-stream", "\xff", `"` + "\uFFFD" + `"`, false},
		{"empty", 204, "", "", `{}`, false},
		{"long", 200, "text/plain", long, `"` + strings.Repeat("é", 32<<10) + `..."`, false},
		{"redirect", 307, "", "", "answered 307 Temporary Redirect to /hook/: redirects are not followed, so forward to that URL", true},
		{"refused", 422, "application/json", "{\"detail\": [\n{\"loc\": 1}]}", `answered 422 Unprocessable Entity: {"detail": [ {"loc": 1}]}`, true},
		{"failed at length", 500, "text/html", strings.Repeat("<p>", 100_000), "answered 500 Internal Server Error: " + strings.Repeat("<p>", 100) + "...", true},
		{"an unknown status", 599, "", "", "answered 599", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, kind, text = test.status, test.kind, test.text
			got := r.deliver("mirror", push)
			switch {
			case test.dead && (got.state != "dead" || got.reason != web.URL+"/hook "+test.want):
				t.Errorf("have %+v, want %s", got, test.want)
			case !test.dead && (got.state != "" || strings.TrimSpace(got.body) != test.want):
				t.Errorf("have %.200q, want %.200q", got.body, test.want)
			}
		})
	}
}

func TestForwardOverOneConnection(t *testing.T) {
	long := strings.Repeat("x", 2*maxResult) // more than is kept
	u := listenRaw(t, "127.0.0.1:0", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long))
	f := newForward(t, u.URL, "")
	for range 50 {
		if _, err := f.Handle(t.Context(), parse(t, push)); err != nil {
			t.Fatal(err)
		}
		<-u.requests
	}
	if n := u.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An upstream that closes a connection while a request is on its way has to get it over another one: an upstream that has just been
// restarted is no reason for a failed attempt.
func TestForwardOverAConnectionThatHasJustClosed(t *testing.T) {
	u := listenRaw(t, "127.0.0.1:0", noContent, "", noContent)
	f := newForward(t, u.URL, "")
	for range 2 {
		if _, err := f.Handle(t.Context(), parse(t, push)); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestForwardToLocalhost(t *testing.T) {
	for _, test := range []struct{ name, address string }{{"IPv4", "127.0.0.1:0"}, {"IPv6", "[::1]:0"}} {
		t.Run(test.name, func(t *testing.T) {
			if l, err := net.Listen("tcp", test.address); err != nil {
				t.Skip("this machine has no such address: ", err)
			} else {
				l.Close()
			}
			u := listenRaw(t, test.address, noContent)
			port := u.URL[strings.LastIndexByte(u.URL, ':'):]
			for _, host := range []string{"localhost", "LocalHost."} {
				f := newForward(t, "http://"+host+port+"/hook", "")
				if _, err := f.Handle(t.Context(), parse(t, push)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestForwardHealth(t *testing.T) {
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	f := newForward(t, "http://"+address+"/hook", "")
	if h := f.Health(); h != (Health{URL: "http://" + address + "/hook"}) {
		t.Errorf("before the first request: %+v", h)
	}
	_, err = f.Handle(t.Context(), parse(t, push))
	if err == nil || !strings.HasPrefix(err.Error(), "forward to http://"+address+"/hook: ") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("have %v", err)
	}
	down := f.Health()
	if down.Up || down.Since.IsZero() || down.Error != err.Error() {
		t.Errorf("nothing listens: %+v", down)
	}
	_, _ = f.Handle(t.Context(), parse(t, push))
	if again := f.Health(); again.Since != down.Since {
		t.Errorf("still nothing listens: %+v", again)
	}
	listenRaw(t, address, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops", noContent)
	_, err = f.Handle(t.Context(), parse(t, push))
	up := f.Health()
	if err == nil || !up.Up || !up.Since.After(down.Since) || up.Error != err.Error() {
		t.Errorf("answers 500: %+v", up)
	}
	if _, err := f.Handle(t.Context(), parse(t, push)); err != nil {
		t.Fatal(err)
	}
	if h := f.Health(); h != up {
		t.Errorf("answers 204: %+v, and before %+v", h, up)
	}
}

func TestForwardToOneThatNeverAnswers(t *testing.T) {
	hold := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer web.Close()
	defer close(hold)
	r, f := serveForward(t, web.URL, "", server.Timeout(50*time.Millisecond))
	got := r.deliver("mirror", push)
	if got.state != "dead" || !strings.HasPrefix(got.reason, "timed out after 50ms: "+web.URL+" has not answered: ") {
		t.Errorf("have %+v", got)
	}
	if h := f.Health(); h.Up || h.Since.IsZero() {
		t.Errorf("have %+v", h)
	}
	discarded := errors.New("discarded")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(discarded)
	other := newForward(t, web.URL, "")
	if _, err := other.Handle(ctx, parse(t, push)); !errors.Is(err, discarded) {
		t.Errorf("have %v", err)
	}
	if h := other.Health(); !h.Since.IsZero() {
		t.Errorf("a discarded delivery says nothing of the upstream: %+v", h)
	}
}

func TestForwardToNoURL(t *testing.T) {
	for target, want := range map[string]string{
		"127.0.0.1:3000":             "the URL can't be read: first path segment in URL cannot contain colon",
		"localhost:3000/hook":        `want a URL that begins with http:// or https://, have "localhost:3000/hook"`,
		"ftp://me:secret@host/":      `want a URL that begins with http:// or https://, have "ftp://me:xxxxx@host/"`,
		"http:///hook":               `the URL "http:///hook" names no host`,
		"http://me:secret@host:port": `the URL can't be read: invalid port ":port" after host`,
		"":                           `want a URL that begins with http:// or https://, have ""`,
	} {
		if _, err := NewForward(target, nil); err == nil || err.Error() != want {
			t.Errorf("%q: have %v, want %s", target, err, want)
		}
	}
}

func TestForwardTellsOfItsHealth(t *testing.T) {
	var told []string
	f, err := NewForward("http://127.0.0.1:3000", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.changed = func(h Health) { told = append(told, fmt.Sprintf("%t %s", h.Up, h.Error)) }
	refused := errors.New("refused")
	f.note(true, nil)
	f.note(true, errors.New("500"))
	f.note(false, refused)
	f.note(false, refused)
	f.note(true, nil)
	if want := []string{"false refused", "true refused"}; !slices.Equal(told, want) {
		t.Errorf("have %q, want %q", told, want)
	}
	g, err := NewForward("http://127.0.0.1:3000", nil)
	if err != nil {
		t.Fatal(err)
	}
	told = nil
	g.changed = f.changed
	g.note(false, refused)
	g.note(true, nil)
	if want := []string{"false refused", "true refused"}; !slices.Equal(told, want) {
		t.Errorf("down from the start: have %q, want %q", told, want)
	}
}
