package keep

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
)

// has fails the test unless text has all these words.
func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("it does not say %q:\n%s", word, text)
		}
	}
}

// Nothing is pointed at a URL that may be another's: the Hub would send the secret there.
func TestTheWayIsProvenFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), "")
		r.stands(t, Waiting)
		for _, p := range []Proof{Pending, Unreachable} {
			r.SetWay(firstURL, p)
			after(lookEvery)
			if r.stands(t, Waiting); len(w.look()) != 0 {
				t.Fatalf("with the proof %v there is a webhook", p)
			}
		}
		r.SetWay(firstURL, Unchecked)
		after(0)
		v := r.stands(t, Active)
		hook := w.look()[0]
		if hook.URL != firstURL+"/webhooks/train" || len(hook.Secret) < 20 || len(hook.Domains) != 2 || v.URL != hook.URL || v.ID != hook.ID || v.Watched[0] != "dataset:me/data" {
			t.Errorf("the webhook is %+v, shown as %+v", hook, v)
		}
		w.said()

		r.SetWay(secondURL, Pending)
		after(lookEvery)
		if w.look()[0].URL != hook.URL {
			t.Error("it follows a URL that is not proven")
		}
		r.SetWay(secondURL, Reachable)
		after(0)
		if h := w.look()[0]; h.URL != secondURL+"/webhooks/train" || h.Secret != hook.Secret {
			t.Errorf("after the URL has changed it is %+v", h)
		}
		has(t, w.said(), "pointed at "+secondURL)
	})
}

// Looking costs one request each time, and what is right is left alone.
func TestARightWebhookIsOnlyLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), firstURL)
		w.calls()
		w.said()
		after(10*lookEvery + time.Second)
		if calls := w.calls(); !reflect.DeepEqual(calls, map[string]int{"get": 10}) {
			t.Errorf("within five minutes it asks for %v", calls)
		}
		if said := w.said(); said != "" {
			t.Errorf("it says %s", said)
		}
		r.stands(t, Active)
	})
}

func TestSuspension(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), firstURL)
		id := w.look()[0].ID
		suspend := func() { w.change(id, func(h *hub.Webhook) { h.State = hub.Suspended }) }
		r.SetWay(firstURL, Pending) // the tunnel is down
		suspend()
		after(lookEvery)
		r.stands(t, Suspended)
		w.calls()
		r.SetWay(firstURL, Reachable)
		after(0)
		r.stands(t, Active)
		if calls := w.calls(); calls["enable"] != 1 {
			t.Errorf("once the way is proven it asks for %v", calls)
		}
		has(t, w.said(), "suspended", "enabled again")

		// Suspended at once again and again: the Hub is not asked over and over.
		for range 60 {
			suspend()
			after(lookEvery)
		}
		if n := w.calls()["enable"]; n < 3 || n > 6 {
			t.Errorf("within half an hour it enables a webhook %d times that is suspended each time", n)
		}
		if v := r.stands(t, Suspended); v.Error == "" || !strings.Contains(v.Hint, testHub+"/settings/webhooks") {
			t.Errorf("it does not say why it waits: %+v", v)
		}
	})
}

// A suspension that happened while no hubhook ran is ended at the start, and does not hold up the end of the next one.
func TestSuspensionBeforeTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), firstURL)
		r.end()
		id := w.look()[0].ID
		suspend := func(h *hub.Webhook) { h.State = hub.Suspended }
		w.change(id, suspend)
		r = begin(t, w.watching(), firstURL)
		r.stands(t, Active)
		w.change(id, suspend)
		after(lookEvery)
		r.stands(t, Active)
	})
}

// What a person does to the webhook by hand counts.
func TestByHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), firstURL)
		first := w.look()[0]

		w.change(first.ID, func(h *hub.Webhook) {
			h.Watched, h.Domains = []hub.Watched{{Type: "user", Name: "me"}}, hub.Domains()[:1]
		})
		after(lookEvery)
		if h := w.look()[0]; !sameItems(h.Watched, first.Watched) || len(h.Domains) != 2 || h.Secret != first.Secret {
			t.Errorf("what it watches is not put right: %+v", h)
		}

		w.said()
		w.change(first.ID, func(h *hub.Webhook) { h.State = hub.Disabled })
		after(3 * lookEvery)
		if r.stands(t, Disabled); w.look()[0].State != hub.Disabled {
			t.Error("it was disabled by hand, and is enabled again")
		}
		if said := w.said(); strings.Count(said, "someone else has disabled it") != 1 || !strings.Contains(said, "hubhook hub enable "+first.ID) {
			t.Errorf("it says %s", said)
		}
		if watched := r.Watched(); len(watched) != 0 {
			t.Errorf("while it is disabled by hand, watched are %v", watched)
		}
		w.change(first.ID, func(h *hub.Webhook) { h.State = hub.Enabled })
		after(lookEvery)
		r.stands(t, Active)
		if watched := r.Watched(); len(watched) != len(first.Watched) || watched[0].Watched != first.Watched[0] {
			t.Errorf("watched are %v, want %v", watched, first.Watched)
		}

		w.said()
		if err := w.Delete(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		after(lookEvery)
		hooks := w.look()
		if len(hooks) != 1 || hooks[0].ID == first.ID || hooks[0].Secret != first.Secret {
			t.Errorf("after it was deleted by hand there are %+v", hooks)
		}
		has(t, w.said(), "no longer knows webhook "+first.ID, "made on the Hub")
	})
}

func TestBorrowing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		hook    hub.Webhook
		secret  string // of the webhook
		hides   bool
		secrets []string // configured
		says    string   // "" where it is borrowed
		query   string   // of the URL then
	}{
		{name: "hidden secret", secret: "a", hides: true, secrets: []string{"a"}},
		{name: "hidden secret, none configured", secret: "a", hides: true, says: "--secret"},
		{name: "shown secret", secret: "a", secrets: []string{"b", "a"}},
		{name: "shown secret, none configured", secret: "a"},
		{name: "shown secret, another configured", secret: "a", secrets: []string{"b"}, says: "--secret"},
		{name: "no secret"},
		{name: "no secret, one configured", secrets: []string{"a"}, says: "without --secret"},
		{name: "secret in the URL", hook: hub.Webhook{URL: ownURL + "&secret=a"}, secrets: []string{"a"}, query: "?secret=a"},
		{name: "Job", hook: hub.Webhook{Job: &hub.Job{}}, says: "starts a Job"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.hides = test.hides
				test.hook.ID, test.hook.State = "loan", hub.Disabled
				if test.hook.URL == "" && test.hook.Job == nil {
					test.hook.URL = ownURL
				}
				w.add(test.hook, test.secret)
				before := w.look()
				r := begin(t, w.borrowing("loan", test.secrets...), firstURL)
				said := w.said()
				if test.says != "" {
					has(t, said, test.says)
					r.stands(t, Failed)
				} else {
					r.stands(t, Active)
					if h := w.look()[0]; h.URL != firstURL+"/webhooks/train"+test.query || h.State != hub.Enabled || string(h.Secret) != test.secret {
						t.Errorf("borrowed: %+v with the secret %q", h, string(h.Secret))
					}
				}
				if strings.Contains(said, "secret=a") {
					t.Errorf("it shows the secret: %s", said)
				}
				r.end()
				if after := w.look(); !reflect.DeepEqual(before, after) {
					t.Errorf("before %+v, afterwards %+v", before, after)
				}
			})
		})
	}
	t.Run("unknown", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			begin(t, w.borrowing("loan"), firstURL).stands(t, Failed)
			has(t, w.said(), "knows none with this ID", "hub list")
		})
	})
}

// What the Hub refuses is said once, with its cause and a fix, and works as soon as the Hub does.
func TestTheHubFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		says string
	}{
		"no token":     {&hub.Error{Op: "list the webhooks", Method: "GET", Err: hub.ErrNoToken}, "HF_TOKEN"},
		"wrong token":  {&hub.Error{RequestID: "R", Op: "list the webhooks", Method: "GET", Path: "/api/settings/webhooks", Status: 401, TokenSource: "HF_TOKEN"}, "HF_TOKEN"},
		"no right":     {&hub.Error{Op: "list the webhooks", Method: "GET", Path: "/api/settings/webhooks", Status: 403, TokenSource: "HF_TOKEN"}, "user.webhooks.write"},
		"rate limit":   {&hub.Error{Op: "list the webhooks", Method: "GET", Status: 429, RetryAfter: 40 * time.Second}, "40s"},
		"500":          {&hub.Error{Op: "list the webhooks", Method: "GET", Status: 500}, "status.huggingface.co"},
		"disk is full": {errors.New("no space left"), "no space left"},
	} {
		for _, call := range []string{"list", "create", "get", "save"} {
			t.Run(name+" at "+call, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					broken := call != "get" // there is nothing to get at the start
					w.fail = func(c string) error {
						if broken && c == call {
							return test.err
						}
						return nil
					}
					r := begin(t, w.watching(), firstURL)
					if call == "get" {
						r.stands(t, Active)
						w.said()
						w.mu.Lock()
						broken = true
						w.mu.Unlock()
						after(lookEvery)
					}
					after(time.Minute)
					said := w.said()
					has(t, said, test.says)
					if n := strings.Count(said, test.says); n > 2 {
						t.Errorf("it says it again and again: %s", said)
					}
					w.calls()
					w.mu.Lock()
					broken = false
					w.mu.Unlock()
					after(lastBackoff)
					if v := r.stands(t, Active); v.Error != "" {
						t.Errorf("once it works there is still %q", v.Error)
					}
					if hooks := w.look(); len(hooks) != 1 {
						t.Errorf("there are %d webhooks", len(hooks))
					}
				})
			})
		}
	}
}

// Where the Hub says how long to wait, nothing is asked before, whatever happens to the tunnel meanwhile.
func TestTheHubSaysWhen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.fail = func(string) error { return &hub.Error{Op: "x", Status: 429, RetryAfter: 10 * time.Minute} }
		r := begin(t, w.watching(), firstURL)
		w.calls()
		for i := range 50 {
			r.SetWay(firstURL, []Proof{Pending, Reachable}[i%2])
			after(10 * time.Second)
		}
		if calls := w.calls(); len(calls) != 0 {
			t.Errorf("it asks for %v", calls)
		}
		after(5 * time.Minute)
		if calls := w.calls(); calls["list"] != 1 {
			t.Errorf("later it asks for %v", calls)
		}
	})
}

// A webhook is made once, though the answer that says so is lost.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"create", "update", "enable", "disable"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				foreign(w)
				lost := 0
				w.failLate = func(c string) error {
					if c == call && lost < 3 {
						lost++
						return &hub.Error{Op: c, Err: context.DeadlineExceeded}
					}
					return nil
				}
				watchingLife(t, w)
				hooks := ours(t, w)
				if len(hooks) != 1 || hooks[0].URL != secondURL+"/webhooks/train" {
					t.Errorf("there are %+v", hooks)
				}
				if call == "create" && w.made != 2 {
					t.Errorf("%d webhooks were made", w.made-1)
				}
			})
		})
	}
}

// The end waits for nobody longer than it is allowed to, and says what is left to do.
func TestTheEndIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), firstURL)
		w.fail = func(string) error {
			time.Sleep(time.Hour) // the lock is held: the Hub hangs, whatever is asked
			return nil
		}
		w.said()
		r.Keeper.c.API = hanging{w}
		start := time.Now()
		r.end()
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("it takes %v", took)
		}
		has(t, w.said(), "still posts", "hubhook hub cleanup")
	})
}

// hanging is a Hub that does not answer.
type hanging struct{ *world }

func (hanging) Get(ctx context.Context, _ string) (hub.Webhook, error) {
	<-ctx.Done()
	return hub.Webhook{}, &hub.Error{Op: "read webhook", Err: ctx.Err()}
}

// The configured secret counts, and one that was generated before is accepted until the Hub has the other.
func TestSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin(t, w.watching(), firstURL).end()
		generated := string(w.look()[0].Secret)
		c := w.watching()
		c.Secrets = []string{"new", "old"}
		r := begin(t, c, firstURL)
		if h := w.look()[0]; h.Secret != "new" {
			t.Errorf("it has another secret than the configured one")
		}
		if !r.Accepts("train", generated) || r.Accepts("other", generated) || r.Accepts("train", "x") || r.Accepts("train", "") {
			t.Error("the generated secret counts for its endpoint alone")
		}
		if strings.Contains(string(w.stored), "new") {
			t.Errorf("a configured secret is stored: %s", w.stored)
		}
	})
}

func TestTheDaysDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := begin(t, w.watching(), firstURL)
		w.said()
		r.Delivered("train", "", 700, time.Now().Add(-23*time.Hour))
		r.Delivered("train", "", 5000, time.Now().Add(-25*time.Hour))
		r.Delivered("other", "", 5000, time.Now())
		r.Delivered("train", "another webhook's", 5000, time.Now())
		for range 99 {
			r.Delivered("train", w.look()[0].ID, 1, time.Now())
		}
		if said := w.said(); said != "" {
			t.Errorf("before there are 800 it says %s", said)
		}
		r.Delivered("train", "", 1, time.Now())
		r.Delivered("train", "", 1, time.Now())
		if said := w.said(); strings.Count(said, "800 deliveries") != 1 || !strings.Contains(said, "1,000") {
			t.Errorf("with 800 it says %s", said)
		}
		if v := r.stands(t, Active); v.Deliveries != 801 || v.DeliveryLimit != 1000 {
			t.Errorf("have %d of %d", v.Deliveries, v.DeliveryLimit)
		}
		after(25 * time.Hour)
		if v := r.stands(t, Active); v.Deliveries != 0 {
			t.Errorf("a day later there are %d", v.Deliveries)
		}
	})
}

// Endpoints that become known later are kept, too; what an earlier run has left for others is released only then.
func TestEndpointsThatComeLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin(t, w.watching(), firstURL).stop() // killed
		c := w.watching()
		c.Watch = append(c.Watch, Item{"late", hub.Watched{Type: "user", Name: "me"}})
		k := New(c)
		k.SetWay(firstURL, Reachable)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.Run(ctx)
		after(time.Minute)
		if h := w.look(); len(h) != 1 || h[0].State != hub.Enabled {
			t.Errorf("before anything is known: %+v", h)
		}
		k.SetEndpoints([]string{"late"}, true)
		after(0)
		h := w.look()
		if len(h) != 2 || h[0].State != hub.Disabled || h[1].URL != firstURL+"/webhooks/late" || len(h[1].Watched) != 2 {
			t.Errorf("once it is known: %+v", h)
		}
		cancel()
		synctest.Wait()
	})
}

// The webhooks of an endpoint that is gone are released while hubhook runs, and kept again when it is back.
func TestEndpointsThatGoAndComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		borrowed(hub.Enabled)(w)
		c := w.borrowing("loan", "s3cret")
		c.Watch = []Item{{Watched: data}}
		r := begin(t, c, firstURL)
		for range 3 {
			hooks := w.look()
			if len(hooks) != 2 || hooks[0].URL != firstURL+"/webhooks/train" || hooks[1].State != hub.Enabled {
				t.Fatalf("while it is there: %+v", hooks)
			}
			r.SetEndpoints([]string{"other"}, true)
			after(lookEvery)
			hooks = w.look()
			if len(hooks) != 3 || hooks[0].URL != ownURL || hooks[1].State != hub.Disabled || hooks[2].URL != firstURL+"/webhooks/other" {
				t.Fatalf("while it is gone: %+v", hooks)
			}
			r.stands(t, Active)
			r.SetEndpoints([]string{"train"}, true)
			after(lookEvery)
			if hooks = w.look(); len(hooks) != 3 || hooks[2].State != hub.Disabled {
				t.Fatalf("once it is back: %+v", hooks)
			}
			w.mu.Lock()
			w.hooks = w.hooks[:2] // somebody deletes that one by hand
			w.mu.Unlock()
		}
	})
}

func TestSameURL(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{{"https://A.example.com/x", "https://a.example.com:443/x/"}, {"http://a:80/x", "HTTP://a/x"}} {
		if !sameURL(pair[0], pair[1]) {
			t.Errorf("%s and %s are the same", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"https://a/x", "http://a/x"}, {"https://a/x", "https://a/x?secret=b"}, {"https://a/x", "https://a/y"}, {"https://a:8443/x", "https://a/x"}} {
		if sameURL(pair[0], pair[1]) {
			t.Errorf("%s and %s are not the same", pair[0], pair[1])
		}
	}
}

// The Hub's words may repeat what it was sent.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := w.watching()
		c.Secrets = []string{"s3cret"}
		w.fail = func(call string) error {
			if call == "create" {
				return &hub.Error{Op: "create", Status: http.StatusBadRequest, Message: "no such field: s3cret"}
			}
			return nil
		}
		begin(t, c, firstURL)
		said := w.said()
		has(t, said, "no such field")
		if strings.Contains(said, "s3cret") {
			t.Errorf("it says %s", said)
		}
	})
}
