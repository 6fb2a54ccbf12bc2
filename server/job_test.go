package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

// newJob returns a server in a Job that the Hub has started for push, and what it prints. Of the variables some may be others.
func newJob(t *testing.T, others map[string]string) (*Server, *bytes.Buffer) {
	t.Helper()
	vars := map[string]string{env.JobPayload: push, env.JobWebhookID: "wh_1", env.JobRepo: "me/data", env.JobRepoType: "dataset", env.WebhookSecret: "s3cret"}
	for name, value := range others {
		vars[name] = value
	}
	printed := new(bytes.Buffer)
	return newServer(t, Config{Getenv: variables(vars), Output: printed}), printed
}

func TestJobHandsItsDeliveryToTheHandler(t *testing.T) {
	s, printed := newJob(t, nil)
	s.Handle("train", func(ctx context.Context, p *payload.Payload) (any, error) {
		d, ok := DeliveryFrom(ctx)
		if !ok || d.ID != "wh_1" || d.WebhookID != "wh_1" || d.Endpoint != "train" || d.Attempt != 1 || d.Received.IsZero() || d.Header.Get("Webhook-Id") != "wh_1" {
			t.Errorf("DeliveryFrom: %+v, %v", d, ok)
		}
		if p.Repo.Name != "me/data" || string(p.Raw()) != push {
			t.Errorf("the payload: %s", p.Raw())
		}
		fmt.Fprintf(Output(ctx), "epoch 1\n%s", strings.Repeat("s3cret", 40<<10)) // more than is kept elsewhere
		return map[string]string{"with": "s3cret"}, nil
	})
	if err := s.RunJob(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(printed.String(), "\n")
	if len(lines) != 6 || !strings.HasPrefix(lines[0], "--> train  repo.content/update  dataset me/data") || lines[1] != "epoch 1" ||
		lines[2] != strings.Repeat("[secret]", 40<<10) || lines[3] != `{"with":"[secret]"}` || !strings.HasPrefix(lines[4], "<-- train  done in ") {
		t.Errorf("printed %.2000q", printed)
	}
	if err := s.RunJob(t.Context()); err == nil || !strings.Contains(err.Error(), "started already") {
		t.Errorf("a second time: %v", err)
	}
}

func TestJobFailsAsItsHandlerDoes(t *testing.T) {
	for name, c := range map[string]struct {
		handler Handler
		options []Option
		err     string // "" for none
		printed string
		calls   int
	}{
		"an error": {func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("no GPU, s3cret") }, nil,
			"endpoint x failed: no GPU, [secret]", "<-- x  dead after 1 attempt: no GPU, [secret]", 1},
		"attempts": {func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("no GPU") }, []Option{Retry(3, time.Hour)},
			"endpoint x failed in attempt 3 of 3: no GPU", "retrying in 5 min (attempt 3 of 3)", 3},
		"later": {func(ctx context.Context, _ *payload.Payload) (any, error) {
			if d, _ := DeliveryFrom(ctx); d.Attempt == 1 {
				return nil, errors.New("no GPU")
			}
			return nil, nil
		}, []Option{Retry(3, time.Hour)}, "", "<-- x  done in 0 ms (attempt 2)", 2},
		"a panic": {func(context.Context, *payload.Payload) (any, error) { panic("out of reach") }, nil,
			"endpoint x failed: panic: out of reach", "job_test.go:", 1},
		"no JSON": {func(context.Context, *payload.Payload) (any, error) { return func() {}, nil }, []Option{Retry(3, time.Hour)},
			"endpoint x failed in attempt 1 of 3: the handler is done, but", "<-- x  dead after 1 attempt", 1},
		"its goroutine's end": {func(context.Context, *payload.Payload) (any, error) { runtime.Goexit(); return nil, nil }, nil,
			"endpoint x failed: the handler ended its goroutine", "", 1},
		"its time": {func(ctx context.Context, _ *payload.Payload) (any, error) { <-ctx.Done(); return nil, ctx.Err() }, []Option{Timeout(time.Minute)},
			"endpoint x failed: timed out after 1m0s: ", "", 1},
		"a no": {func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("called") },
			[]Option{WhenBecause(func(*payload.Payload) (bool, string) { return false, "a dataset" })}, "", "<-- x  skipped: a dataset", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, printed := newJob(t, nil)
				calls := 0
				s.Handle("x", func(ctx context.Context, p *payload.Payload) (any, error) {
					calls++
					return c.handler(ctx, p)
				}, c.options...)
				err := s.RunJob(t.Context())
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if calls != c.calls || !strings.Contains(printed.String(), c.printed) || strings.Contains(printed.String(), "s3cret") {
					t.Errorf("%d calls, want %d; printed, want %q:\n%s", calls, c.calls, c.printed, printed)
				}
			})
		})
	}
}

// TestJobEndsWithItsContext cancels a handler that obeys, one that waits for its next attempt, and one that does not obey.
func TestJobEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			handler Handler
			err     string
			took    time.Duration
		}{
			{func(ctx context.Context, _ *payload.Payload) (any, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}, "endpoint x failed in attempt 1 of 2: the Job was asked to end", time.Minute},
			{func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("no GPU") }, "endpoint x failed, and the Job was ended before attempt 2 of 2: no GPU", time.Minute},
			{func(context.Context, *payload.Payload) (any, error) { time.Sleep(time.Hour); return nil, nil },
				"endpoint x: the handler still runs, 30s after it was asked to end", time.Minute + stopTime},
		} {
			s, _ := newJob(t, nil)
			s.Handle("x", c.handler, Retry(2, time.Hour))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			began := time.Now()
			if err := s.RunJob(ctx); err == nil || err.Error() != c.err || time.Since(began) != c.took {
				t.Errorf("error %v after %v, want %q after %v", err, time.Since(began), c.err, c.took)
			}
		}
		time.Sleep(time.Hour) // until the last handler has ended, too
	})
}

func TestJobThatCannotBeRunSaysWhy(t *testing.T) {
	handle := func(context.Context, *payload.Payload) (any, error) { return nil, nil }
	for _, c := range []struct {
		endpoints []string
		named     []string
		vars      map[string]string
		err, hint string // parts
	}{
		{nil, nil, nil, "no endpoint is registered", "Handle or Add"},
		{[]string{"a", "b"}, nil, nil, "there are several endpoints, and none is named", "endpoints here: a, b"},
		{[]string{"a", "b"}, []string{"c"}, nil, `no endpoint is called "c"`, "endpoints here: a, b"},
		{[]string{"a", "b"}, []string{"a", "b"}, nil, "2 endpoints are named, a, b", "endpoints here: a, b"},
		{[]string{"stored"}, nil, nil, "endpoint stored has no handler", "give it a handler"},
		{[]string{"a"}, nil, map[string]string{env.JobPayload: ""}, "WEBHOOK_PAYLOAD is not set", "set WEBHOOK_PAYLOAD"},
		{[]string{"a"}, nil, map[string]string{env.JobPayload: "{"}, "the payload in WEBHOOK_PAYLOAD can't be handled: not a JSON object", "hubhook trigger"},
		{[]string{"a"}, nil, map[string]string{env.JobPayload: "", env.JobPayloadFile: "/nothing"}, "read the payload that WEBHOOK_PAYLOAD_FILE names: open /nothing", ""},
		{[]string{"a"}, nil, map[string]string{env.JobPayload: `{"event":"update","scope":"repo"}`}, "can't be handled: webhook.version", "hubhook trigger"},
	} {
		s, printed := newJob(t, c.vars)
		for _, name := range c.endpoints {
			if name == "stored" {
				s.Handle(name, nil)
			} else {
				s.Handle(name, handle)
			}
		}
		err := s.RunJob(t.Context(), c.named...)
		if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(text.Hint(err), c.hint) || printed.Len() > 0 {
			t.Errorf("%q of %q: error %v, hint %q; want %q, %q; printed %q", c.named, c.endpoints, err, text.Hint(err), c.err, c.hint, printed)
		}
	}
}

// TestSecretInAJob is about the variable that the Hub sets there: it holds one secret, or none.
func TestSecretInAJob(t *testing.T) {
	for secret, want := range map[string]string{"one,two": "one,two", "": ""} {
		s, _ := newJob(t, map[string]string{env.WebhookSecret: secret})
		if got := s.Secret(); got != want {
			t.Errorf("WEBHOOK_SECRET=%q: the secret is %q", secret, got)
		}
	}
	vars := variables(map[string]string{env.WebhookSecret: ""})
	if _, err := New(Config{Getenv: vars, Output: io.Discard, Errors: io.Discard}); err == nil {
		t.Error("an empty secret was taken outside of a Job")
	}
}
