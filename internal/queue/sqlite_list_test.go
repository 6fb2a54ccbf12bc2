package queue

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// A search in parts finds the same, in the same order and pages, as one that goes through all.
func TestSearchInParts(t *testing.T) {
	dir := t.TempDir()
	open := func(splitRows int) *sqliteEngine {
		e, err := openSQLite(t.Context(), filepath.Join(dir, databaseName), sqliteConfig{splitRows: splitRows, warn: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open(1 << 30)
	random := rand.New(rand.NewPCG(1, 2))
	ids := idSource{}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := &batch{}
	var last string
	for i := range 200 {
		now = now.Add(time.Duration(random.IntN(1e10)))
		a := &arrival{}
		a.d.id = ids.next(now)
		last = a.d.id.String()
		a.d.Delivery = Delivery{
			ID: last, Endpoint: []string{"inbox", "other"}[min(1, random.IntN(20))], Received: now,
			State: States()[random.IntN(len(States()))], WebhookID: fmt.Sprintf("%x", random.Uint32()), Scope: []string{"repo", "repo.content", "repository"}[i%3],
			RepoType: "dataset", RepoName: fmt.Sprintf("me/data_%d%%", random.IntN(30)), Action: "update",
		}
		b.arrivals = append(b.arrivals, a)
	}
	if err := e.commit(b); err != nil {
		t.Fatal(err)
	}
	filters := []Filter{
		{}, {Query: "data_7"}, {Query: "a"}, {Query: "A7"}, {Query: "nothing"}, {Query: last}, {Query: last[10:]}, {Query: last[:6]},
		{Scope: "repo"}, {Scope: "nothing"}, {Repo: "me/data_3%"}, {Endpoint: "inbox"}, {Endpoint: "other", Query: "0"}, {Endpoint: "nothing"},
		{Since: now.Add(-20 * time.Minute), Query: "f"}, {Unreplayed: true, Query: "c"}, {Action: "create"},
	}
	for _, s := range States() {
		filters = append(filters, Filter{State: s}, Filter{State: s, Query: "9"}, Filter{State: s, Endpoint: "other"})
	}
	lists := func(e *sqliteEngine) (all [][]string) {
		for _, f := range filters {
			var found []string
			for f.Limit = 30; ; {
				ds, next, err := e.list(t.Context(), f)
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
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	e = open(1 << 30) // which makes wait what ran
	want := lists(e)
	if err := e.close(); err != nil {
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
		if err := e.close(); err != nil {
			t.Fatal(err)
		}
	}
}
