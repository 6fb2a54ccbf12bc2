package keep

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

// way is where the Hub is to post.
type way struct {
	url   string
	proof Proof
}

func (k *Keeper) way() way {
	k.mu.Lock()
	defer k.mu.Unlock()
	return way{k.url, k.proof}
}

// sync looks at the webhook on the Hub, and makes it right.
func (k *Keeper) sync(ctx context.Context, w *kept) error {
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	if w.left {
		return k.release(ctx, w)
	}
	if !k.asked { // to show at once that the token is missing or wrong, not only when there is a public URL
		if _, err := k.c.API.List(ctx); err != nil {
			return err
		}
		k.asked = true
	}
	hook, err := k.find(ctx, w)
	if err != nil || w.over {
		return err
	}
	way := k.way()
	address, err := k.target(w, hook, way.url)
	if err != nil {
		return err
	}
	if hook.ID == "" || !w.written || way.url != "" && !k.right(w, hook, address) {
		if !way.proof.Open() || way.url == "" {
			k.wait(w, hook, way)
			return nil
		}
		if hook, err = k.write(ctx, w, hook, address); err != nil || w.over {
			return err
		}
	}
	return k.enable(ctx, w, hook, way)
}

// find returns the webhook as it is on the Hub, without an ID if there is none yet.
func (k *Keeper) find(ctx context.Context, w *kept) (hub.Webhook, error) {
	if w.borrow != "" {
		return k.findBorrowed(ctx, w)
	}
	if w.entry == nil {
		return hub.Webhook{}, nil
	}
	if w.entry.ID == "" {
		return k.findLost(ctx, w.entry)
	}
	hook, err := k.get(ctx, w.entry)
	switch {
	case errors.Is(err, hub.ErrNotFound):
		k.note(w, fmt.Sprintf("the Hub no longer knows webhook %s, so another is made", w.entry.ID))
		w.entry.ID, w.entry.URLs, w.entry.Enabled, w.written, w.enabled = "", nil, false, false, false
		return hub.Webhook{}, k.save()
	case err != nil:
		return hook, err
	case w.entry.Wrote(hook.URL):
		return hook, nil
	}
	if w.written {
		return hook, k.leave(ctx, w, hook)
	}
	if err := k.elsewhere(ctx, hook); err != nil {
		return hook, err
	}
	if err := k.drop(w); err != nil {
		return hook, err
	}
	k.note(w, fmt.Sprintf("someone else has changed the URL of webhook %s to %s; it is left alone, and another is made", hook.ID, hook.PlainURL()))
	return hub.Webhook{}, nil
}

// leave gives up a webhook that someone else has pointed elsewhere. If hubhook changed it back, two hubhooks could change it in turn for ever. A hubhook
// that borrowed the webhook puts back the URL from before at its end. While one keeps the webhook, the entry stays in the record for the next start.
func (k *Keeper) leave(ctx context.Context, w *kept, hook hub.Webhook) error {
	before := w.entry.ownBefore()
	if k.elsewhere(ctx, hook) == nil {
		if err := k.drop(w); err != nil {
			return err
		}
	}
	w.over = true
	k.turn(w, hook, Taken, "", text.WithHint(
		fmt.Errorf("someone else has changed the URL of webhook %s to %s; hubhook leaves it alone from now on%s", hook.ID, hook.PlainURL(), before),
		"does another hubhook keep it? stop one of the two, then start this hubhook again"))
	return nil
}

// elsewhere returns an error where another hubhook keeps the webhook right now, at the URL that the webhook has.
func (k *Keeper) elsewhere(ctx context.Context, hook hub.Webhook) error {
	if k.c.Another == nil || !k.c.Another(ctx, hook.URL, hook.ID) {
		return nil
	}
	return text.WithHint(fmt.Errorf("another hubhook keeps it, at %s", hook.PlainURL()), "stop the other hubhook first")
}

// get returns the webhook of an entry as it is on the Hub. The error is an ErrNotFound only if the webhook is gone.
func (k *Keeper) get(ctx context.Context, e *Entry) (hub.Webhook, error) {
	hook, err := k.c.API.Get(ctx, e.ID)
	if errors.Is(err, hub.ErrNotFound) {
		err = cmp.Or(k.ofAnotherUser(ctx, e), err)
	}
	return hook, err
}

// ofAnotherUser returns an error if the webhook of an entry belongs to another user than the token does, or if the token's user can't be found
// out. The Hub shows a webhook only to its own user.
func (k *Keeper) ofAnotherUser(ctx context.Context, e *Entry) error {
	if e.User == "" || k.c.User == nil {
		return nil
	}
	user, err := k.c.User(ctx)
	if err != nil || user == e.User {
		return err
	}
	return text.WithHint(fmt.Errorf("%s belongs to the Hub's user %s, and the token is one of %s", e.name(), text.OneLine(e.User, 100), text.OneLine(user, 100)),
		"set HF_TOKEN to a token of "+text.OneLine(e.User, 100))
}

// name names the webhook of an entry in messages.
func (e *Entry) name() string {
	if e.ID == "" {
		return "the webhook for " + e.Endpoint
	}
	return "webhook " + e.ID
}

// findLost looks for a webhook that the Hub was asked to make, but whose ID did not arrive. A webhook with a URL of the entry is the one, unless
// its ID is among the entry's Others.
func (k *Keeper) findLost(ctx context.Context, e *Entry) (hub.Webhook, error) {
	if len(e.URLs) == 0 { // the Hub was not asked yet
		return hub.Webhook{}, nil
	}
	hooks, err := k.c.API.List(ctx)
	if err != nil {
		return hub.Webhook{}, err
	}
	var found hub.Webhook
	for _, hook := range hooks {
		if !e.Wrote(hook.URL) || slices.Contains(e.Others, hook.ID) || k.recorded(hook.ID) {
			continue
		}
		if found.ID != "" { // a repeated request has made a second one
			if err := k.c.API.Delete(ctx, hook.ID); err != nil && !errors.Is(err, hub.ErrNotFound) {
				return hub.Webhook{}, err
			}
			continue
		}
		found = hook
	}
	if found.ID == "" {
		return found, k.ofAnotherUser(ctx, e)
	}
	e.ID, e.Others = found.ID, nil
	return found, k.save()
}

// recorded reports whether the record has a webhook with that ID.
func (k *Keeper) recorded(id string) bool {
	return slices.ContainsFunc(k.record.Entries, func(e *Entry) bool { return e.Hub == k.c.Hub && e.ID == id })
}

// Wrote reports whether hubhook gave a webhook that URL.
func (e *Entry) Wrote(address string) bool {
	return slices.ContainsFunc(e.URLs, func(ours string) bool { return sameURL(ours, address) })
}

// right reports whether hook posts to address and watches what it has to. Its state does not count.
func (k *Keeper) right(w *kept, hook hub.Webhook, address string) bool {
	return sameURL(hook.URL, address) && (w.borrow != "" || sameItems(w.watched, hook.Watched) && allDomains(hook.Domains))
}

func sameItems(want, have []hub.Watched) bool {
	if len(want) != len(have) {
		return false
	}
	return !slices.ContainsFunc(want, func(item hub.Watched) bool { return !slices.Contains(have, item) })
}

func allDomains(have []hub.Domain) bool {
	return !slices.ContainsFunc(hub.Domains(), func(d hub.Domain) bool { return !slices.Contains(have, d) })
}

// write makes the webhook, or changes the one that is there, so that it posts to address.
func (k *Keeper) write(ctx context.Context, w *kept, hook hub.Webhook, address string) (hub.Webhook, error) {
	if w.borrow != "" {
		return k.writeBorrowed(ctx, w, hook, address)
	}
	if w.entry == nil {
		w.entry = &Entry{Hub: k.c.Hub, Endpoint: w.endpoint}
		k.record.Entries = append(k.record.Entries, w.entry)
	}
	if w.entry.Secret == "" && len(k.c.Secrets) == 0 {
		w.entry.Secret = rand.Text()
		k.mu.Lock()
		k.accept(w.entry)
		k.mu.Unlock()
	}
	if hook.ID == "" {
		return k.create(ctx, w, address)
	}
	before := hook
	hook.URL, hook.Watched, hook.Domains, hook.Secret = address, w.watched, hub.Domains(), k.secretOf(w.entry)
	after, err := k.update(ctx, w, hook)
	if err != nil {
		return after, err
	}
	switch {
	case !sameURL(before.URL, address):
		k.note(w, "pointed at "+after.PlainURL())
	case !sameItems(before.Watched, w.watched):
		k.note(w, "watches "+itemList(w.watched))
	}
	return after, nil
}

// secretOf returns the secret that a webhook of hubhook's own gets.
func (k *Keeper) secretOf(e *Entry) hub.Secret {
	if len(k.c.Secrets) > 0 {
		return hub.Secret(k.c.Secrets[0])
	}
	return hub.Secret(e.Secret)
}

// create asks the Hub for a webhook.
func (k *Keeper) create(ctx context.Context, w *kept, address string) (hub.Webhook, error) {
	hooks, err := k.c.API.List(ctx)
	if err != nil {
		return hub.Webhook{}, err
	}
	e := w.entry
	e.add(address)
	for _, hook := range hooks {
		if e.Wrote(hook.URL) && !slices.Contains(e.Others, hook.ID) {
			e.Others = append(e.Others, hook.ID)
			if hook.State == hub.Enabled && sameURL(hook.URL, address) {
				k.note(w, fmt.Sprintf("webhook %s posts to the same URL and is not kept by hubhook: what both watch comes twice", hook.ID))
			}
		}
	}
	if err := k.announce(ctx, e, address); err != nil {
		return hub.Webhook{}, err
	}
	hook, err := k.c.API.Create(ctx, hub.NewWebhook{URL: address, Watched: w.watched, Domains: hub.Domains(), Secret: k.secretOf(e)})
	if err != nil {
		return hook, err
	}
	e.ID, e.URLs, e.Others = hook.ID, ownURLs(address, hook.URL), nil
	if err := k.save(); err != nil {
		return hook, err
	}
	w.written = true
	k.note(w, fmt.Sprintf("made on the Hub, posts to %s, watches %s", hook.PlainURL(), itemList(w.watched)))
	return hook, nil
}

// announce records that the webhook is about to get that URL, and to be enabled.
func (k *Keeper) announce(ctx context.Context, e *Entry, address string) error {
	e.add(address)
	e.Enabled = true
	if k.c.User != nil {
		user, _ := k.c.User(ctx) // the webhook can be kept without the name
		e.User = cmp.Or(user, e.User)
	}
	return k.save()
}

// add notes that the webhook is about to get that URL. Only the newest few are kept.
func (e *Entry) add(address string) {
	address = hideSecrets(address)
	if !slices.Contains(e.URLs, address) {
		e.URLs = append(e.URLs, address)
		e.URLs = e.URLs[max(0, len(e.URLs)-mostURLs):]
	}
}

const mostURLs = 8

// ownURLs are the URL that the Hub was given, and the form in which the Hub has it, without secrets.
func ownURLs(given, has string) []string {
	given, has = hideSecrets(given), hideSecrets(has)
	if given == has || has == "" {
		return []string{given}
	}
	return []string{given, has}
}

// update sends hook back to the Hub, whole. The new URL is added to the record before, and is the only one there afterwards.
func (k *Keeper) update(ctx context.Context, w *kept, hook hub.Webhook) (hub.Webhook, error) {
	e := w.entry
	if err := k.announce(ctx, e, hook.URL); err != nil {
		return hook, err
	}
	after, err := k.c.API.Update(ctx, hook)
	if err != nil {
		return after, err
	}
	e.URLs = ownURLs(hook.URL, after.URL)
	if e.Borrowed != nil {
		e.Borrowed.URL = hideSecrets(e.Borrowed.URL) // an earlier version stored the secrets; now the new URL on the Hub has them
	}
	if err := k.save(); err != nil {
		return after, err
	}
	w.written = true
	return after, nil
}

// enable has the Hub deliver, unless someone else has disabled the webhook while hubhook ran.
func (k *Keeper) enable(ctx context.Context, w *kept, hook hub.Webhook, way way) error {
	now := time.Now()
	switch {
	case hook.State == hub.Enabled:
		w.enabled = true
		k.turn(w, hook, Active, "", nil)
		return nil
	case hook.State == hub.Disabled && w.enabled:
		k.turn(w, hook, Disabled, "", text.WithHint(errors.New("someone else has disabled it, so nothing comes until it is enabled"), "hubhook hub enable "+hook.ID))
		return nil
	case !way.proof.Open() || now.Before(w.resumed.Add(w.resumeGap)):
		k.turn(w, hook, Suspended, "", k.whySuspended(w, way))
		return nil
	}
	suspended := hook.State == hub.Suspended
	if suspended && w.enabled { // else the suspension is older than this process
		k.turn(w, hook, Suspended, "", nil)
	}
	w.entry.Enabled = true
	if err := k.save(); err != nil {
		return err
	}
	hook, err := k.c.API.Enable(ctx, hook.ID)
	if err != nil {
		return err
	}
	if suspended && w.enabled { // an older suspension does not tell how deliveries to this process end
		if now.Sub(w.resumed) > lastResume {
			w.resumeGap = 0
		}
		w.resumed, w.resumeGap = now, min(max(2*w.resumeGap, firstResume), lastResume)
	}
	w.enabled = true
	k.turn(w, hook, Active, map[bool]string{true: "enabled again after a suspension", false: "enabled"}[suspended], nil)
	return nil
}

func (k *Keeper) whySuspended(w *kept, way way) error {
	err := errors.New("the Hub has suspended it, because its deliveries failed")
	if !way.proof.Open() {
		return text.WithHint(err, "hubhook enables it again once the public URL leads here")
	}
	return text.WithHint(err, fmt.Sprintf("hubhook enabled it a short time ago, so the next try is at %s; see at %s/settings/webhooks why deliveries fail",
		w.resumed.Add(w.resumeGap).Format("15:04:05"), k.c.Hub))
}

// wait shows that w waits for a public URL, and why.
func (k *Keeper) wait(w *kept, hook hub.Webhook, way way) {
	var why error
	switch {
	case way.url == "" && way.proof != Pending:
		why = text.WithHint(errors.New("there is no public URL to which the Hub could post"), "open a tunnel, or name the URL with --public-url")
	case way.proof == Unreachable:
		why = text.WithHint(errors.New("the public URL does not lead here"), "look whether another program has taken this URL")
	}
	k.turn(w, hook, Waiting, "", why)
}

func itemList(items []hub.Watched) string { return strings.Join(names(items), ", ") }
