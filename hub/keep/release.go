package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

// findBorrowed returns a borrowed webhook, if it may be borrowed.
func (k *Keeper) findBorrowed(ctx context.Context, w *kept) (hub.Webhook, error) {
	hook, err := k.get(ctx, cmp.Or(w.entry, &Entry{ID: w.borrow}))
	switch {
	case errors.Is(err, hub.ErrNotFound):
		if w.entry != nil {
			if err := k.drop(w); err != nil {
				return hook, err
			}
			w.written, w.enabled = false, false
		}
		return hook, text.WithHint(fmt.Errorf("borrow webhook %s: the Hub knows none with this ID", w.borrow),
			"hubhook hub list shows yours; webhooks belong to the user of the token")
	case err != nil:
		return hook, err
	case hook.URL == "":
		return hook, text.WithHint(fmt.Errorf("borrow webhook %s: it starts a Job and has no URL", w.borrow), "make another with --watch, or run the Job's handler with hubhook run-job")
	}
	switch {
	case w.entry == nil || w.entry.Wrote(hook.URL):
	case w.written:
		return hook, k.leave(ctx, w, hook)
	case sameURL(hook.URL, w.entry.Borrowed.URL): // hubhook crashed before the change, or somebody put the URL back by hand
	default:
		// After a crash of this hubhook, another one may have borrowed the webhook. At its end the other one puts back the URL in this entry.
		if err := k.elsewhere(ctx, hook); err != nil {
			return hook, notFree(hook, err)
		}
		k.note(w, "someone else has changed its URL to "+hook.PlainURL()+" meanwhile; at the end it gets that URL back")
		w.entry.Borrowed.URL, w.entry.URLs = hideSecrets(hook.URL), nil
		if err := k.save(); err != nil {
			return hook, err
		}
	}
	return hook, nil
}

// notFree is the error for a webhook that can't be borrowed, because another hubhook keeps it. err says where.
func notFree(hook hub.Webhook, err error) error {
	return text.WithHint(fmt.Errorf("borrow webhook %s: %w", hook.ID, err), "stop the other hubhook, or name another webhook here; hubhook borrows this webhook as soon as it is free")
}

// writeBorrowed points a borrowed webhook here, once its own URL and state are in the record.
func (k *Keeper) writeBorrowed(ctx context.Context, w *kept, hook hub.Webhook, address string) (hub.Webhook, error) {
	own, err := w.own(hook)
	if err != nil {
		return hook, err
	}
	secret, err := k.loanSecret(hook, own)
	if err != nil {
		return hook, err
	}
	if w.entry == nil {
		if err := k.elsewhere(ctx, hook); err != nil {
			return hook, notFree(hook, err)
		}
		w.entry = &Entry{Hub: k.c.Hub, Endpoint: w.endpoint, ID: hook.ID, Borrowed: &Original{URL: hideSecrets(hook.URL), State: string(hook.State)}}
		k.record.Entries = append(k.record.Entries, w.entry)
	}
	w.entry.Endpoint = w.endpoint
	before := hook.URL
	hook.URL, hook.Secret = address, secret
	after, err := k.update(ctx, w, hook)
	if err == nil && !sameURL(before, address) {
		k.note(w, "borrowed, pointed at "+after.PlainURL())
	}
	return after, err
}

// loanSecret returns the secret that a borrowed webhook keeps. own is the URL that the webhook has when it is not borrowed. The error
// says why hubhook would refuse the webhook's deliveries, or why the webhook would lose its secret.
func (k *Keeper) loanSecret(hook hub.Webhook, own string) (hub.Secret, error) {
	refuse := func(why, hint string) (hub.Secret, error) {
		return "", text.WithHint(fmt.Errorf("borrow webhook %s: %s", hook.ID, why), hint)
	}
	switch {
	case hook.Secret != "" && len(k.c.Secrets) > 0 && !slices.Contains(k.c.Secrets, string(hook.Secret)):
		return refuse("its secret is none of those that are configured here, so its deliveries would be refused", "add the webhook's secret with --secret or WEBHOOK_SECRET")
	case hook.Secret != "":
		return hook.Secret, nil
	case hook.HasSecret && len(k.c.Secrets) == 0:
		return refuse("it has a secret that the Hub does not show, and that has to be sent back with a change", "give the same secret with --secret or WEBHOOK_SECRET")
	case hook.HasSecret:
		return hub.Secret(k.c.Secrets[0]), nil
	case len(k.c.Secrets) > 0 && !k.acceptsSecretIn(own) && hideSecrets(own) != own:
		return refuse("the secret in its URL is none of those that are configured here, so its deliveries would be refused", "add that secret with --secret or WEBHOOK_SECRET")
	case len(k.c.Secrets) > 0 && !k.acceptsSecretIn(own):
		return refuse("it has no secret, and deliveries without one are refused here", "give the webhook the secret on the Hub, or run without --secret")
	}
	return "", nil
}

// release disables a webhook that hubhook made, and gives a borrowed one back.
func (k *Keeper) release(ctx context.Context, w *kept) error {
	return k.letGo(ctx, w, func(hook hub.Webhook) (err error) {
		if hook.State != hub.Disabled {
			if hook, err = k.c.API.Disable(ctx, hook.ID); err != nil {
				return err
			}
		}
		w.entry.Enabled = false
		if err := k.save(); err != nil {
			return err
		}
		w.over = true
		k.turn(w, hook, Disabled, "no deliveries until the next start", nil)
		return nil
	})
}

// letGo gives a borrowed webhook back. For a webhook that hubhook made it calls end, unless the webhook is gone or someone else has changed it.
func (k *Keeper) letGo(ctx context.Context, w *kept, end func(hub.Webhook) error) error {
	if w.entry.Borrowed != nil {
		return k.giveBack(ctx, w)
	}
	hook, err := k.own(ctx, w)
	switch {
	case err != nil:
		return err
	case hook.ID != "":
		return end(hook)
	case len(w.notes) > 0:
		k.turn(w, hook, Taken, "", nil)
	}
	return nil
}

// own returns the webhook of w, which hubhook made. If the webhook is gone, or someone else has changed it, own drops the entry and returns a
// webhook without an ID.
func (k *Keeper) own(ctx context.Context, w *kept) (hook hub.Webhook, err error) {
	e := w.entry
	if e.ID == "" {
		if hook, err = k.findLost(ctx, e); err != nil {
			return hook, err
		}
	} else {
		hook, err = k.get(ctx, e)
		if err != nil && !errors.Is(err, hub.ErrNotFound) {
			return hook, err
		}
	}
	switch {
	case err != nil || hook.ID == "":
		hook = hub.Webhook{}
	case e.Wrote(hook.URL):
		return hook, nil
	default:
		if err := k.elsewhere(ctx, hook); err != nil {
			return hook, err
		}
		k.note(w, fmt.Sprintf("someone else has changed the URL of webhook %s to %s; it is left alone", hook.ID, hook.PlainURL()))
	}
	if err := k.drop(w); err != nil {
		return hub.Webhook{}, err
	}
	w.over = true
	return hub.Webhook{}, nil
}

// giveBack gives a borrowed webhook the URL and the state that it had. Each step can be repeated.
func (k *Keeper) giveBack(ctx context.Context, w *kept) error {
	e := w.entry
	hook, err := k.get(ctx, e)
	if err != nil && !errors.Is(err, hub.ErrNotFound) {
		return err
	}
	end := func(state, done string) error {
		if err := k.drop(w); err != nil {
			return err
		}
		w.over = true
		k.turn(w, hook, state, done, nil)
		return nil
	}
	back := sameURL(hook.URL, e.Borrowed.URL)
	switch {
	case err != nil:
		return end(Returned, "the Hub no longer knows it")
	case !back && !e.Wrote(hook.URL):
		if err := k.elsewhere(ctx, hook); err != nil { // at its end the other hubhook puts back the URL of this one, so the entry has to stay
			return err
		}
		return end(Taken, "someone else has changed its URL to "+hook.PlainURL()+"; it is left as it is"+e.ownBefore())
	}
	own, err := e.Borrowed.own(hook)
	if err != nil {
		return err
	}
	// Only the Hub can suspend a webhook. So a webhook that was suspended before it was borrowed is disabled now.
	want := hub.WebhookState(e.Borrowed.State)
	stop := func() error {
		if want != hub.Enabled && hook.State != hub.Disabled && hook.State != want {
			hook, err = k.c.API.Disable(ctx, e.ID)
		}
		return err
	}
	if err := stop(); err != nil { // before the update, or the webhook's own URL would get deliveries
		return err
	}
	if hook.URL != own {
		if hook.Secret == "" && hook.HasSecret && len(k.c.Secrets) > 0 { // if none is configured, Update asks for it in its error
			hook.Secret = hub.Secret(k.c.Secrets[0])
		}
		hook.URL = own
		if hook, err = k.c.API.Update(ctx, hook); err != nil {
			return err
		}
	}
	if err := stop(); err != nil {
		return err
	}
	if want == hub.Enabled && hook.State != hub.Enabled {
		if hook, err = k.c.API.Enable(ctx, e.ID); err != nil {
			return err
		}
	}
	return end(Returned, "given back: it posts to "+hook.PlainURL()+" again")
}

// unreleased is the error of a webhook that could not be released at the end.
func unreleased(e *Entry, err error) error {
	what := "disable %s: %w; the Hub still posts to this URL"
	if e.Borrowed != nil {
		what = "give back %s: %w"
	}
	return text.WithHint(fmt.Errorf(what, e.name(), err), "the next start does it, or: hubhook hub cleanup")
}

// ownBefore says which URL a borrowed webhook had, so that a person can put it back by hand.
func (e *Entry) ownBefore() string {
	if e.Borrowed == nil {
		return ""
	}
	return "; before it was borrowed it posted to " + hub.Webhook{URL: e.Borrowed.URL}.PlainURL()
}
