package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
	"github.com/hubhook/hubhook/ui/inspector"
)

// line is one line of JSON output.
type line map[string]any

func (l line) text(name string) string { text, _ := l[name].(string); return text }

// running is a server under Run.
type running struct {
	*Server
	lines <-chan line
	stop  func() error // ends Run and returns what it returned
}

// start runs a server until the test ends.
func start(t *testing.T, s *Server) *running {
	t.Helper()
	return startIn(t, context.Background(), s)
}

func startIn(t *testing.T, ctx context.Context, s *Server) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	r := &running{Server: s, lines: s.settings.Output.(*lineWriter).lines}
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Error("Run did not return within a minute")
			return nil
		}
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// wait returns the next line of the given type for which keep, unless it is nil, says yes.
func (r *running) wait(t *testing.T, kind string, keep func(line) bool) line {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case l := <-r.lines:
			if l.text("type") == kind && (keep == nil || keep(l)) {
				return l
			}
		case <-deadline:
			t.Fatalf("no line of type %s within a minute", kind)
		}
	}
}

type lineWriter struct {
	lines chan line
	in    *io.PipeWriter
}

func newLineWriter(t *testing.T) *lineWriter {
	out, in := io.Pipe()
	w := &lineWriter{lines: make(chan line, 1000), in: in}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			var l line
			if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
				t.Errorf("not a JSON line: %s", scan.Bytes())
			}
			w.lines <- l
		}
	}()
	t.Cleanup(func() { in.Close(); <-done })
	return w
}

func (w *lineWriter) Write(b []byte) (int, error) { return w.in.Write(b) }

func runConfig(t *testing.T) Config {
	return Config{Addr: "127.0.0.1:0", Inspector: "127.0.0.1:0", JSON: true, Output: newLineWriter(t)}
}

func TestRunServesAndStops(t *testing.T) {
	c := runConfig(t)
	c.Data = t.TempDir()
	s := newServer(t, c)
	release := make(chan struct{})
	s.Handle("slow", func(context.Context, *payload.Payload) (any, error) { <-release; return "finished", nil })
	r := start(t, s)
	ready := r.wait(t, "ready", nil)
	local := ready.text("local_url")
	if ready.text("public_url") != "" || !strings.HasPrefix(local, "http://127.0.0.1:") || ready["time"] == nil {
		t.Errorf("ready: %v", ready)
	}

	address, err := inspector.ReadAddress(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(c.Data, "inspector.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the address file: %v %v", info.Mode(), err)
	}
	client := inspector.NewClient(address.URL, address.Token)
	id, err := client.Trigger(context.Background(), api.Trigger{Scope: "repo.content"})
	if err != nil {
		t.Fatal(err)
	}
	if l := r.wait(t, "delivery", nil); l.text("id") != id || l["synthetic"] != true {
		t.Errorf("delivery line: %v", l)
	}
	status, err := client.Status(context.Background())
	if err != nil || status.Addresses.Local != local || status.Counts[string(queue.Running)] != 1 || len(status.Endpoints) != 1 {
		t.Errorf("status: %+v, %v", status, err)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get(local + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still ready 10 s after the end was asked for")
		}
		time.Sleep(time.Millisecond)
	}
	if got := post(t, local+"/webhooks/slow", push); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("while the handler finishes: %d %s", got.status, got.body)
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	if l := r.wait(t, "attempt", nil); l.text("delivery") != id || l.text("state") != "done" {
		t.Errorf("attempt line: %v", l)
	}
	if l := r.wait(t, "stopped", nil); l["unfinished"] != 0.0 {
		t.Errorf("stopped line: %v", l)
	}
	if _, err := os.Stat(filepath.Join(c.Data, "inspector.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the address file is still there: %v", err)
	}
}

func TestWhyADeliveryIsSkippedIsShown(t *testing.T) {
	const why = "the branch is dev, want main"
	c := runConfig(t)
	c.Data = t.TempDir()
	s := newServer(t, c)
	s.Handle("train", triggerTraining, WhenBecause(func(*payload.Payload) (bool, string) { return false, why }))
	r := start(t, s)
	got := post(t, r.wait(t, "ready", nil).text("local_url")+"/webhooks/train", push)
	if !got.is(map[string]string{"delivery": "*", "state": "skipped", "reason": why}) {
		t.Errorf("answer %s", got.body)
	}
	id := got.header.Get("Hubhook-Delivery")
	if l := r.wait(t, "attempt", nil); l.text("delivery") != id || l.text("state") != "skipped" || l.text("reason") != why || l.text("error") != "" {
		t.Errorf("attempt line: %v", l)
	}
	address, err := inspector.ReadAddress(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	client := inspector.NewClient(address.URL, address.Token)
	list, err := client.List(t.Context(), queue.Filter{})
	if err != nil || len(list.Deliveries) != 1 || list.Deliveries[0].Reason != why {
		t.Errorf("in the inspector's list: %+v, %v", list, err)
	}
	one, err := client.Get(t.Context(), id)
	if err != nil || one.State != string(queue.Skipped) || one.Reason != why {
		t.Errorf("in the inspector: %+v, %v", one.Delivery, err)
	}
}

func TestRunThroughATunnel(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	provider := func(token string) tunnel.Provider {
		return ngrok.New(ngrok.Config{Authtoken: token, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(),
			Getenv: func(string) string { return "" }, ConfigFile: os.DevNull})
	}
	c := runConfig(t)
	c.Provider = provider(tunneltest.DefaultToken)
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	ready := r.wait(t, "ready", nil)
	public := ready.text("public_url")
	if public == "" {
		t.Fatalf("ready: %v", ready)
	}
	send := func() *http.Response {
		resp, err := edge.Client().Post(public+"/webhooks/train", "application/json", strings.NewReader(push))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if resp := send(); resp.StatusCode != 200 {
		t.Errorf("through the tunnel: %s", resp.Status)
	}
	for _, path := range []string{"/api/deliveries", "/api/status", "/metrics", "/?token=x"} {
		resp, err := edge.Client().Get(public + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if strings.Contains(string(b), "deliveries\"") || path != "/?token=x" && resp.StatusCode != 404 {
			t.Errorf("GET %s through the tunnel: %s %s", path, resp.Status, b)
		}
	}
	edge.Drop()
	r.wait(t, "tunnel", func(l line) bool { return l.text("phase") == "online" || l.text("phase") == "url changed" })
	if resp := send(); resp.StatusCode != 200 {
		t.Errorf("after the drop: %s", resp.Status)
	}
}

func TestAWrongTokenIsSaidAndTheLocalServerServes(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	var said safeBuilder
	c := runConfig(t)
	c.Errors = &said
	c.Provider = ngrok.New(ngrok.Config{Authtoken: "2wrong_token", AuthtokenSource: "NGROK_AUTHTOKEN", ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(),
		Getenv: func(string) string { return "" }, ConfigFile: os.DevNull})
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	ready := r.wait(t, "ready", nil)
	if got := post(t, ready.text("local_url")+"/webhooks/train", push); got.status != 200 {
		t.Errorf("locally: %d %s", got.status, got.body)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	text := said.String()
	for _, want := range []string{"ERR_NGROK_", "NGROK_AUTHTOKEN", "hint:"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "2wrong_token") {
		t.Errorf("the token is told:\n%s", text)
	}
}

func TestRunFailsBeforeItOpensAPort(t *testing.T) {
	dir := t.TempDir()
	first := runConfig(t)
	first.Data = dir
	r := start(t, newServer(t, first))
	r.wait(t, "ready", nil)
	second := newServer(t, Config{Data: dir, Addr: "127.0.0.1:0"})
	err := second.Run(context.Background())
	var locked *queue.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || text.Hint(err) == "" {
		t.Errorf("Run: %v (hint %q)", err, text.Hint(err))
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	third := newServer(t, Config{Addr: taken.Addr().String()})
	if err := third.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "in use") || text.Hint(err) == "" {
		t.Errorf("Run on a port in use: %v (hint %q)", err, text.Hint(err))
	}
}

// A laptop that was offline at the start gets its public URL once it is not.
func TestATunnelThatCouldNotBeOpenedIsTriedAgain(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	c := tunnelConfig(t, edge)
	provider := &offline{Provider: c.Provider}
	provider.fail.Store(2)
	c.Provider, c.tunnelRetry, c.probeClient = provider, time.Millisecond, edge.Client()
	var said safeBuilder
	c.Errors = &said
	s := newServer(t, c)
	s.Handle("train", nil)
	r := start(t, s)
	if ready := r.wait(t, "ready", nil); ready.text("public_url") != "" {
		t.Errorf("ready: %v", ready)
	}
	l := r.wait(t, "tunnel", phase("online"))
	if l["endpoints"] == nil {
		t.Errorf("online: %v; want the endpoints to paste", l)
	}
	r.wait(t, "tunnel", phase(reachable))
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(said.String(), "no network"); n != 1 {
		t.Errorf("the cause is said %d times:\n%s", n, said.String())
	}
}

// offline fails some times, as without a network, before it opens.
type offline struct {
	tunnel.Provider
	fail atomic.Int32
}

func (o *offline) Open(ctx context.Context) (tunnel.Tunnel, error) {
	if o.fail.Add(-1) >= 0 {
		return nil, &tunnel.Error{Op: "open the ngrok tunnel", Cause: "no network", Fix: "connect", Temporary: true}
	}
	return o.Provider.Open(ctx)
}

func TestAnAddressThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	c := runConfig(t)
	c.Data, c.NoTunnel = t.TempDir(), true
	var said safeBuilder
	c.Errors = &said
	// A directory that is not empty can't be replaced by a file.
	inTheWay := filepath.Join(c.Data, "inspector.json")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, c)
	s.Handle("train", triggerTraining)
	r := start(t, s)
	ready := r.wait(t, "ready", nil)
	if got := post(t, ready.text("local_url")+"/webhooks/train", push); got.status != 200 {
		t.Errorf("without the address in its place: %d %s", got.status, got.body)
	}
	if !strings.Contains(said.String(), "inspector.json") || !strings.Contains(said.String(), "--server http://127.0.0.1:") {
		t.Errorf("it says %q", said.String())
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if address, err := inspector.ReadAddress(c.Data); err == nil && strings.HasPrefix(ready.text("inspector_url"), address.URL) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the address is %+v, %v", address, err)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(inTheWay); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end the address is still there: %v", err)
	}
}

func TestAskedToEndBeforeItIsReady(t *testing.T) {
	s := newServer(t, runConfig(t))
	s.Handle("train", triggerTraining)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v; want nil, as after any other end of its context", err)
	}
}
