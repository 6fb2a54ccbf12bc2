package keep

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hubhook/hubhook/hub"
)

func TestSecretsOfURLs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ own, recorded, here string }{
		{"https://a/x?b=c", "https://a/x?b=c", "https://here/w"},
		{"https://a/x?secret=1", "https://a/x?secret=(hidden)", "https://here/w?secret=1"},
		{"https://a/x?b=%20c&secret=%2F+1&secret=2&d#secret=3", "https://a/x?b=%20c&secret=(hidden)&secret=(hidden)&d#secret=3", "https://here/w?secret=%2F+1&secret=2"},
		{"https://a/x?s%65cret=1&secrets=2&secret&secret=", "https://a/x?s%65cret=(hidden)&secrets=2&secret&secret=", "https://here/w?secret=1"},
		{"https://me:pa%40ss@a:8/x@y?secret=1", "https://me:(hidden)@a:8/x@y?secret=(hidden)", "https://me:pa%40ss@here/w?secret=1"},
		{"https://me@a/b:c@d?e://f:g@h", "https://me@a/b:c@d?e://f:g@h", "https://here/w"},
		{"secret=1", "secret=1", "https://here/w"},
		{"", "", "https://here/w"},
	} {
		if have := hideSecrets(test.own); have != test.recorded {
			t.Errorf("%s is recorded as %s; want %s", test.own, have, test.recorded)
		}
		here := withSecretsOf(test.own, "https://here/w")
		if here != test.here {
			t.Errorf("%s posts here to %s; want %s", test.own, here, test.here)
		}
		o := Original{URL: test.recorded}
		if back, err := o.own(hub.Webhook{URL: here}); err != nil || back != test.own {
			t.Errorf("%s is given back as %s (%v)", test.own, back, err)
		}
		if back, err := o.own(hub.Webhook{URL: test.own}); err != nil || back != test.own {
			t.Errorf("%s, which was not changed, is given back as %s (%v)", test.own, back, err)
		}
	}
}

const (
	foreignSecret = "0f-their-0wn"
	withForeign   = "https://own.example.com/hook?a=b&secret=" + foreignSecret + "&c=d"
)

// lent puts a webhook onto the Hub that has a secret in its URL, which is not configured here.
func lent(w *world) {
	w.add(hub.Webhook{ID: "loan", URL: withForeign, Watched: []hub.Watched{data}, Domains: hub.Domains(), State: hub.Enabled}, "")
}

// A secret in the URL of a borrowed webhook is never stored. It is in the URL again afterwards, whenever hubhook has crashed.
func TestSecretsInURLsAreNotStored(t *testing.T) {
	t.Parallel()
	life := func(t *testing.T, w *world) {
		r := begin(t, w.borrowing("loan"), firstURL)
		r.SetWay(secondURL, Reachable)
		after(lookEvery)
		if w.dead() {
			r.stop()
			return
		}
		if h := w.look()[0]; h.URL != secondURL+"/webhooks/train?secret="+foreignSecret {
			t.Errorf("while it is borrowed it posts to %s", h.URL)
		}
		r.end()
	}
	for name, repair := range map[string]func(*testing.T, *world){
		"start": func(t *testing.T, w *world) { begin(t, w.borrowing("loan"), firstURL).end() },
		"cleanup": func(t *testing.T, w *world) {
			if _, err := Cleanup(t.Context(), w.borrowing("")); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEachCrash(t, lent, life, func(t *testing.T, w *world) {
				repair(t, w)
				if h := w.look()[0]; h.URL != withForeign || h.State != hub.Enabled {
					t.Errorf("afterwards it is %+v", h)
				}
				if strings.Contains(string(w.ever), foreignSecret) {
					t.Errorf("the secret is stored: %s", w.ever)
				}
			})
		})
	}
}

// An earlier version stored the secret, and did not keep it in the URL on the Hub.
func TestARecordWithASecret(t *testing.T) {
	t.Parallel()
	for name, finish := range map[string]func(*testing.T, *world){
		"cleanup": func(t *testing.T, w *world) { cleanBorrowed(t, w) },
		"start without --webhook": func(t *testing.T, w *world) {
			c := w.borrowing("loan")
			c.Borrow = nil
			begin(t, c, firstURL).end()
		},
		"start": func(t *testing.T, w *world) {
			r := begin(t, w.borrowing("loan"), secondURL)
			r.stands(t, Active)
			if strings.Contains(string(w.stored), foreignSecret) {
				t.Errorf("once the Hub has the secret it is still stored: %s", w.stored)
			}
			r.end()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				lent(w)
				const here = firstURL + "/webhooks/train"
				w.change("loan", func(h *hub.Webhook) { h.URL = here })
				var err error
				w.stored, err = json.Marshal(Record{Version: recordVersion, Entries: []*Entry{{Hub: testHub, Endpoint: "train", ID: "loan", URLs: []string{here}, Enabled: true,
					Borrowed: &Original{URL: withForeign, State: string(hub.Enabled)}}}})
				if err != nil {
					t.Fatal(err)
				}
				finish(t, w)
				if h := w.look()[0]; h.URL != withForeign || h.State != hub.Enabled {
					t.Errorf("afterwards it is %+v", h)
				}
			})
		})
	}
}

// Where somebody has taken the secret out of the URL on the Hub, hubhook can't put it back, and says who can.
func TestALostSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		lent(w)
		r := begin(t, w.borrowing("loan"), firstURL)
		r.stop()
		for _, e := range r.record.Entries { // as a Hub may write a URL that changes it on its own
			e.URLs = append(e.URLs, firstURL+"/webhooks/train")
		}
		if err := r.save(); err != nil {
			t.Fatal(err)
		}
		w.change("loan", func(h *hub.Webhook) { h.URL = firstURL + "/webhooks/train" })
		w.said()
		begin(t, w.borrowing("loan"), firstURL).end()
		has(t, w.said(), "lacks the secret", "own.example.com", "hubhook hub update loan --url URL")
		w.change("loan", func(h *hub.Webhook) { h.URL = withForeign })
		cleanBorrowed(t, w)
		if h := w.look()[0]; h.URL != withForeign {
			t.Errorf("afterwards it posts to %s", h.URL)
		}
	})
}
