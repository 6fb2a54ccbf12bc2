//go:build unix

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// Requests are refused in the order of the documented table, the same locally and through the tunnel. If the table says that the body is
// not read, the answer comes before the request has sent it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	p, public := viaEdge(t, newHome(t), edge, hubhook, "--secret", secret, "--secret", "another")

	const tooLong = 16<<20 + 1
	for _, side := range []struct {
		name string
		dial func(t *testing.T) *rawConn
	}{
		{"local", func(t *testing.T) *rawConn { return dialRaw(t, strings.TrimPrefix(p.base, "http://"), "127.0.0.1") }},
		{"tunnel", func(t *testing.T) *rawConn {
			return dialRaw(t, edge.PublicAddr(), strings.TrimPrefix(public, "https://"))
		}},
	} {
		for _, test := range []struct {
			name    string
			request string // method and path
			secret  string
			length  int    // Content-Length of a body that is never sent; 0: body is sent
			body    string // for checks that read it
			status  int
			words   string // in the error
			allow   string
		}{
			{"unknown endpoint", "POST /webhooks/none", "", tooLong, "", 404, `"none"`, ""},
			{"no endpoint's name", "POST /webhooks/", "", tooLong, "", 404, "", ""},
			{"unknown path", "POST /none", "", tooLong, "", 404, "", ""},
			{"unknown page", "GET /favicon.ico", "", 0, "", 404, "", ""},
			{"wrong method", "PUT /webhooks/inbox", "", tooLong, "", 405, "PUT", "POST"},
			{"browser", "GET /webhooks/inbox", "", 0, "", 405, "GET", "POST"},
			{"post to the home page", "POST /", "", 100, "", 405, "POST", "GET, HEAD"},
			{"post to healthz", "POST /healthz", "", 100, "", 405, "POST", "GET, HEAD"},
			{"no secret", "POST /webhooks/inbox", "", tooLong, "", 401, "no secret", ""},
			{"empty secret in the URL", "POST /webhooks/inbox?secret=", "", 100, "", 401, "no secret", ""},
			{"wrong secret", "POST /webhooks/inbox", "wrong", tooLong, "", 403, "secret is wrong", ""},
			{"wrong secret in the URL", "POST /webhooks/inbox?secret=wrong", "", 100, "", 403, "secret is wrong", ""},
			{"the beginning of a secret", "POST /webhooks/inbox", secret[:5], 100, "", 403, "secret is wrong", ""},
			{"too long", "POST /webhooks/inbox", secret, tooLong, "", 413, strconv.Itoa(tooLong), ""},
			{"no JSON", "POST /webhooks/inbox", secret, 0, `{"event": nonsense}`, 422, "line 1, column 11", ""},
			{"empty", "POST /webhooks/inbox", secret, 0, "", 422, "", ""},
			{"cut short", "POST /webhooks/inbox", secret, 0, `{"event": {"action"`, 422, "", ""},
			{"no object", "POST /webhooks/inbox", "another", 0, `[{}]`, 422, "object", ""},
			{"not UTF-8", "POST /webhooks/inbox", secret, 0, "{\"repo\": \"\xff\"}", 422, "UTF-8", ""},
		} {
			t.Run(side.name+"/"+test.name, func(t *testing.T) {
				c := side.dial(t)
				headers := []string{"Content-Length: " + strconv.Itoa(max(test.length, len(test.body)))}
				if test.secret != "" {
					headers = append(headers, "X-Webhook-Secret: "+test.secret)
				}
				c.send(t, test.request, test.body, headers...)
				a := c.answer(t)
				if a.status != test.status {
					t.Fatalf("answer %d %s; want %d", a.status, a.body, test.status)
				}
				if !a.says(t, map[string]string{"error": "*"}) {
					t.Errorf("answer %s; want {\"error\": ...}", a.body)
				}
				if !strings.Contains(a.body, strings.ReplaceAll(test.words, `"`, `\"`)) {
					t.Errorf("answer %s; want it to say %s", a.body, test.words)
				}
				if got := a.header.Get("Allow"); got != test.allow {
					t.Errorf("Allow %q; want %q", got, test.allow)
				}
				if a.delivery() != "" || a.header.Get("Location") != "" {
					t.Errorf("headers %v of a refusal", a.header)
				}
			})
		}
	}
	if stored := p.list(""); len(stored) != 0 {
		t.Errorf("%d refused requests were stored, the first as %+v", len(stored), stored[0])
	}
	for status, fix := range map[int]string{401: "paste it", 403: "secret", 404: "inbox", 413: "MaxBody", 422: "JSON"} {
		e := p.await(fmt.Sprintf("rejected %d", status), patience, func(e event) bool { return e.Type == "rejected" && e.Status == status })
		if e.Error == "" || !strings.Contains(e.Fix, fix) {
			t.Errorf("the screen says of %d: %q, %q; want what to fix", status, e.Error, e.Fix)
		}
	}
	// While one secret replaces another, both work, in the header or in the URL. A slash too many causes no redirect.
	body := push(t)
	for _, request := range [][]string{
		{"inbox", "X-Webhook-Secret", "another"}, {"inbox?secret=" + secret}, {"inbox/", "X-Webhook-Secret", secret}, {"/inbox//", "X-Webhook-Secret", secret},
	} {
		if a := p.post(request[0], body, request[1:]...); a.status != 200 || a.body != "{}" || a.delivery() == "" {
			t.Errorf("POST %s: %d %s; want 200 {}", request[0], a.status, a.body)
		}
	}
}

// A sender that asks first (Expect: 100-continue) is told to send the body only if its secret is right.
func TestContinueComesAfterTheSecret(t *testing.T) {
	t.Parallel()
	p := newHome(t).serve(t, hubhook, "--port", "0", "--no-tunnel", "--secret", secret)
	addr := strings.TrimPrefix(p.base, "http://")
	body := push(t)
	length := "Content-Length: " + strconv.Itoa(len(body))

	for status, headers := range map[int][]string{
		401: {length},
		403: {length, "X-Webhook-Secret: wrong"},
		413: {"Content-Length: 99999999", "X-Webhook-Secret: " + secret},
	} {
		c := dialRaw(t, addr, "localhost")
		c.send(t, "POST /webhooks/inbox", "", append(headers, "Expect: 100-continue")...)
		if a := c.answer(t); a.status != status {
			t.Errorf("%v: %d; want %d without 100 Continue", headers, a.status, status)
		}
	}
	c := dialRaw(t, addr, "localhost")
	c.send(t, "POST /webhooks/inbox", "", length, "X-Webhook-Secret: "+secret, "Expect: 100-continue")
	if status, _, err := c.statusLine(); err != nil || status != 100 {
		t.Fatalf("the right secret is answered %d (%v); want 100", status, err)
	}
	if _, err := c.in.ReadString('\n'); err != nil { // the empty line after 100 Continue
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, body); err != nil {
		t.Fatal(err)
	}
	if a := c.answer(t); a.status != 200 {
		t.Errorf("answer %d %s; want 200", a.status, a.body)
	}
}

// A body of unknown length is refused once it exceeds the limit.
func TestAChunkedBodyOverTheLimit(t *testing.T) {
	t.Parallel()
	p := newHome(t).serve(t, hubhook, "--port", "0", "--no-tunnel")
	c := dialRaw(t, strings.TrimPrefix(p.base, "http://"), "localhost")
	c.send(t, "POST /webhooks/inbox", "", "Transfer-Encoding: chunked")
	chunk := "100000\r\n" + strings.Repeat("x", 1<<20) + "\r\n"
	for range 17 {
		if _, err := io.WriteString(c, chunk); err != nil {
			break // the server has closed the connection
		}
	}
	if a := c.answer(t); a.status != http.StatusRequestEntityTooLarge || !a.says(t, map[string]string{"error": "*"}) {
		t.Errorf("answer %d %s; want 413", a.status, a.body)
	}
}

// The public server serves nothing of the inspector, not even with the token or with a Host that the inspector accepts.
func TestTheInspectorIsNotBehindTheTunnel(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	p, public := viaEdge(t, newHome(t), edge, bot)
	stored := p.post("kept", push(t))
	private, err := url.Parse(p.ready.InspectorURL)
	if err != nil || private.Query().Get("token") == "" {
		t.Fatalf("inspector URL %q: %v", p.ready.InspectorURL, err)
	}
	token := private.Query().Get("token")
	for _, path := range []string{
		"/api/deliveries", "/api/deliveries/" + stored.delivery(), "/api/deliveries/" + stored.delivery() + "/replay", "/api/trigger", "/api/stream",
		"/api/status", "/metrics", "/api", "/api/", "//api/status", "/webhooks/../api/status", "/webhooks/%2e%2e/api/status", "/inspector", "/debug/pprof/",
	} {
		for _, method := range []string{"GET", "POST"} {
			for _, host := range []string{strings.TrimPrefix(public, "https://"), private.Host} {
				c := dialRaw(t, edge.PublicAddr(), host)
				c.send(t, method+" "+path+"?token="+token, "", "Authorization: Bearer "+token, "Content-Length: 0")
				if a := c.answer(t); a.status != 404 && !(a.status == 405 && strings.HasPrefix(path, "/webhooks/")) || !a.says(t, map[string]string{"error": "*"}) {
					t.Errorf("%s %s with Host %s: %d %s; want 404", method, path, host, a.status, a.body)
				}
			}
		}
	}
	home, err := publicClient(t, edge).Get(public + "/?token=" + token)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Body.Close()
	page, err := io.ReadAll(home.Body)
	if err != nil || home.StatusCode != 200 {
		t.Fatalf("the home page: %d, %v", home.StatusCode, err)
	}
	for _, private := range []string{private.Host, token, stored.delivery()} {
		if strings.Contains(string(page), private) {
			t.Errorf("the home page has %q, which is private", private)
		}
	}
	if len(home.Cookies()) > 0 {
		t.Errorf("the home page sets %v", home.Cookies())
	}
}

// A 503 says when to try again, and its delivery is not stored.
func TestAFullQueue(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--max-waiting", "1", "--reply-within", "0")
	body := push(t)
	var accepted []string
	for _, state := range []string{"running", "waiting"} {
		a := p.post("single", body)
		if a.status != 202 || !a.says(t, map[string]string{"delivery": a.delivery(), "state": state}) {
			t.Fatalf("answer %d %s; want 202 %s", a.status, a.body, state)
		}
		accepted = append(accepted, a.delivery())
	}
	p.wantUnavailable(p.post("single", body), "wait")
	if e := p.await("rejected", patience, func(e event) bool { return e.Type == "rejected" }); e.Status != 503 || !strings.Contains(e.Fix, "--max-waiting") {
		t.Errorf("the screen says %+v; want how to fix it", e)
	}
	if a := p.post("trigger_training", body); !a.ok() {
		t.Errorf("a delivery that need not wait is answered %d %s", a.status, a.body)
	}
	h.open(t)
	for _, id := range accepted {
		p.settled(id, queue.Done)
	}
	if a := p.post("single", body); !a.ok() {
		t.Errorf("answer %d %s once the queue has room; want it accepted", a.status, a.body)
	}
	if n := len(p.list("single")); n != 3 {
		t.Errorf("%d deliveries are stored; want the 3 that were accepted", n)
	}
}

func TestTooManyBytesInFlight(t *testing.T) {
	t.Parallel()
	p := newHome(t).serve(t, hubhook, "--port", "0", "--no-tunnel")
	addr := strings.TrimPrefix(p.base, "http://")
	const whole = 16 << 20 // at most 16 bodies of this length may be in flight
	var held []*rawConn
	for range 16 {
		c := dialRaw(t, addr, "localhost")
		c.send(t, "POST /webhooks/inbox", "", "Content-Length: "+strconv.Itoa(whole), "Expect: 100-continue")
		if status, _, err := c.statusLine(); err != nil || status != 100 { // it is being read
			t.Fatalf("status %d, %v; want 100", status, err)
		}
		held = append(held, c)
	}
	p.wantUnavailable(p.post("inbox", push(t)), "too many bytes")
	for _, c := range held {
		c.Close()
	}
	p.poll("room for another body", func() (bool, string) {
		a := p.post("inbox", push(t))
		return a.ok(), a.body
	})
}

// wantUnavailable checks for an answer 503 with these words in its reason.
func (p *program) wantUnavailable(a answer, words string) {
	p.t.Helper()
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if a.status != http.StatusServiceUnavailable || err != nil || wait < 1 || !a.says(p.t, map[string]string{"error": "*"}) || !strings.Contains(a.body, words) {
		p.t.Errorf("answer %d %s with Retry-After %q; want 503, seconds, and an error that says %q", a.status, a.body, a.header.Get("Retry-After"), words)
	}
}

// rawConn is a connection on which tests write requests by hand, complete or not.
type rawConn struct {
	net.Conn
	host string
	in   *bufio.Reader
}

func dialRaw(t *testing.T, addr, host string) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// Far below the server's time limit for a body, so that an answer that waits for the body comes too late.
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{conn, host, bufio.NewReader(conn)}
}

// send writes a request's head, and body after it. request is method and path.
func (c *rawConn) send(t *testing.T, request, body string, headers ...string) {
	t.Helper()
	head := request + " HTTP/1.1\r\nHost: " + c.host + "\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
}

func (c *rawConn) statusLine() (status int, line string, err error) {
	if line, err = c.in.ReadString('\n'); err != nil {
		return 0, line, err
	}
	_, err = fmt.Sscanf(line, "HTTP/1.1 %d", &status)
	return status, line, err
}

func (c *rawConn) answer(t *testing.T) answer {
	t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}
