package keep

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hubhook/hubhook/hub"
)

// A webhook whose URL someone else has changed is left alone, whether by a person or by another hubhook.
func TestNoFight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		borrowed(hub.Enabled)(w)
		a := begin(t, w.borrowing("loan", "s3cret"), firstURL)
		other := newWorld()
		other.hooks, other.secrets, other.owners, other.hides = w.hooks, w.secrets, w.owners, true
		c := other.borrowing("loan", "s3cret")
		b := begin(t, c, secondURL)
		b.stands(t, Active)
		w.said()
		after(10 * lookEvery)
		a.stands(t, Taken)
		b.stands(t, Active)
		if h := w.look()[0]; h.URL != secondURL+"/webhooks/train" {
			t.Errorf("the first one has changed it to %s", h.URL)
		}
		if said := w.said(); strings.Count(said, "someone else has changed the URL") != 1 {
			t.Errorf("it says %s", said)
		}
		a.end()
		if h := w.look()[0]; h.URL != secondURL+"/webhooks/train" || h.State != hub.Enabled {
			t.Errorf("the end of the first one changes it to %+v", h)
		}
	})
}

// A second hubhook asks whether the first one keeps the webhook, and then leaves it to that one.
func TestTheSecondSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		borrowed(hub.Enabled)(w)
		var free atomic.Bool
		c := w.borrowing("loan", "s3cret")
		c.Another = func(_ context.Context, url, id string) bool { return !free.Load() && url == ownURL && id == "loan" }
		r := begin(t, c, firstURL)
		r.stands(t, Failed)
		back(t, w, hub.Enabled)
		has(t, w.said(), "another hubhook keeps it")
		free.Store(true)
		after(lastBackoff)
		r.stands(t, Active)
	})
}

// While the one that borrowed a webhook is dead or out of reach, another hubhook may borrow it. The first one's record outlives that, so that the
// webhook has its own URL in the end, whoever comes back first.
func TestLentOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		dead bool // the first one, when the second one begins
		back func(t *testing.T, w *world, c Config, free func())
	}{
		"start after a crash": {true, func(t *testing.T, w *world, c Config, free func()) {
			a := begin(t, c, firstURL)
			a.stands(t, Failed)
			has(t, w.said(), "another hubhook keeps it, at "+secondURL)
			free()
			after(lastBackoff)
			a.stands(t, Active)
			a.end()
		}},
		"start and end after a crash": {true, func(t *testing.T, w *world, c Config, free func()) {
			begin(t, c, firstURL).end()
			has(t, w.said(), "give back webhook loan: another hubhook keeps it")
			free()
			begin(t, c, firstURL).end()
		}},
		"cleanup after a crash": {true, func(t *testing.T, w *world, c Config, free func()) {
			if cleaned, err := Cleanup(t.Context(), c); err != nil || len(cleaned) != 1 || cleaned[0].Err == nil {
				t.Errorf("cleaned up: %+v, %v", cleaned, err)
			}
			free()
			cleanBorrowed(t, w)
		}},
		"start after it was out of reach": {false, func(t *testing.T, _ *world, c Config, free func()) {
			free()
			begin(t, c, firstURL).end()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				borrowed(hub.Enabled)(w)
				var second atomic.Pointer[running]
				c := w.borrowing("loan", "s3cret")
				c.Another = func(_ context.Context, url, id string) bool {
					b := second.Load()
					return b != nil && url == secondURL+"/webhooks/train" && b.Keeps(id)
				}
				a := begin(t, c, firstURL)
				a.stands(t, Active)
				if test.dead {
					a.stop()
				}
				w.said()
				other := w.borrowing("loan", "s3cret")
				other.Records, other.Show = newWorld(), nil // of its own
				b := begin(t, other, secondURL)
				second.Store(b)
				b.stands(t, Active)
				if !test.dead {
					after(2 * lookEvery)
					a.stands(t, Taken)
					has(t, w.said(), "before it was borrowed it posted to "+ownURL)
					a.end()
				}
				test.back(t, w, c, func() {
					if h := w.look()[0]; h.URL != secondURL+"/webhooks/train" || h.State != hub.Enabled {
						t.Errorf("it was taken from the second one: %+v", h)
					}
					b.end()
				})
				back(t, w, hub.Enabled)
			})
		})
	}
}
