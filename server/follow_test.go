package server

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/follow"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

func id(t *testing.T, item string) hub.RepoID {
	t.Helper()
	id, err := hub.ParseRepoID(item)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFollowSettings(t *testing.T) {
	handler := func(context.Context, *payload.Payload) (any, error) { return nil, nil }
	for name, c := range map[string]struct {
		config  Config
		options []Option
		want    []follow.Item
		alone   bool // no tunnel is opened
	}{
		"nothing":          {Config{}, nil, nil, false},
		"an item":          {Config{Follow: []string{"dataset:me/data"}}, nil, []follow.Item{{Repo: id(t, "dataset:me/data")}}, true},
		"for one endpoint": {Config{Follow: []string{"one=bucket:me/b"}}, nil, []follow.Item{{Endpoint: "one", Repo: id(t, "bucket:me/b")}}, true},
		"an option":        {Config{}, []Option{Follow("model:me/m")}, []follow.Item{{Endpoint: "one", Repo: id(t, "model:me/m")}}, true},
		"once":             {Config{Follow: []string{"model:me/m"}}, []Option{Follow("model:me/m")}, []follow.Item{{Repo: id(t, "model:me/m")}}, true},
		"and a webhook":    {Config{Follow: []string{"model:me/m"}, Watch: []string{"user:me"}}, nil, []follow.Item{{Repo: id(t, "model:me/m")}}, false},
		"and a watching":   {Config{Follow: []string{"model:me/m"}}, []Option{Watch("user:me")}, []follow.Item{{Repo: id(t, "model:me/m")}}, false},
		"and a domain":     {Config{Follow: []string{"model:me/m"}, URL: "https://me.example"}, nil, []follow.Item{{Repo: id(t, "model:me/m")}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Getenv = func(string) (string, bool) { return "", false }
			s, err := New(c.config)
			if err != nil {
				t.Fatal(err)
			}
			s.Handle("one", handler, c.options...)
			s.Handle("two", handler)
			if got := s.followItems(); !slices.Equal(got, c.want) {
				t.Errorf("followed are %v, want %v", got, c.want)
			}
			if s.onlyFollows() != c.alone {
				t.Errorf("nothing else wants a tunnel: %v", s.onlyFollows())
			}
		})
	}
	for _, wrong := range []Config{
		{Follow: []string{"user:me"}}, {Follow: []string{"me/data"}}, {Follow: []string{"kernel:me/k"}}, {Follow: []string{"a b=model:me/m"}},
		{FollowEvery: 9 * time.Second},
	} {
		wrong.Getenv = func(string) (string, bool) { return "", false }
		if _, err := New(wrong); err == nil || err.(*ConfigError).Hint() == "" {
			t.Errorf("%v, every %s, gives %v", wrong.Follow, wrong.FollowEvery, err)
		}
	}
}

// What is followed goes the way of all deliveries: to the handler, with its source.
func TestFollowedDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		came := make(chan *payload.Payload, 10)
		s, err := New(Config{Data: t.TempDir(), Output: io.Discard, Errors: io.Discard, Getenv: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		s.Handle("in", func(_ context.Context, p *payload.Payload) (any, error) { came <- p; return nil, nil })
		if _, err := s.Handler(); err != nil {
			t.Fatal(err)
		}
		body := []byte(`{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"model","name":"me/m"}}`)
		store := followStore{s: s, q: s.queue.Load()}
		d := follow.Delivery{Endpoint: "in", WebhookID: "follow-1", Body: body, Mark: follow.Mark{Key: "follow/a", Value: []byte("1")}}
		if err := store.Deliver(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if p := <-came; p.Repo.Name != "me/m" {
			t.Errorf("the handler got %s", p.Raw())
		}
		d.WebhookID = "follow-2"
		if err := store.Deliver(t.Context(), d); err == nil {
			t.Error("a mark is stored twice")
		}
		ds, _, err := s.queue.Load().List(t.Context(), queue.Filter{})
		if err != nil || len(ds) != 1 || api.Source(ds[0].Source()) != api.Follow {
			t.Errorf("listed are %+v, %v", ds, err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestFollowingLimited(t *testing.T) {
	for anonymous, hint := range map[bool]string{false: "other programs", true: "HF_TOKEN"} {
		if got := limited(114*time.Second, anonymous); !strings.Contains(got.Text, "used up; the next look comes in 1m54s") || !strings.Contains(got.Hint, hint) {
			t.Errorf("it says %q, hint %q", got.Text, got.Hint)
		}
	}
}

// Looks that come less often than was asked for are explained at the start.
func TestFollowingSlower(t *testing.T) {
	for name, c := range map[string]struct {
		item          string
		items, budget int
		said          string // "" for nothing
		hint          string
	}{
		"few":          {"model:me/m%d", 10, budgetWithoutToken, "", ""},
		"many":         {"model:me/m%d", 110, budgetWithoutToken, "allows 500 requests in 5 minutes without a token, so each followed repo is looked at every 2m45s, not every 1m0s", "HF_TOKEN"},
		"with a token": {"model:me/m%d", 110, budgetWithToken, "allows 1000 requests in 5 minutes with a free account's token, so each followed repo is looked at every 1m23s, not every 1m0s", "fewer"},
		"buckets":      {"bucket:me/b%d", 300, budgetWithoutToken, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var items []follow.Item
			for i := range c.items {
				items = append(items, follow.Item{Repo: id(t, fmt.Sprintf(c.item, i))})
			}
			f := follow.New(follow.Config{Items: items, Budget: c.budget})
			with := withoutToken
			if c.budget == budgetWithToken {
				with = "with a free account's token"
			}
			got, ok := paced(c.budget, f.Every(), follow.DefaultEvery, with), slower(f, follow.DefaultEvery)
			if ok != (c.said != "") || !strings.Contains(got.Text, c.said) || !strings.Contains(got.Hint, c.hint) {
				t.Errorf("it says %q, hint %q", got.Text, got.Hint)
			}
		})
	}
}
