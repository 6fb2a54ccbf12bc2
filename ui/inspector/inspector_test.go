package inspector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// Every test closes what it opens, so a goroutine that is left is a leak.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testToken = "0123456789abcdef0123456789abcdef"

// patience bounds every wait of a test; a test that passes waits for less.
const patience = 20 * time.Second

// fixture is an inspector on a real queue, served on loopback. The endpoints of the queue are
//
//	inbox    done at once
//	failing  dead after one attempt
//	flaky    retrying, the next attempt an hour away
//	slow     running until it is cancelled or the test ends
type fixture struct {
	t         *testing.T
	queue     *queue.Queue
	inspector *Inspector
	server    *httptest.Server
	client    *Client
	release   chan struct{}      // closed: the handlers of slow return
	cancelled chan error         // why a handler of slow was cancelled
	triggers  []api.Trigger      // the calls of Trigger
	configure func(*http.Server) // before the server starts
}

func newFixture(t *testing.T, change ...func(*fixture)) *fixture {
	t.Helper()
	ctx := t.Context()
	q, err := queue.Open(ctx, queue.Config{Dir: t.TempDir(), Warn: func(err error) { t.Errorf("the queue warns: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		t:         t,
		queue:     q,
		release:   make(chan struct{}),
		cancelled: make(chan error, 16),
	}
	err = q.Start([]queue.Endpoint{
		{Name: "inbox"},
		{Name: "failing", Attempts: 1, Handle: func(context.Context, *queue.Claim) queue.Outcome {
			return queue.Outcome{Error: "no such <dataset>", Output: []byte("line one\nline two\n")}
		}},
		{Name: "flaky", Attempts: 5, FirstWait: time.Hour, MaxWait: time.Hour, Handle: func(context.Context, *queue.Claim) queue.Outcome {
			return queue.Outcome{Error: "not yet"}
		}},
		{Name: "slow", Attempts: 1, Handle: func(ctx context.Context, _ *queue.Claim) queue.Outcome {
			select {
			case <-ctx.Done():
				f.cancelled <- context.Cause(ctx)
				return queue.Outcome{Error: "cancelled"}
			case <-f.release:
				return queue.Outcome{Result: []byte(`{"trained":true}`)}
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.inspector = New(Config{
		Queue:   q,
		Token:   testToken,
		Replay:  f.replay,
		Trigger: f.trigger,
		Status: func(context.Context) (api.Status, error) {
			return api.Status{
				Version:   "1.2.3",
				PID:       os.Getpid(),
				Started:   api.Time{Time: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)},
				Addresses: api.Addresses{Local: "http://127.0.0.1:7860", Public: "https://example.ngrok.app"},
				Tunnel:    &api.Tunnel{Provider: "ngrok", Phase: "online", URL: "https://example.ngrok.app"},
				Endpoints: []api.Endpoint{{Name: "inbox", URL: "https://example.ngrok.app/webhooks/inbox"}},
			}, nil
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hubhook_up 1\n") }),
	})
	for _, c := range change {
		c(f)
	}
	f.server = httptest.NewUnstartedServer(f.inspector)
	if f.configure != nil {
		f.configure(f.server.Config)
	}
	f.server.Start()
	f.client = NewClient(f.server.URL, testToken)
	t.Cleanup(func() {
		f.inspector.Close()
		f.server.Close()
		f.client.http.CloseIdleConnections()
		f.server.Client().CloseIdleConnections()
		close(f.release)
		stop, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(q.Drain(stop), q.Close()); err != nil {
			t.Errorf("closing the queue: %v", err)
		}
	})
	return f
}

// replay stores the delivery again, as a server does.
func (f *fixture) replay(ctx context.Context, id string, body []byte) (string, error) {
	record, err := f.queue.Get(ctx, id)
	if err != nil {
		return "", err
	}
	if body == nil {
		body = record.Body
	}
	receipt, err := f.queue.Accept(ctx, queue.Arrival{Endpoint: record.Endpoint, WebhookID: record.WebhookID, Header: record.Header, Body: body, ReplayOf: id})
	if err != nil {
		return "", err
	}
	return receipt.ID, nil
}

// trigger stores a sample event, as a server does.
func (f *fixture) trigger(ctx context.Context, t api.Trigger) (string, error) {
	f.triggers = append(f.triggers, t)
	if t.Endpoint != "inbox" {
		return "", &Refusal{http.StatusNotFound, fmt.Errorf("no endpoint is named %q", t.Endpoint)}
	}
	sample, err := payload.Sample(payload.Scope(t.Scope), payload.Action(t.Action), t.Set)
	if err != nil {
		return "", &Refusal{http.StatusUnprocessableEntity, err}
	}
	receipt, err := f.queue.Accept(ctx, queue.Arrival{Endpoint: t.Endpoint, Body: sample.Raw(), Scope: t.Scope, Action: t.Action, Synthetic: true})
	if err != nil {
		return "", err
	}
	return receipt.ID, nil
}

// accept stores a delivery. It waits until the first attempt has ended, except at slow.
func (f *fixture) accept(a queue.Arrival) string {
	f.t.Helper()
	receipt, err := f.queue.Accept(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	if a.Endpoint != "slow" {
		select {
		case <-receipt.Done():
		case <-time.After(patience):
			f.t.Fatalf("delivery %s to %s has not ended", receipt.ID, a.Endpoint)
		}
	}
	return receipt.ID
}

// arrival returns the arrival of a payload of the Hub's.
func arrival(t *testing.T, endpoint, file string) queue.Arrival {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "..", "payload", "testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	p, err := payload.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return queue.Arrival{
		Endpoint:  endpoint,
		WebhookID: "hub-" + endpoint + "-" + file,
		Header:    http.Header{"Content-Type": {"application/json"}, "X-Webhook-Secret": {"[redacted]"}},
		Body:      body,
		Scope:     string(p.Event.Scope),
		Action:    string(p.Event.Action),
		RepoType:  string(p.Repo.Type),
		RepoName:  p.Repo.Name,
	}
}

// request sends one request with the token, changed by change, and returns the answer with its body.
func (f *fixture) request(method, path, body string, change ...func(*http.Request)) (*http.Response, string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testToken)
	for _, c := range change {
		c(request)
	}
	response, err := f.client.http.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response, string(text)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "Config.Queue") {
			t.Errorf("New without a queue panics with %q, want the field's name in it", text)
		}
	}()
	New(Config{})
}
