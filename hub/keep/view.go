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
)

// NearLimit reports whether so many deliveries in 24 hours come near DailyLimit: 80 percent of it or more.
func NearLimit(deliveries int64) bool { return deliveries*100 >= DailyLimit*80 }

// view is what others see of a kept webhook.
type view struct {
	api.Webhook
	warned bool // of the daily limit
	repos  bool // the webhook delivers events of repos, not only of discussions
}

func newView(w *kept) *view {
	v := &view{}
	v.Endpoint, v.ID, v.Borrowed = w.endpoint, w.borrow, w.borrow != ""
	v.State, v.Since, v.DeliveryLimit = Waiting, api.Time{Time: time.Now()}, DailyLimit
	v.Watched, v.Changes = names(w.watched), []api.WebhookNote{}
	v.repos = w.watched != nil
	if w.left {
		v.State = Left
	}
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
		list = append(list, k.snapshot(v, now))
	}
	return list
}

// Watched returns the repos, buckets, users and organizations that the kept webhooks watch, as far as is known by now. Left out are webhooks
// for discussions alone, and those that do not post here: disabled by hand, taken by someone else, or released.
func (k *Keeper) Watched() (items []Item) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.views {
		switch v.State {
		case Left, Disabled, Taken, Returned:
			continue
		}
		for _, name := range v.Watched {
			watched, err := hub.ParseWatched(name)
			if err != nil || !v.repos { // an error means a type that the Hub has added since
				continue
			}
			if item := (Item{v.Endpoint, watched}); !slices.Contains(items, item) {
				items = append(items, item)
			}
		}
	}
	return items
}

// snapshot returns what shares no memory with v. The caller holds the mutex.
func (k *Keeper) snapshot(v *view, now time.Time) api.Webhook {
	s := v.Webhook
	s.Watched, s.Changes = slices.Clone(s.Watched), slices.Clone(s.Changes)
	s.Deliveries = k.today(v, now)
	return s
}

// turn puts what the Hub says of w's webhook into its view, and tells Show if something is new. done is what was changed, "" for nothing.
func (k *Keeper) turn(w *kept, hook hub.Webhook, state, done string, wrong error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, before := w.view, w.view.Webhook
	if hook.ID != "" {
		v.ID, v.URL, v.Watched = hook.ID, hook.PlainURL(), names(hook.Watched)
		v.repos = slices.Contains(hook.Domains, hub.RepoDomain)
	}
	v.Error, v.Hint = "", ""
	if wrong != nil {
		v.Error, v.Hint = k.hide.Redact(wrong.Error()), text.Hint(wrong)
	}
	cause := causeOf(wrong)
	other := cause != w.cause
	w.cause = cause
	if v.State != state {
		v.State, v.Since = state, api.Time{Time: time.Now()}
	}
	notes := w.notes
	w.notes = nil
	if done != "" {
		notes = append(notes, done)
	}
	if len(notes) > 0 || v.State != before.State || other {
		k.tell(v, cause, notes...)
	}
}

// causeOf returns the text of an error without the ID of the request, so that the same failure is told once.
func causeOf(err error) string {
	if err == nil {
		return ""
	}
	cause := err.Error()
	if e, ok := errors.AsType[*hub.Error](err); ok && e.RequestID != "" {
		cause = strings.ReplaceAll(cause, e.RequestID, "")
	}
	return cause
}

// note adds what was changed, or found changed, to what the next turn tells.
func (k *Keeper) note(w *kept, what string) { w.notes = append(w.notes, what) }

// fail shows why a webhook can't be kept right now.
func (k *Keeper) fail(w *kept, err error) {
	if errors.Is(err, hub.ErrNoToken) {
		err = text.WithHint(errors.New("HF_TOKEN is not set, and no other token of the Hub was found"), text.Hint(err))
	}
	state := Failed
	if w.view.State == Active || w.view.State == Suspended { // as far as is known, it still is
		state = w.view.State
	}
	k.turn(w, hub.Webhook{}, state, "", err)
}

// tell passes a view to Show, with what was changed. cause is the cause of its error, "" for none. The caller holds the mutex, so that Show gets
// changes in their order.
func (k *Keeper) tell(v *view, cause string, what ...string) {
	now := time.Now()
	for i := range what {
		what[i] = k.hide.Redact(what[i])
		v.Changes = slices.Insert(v.Changes, 0, api.WebhookNote{Time: api.Time{Time: now}, Text: what[i]})
	}
	v.Changes = v.Changes[:min(len(v.Changes), mostChanges)]
	if k.c.Show != nil {
		again := cause != "" && cause == k.lastCause
		k.c.Show(api.WebhookChange{Webhook: k.snapshot(v, now), Text: strings.Join(what, "; "), Again: again})
	}
	k.lastCause = cause
}

// toldToWait returns how long the Hub asks to wait, 0 where it does not.
func toldToWait(err error) time.Duration {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// source is an endpoint and the ID of the webhook that posts to it, "" if that is not known.
type source struct{ endpoint, id string }

// Delivered counts n deliveries of the Hub to an endpoint at a time, and tells when the day's deliveries of a webhook come near the Hub's
// limit. id is that of the webhook, "" where it is not known.
func (k *Keeper) Delivered(endpoint, id string, n int64, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Anyone may post any ID to an endpoint without a secret, so only the IDs of kept webhooks are counted.
	if id != "" && !slices.ContainsFunc(k.views, func(v *view) bool { return v.ID == id && v.Endpoint == endpoint }) {
		return
	}
	d := k.days[source{endpoint, id}]
	if d == nil {
		d = new(day)
		k.days[source{endpoint, id}] = d
	}
	now := time.Now()
	d.add(at, n)
	for _, v := range k.views {
		if v.Endpoint != endpoint {
			continue
		}
		count := k.today(v, now)
		near := NearLimit(count)
		if near && !v.warned {
			k.tell(v, "", fmt.Sprintf("%d deliveries in the last 24 hours; beyond %s the Hub may send no more", count, thousands(DailyLimit)))
		}
		v.warned = near
	}
}

// today returns how many deliveries a webhook had in the last 24 hours. The caller holds the mutex.
func (k *Keeper) today(v *view, now time.Time) (total int64) {
	for _, id := range slices.Compact([]string{"", v.ID}) {
		if d := k.days[source{v.Endpoint, id}]; d != nil {
			total += d.count(now)
		}
	}
	return total
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	if len(s) > 3 {
		s = strings.Join([]string{s[:len(s)-3], s[len(s)-3:]}, ",")
	}
	return s
}

// day counts deliveries of the last 24 hours, in steps of an hour.
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

// move makes hour the newest one if it is later than last, and empties the hours between.
func (d *day) move(hour int64) {
	for ; d.last < hour; d.last++ {
		if hour-d.last > int64(len(d.hours)) {
			d.last = hour - int64(len(d.hours))
		}
		d.hours[(d.last+1)%int64(len(d.hours))] = 0
	}
}
