//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// Messages that two readers may cut differently, each followed by a second request on the same connection. A proxy before hubhook may take the
// second for a part of the first, and let a request through that it has not checked. So either hubhook closes the connection and never looks
// at the second, or there is one way only to read both.
func TestSmuggledRequests(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	p, public := viaEdge(t, newHome(t), edge, hubhook)
	host := strings.TrimPrefix(public, "https://")
	body := strings.TrimSpace(push(t))
	length := fmt.Sprintf("Content-Length: %d", len(body))
	const chunked = "Transfer-Encoding: chunked"
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)

	var wrong []string // Webhook-Ids of requests that must not be stored
	t.Run("messages", func(t *testing.T) {
		for _, message := range []struct {
			name, rest string
			headers    []string
			plain      bool // there is one way to read it, and the second request is one
		}{
			{"a length and chunks", chunks, []string{fmt.Sprintf("Content-Length: %d", len(chunks)), chunked}, false},
			{"a length beyond the chunks", chunks, []string{chunked, "Content-Length: 99999"}, false},
			{"chunks", chunks, []string{chunked}, false},
			{"chunks with a trailer", strings.TrimSuffix(chunks, "\r\n") + "Content-Length: 7\r\n\r\n", []string{chunked}, false},
			{"chunks in a folded line", chunks, []string{"Transfer-Encoding:\r\n chunked", length}, false},
			{"two lengths", body, []string{length, "Content-Length: 99999"}, false},
			{"a list of lengths", body, []string{length + fmt.Sprintf(", %d", len(body))}, false},
			{"a length with a sign", body, []string{fmt.Sprintf("Content-Length: +%d", len(body))}, false},
			{"a negative length", body, []string{"Content-Length: -1"}, false},
			{"two encodings", chunks, []string{chunked, "Transfer-Encoding: identity"}, false},
			{"chunked twice", chunks, []string{chunked, chunked}, false},
			{"a list of encodings", chunks, []string{"Transfer-Encoding: gzip, chunked"}, false},
			{"an unknown encoding", body, []string{"Transfer-Encoding: xchunked", length}, false},
			{"a space before the colon", body, []string{"Transfer-Encoding : chunked", length}, false},
			{"a vertical tab", body, []string{"Transfer-Encoding:\x0bchunked", length}, false},
			{"a NUL", body, []string{"X: a\x00b", length}, false},
			{"a lone CR", body, []string{"X: a\r" + chunked, length}, false},
			{"two hosts", body, []string{"Host: other.example", length}, false},
			{"a chunk beyond 64 bits", "10000000000000002\r\n" + body, []string{chunked}, false},
			{"a hexadecimal prefix", "0x" + chunks, []string{chunked}, false},
			{"a chunk that does not end", strings.Replace(chunks, "\r\n0\r\n", "XX0\r\n", 1), []string{chunked}, false},
			{"an extension with a lone LF", fmt.Sprintf("%x;\n%s\r\n0\r\n\r\n", len(body), body), []string{chunked}, false},
			{"the same length twice", body, []string{length, length}, true},
			{"a folded line", body, []string{"X: y\r\n " + chunked, length}, true},
			{"an upgrade", body, []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", length}, true},
		} {
			for side, addr := range map[string]string{"local": strings.TrimPrefix(p.base, "http://"), "tunnel": edge.PublicAddr()} {
				id := strings.ReplaceAll(message.name, " ", "-") + "-" + side
				if !message.plain {
					wrong = append(wrong, id)
				}
				t.Run(id, func(t *testing.T) {
					t.Parallel()
					c := dialRaw(t, addr, host)
					c.send(t, "POST /webhooks/inbox", message.rest, message.headers...)
					// An error means that the connection is closed already.
					fmt.Fprintf(c, "POST /webhooks/inbox HTTP/1.1\r\nHost: %s\r\nWebhook-Id: %s\r\n%s\r\nConnection: close\r\n\r\n%s", host, id, length, body)
					if _, err := io.ReadAll(c.in); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("the connection stays open")
					}
				})
			}
		}
	})
	seen := 0
	for _, d := range p.list("") {
		if slices.Contains(wrong, d.WebhookID) {
			t.Errorf("the second request of %s was let through", d.WebhookID)
		} else if d.WebhookID != "" {
			seen++
		}
	}
	if seen != 6 {
		t.Errorf("%d second requests of messages with one reading were let through; want 6", seen)
	}
}

// A path names an endpoint, or nothing. No way of writing it leads to another place, to a redirect or into a header.
func TestPathsThatTryOtherWays(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	p, public := viaEdge(t, newHome(t), edge, bot)
	body := push(t)
	for _, side := range []struct{ addr, host string }{{strings.TrimPrefix(p.base, "http://"), "127.0.0.1"}, {edge.PublicAddr(), strings.TrimPrefix(public, "https://")}} {
		for path, want := range map[string]int{
			"/webhooks/kept":                          200,
			"//webhooks//kept//":                      200,
			"/webhooks/%6bept":                        200,
			"/webhooks%2fkept":                        200,
			"http://other.example/webhooks/kept":      0, // the edge looks for that host
			"/webhooks/kept%00":                       404,
			"/webhooks/kept%2f%2e%2e%2fnothing":       404,
			"/webhooks/../webhooks/kept":              404,
			"/webhooks/./kept":                        404,
			"/webhooks/%2e%2e/%2e%2e/etc/passwd":      404,
			"/webhooks/kept;a=b":                      404,
			"/webhooks/KEPT":                          404,
			"/WEBHOOKS/kept":                          404,
			`/webhooks\kept`:                          404,
			`/webhooks/..\..\kept`:                    404,
			"/webhooks/kept%0d%0aSet-Cookie:%20a=b":   404,
			"/webhooks/%F0%9F%92%A5%e2%80%ae":         404,
			"/webhooks/" + strings.Repeat("a", 8<<10): 404,
			"/webhooks/" + strings.Repeat("../", 99):  404,
			"/webhooks/%zz":                           400,
			"/webhooks/ke pt":                         400,
			"/webhooks/kept\x01":                      400,
			"*":                                       404,
			"webhooks/kept":                           400,
		} {
			c := dialRaw(t, side.addr, side.host)
			c.send(t, "POST "+path, body, fmt.Sprintf("Content-Length: %d", len(body)), "Connection: close")
			response, err := http.ReadResponse(c.in, nil)
			if err != nil {
				t.Errorf("POST %.60q to %s: %v", path, side.host, err)
				continue
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if want != 0 && response.StatusCode != want || response.StatusCode >= 500 || err != nil {
				t.Errorf("POST %.60q to %s: %d %.200s (%v); want %d", path, side.host, response.StatusCode, text, err, want)
			}
			if response.Header.Get("Location") != "" || response.Header.Get("Set-Cookie") != "" || strings.Contains(string(text), "\u202e") || len(text) > 1<<10 {
				t.Errorf("POST %.60q to %s: headers %v, %.200q", path, side.host, response.Header, text)
			}
		}
	}
	for _, d := range p.list("") {
		if d.Endpoint != "kept" {
			t.Errorf("a delivery came to %q", d.Endpoint)
		}
	}
}

// A page whose name was made to lead to this machine (DNS rebinding) reaches nothing of the inspector, not even with the token.
func TestRebinding(t *testing.T) {
	t.Parallel()
	p := newHome(t).serve(t, bot, "--port", "0", "--inspector", "127.0.0.1:0", "--no-tunnel")
	id := p.post("kept", push(t)).delivery()
	address, token, _ := strings.Cut(strings.TrimPrefix(p.ready.InspectorURL, "http://"), "/?token=")
	_, port, _ := strings.Cut(address, ":")
	ask := func(method, path, host string, headers ...string) answer {
		c := dialRaw(t, address, host)
		c.send(t, method+" "+path, "", append(headers, "Authorization: Bearer "+token, "Content-Length: 0", "Connection: close")...)
		return c.answer(t)
	}
	if a := ask("GET", "/api/status", "localhost:"+port); a.status != 200 {
		t.Fatalf("GET /api/status of this machine: %d %s", a.status, a.body)
	}
	for _, host := range []string{"evil.example", "evil.example:" + port, "127.0.0.1.evil.example:" + port, "localhost.evil.example", "0.0.0.0:" + port, "127.0.0.1@evil.example", "[::ffff:8.8.8.8]:" + port, "localhost:" + port + "@evil", ""} {
		for _, request := range []string{"GET /", "GET /?token=" + token, "GET /api/deliveries", "GET /api/stream", "GET /metrics", "POST /api/deliveries/" + id + "/replay", "POST /api/trigger"} {
			method, path, _ := strings.Cut(request, " ")
			if a := ask(method, path, host); a.status != 403 && a.status != 400 || a.header.Get("Set-Cookie") != "" || strings.Contains(a.body, id) {
				t.Errorf("%s with the Host %q: %d %.200s", request, host, a.status, a.body)
			}
		}
	}
	for _, headers := range [][]string{{"Origin: http://evil.example"}, {"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site", "Origin: http://localhost:1"}, {"Origin: null"}} {
		if a := ask("POST", "/api/trigger", "127.0.0.1:"+port, headers...); a.status != 403 {
			t.Errorf("POST /api/trigger with %v: %d %.200s", headers, a.status, a.body)
		}
	}
	if n := len(p.list("")); n != 1 {
		t.Errorf("there are %d deliveries; want the one that was posted", n)
	}
}

// Strangers hold more connections than hubhook may have files. The rest of hubhook has files all the same: a command still runs. Once they
// leave, whoever waited is served.
func TestMoreConnectionsThanFiles(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.work(t, "hubhook.yaml", "endpoints: {inbox: {run: 'true', attempts: 1}}\n")
	const files = 80
	p := h.run(t, "sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" --json --port 0 --inspector 127.0.0.1:0 --no-tunnel --reply-within 25s`, files), hubhook)
	p.awaitReady()
	dial := func() *rawConn {
		c := dialRaw(t, strings.TrimPrefix(p.base, "http://"), "localhost")
		must(t, c.SetDeadline(time.Now().Add(patience)))
		return c
	}
	first := dial()
	body := push(t)
	deliver := func(c *rawConn) answer {
		c.send(t, "POST /webhooks/inbox", body, fmt.Sprintf("Content-Length: %d", len(body)))
		return c.answer(t)
	}
	if a := deliver(first); a.status != 200 {
		t.Fatalf("the first connection: %d %s", a.status, a.body)
	}
	var strangers []*rawConn
	for range files {
		c := dial()
		c.send(t, "GET /healthz", "")
		strangers = append(strangers, c)
	}
	served := strangers[:files/2-1] // and the first one
	for _, c := range served {
		if a := c.answer(t); a.status != 200 {
			t.Fatalf("a stranger is answered %d %s", a.status, a.body)
		}
	}
	if a := deliver(first); a.status != 200 {
		t.Errorf("beside the strangers a delivery is answered %d %s; want its command to run", a.status, a.body)
	}
	for _, c := range served {
		c.Close()
	}
	for _, c := range strangers[len(served):] {
		if a := c.answer(t); a.status != 200 {
			t.Fatalf("who waited is answered %d %s", a.status, a.body)
		}
		c.Close()
	}
	if a := deliver(first); a.status != 200 || strings.Contains(p.errs.String(), "too many open files") {
		t.Errorf("after the strangers a delivery is answered %d %s, and hubhook has said\n%s", a.status, a.body, p.errs)
	}
	p.stop()
}
