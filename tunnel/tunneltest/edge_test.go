package tunneltest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

const secondsOfATest = time.Minute

// agentFor returns an agent of the SDK that connects to the edge, and the context of its session.
func agentFor(t testing.TB, edge *tunneltest.Edge, token string, options ...ngrok.AgentOption) (ngrok.Agent, context.Context) {
	t.Helper()
	agent, err := ngrok.NewAgent(append([]ngrok.AgentOption{
		ngrok.WithAgentConnectURL(edge.Addr()),
		ngrok.WithAgentConnectCAs(edge.CAs()),
		ngrok.WithAuthtoken(token),
		ngrok.WithLogger(slog.New(slog.DiscardHandler)),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		agent.Disconnect()
	})
	return agent, ctx
}

// listen binds an endpoint and serves h on it.
func listen(t testing.TB, edge *tunneltest.Edge, h http.HandlerFunc, options ...ngrok.EndpointOption) ngrok.EndpointListener {
	t.Helper()
	agent, ctx := agentFor(t, edge, tunneltest.DefaultToken)
	l, err := agent.Listen(ctx, options...)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	t.Cleanup(func() { server.Close() })
	go server.Serve(l)
	return l
}

func clientOf(t testing.TB, edge *tunneltest.Edge) *http.Client {
	client := edge.Client()
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func get(t testing.TB, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// refusal returns the error of the first try to connect; the SDK by itself would try for ever.
func refusal(t *testing.T, edge *tunneltest.Edge, token string) string {
	t.Helper()
	failed := make(chan error, 100)
	agent, ctx := agentFor(t, edge, token, ngrok.WithEventHandler(func(e ngrok.Event) {
		if e, ok := e.(*ngrok.EventAgentDisconnected); ok && e.Error != nil {
			select {
			case failed <- e.Error:
			default:
			}
		}
	}))
	ctx, cancel := context.WithCancel(ctx)
	connected := make(chan error, 1)
	go func() { connected <- agent.Connect(ctx) }()
	select {
	case err := <-failed:
		cancel()
		<-connected
		return err.Error()
	case err := <-connected:
		cancel()
		t.Fatalf("connected: %v", err)
	case <-time.After(secondsOfATest):
		cancel()
		t.Fatal("nothing happened")
	}
	return ""
}

func TestTokens(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{Tokens: []string{"one_token", "another_token"}})
	for token, want := range map[string]string{
		"":                         "ERR_NGROK_4018",
		"wrong_token":              "Your authtoken: wrong_token\n\nERR_NGROK_107",
		"$NGROK_AUTHTOKEN":         "Your authtoken: $NGROK_AUTHTOKEN\n\nERR_NGROK_105",
		tunneltest.DefaultToken:    "ERR_NGROK_107",
		"another_token and a word": "ERR_NGROK_105",
	} {
		if got := refusal(t, edge, token); !strings.Contains(got, want) {
			t.Errorf("token %q: %q, want %q in it", token, got, want)
		}
	}
	for _, token := range []string{"one_token", "another_token"} {
		agent, ctx := agentFor(t, edge, token)
		if err := agent.Connect(ctx); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if now, total := edge.Sessions(); now != 2 || total != 2 {
		t.Errorf("%d sessions now, %d in all", now, total)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{Domain: "dev.example.app", Domains: []string{"mine.example.com"}})
	hello := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }
	}
	if l := listen(t, edge, hello("assigned")); l.URL().String() != "https://dev.example.app" {
		t.Errorf("assigned %s", l.URL())
	}
	if l := listen(t, edge, hello("wanted"), ngrok.WithURL("https://mine.example.com")); l.URL().String() != "https://mine.example.com" {
		t.Errorf("got %s", l.URL())
	}
	if got, want := fmt.Sprint(edge.URLs()), "[https://dev.example.app https://mine.example.com]"; got != want {
		t.Errorf("URLs %s, want %s", got, want)
	}
	client := clientOf(t, edge)
	if _, body := get(t, client, "https://dev.example.app/"); body != "assigned" {
		t.Errorf("the assigned URL leads to %q", body)
	}
	if _, body := get(t, client, "https://MINE.example.com/"); body != "wanted" {
		t.Errorf("the wanted URL leads to %q", body)
	}
	if resp, body := get(t, client, "https://nobody.example.com/"); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "ERR_NGROK_3200") || resp.Header.Get("Ngrok-Error-Code") != "ERR_NGROK_3200" {
		t.Errorf("a URL that is not online: %d %q", resp.StatusCode, body)
	}
	for url, code := range map[string]string{
		"https://theirs.example.com": "ERR_NGROK_319",
		"https://mine.example.com":   "ERR_NGROK_334",
		"https://dev.example.app":    "ERR_NGROK_334",
	} {
		agent, ctx := agentFor(t, edge, tunneltest.DefaultToken)
		_, err := agent.Listen(ctx, ngrok.WithURL(url))
		var e ngrok.Error
		if !errors.As(err, &e) || e.Code() != code {
			t.Errorf("%s: %v, want %s", url, err, code)
		}
	}
}

// TestOnlyEndpoint has requests that name the public address of the edge and not the endpoint's.
func TestOnlyEndpoint(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	if _, body := get(t, clientOf(t, edge), "http://"+edge.PublicAddr()+"/"); body != edge.PublicAddr() {
		t.Errorf("answer %q", body)
	}
}

// TestForms sends requests in the forms that clients may write, and checks what arrives.
func TestForms(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %q %v for=%q proto=%q host=%q trailer=%q odd=%q",
			r.Method, r.RequestURI, body, err, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Trailer.Get("Sum"), r.Header["Odd-Name"])
	})
	const host = "Host: " + tunneltest.DefaultDomain + "\r\n"
	const plain = `for="127.0.0.1" proto="https" host="` + tunneltest.DefaultDomain + `" `
	conn, err := net.Dial("tcp", edge.PublicAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for _, test := range []struct{ name, request, want string }{
		{"no body", "GET /a?b=%20c HTTP/1.1\r\n" + host + "\r\n", `GET /a?b=%20c "" <nil> ` + plain + `trailer="" odd=[]`},
		{"with length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", `POST / "hello" <nil> ` + plain + `trailer="" odd=[]`},
		{"empty line first", "\r\nPUT / HTTP/1.1\r\nodd-name:  x \r\n" + host + "content-length:1\r\n\r\nz", `PUT / "z" <nil> ` + plain + `trailer="" odd=["x"]`},
		{
			"chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nSum: 11\r\n\r\n",
			`POST / "hello world" <nil> ` + plain + `trailer="11" odd=[]`,
		},
		{
			"forwarded before", "GET / HTTP/1.1\r\n" + host + "x-forwarded-for: 9.9.9.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil\r\n\r\n",
			`GET / "" <nil> for="9.9.9.9, 127.0.0.1" proto="http, https" host="` + tunneltest.DefaultDomain + `" trailer="" odd=[]`,
		},
	} {
		if _, err := io.WriteString(conn, test.request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != test.want {
			t.Errorf("%s: %v\n got %s\nwant %s", test.name, err, body, test.want)
		}
	}
}

// TestStreams has answers that come in pieces, and a client that goes away before the last.
func TestStreams(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	gone := make(chan struct{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	client := clientOf(t, edge)
	resp, err := client.Get("https://" + edge.Domain())
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "first\n" {
		t.Errorf("%q %v", line, err)
	}
	resp.Body.Close()
	select {
	case <-gone:
	case <-time.After(secondsOfATest):
		t.Error("the server was not told that the client has gone")
	}
}

func TestServerCutsConnection(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if resp, body := get(t, clientOf(t, edge), "https://"+edge.Domain()); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestDropAndRefuse(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") })
	client := clientOf(t, edge)
	ctx, cancel := context.WithTimeout(context.Background(), secondsOfATest)
	defer cancel()
	online := func(urls []string, _ int) bool { return len(urls) == 1 }
	away := func(urls []string, sessions int) bool { return len(urls) == 0 && sessions == 0 }

	back := make(chan struct{})
	edge.RefuseUntil(func() bool {
		select {
		case <-back:
			return true
		default:
			return false
		}
	})
	if err := edge.WaitFor(ctx, away); err != nil {
		t.Fatal(err)
	}
	if resp, _ := get(t, client, "https://"+edge.Domain()); resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d while nothing is connected", resp.StatusCode)
	}
	close(back)
	if err := edge.WaitFor(ctx, online); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, client, "https://"+edge.Domain()); body != "here" {
		t.Errorf("answer %q", body)
	}
	_, before := edge.Sessions()
	edge.Drop()
	if err := edge.WaitFor(ctx, func(urls []string, _ int) bool {
		_, total := edge.Sessions()
		return total > before && len(urls) == 1
	}); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, client, "https://"+edge.Domain()); body != "here" {
		t.Errorf("answer %q", body)
	}
}

// TestFrozenHeartbeats shows that the SDK gives a frozen session up and that the edge takes it back.
func TestFrozenHeartbeats(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	agent, ctx := agentFor(t, edge, tunneltest.DefaultToken, ngrok.WithHeartbeatInterval(50*time.Millisecond), ngrok.WithHeartbeatTolerance(100*time.Millisecond))
	if err := agent.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	edge.FreezeHeartbeats(true)
	wait, cancel := context.WithTimeout(ctx, secondsOfATest)
	defer cancel()
	if err := edge.WaitFor(wait, func([]string, int) bool { _, total := edge.Sessions(); return total >= 2 }); err != nil {
		t.Error(err)
	}
	edge.FreezeHeartbeats(false)
}

func TestLatency(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	listen(t, edge, func(http.ResponseWriter, *http.Request) {})
	edge.Latency(150 * time.Millisecond)
	began := time.Now()
	get(t, clientOf(t, edge), "https://"+edge.Domain())
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func TestStopEndpoint(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	agent, ctx := agentFor(t, edge, tunneltest.DefaultToken)
	l, err := agent.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := edge.StopEndpoint(l.URL().String(), "ERR_NGROK_9998", "Stopped by an operator."); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil || !strings.Contains(err.Error(), "Stopped by an operator.") {
		t.Errorf("Accept: %v", err)
	}
	if err := edge.StopEndpoint(l.URL().String(), "", ""); err == nil {
		t.Error("stopped twice")
	}
}

func TestWriteConfig(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	path := filepath.Join(t.TempDir(), "ngrok", "ngrok.yml")
	if err := edge.WriteConfig(path, "a: token"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("version: \"3\"\nagent:\n    authtoken: 'a: token'\n    connect_url: %s\n    connect_cas: %s\n", edge.Addr(), edge.CAFile())
	if string(text) != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	if err := edge.WriteConfig(filepath.Join(path, "below"), ""); err == nil {
		t.Error("a file below a file was written")
	}
}

// TestCloseCutsAll shows that nothing of the edge outlives Close, hanging connections included.
func TestCloseCutsAll(t *testing.T) {
	t.Parallel()
	edge, err := tunneltest.StartEdge(tunneltest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listen(t, edge, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	public, err := net.Dial("tcp", edge.PublicAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer public.Close()
	fmt.Fprintf(public, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\nhalf", edge.Domain())
	edge.Hang(true)
	hanging, err := net.Dial("tcp", edge.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	if err := edge.Close(); err != nil {
		t.Error(err)
	}
	for _, conn := range []net.Conn{public, hanging} {
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("still open: %v", conn.LocalAddr())
		}
	}
	if _, err := os.Stat(edge.CAFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the CA file: %v", err)
	}
}
