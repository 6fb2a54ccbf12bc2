package keep

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
)

// The Hub shows a webhook to its own user alone. With the token of another user hubhook does not take it for deleted: it says whose token is
// needed, makes no second webhook, and keeps the record for that token.
func TestTheTokenOfAnotherUser(t *testing.T) {
	t.Parallel()
	watching := func(w *world) Config { return w.watching() }
	borrowing := func(w *world) Config { return w.borrowing("loan", "s3cret") }
	nothing := func(w *world) Config {
		return Config{API: w, Hub: testHub, Records: w, Show: w.show, Secrets: []string{"s3cret"}}
	}
	for name, test := range map[string]struct {
		first, second func(*world) Config
		lost          bool // the first one dies before it knows the ID
	}{
		"watched":                      {watching, watching, false},
		"watched, ID unknown":          {watching, watching, true},
		"watched, not any more":        {watching, nothing, false},
		"watched, gone and ID unknown": {watching, nothing, true},
		"borrowed":                     {borrowing, borrowing, false},
		"borrowed, not any more":       {borrowing, nothing, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				borrowed(hub.Enabled)(w)
				as := func(config func(*world) Config) Config {
					c := config(w)
					c.User = func(context.Context) (string, error) { return w.user, nil }
					return c
				}
				if test.lost {
					w.crashAt = 8 // the answer that the Hub has made it
				}
				begin(t, as(test.first), firstURL).stop() // killed
				if w.dead() != test.lost || test.lost && len(w.look()) != 2 {
					t.Fatal("it does not crash where the test wants it")
				}
				w.restart()
				before, record := w.look(), string(w.stored)

				w.user = "you"
				begin(t, as(test.second), secondURL).end()
				has(t, w.said(), "belongs to the Hub's user me, and the token is one of you", "set HF_TOKEN to a token of me")
				cleaned, err := Cleanup(t.Context(), as(test.second))
				if err != nil || len(cleaned) != 1 || cleaned[0].Err == nil {
					t.Fatalf("cleaned up: %+v, %v", cleaned, err)
				}
				has(t, cleaned[0].Err.Error(), "the Hub's user me")
				if string(w.stored) != record || len(w.look()) != len(before) {
					t.Errorf("with the token of another user the record is\n%s\nit was\n%s\nthe Hub has %+v", w.stored, record, w.look())
				}

				w.user = "me"
				if cleaned, err := Cleanup(t.Context(), as(test.second)); err != nil || len(cleaned) != 1 || cleaned[0].Err != nil {
					t.Errorf("cleaned up: %+v, %v", cleaned, err)
				}
				back(t, w, hub.Enabled)
			})
		})
	}
}

// Without an answer to the question whose token it is nothing is taken for deleted.
func TestTheUserIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := w.watching()
		c.User = func(context.Context) (string, error) { return "me", nil }
		begin(t, c, firstURL).stop()
		first := w.look()[0].ID
		if err := w.Delete(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		failing := c
		failing.User = func(context.Context) (string, error) { return "", errors.New("the Hub does not say whose token it is") }
		r := begin(t, failing, firstURL)
		after(time.Hour)
		r.stands(t, Failed)
		has(t, w.said(), "does not say whose token")
		r.stop()
		begin(t, c, firstURL).stands(t, Active)
		if hooks := w.look(); len(hooks) != 1 || hooks[0].ID == first {
			t.Errorf("once the Hub says it, there are %+v", hooks)
		}
	})
}
