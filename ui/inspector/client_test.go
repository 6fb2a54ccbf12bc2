package inspector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/queue"
)

func TestClientTakesThePrintedURL(t *testing.T) {
	f := newFixture(t)
	c := NewClient(Address{URL: f.server.URL, Token: testToken}.Page(), "")
	defer c.http.CloseIdleConnections()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientErrors(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		name   string
		call   func() error
		status int
		say    string
	}{
		{"unknown delivery", func() error { _, err := f.client.Get(t.Context(), "..?token=x"); return err }, 404, "no such delivery"},
		{"unknown delivery to replay", func() error { _, err := f.client.Replay(t.Context(), "nonsense", nil); return err }, 404, "no such delivery"},
		{"unknown delivery to discard", func() error { return f.client.Discard(t.Context(), "nonsense") }, 404, "no such delivery"},
		{"unknown endpoint", func() error {
			_, err := f.client.Trigger(t.Context(), api.Trigger{Endpoint: "nobody", Scope: "repo"})
			return err
		}, 404, `no endpoint is named "nobody"`},
		{"wrong limit", func() error { _, err := f.client.List(t.Context(), queue.Filter{Limit: 5000}); return err }, 400, "from 1 to 1000"},
		{"wrong token", func() error {
			c := NewClient(f.server.URL, "hush")
			defer c.http.CloseIdleConnections()
			_, err := c.Status(t.Context())
			return err
		}, 401, "token"},
		{"wrong token for a stream", func() error {
			c := NewClient(f.server.URL, "hush")
			defer c.http.CloseIdleConnections()
			return c.Stream(t.Context(), func(StreamEvent) { t.Error("an event came") })
		}, 401, "token"},
	} {
		err := c.call()
		var status *StatusError
		if !errors.As(err, &status) || status.Status != c.status || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want status %d and %q", c.name, err, c.status, c.say)
		}
	}
}

func TestClientWithoutAServer(t *testing.T) {
	free, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + free
	_, err = NewClient(address, "hush").Status(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), address) || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v, want ErrNotRunning and the address, not the token", err)
	}
}

func TestClientOfAnAddressThatIsNone(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:7861", "localhost:7861", "ftp://localhost", "http://", "http://[/?token=hush"} {
		_, err := NewClient(address, "").Status(t.Context())
		if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:7861") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want an error with an example and without the token", address, err)
		}
	}
}

func TestClientOfAnotherServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/status":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		case "/api/deliveries":
			io.WriteString(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	c := NewClient(server.URL, testToken)
	defer c.http.CloseIdleConnections()
	var status *StatusError
	if _, err := c.Status(t.Context()); !errors.As(err, &status) || status.Status != 302 || !strings.Contains(err.Error(), "is this the inspector's address?") {
		t.Errorf("a redirect: %v", err)
	}
	if _, err := c.Get(t.Context(), "x"); !errors.As(err, &status) || status.Status != 404 || !strings.Contains(err.Error(), "is this the inspector's address?") {
		t.Errorf("a 404 of another server: %v", err)
	}
	if _, err := c.List(t.Context(), queue.Filter{}); err == nil || !strings.Contains(err.Error(), "reading the answer") {
		t.Errorf("HTML: %v", err)
	}
}

func TestClientGivesUpASilentStream(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, ": nothing follows\n\n")
		http.NewResponseController(w).Flush()
		<-release
	}))
	defer server.Close()
	defer close(release)
	c := NewClient(server.URL, testToken)
	defer c.http.CloseIdleConnections()
	c.silence = 50 * time.Millisecond
	if err := c.Stream(t.Context(), func(StreamEvent) {}); err == nil || !strings.Contains(err.Error(), "has sent nothing for 50ms") {
		t.Errorf("%v, want that nothing came", err)
	}
}

func TestClientKeepsAStreamThatBeats(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		f.inspector.pace.heartbeat, f.inspector.pace.flush = time.Millisecond, time.Millisecond
	})
	f.client.silence = 300 * time.Millisecond
	until := time.AfterFunc(3*f.client.silence, f.inspector.Close)
	defer until.Stop()
	if err := f.client.Stream(t.Context(), func(StreamEvent) {}); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want io.EOF: only the inspector's end ends it", err)
	}
}

func TestClientStreamEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	if err := f.client.Stream(ctx, func(e StreamEvent) { cancel(enough) }); !errors.Is(err, enough) {
		t.Errorf("%v, want the cause", err)
	}
}
