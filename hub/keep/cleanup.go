package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

// Cleaned is what Cleanup has done about one webhook of the record.
type Cleaned struct {
	Endpoint string
	ID       string // "" for a webhook that was never made
	Borrowed bool
	Done     string // what was done, in words
	Err      error  // why nothing was done, with a hint where there is one; the entry stays in the record
}

// Cleanup deletes the webhooks of the record that hubhook made, and gives back those that it borrowed. It does not use Watch, Borrow and
// Show of c. No other process may use the record meanwhile. What it returns is in the order of endpoints. The error is one of the record itself.
func Cleanup(ctx context.Context, c Config) ([]Cleaned, error) {
	c.Watch, c.Borrow, c.Show = nil, nil, nil
	k := New(c)
	if err := k.load(); err != nil {
		return nil, err
	}
	entries := slices.Clone(k.record.Entries) // clean takes entries out of the record
	// The record has them as they were made, and several are made at once.
	slices.SortStableFunc(entries, func(a, b *Entry) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	var all []Cleaned
	for _, e := range entries {
		one := Cleaned{Endpoint: e.Endpoint, ID: e.ID, Borrowed: e.Borrowed != nil}
		if e.Hub != c.Hub {
			one.Err = text.WithHint(fmt.Errorf("it is on another Hub, %s", e.Hub), "run the command again with HF_ENDPOINT="+e.Hub)
		} else {
			w := &kept{endpoint: e.Endpoint, entry: e}
			w.view = newView(w)
			one.Err = k.clean(ctx, w)
			if len(w.notes) == 0 && len(w.view.Changes) > 0 {
				w.notes = []string{w.view.Changes[0].Text}
			}
			if one.Err == nil {
				one.Done = cmp.Or(strings.Join(w.notes, "; "), "nothing is left of it on the Hub")
			}
			one.ID = cmp.Or(e.ID, one.ID)
		}
		all = append(all, one)
	}
	return all, nil
}

// clean deletes a webhook that hubhook made, and gives a borrowed one back.
func (k *Keeper) clean(ctx context.Context, w *kept) error {
	return k.letGo(ctx, w, func(hook hub.Webhook) error {
		if err := k.c.API.Delete(ctx, hook.ID); err != nil && !errors.Is(err, hub.ErrNotFound) {
			return err
		}
		if err := k.drop(w); err != nil {
			return err
		}
		k.note(w, "deleted; it posted to "+hook.PlainURL())
		return nil
	})
}
