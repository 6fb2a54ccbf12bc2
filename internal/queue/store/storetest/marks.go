package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// wantMarks compares all stored marks that begin with prefix.
func (b *Bench) wantMarks(prefix string, want ...store.Mark) {
	b.Helper()
	got, err := b.Marks(b.Context(), prefix)
	b.Must(err)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		b.Errorf("the marks that begin with %q (-want +got):\n%s", prefix, diff)
	}
}

func conformMarks(t *testing.T, b *Bench) {
	b.wantMarks("")
	alone := store.Mark{Key: "follow/\x00é%_\\", Value: []byte{0, 0xff}}
	first := b.Arrive(func(a *store.Arrival) {
		a.Stored.WebhookID, a.Dedupe = "w", true
		a.Mark = &store.Mark{Key: "follow/b", Value: []byte("1")}
	})
	b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{first}, Alone: []*store.Mark{&alone}}))
	b.Must(b.Commit(&store.Batch{Alone: []*store.Mark{{Key: "other"}}}))
	b.Reopen()
	alone.Version = 1
	b.wantMarks("follow/", alone, store.Mark{Key: "follow/b", Value: []byte("1"), Version: 1})
	b.wantMarks("follow/b", store.Mark{Key: "follow/b", Value: []byte("1"), Version: 1})
	b.wantMarks("oth", store.Mark{Key: "other", Value: []byte{}, Version: 1})

	// A duplicate brings its mark forward as well.
	again := b.Store(func(a *store.Arrival) {
		a.Stored.WebhookID, a.Dedupe = "w", true
		a.Mark = &store.Mark{Key: "follow/b", Value: []byte("2"), Version: 1}
	})
	if again.First == nil {
		t.Error("the second is no duplicate")
	}
	b.wantMarks("follow/b", store.Mark{Key: "follow/b", Value: []byte("2"), Version: 2})

	// What can't be stored leaves its mark as it was.
	twice := b.Arrive(func(a *store.Arrival) { a.Mark = &store.Mark{Key: "follow/b", Value: []byte("3"), Version: 2} })
	twice.Stored.ULID = first.Stored.ULID
	if err := b.Commit(&store.Batch{Arrivals: []*store.Arrival{twice}}); err == nil || errors.Is(err, store.ErrMarkMoved) {
		t.Errorf("an impossible arrival gives %v", err)
	}
	b.wantMarks("follow/b", store.Mark{Key: "follow/b", Value: []byte("2"), Version: 2})
}

func conformMarkVersions(t *testing.T, b *Bench) {
	b.Must(b.Commit(&store.Batch{Alone: []*store.Mark{{Key: "a", Value: []byte("1")}}}))
	for _, version := range []int64{0, 2} {
		a := b.Arrive(func(a *store.Arrival) { a.Mark = &store.Mark{Key: "a", Value: []byte("no"), Version: version} })
		err := b.Commit(&store.Batch{Arrivals: []*store.Arrival{b.Arrive(nil), a}})
		if !errors.Is(err, store.ErrMarkMoved) || b.Outage(err) {
			t.Errorf("version %d in place of 1 gives %v, an outage: %v", version, err, b.Outage(err))
		}
	}
	if err := b.Commit(&store.Batch{Alone: []*store.Mark{{Key: "new", Version: 1}}}); !errors.Is(err, store.ErrMarkMoved) {
		t.Errorf("version 1 in place of nothing gives %v", err)
	}
	if ids := b.Listed(store.Filter{}); len(ids) != 0 {
		t.Errorf("%d deliveries of refused commits are stored", len(ids))
	}
	b.wantMarks("", store.Mark{Key: "a", Value: []byte("1"), Version: 1})
	b.Store(func(a *store.Arrival) { a.Mark = &store.Mark{Key: "a", Value: []byte("2"), Version: 1} })
	b.wantMarks("", store.Mark{Key: "a", Value: []byte("2"), Version: 2})
}

func shareLead(t *testing.T, p *processes) {
	one, two := p.open(0), p.open(0)
	lead := func(b *Bench, token int64, lease time.Duration) bool {
		t.Helper()
		leads, err := b.Engine.(store.Sharing).Lead(t.Context(), "follow", token, lease)
		b.Must(err)
		return leads
	}
	for range 2 {
		if !lead(one, 1, time.Hour) {
			t.Error("the first to ask does not lead")
		}
	}
	if lead(two, 2, time.Hour) {
		t.Error("two lead at once")
	}
	one.Must(one.Commit(&store.Batch{Alone: []*store.Mark{{Key: "follow/a", Value: []byte("1")}, {Key: "follows", Value: []byte("1")}}}))
	if !lead(one, 1, time.Millisecond) {
		t.Error("the leader can't shorten its time")
	}
	Eventually(t, func() bool { return lead(two, 2, time.Hour) })
	if lead(one, 1, time.Hour) {
		t.Error("the leader before leads again while another one does")
	}
	// The new leader has not touched the mark, and yet the one before can't store it any more.
	late := one.Arrive(func(a *store.Arrival) { a.Mark = &store.Mark{Key: "follow/a", Value: []byte("late"), Version: 1} })
	if err := one.Commit(&store.Batch{Arrivals: []*store.Arrival{late}}); !errors.Is(err, store.ErrMarkMoved) {
		t.Errorf("a late commit gives %v", err)
	}
	two.wantMarks("follow/", store.Mark{Key: "follow/a", Value: []byte("1"), Version: 2})
	two.wantMarks("follows", store.Mark{Key: "follows", Value: []byte("1"), Version: 1})
	two.Store(func(a *store.Arrival) { a.Mark = &store.Mark{Key: "follow/a", Value: []byte("2"), Version: 2} })

	one.Must(one.Engine.(store.Sharing).Resign(t.Context(), "follow", 1)) // changes nothing: two leads
	if lead(one, 1, time.Hour) {
		t.Error("one leads after it gave up what it did not have")
	}
	two.Must(two.Engine.(store.Sharing).Resign(t.Context(), "follow", 2))
	if !lead(one, 1, time.Hour) {
		t.Error("one does not lead although the other one gave up")
	}
}
