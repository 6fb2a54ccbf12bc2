package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Task is the name under which one of several processes that share a database follows. Marks of following begin with it and a slash.
const Task = "follow"

// Mark is what was seen of an item, in its stored form. A Store refuses a mark with ErrMoved unless its Version is that of the mark in its place.
type Mark struct {
	Key     string
	Value   []byte
	Version int64 // the version of the mark that this one replaces, 0 for none
}

// ErrMoved is what a Store returns if the stored mark has another version than the caller thinks. Either another process follows by now, or the
// Store kept an earlier mark although its answer was lost.
var ErrMoved = errors.New("what was seen has changed meanwhile")

// Delivery is a delivery to be stored together with a mark.
type Delivery struct {
	Endpoint  string
	WebhookID string
	Body      []byte
	Mark      Mark
}

// Store keeps deliveries and marks.
type Store interface {
	// Marks returns the marks whose keys begin with prefix. A mark that replaces one of them has to have its Version.
	Marks(ctx context.Context, prefix string) ([]Mark, error)
	// SetMark stores a mark alone.
	SetMark(ctx context.Context, m Mark) error
	// Deliver stores a delivery and its mark, both or none.
	Deliver(ctx context.Context, d Delivery) error
}

// seen is what was last seen of a repo, or of a bucket without its files.
type seen struct {
	ID        string            `json:"id,omitempty"`
	Made      string            `json:"made,omitempty"` // when a bucket was made, to tell it from a later bucket of the same name
	Name      string            `json:"name"`           // today's
	Subdomain string            `json:"subdomain,omitempty"`
	Private   bool              `json:"private,omitempty"`
	Gone      bool              `json:"gone,omitempty"` // its deletion was delivered
	Refs      map[string]string `json:"refs,omitempty"`
	Count     int64             `json:"count"` // of deliveries so far
}

// note is a mark of one item for one endpoint, with what it says.
type note[T any] struct {
	key      string
	endpoint string
	loaded   bool
	version  int64 // 0: nothing was seen yet
	seen     T
}

// load reads the note from the store, unless it was read already.
func (n *note[T]) load(ctx context.Context, s Store) error {
	if n.loaded {
		return nil
	}
	marks, err := s.Marks(ctx, n.key)
	if err != nil {
		return fmt.Errorf("read what was seen: %w", err)
	}
	var nothing T
	n.version, n.seen = 0, nothing
	for _, m := range marks {
		if m.Key != n.key { // n.key is only the beginning of this key
			continue
		}
		if err := json.Unmarshal(m.Value, &n.seen); err != nil {
			return fmt.Errorf("read what was seen of %s: %w", n.key, err)
		}
		n.version = m.Version
	}
	n.loaded = true
	return nil
}

// store stores what was seen, with the event that it led to, nil for none. After an error the note may be stored all the same; then the next store
// returns ErrMoved.
func (n *note[T]) store(ctx context.Context, s Store, now T, e *event, prefix string, count int64) error {
	value, err := json.Marshal(now)
	if err != nil {
		return err
	}
	mark := Mark{Key: n.key, Value: value, Version: n.version}
	if e == nil {
		err = s.SetMark(ctx, mark)
	} else {
		d := Delivery{Endpoint: n.endpoint, Mark: mark}
		if d.WebhookID, d.Body, err = e.id(prefix, count); err == nil {
			err = s.Deliver(ctx, d)
		}
	}
	switch {
	case errors.Is(err, ErrMoved):
		n.loaded = false
		return err
	case err != nil:
		return fmt.Errorf("store what was seen: %w", err)
	}
	n.version, n.seen = mark.Version+1, now
	return nil
}

// sleep waits until d has passed or ctx has ended.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
