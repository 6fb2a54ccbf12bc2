package keep

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
)

const (
	mostChanges = 10

	// DailyLimit is how often the Hub triggers a webhook in 24 hours (its documentation).
	DailyLimit = 1000
	// warnAt is the part of DailyLimit, in percent, from which hubhook warns.
	warnAt = 80
)

// view is what others see of a kept webhook.
type view struct {
	api.Webhook
	day    day
	warned bool // of the daily limit
}

func newView(w *kept) *view {
	v := &view{}
	v.Endpoint, v.ID, v.Borrowed = w.endpoint, w.borrow, w.borrow != ""
	v.State, v.Since, v.DeliveryLimit = Waiting, api.Time{Time: time.Now()}, DailyLimit
	v.Watched, v.Changes = names(w.watched), []api.WebhookNote{}
	if w.entry != nil {
		v.ID, v.Borrowed = w.entry.ID, w.entry.Borrowed != nil
	}
	return v
}

func names(items []hub.Watched) []string {
	list := make([]string, len(items))
	for i, item := range items {
		list[i] = item.String()
	}
	return list
}

// Webhooks returns the kept webhooks as they stand.
func (k *Keeper) Webhooks() []api.Webhook {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	list := make([]api.Webhook, 0, len(k.views))
	for _, v := range k.views {
		list = append(list, v.snapshot(now))
	}
	return list
}

// snapshot returns what shares no memory with v.
func (v *view) snapshot(now time.Time) api.Webhook {
	s := v.Webhook
	s.Watched, s.Changes = slices.Clone(s.Watched), slices.Clone(s.Changes)
	s.Deliveries = v.day.count(now)
	return s
}

// turn puts what the Hub says of w's webhook into its view, and tells it where something is new. done is what was changed, "" for nothing.
func (k *Keeper) turn(w *kept, hook hub.Webhook, state, done string, wrong error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, before := w.view, w.view.Webhook
	if hook.ID != "" {
		v.ID, v.URL, v.Watched = hook.ID, hook.PlainURL(), names(hook.Watched)
	}
	v.Error, v.Hint = "", ""
	if wrong != nil {
		v.Error, v.Hint = k.hide.Redact(wrong.Error()), text.Hint(wrong)
	}
	if v.State != state {
		v.State, v.Since = state, api.Time{Time: time.Now()}
	}
	if done != "" || v.State != before.State || v.Error != before.Error {
		k.tell(v, done)
	}
}

// note tells what was changed, or found changed, while the state is not decided yet.
func (k *Keeper) note(w *kept, what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tell(w.view, what)
}

// fail tells why a webhook can't be kept right now.
func (k *Keeper) fail(w *kept, err error) {
	if errors.Is(err, hub.ErrNoToken) {
		err = text.WithHint(fmt.Errorf("HF_TOKEN is not set, and no other token of the Hub was found"), text.Hint(err))
	}
	state := Failed
	if w.view.State == Active || w.view.State == Suspended { // it is so still, as far as is known
		state = w.view.State
	}
	k.turn(w, hub.Webhook{}, state, "", err)
}

// tell shows a view. The caller holds the mutex, so that changes are shown in their order.
func (k *Keeper) tell(v *view, what string) {
	now := time.Now()
	if what = k.hide.Redact(what); what != "" {
		v.Changes = slices.Insert(v.Changes, 0, api.WebhookNote{Time: api.Time{Time: now}, Text: what})
		v.Changes = v.Changes[:min(len(v.Changes), mostChanges)]
	}
	if k.c.Show != nil {
		k.c.Show(api.WebhookChange{Webhook: v.snapshot(now), Text: what})
	}
}

// toldToWait returns how long the Hub asks to wait, 0 where it does not.
func toldToWait(err error) time.Duration {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// Delivered counts a delivery of the Hub to an endpoint at a time, and tells when the day's deliveries come near the Hub's limit. id is that of
// the webhook that sent it, "" where it is not known.
func (k *Keeper) Delivered(endpoint, id string, n int64, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, v := range k.views {
		if v.Endpoint != endpoint || id != "" && v.ID != "" && id != v.ID {
			continue
		}
		v.day.add(at, n)
		count := v.day.count(now)
		if near := count*100 >= DailyLimit*warnAt; near != v.warned {
			v.warned = near
			if near {
				k.tell(v, fmt.Sprintf("%d deliveries in the last 24 hours; beyond %s the Hub may send no more", count, thousands(DailyLimit)))
			}
		}
	}
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	if len(s) > 3 {
		s = strings.Join([]string{s[:len(s)-3], s[len(s)-3:]}, ",")
	}
	return s
}

// day counts in steps of an hour, for 24 hours.
type day struct {
	hours [24]int64
	last  int64 // the newest hour, since 1970
}

func (d *day) add(at time.Time, n int64) {
	hour := at.Unix() / 3600
	d.move(hour)
	if d.last-hour < int64(len(d.hours)) {
		d.hours[hour%int64(len(d.hours))] += n
	}
}

func (d *day) count(now time.Time) (total int64) {
	d.move(now.Unix() / 3600)
	for _, n := range d.hours {
		total += n
	}
	return total
}

// move makes hour the newest one, if it is.
func (d *day) move(hour int64) {
	for ; d.last < hour; d.last++ {
		if hour-d.last > int64(len(d.hours)) {
			d.last = hour - int64(len(d.hours))
		}
		d.hours[(d.last+1)%int64(len(d.hours))] = 0
	}
}
