package sqlite

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// A split search finds the same deliveries as one search through all rows, in the same order and pages.
func TestSearchInParts(t *testing.T) {
	dir := t.TempDir()
	open := func(splitRows int) *Engine {
		e, err := Open(t.Context(), filepath.Join(dir, DatabaseName), Config{splitRows: splitRows, Warn: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open(1 << 30)
	random := rand.New(rand.NewPCG(1, 2))
	ids := store.IDSource{}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := &store.Batch{}
	var last string
	for i := range 200 {
		now = now.Add(time.Duration(random.IntN(1e10)))
		a := &store.Arrival{}
		a.Stored.ULID = ids.Next(now)
		last = a.Stored.ULID.String()
		a.Stored.Delivery = store.Delivery{
			ID: last, Endpoint: []string{"inbox", "other"}[min(1, random.IntN(20))], Received: now,
			State: store.States()[random.IntN(len(store.States()))], WebhookID: fmt.Sprintf("%x", random.Uint32()), Scope: []string{"repo", "repo.content", "repository"}[i%3],
			RepoType: "dataset", RepoName: fmt.Sprintf("me/data_%d%%", random.IntN(30)), Action: "update",
		}
		b.Arrivals = append(b.Arrivals, a)
	}
	if err := e.Commit(b); err != nil {
		t.Fatal(err)
	}
	filters := []store.Filter{
		{}, {Query: "data_7"}, {Query: "a"}, {Query: "A7"}, {Query: "nothing"}, {Query: last}, {Query: last[10:]}, {Query: last[:6]},
		{Scope: "repo"}, {Scope: "nothing"}, {Repo: "me/data_3%"}, {Endpoint: "inbox"}, {Endpoint: "other", Query: "0"}, {Endpoint: "nothing"},
		{Since: now.Add(-20 * time.Minute), Query: "f"}, {Unreplayed: true, Query: "c"}, {Action: "create"},
	}
	for _, s := range store.States() {
		filters = append(filters, store.Filter{State: s}, store.Filter{State: s, Query: "9"}, store.Filter{State: s, Endpoint: "other"})
	}
	lists := func(e *Engine) (all [][]string) {
		for _, f := range filters {
			var found []string
			for f.Limit = 30; ; {
				ds, next, err := e.List(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range ds {
					found = append(found, d.ID)
				}
				if f.Before = next; next == "" {
					break
				}
				found = append(found, "next page")
			}
			all = append(all, found)
		}
		return all
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(1 << 30) // running deliveries become waiting when it opens
	want := lists(e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if len(want[0]) != 200+200/30 || len(want[5]) != 1 || len(want[6]) != 1 || want[4] != nil {
		t.Fatalf("not in parts: %d, %v, %v, %v", len(want[0]), want[4], want[5], want[6])
	}
	for _, splitRows := range []int{2, 20, 150, 201} {
		e := open(splitRows)
		for i, got := range lists(e) {
			if !reflect.DeepEqual(got, want[i]) {
				t.Errorf("from %d rows on, %+v gives\n%v\nwant\n%v", splitRows, filters[i], got, want[i])
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
