package keep

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
)

// A life of a hubhook that watches: it makes the webhook, follows a new URL, ends a suspension, and ends.
func watchingLife(t *testing.T, w *world) {
	r := begin(t, w.watching(), firstURL)
	r.SetWay(secondURL, Reachable)
	after(lookEvery)
	for _, hook := range w.look() {
		if hook.URL == secondURL+"/webhooks/train" {
			w.change(hook.ID, func(h *hub.Webhook) { h.State = hub.Suspended })
		}
	}
	after(2 * lookEvery)
	if w.dead() {
		r.stop()
		return
	}
	r.end()
}

// inEachCrash runs a test for each step of a life at which the process can die.
func inEachCrash(t *testing.T, prepare func(*world), life func(*testing.T, *world), test func(*testing.T, *world)) {
	steps := 0
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		prepare(w)
		life(t, w)
		steps = w.steps
	})
	if steps < 10 {
		t.Fatalf("a whole life has %d steps", steps)
	}
	for at := 1; at <= steps+1; at++ { // after the last one nothing crashes
		t.Run(fmt.Sprintf("step %d", at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				prepare(w)
				w.crashAt = at
				life(t, w)
				w.restart()
				test(t, w)
			})
		})
	}
}

// foreign is a webhook that somebody else made, at the same URL.
func foreign(w *world) {
	w.add(hub.Webhook{ID: "foreign", URL: firstURL + "/webhooks/train", Watched: []hub.Watched{{Type: "model", Name: "other/model"}},
		Domains: hub.Domains(), State: hub.Enabled}, "its own")
}

// ours checks that foreign's webhook is as it was, and returns the others.
func ours(t *testing.T, w *world) (others []hub.Webhook) {
	t.Helper()
	untouched := false
	for _, hook := range w.look() {
		if hook.ID != "foreign" {
			others = append(others, hook)
			continue
		}
		untouched = hook.URL == firstURL+"/webhooks/train" && hook.State == hub.Enabled && hook.Secret == "its own" && len(hook.Watched) == 1
	}
	if !untouched {
		t.Errorf("the webhook of somebody else was touched: %+v", w.look())
	}
	return others
}

func TestStartAfterACrash(t *testing.T) {
	t.Parallel()
	inEachCrash(t, foreign, watchingLife, func(t *testing.T, w *world) {
		r := begin(t, w.watching(), secondURL)
		r.stands(t, Active)
		hooks := ours(t, w)
		if len(hooks) != 1 || hooks[0].URL != secondURL+"/webhooks/train" || hooks[0].State != hub.Enabled || !sameItems(hooks[0].Watched, []hub.Watched{data}) {
			t.Fatalf("after the start: %+v; want one webhook that posts here", hooks)
		}
		if !r.Accepts("train", string(hooks[0].Secret)) {
			t.Error("the webhook's secret is not accepted")
		}
		r.end()
		if hooks := ours(t, w); len(hooks) != 1 || hooks[0].State != hub.Disabled {
			t.Errorf("after the end: %+v; want one webhook that is disabled", hooks)
		}
	})
}

// Once hubhook is started without --watch, what a crash has left is disabled.
func TestStartWithoutWatchAfterACrash(t *testing.T) {
	t.Parallel()
	inEachCrash(t, foreign, watchingLife, func(t *testing.T, w *world) {
		c := w.watching()
		c.Watch = nil
		begin(t, c, secondURL).end()
		for _, hook := range ours(t, w) {
			if hook.State != hub.Disabled {
				t.Errorf("it still posts: %+v", hook)
			}
		}
	})
}

func TestCleanupAfterACrash(t *testing.T) {
	t.Parallel()
	inEachCrash(t, foreign, watchingLife, func(t *testing.T, w *world) {
		cleaned, err := Cleanup(t.Context(), w.watching())
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range cleaned {
			if one.Err != nil || one.Done == "" {
				t.Errorf("have %+v", one)
			}
		}
		if hooks := ours(t, w); len(hooks) != 0 {
			t.Errorf("left: %+v", hooks)
		}
		if again, err := Cleanup(t.Context(), w.watching()); err != nil || len(again) != 0 {
			t.Errorf("a second clean-up finds %+v, %v", again, err)
		}
	})
}

const ownURL = "https://own.example.com/hook?a=b"

// borrowed is a webhook that hubhook borrows; disabled says that it was disabled.
func borrowed(state hub.WebhookState) func(*world) {
	return func(w *world) {
		w.hides = true
		w.add(hub.Webhook{ID: "loan", URL: ownURL, Watched: []hub.Watched{{Type: "org", Name: "them"}}, Domains: []hub.Domain{hub.DiscussionDomain}, State: state}, "s3cret")
	}
}

func borrowingLife(t *testing.T, w *world) {
	r := begin(t, w.borrowing("loan", "s3cret"), firstURL)
	r.SetWay(secondURL, Reachable)
	after(time.Second)
	w.change("loan", func(h *hub.Webhook) {
		if h.URL != ownURL {
			h.State = hub.Suspended
		}
	})
	after(2 * lookEvery)
	if w.dead() {
		r.stop()
		return
	}
	r.end()
}

// back checks that a borrowed webhook has what it had.
func back(t *testing.T, w *world, state hub.WebhookState) {
	t.Helper()
	hooks := w.look()
	if len(hooks) != 1 {
		t.Fatalf("have %d webhooks", len(hooks))
	}
	h := hooks[0]
	if h.URL != ownURL || h.State != state || h.Secret != "s3cret" || !sameItems(h.Watched, []hub.Watched{{Type: "org", Name: "them"}}) ||
		len(h.Domains) != 1 || h.Domains[0] != hub.DiscussionDomain {
		t.Errorf("it did not get back what it had: %+v with the secret %q", h, string(h.Secret))
	}
}

func TestBorrowedAfterACrash(t *testing.T) {
	t.Parallel()
	for _, state := range []hub.WebhookState{hub.Enabled, hub.Disabled} {
		for name, repair := range map[string]func(*testing.T, *world){
			"start":   func(t *testing.T, w *world) { restartBorrowing(t, w) },
			"cleanup": func(t *testing.T, w *world) { cleanBorrowed(t, w) },
			"start without --webhook": func(t *testing.T, w *world) {
				c := w.borrowing("loan", "s3cret")
				c.Borrow = nil
				begin(t, c, "").stop()
			},
		} {
			t.Run(string(state)+", "+name, func(t *testing.T) {
				t.Parallel()
				inEachCrash(t, borrowed(state), borrowingLife, func(t *testing.T, w *world) {
					repair(t, w)
					back(t, w, state)
				})
			})
		}
	}
}

func restartBorrowing(t *testing.T, w *world) {
	r := begin(t, w.borrowing("loan", "s3cret"), firstURL)
	r.stands(t, Active)
	if h := w.look()[0]; h.URL != firstURL+"/webhooks/train" || h.State != hub.Enabled || h.Secret != "s3cret" {
		t.Errorf("while it is borrowed: %+v", h)
	}
	r.end()
}

func cleanBorrowed(t *testing.T, w *world) {
	cleaned, err := Cleanup(t.Context(), w.borrowing("", "s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range cleaned {
		if one.Err != nil || one.Done == "" || !one.Borrowed {
			t.Errorf("have %+v", one)
		}
	}
}
