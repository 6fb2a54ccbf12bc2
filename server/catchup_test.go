package server

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/follow"
	"github.com/hubhook/hubhook/internal/queue"
)

func TestCatchUpNeedsAWebhook(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config  Config
		options []Option
		fine    bool
	}{
		"nothing":          {Config{}, nil, false},
		"what is followed": {Config{Follow: []string{"model:me/m"}}, []Option{Follow("model:me/n")}, false},
		"a watching":       {Config{Watch: []string{"model:me/m"}}, nil, true},
		"a loan":           {Config{Webhooks: []string{"1"}}, nil, true},
		"an option":        {Config{}, []Option{Watch("model:me/m")}, true},
		"a lent one":       {Config{}, []Option{Webhook("1")}, true},
	} {
		c.config.CatchUp, c.config.Getenv = true, func(string) (string, bool) { return "", false }
		s, err := New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		s.Handle("in", nil, c.options...)
		if err := s.checkCatchUp(); (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The Hub's deliveries are found by repo and time, each once. One that repeats a delivery, or that was made here, tells nothing.
func TestBrought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Data: t.TempDir(), Output: t.Output(), Errors: t.Output(), Getenv: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		s.Handle("in", nil)
		s.Handle("other", nil)
		if _, err := s.Handler(); err != nil {
			t.Fatal(err)
		}
		q := s.queue.Load()
		accept := func(a queue.Arrival, endpoint, kind, sha string) (id string) {
			t.Helper()
			a.Endpoint, a.Scope, a.Action, a.RepoType, a.RepoName, a.Header = endpoint, "repo.content", "update", kind, "me/m", http.Header{}
			a.Body = fmt.Appendf(nil, `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":%q,"name":"me/m"},"updatedRefs":[{"ref":"refs/heads/main","newSha":%q}]}`, kind, sha)
			receipt, err := q.Accept(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			return receipt.ID
		}
		accept(queue.Arrival{}, "in", "model", "before")
		time.Sleep(time.Second)
		since := time.Now()
		one := accept(queue.Arrival{WebhookID: "1"}, "in", "model", "one")
		accept(queue.Arrival{}, "other", "model", "another endpoint")
		accept(queue.Arrival{}, "in", "dataset", "another repo")
		accept(queue.Arrival{Synthetic: true}, "in", "model", "a sample")
		accept(queue.Arrival{ReplayOf: one}, "in", "model", "a replay")
		accept(queue.Arrival{WebhookID: "2"}, "in", "model", "two")
		brought, err := past{followStore{s: s, q: q}}.Brought(t.Context(), "in", hub.RepoID{Type: "model", Name: "me/m"}, since)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, p := range brought {
			told = append(told, p.UpdatedRefs[0].NewSHA.Hex)
		}
		if fmt.Sprint(told) != "[two one]" {
			t.Errorf("told were %q", told)
		}

		// In development a finished delivery makes none a duplicate, but for a day what came by catching up does.
		for _, c := range []struct {
			after time.Duration
			same  bool
		}{{0, true}, {follow.LateFor - time.Minute, true}, {2 * time.Minute, false}} {
			time.Sleep(c.after)
			if id := accept(queue.Arrival{WebhookID: "1", SameFor: follow.LateFor}, "in", "model", "late"); (id == one) != c.same {
				t.Errorf("after another %s a late delivery is %s, and the first one %s", c.after, id, one)
			}
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
