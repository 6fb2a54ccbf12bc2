package tunneltest_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

func waitFor(t *testing.T, edge *tunneltest.Edge, ok func(urls []string, sessions int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), secondsOfATest)
	defer cancel()
	if err := edge.WaitFor(ctx, ok); err != nil {
		t.Fatal(err)
	}
}

func TestPublicTLS(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host+" "+r.Header.Get("X-Forwarded-Proto"))
	}, ngrok.WithURL("https://mine.example.com"))
	client := clientOf(t, edge)
	resp, body := get(t, client, "https://mine.example.com/")
	if body != "mine.example.com https" || resp.TLS == nil || resp.TLS.PeerCertificates[0].VerifyHostname("mine.example.com") != nil {
		t.Errorf("%q, TLS %v", body, resp.TLS)
	}
	if resp, body := get(t, client, "http://mine.example.com/"); body != "mine.example.com https" || resp.TLS != nil {
		t.Errorf("without TLS: %q, TLS %v", body, resp.TLS)
	}
	stranger, err := tls.Dial("tcp", edge.PublicTLSAddr(), &tls.Config{ServerName: "mine.example.com"})
	if err == nil {
		stranger.Close()
		t.Error("trusted without the edge's authority")
	}
}

// TestBlackHole shows three things: the agent notices a black hole only by its heartbeats, the edge refuses the dead session's URL to
// other agents, and the same agent gets the URL back.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{MaxSessions: 2})
	// A busy machine may take seconds to answer a heartbeat, and for what is asked below before the agent notices.
	agent, ctx := agentFor(t, edge, tunneltest.DefaultToken, ngrok.WithHeartbeatInterval(100*time.Millisecond), ngrok.WithHeartbeatTolerance(3*time.Second))
	l, err := agent.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") })}
	defer server.Close()
	go server.Serve(l)
	client := clientOf(t, edge)
	if _, body := get(t, client, "https://"+edge.Domain()); body != "here" {
		t.Fatalf("answer %q", body)
	}

	edge.BlackHole(true)
	brief, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(brief, http.MethodGet, "https://"+edge.Domain(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		if err == nil {
			resp.Body.Close()
		}
		t.Errorf("through the hole: %v", err)
	}
	if now, _ := edge.Sessions(); now != 1 || len(edge.URLs()) != 1 {
		t.Errorf("the edge has noticed: %d sessions, %q", now, edge.URLs())
	}
	edge.BlackHole(false)

	stranger, strange := agentFor(t, edge, tunneltest.DefaultToken)
	_, err = stranger.Listen(strange, ngrok.WithURL("https://"+edge.Domain()))
	var refused ngrok.Error
	if !errors.As(err, &refused) || refused.Code() != "ERR_NGROK_334" {
		t.Errorf("another agent: %v", err)
	}
	waitFor(t, edge, func(_ []string, sessions int) bool { _, total := edge.Sessions(); return total >= 3 && sessions == 2 })
	waitFor(t, edge, func(urls []string, _ int) bool { return len(urls) == 1 })
	if _, body := get(t, client, "https://"+edge.Domain()); body != "here" {
		t.Errorf("answer %q", body)
	}
}

// TestBlackHoleEnds shows that Close does not wait for connections in a black hole.
func TestBlackHoleEnds(t *testing.T) {
	t.Parallel()
	edge, err := tunneltest.StartEdge(tunneltest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listen(t, edge, func(http.ResponseWriter, *http.Request) {})
	edge.BlackHole(true)
	began := time.Now()
	if err := edge.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestSessionLife(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	edge.SessionLife(20 * time.Millisecond)
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") })
	waitFor(t, edge, func([]string, int) bool { _, total := edge.Sessions(); return total >= 4 })
	edge.Heal()
	waitFor(t, edge, func(urls []string, _ int) bool { return len(urls) == 1 })
}

func TestCuts(t *testing.T) {
	t.Parallel()
	const whole = 100_000
	type arrival struct {
		n   int64
		err error
	}
	for _, test := range []struct {
		name            string
		scheme          string
		chunked         bool
		requests        int64 // cut after so many bytes; negative: never
		answers         int64
		arrives, answer int64
		cut             bool
	}{
		{name: "request", requests: 70_000, answers: -1, arrives: 70_000, cut: true},
		{name: "request at once", requests: 0, answers: -1, cut: true},
		{name: "request that is shorter", requests: whole, answers: -1, arrives: whole, answer: whole},
		{name: "request in chunks", chunked: true, requests: 70_000, answers: -1, arrives: -1, cut: true},
		{name: "answer", requests: -1, answers: 70_000, arrives: whole, answer: 70_000, cut: true},
		{name: "answer at once", requests: -1, answers: 0, arrives: whole, cut: true},
		{name: "answer that is shorter", requests: -1, answers: whole, arrives: whole, answer: whole},
		{name: "answer without TLS", scheme: "http://", requests: -1, answers: 70_000, arrives: whole, answer: 70_000, cut: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			arrived := make(chan arrival, 1)
			listen(t, edge, func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				arrived <- arrival{n, err}
				w.Header().Set("Content-Length", fmt.Sprint(whole))
				w.WriteHeader(http.StatusEarlyHints)
				io.WriteString(w, strings.Repeat("a", whole))
			})
			client := clientOf(t, edge)
			if test.requests >= 0 {
				edge.CutRequests(test.requests, 1)
			}
			if test.answers >= 0 {
				edge.CutAnswers(test.answers, 1)
			}
			scheme := cmp.Or(test.scheme, "https://")
			post := func() (int64, error) {
				body := io.Reader(strings.NewReader(strings.Repeat("q", whole)))
				if test.chunked {
					body = io.MultiReader(body)
				}
				resp, err := client.Post(scheme+edge.Domain(), "text/plain", body)
				if err != nil {
					return 0, err
				}
				defer resp.Body.Close()
				return io.Copy(io.Discard, resp.Body)
			}
			n, err := post()
			if n != test.answer || (err != nil) != test.cut {
				t.Errorf("the client got %d bytes, %v", n, err)
			}
			a := <-arrived
			if test.arrives < 0 {
				// The sizes of chunks count, too.
				if a.n == 0 || a.n >= test.requests || a.err == nil {
					t.Errorf("the handler got %d bytes, %v", a.n, a.err)
				}
			} else if a.n != test.arrives || (a.err != nil) != (test.arrives < whole) {
				t.Errorf("the handler got %d bytes, %v", a.n, a.err)
			}
			// Cut once, and not twice.
			edge.Heal()
			if n, err := post(); n != whole || err != nil {
				t.Errorf("afterwards: %d bytes, %v", n, err)
			}
			<-arrived
		})
	}
}

func TestCutsAreCounted(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "an answer") })
	client := clientOf(t, edge)
	edge.CutAnswers(3, 2)
	for i, want := range []string{"an ", "an ", "an answer", "an answer"} {
		resp, err := client.Get("https://" + edge.Domain())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != want {
			t.Errorf("answer %d: %q, want %q", i+1, body, want)
		}
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") })
	proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{
		User: "me", Password: "pass+word",
		Hosts: map[string]string{"public.example.com:443": edge.PublicTLSAddr()},
	})
	client := func(via string) *http.Client {
		c := clientOf(t, edge)
		transport := c.Transport.(*http.Transport)
		transport.DialContext = nil
		transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(via) }
		return c
	}
	wrong := proxy.URL()
	wrong.User = nil
	for _, test := range []struct{ via, want string }{
		{proxy.URL().String(), ""},
		{proxy.SOCKSURL().String(), ""},
		{wrong.String(), "Proxy Authentication Required"},
		{"socks5h://me:wrong@" + wrong.Host, "authentication failed"},
		{"socks5h://" + wrong.Host, "no acceptable authentication methods"},
	} {
		resp, err := client(test.via).Get("https://public.example.com/")
		if err == nil {
			resp.Body.Close()
		}
		if test.want == "" && (err != nil || resp.StatusCode != http.StatusNotFound) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.via, err, test.want)
		}
	}
	if got, want := fmt.Sprint(proxy.Asked()), "[public.example.com:443 public.example.com:443 public.example.com:443]"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	proxy.Refuse(http.StatusForbidden)
	for _, via := range []string{proxy.URL().String(), proxy.SOCKSURL().String()} {
		if resp, err := client(via).Get("https://public.example.com/"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: let through", via)
		}
	}
	proxy.Refuse(0)
	c := client(proxy.URL().String())
	get(t, c, "https://"+edge.PublicTLSAddr())
	proxy.Drop()
	proxy.Hang(true)
	conn, err := net.Dial("tcp", wrong.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT x.example.com:443 HTTP/1.1\r\nHost: x.example.com:443\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("answered while it hangs: %d %v", n, err)
	}
}
