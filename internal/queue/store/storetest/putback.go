package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// conformPutBack starts deliveries and puts them back without an attempt: they wait as before, in their places, and nothing is left of the
// start, not even after a crash.
func conformPutBack(t *testing.T, b *Bench) {
	putBack := func(a *store.Arrival, attempts int, token int64) {
		t.Helper()
		k := &store.End{
			ID: a.Stored.ULID, Endpoint: a.Stored.Endpoint, From: store.Running, To: store.Waiting, RunAt: a.Stored.Received,
			Attempts: attempts, Failures: attempts, Token: token,
		}
		b.Must(b.Commit(&store.Batch{Ends: []*store.End{k}}))
		if k.Lost {
			t.Fatal("it was not put back")
		}
	}
	running := func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 }
	fresh, failed, last := b.Store(running), b.Store(running), b.Store(nil)
	putBack(fresh, 0, 77)
	k := b.End(failed, store.Waiting, "boom")
	k.Failures, k.RunAt, k.Token = 1, failed.Stored.Received, 77
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{k}}))

	_, token := b.Start(fresh)
	putBack(fresh, 0, token)
	r, err := b.Get(t.Context(), fresh.Stored.ULID)
	b.Must(err)
	if r.State != store.Waiting || r.Reason != "" || r.Attempts != 0 || len(r.AttemptList) != 0 {
		t.Errorf("put back twice, it is %+v", r)
	}

	_, token = b.Start(fresh)
	started, second := b.Start(failed)
	putBack(failed, 1, second)
	putBack(fresh, 0, token)
	r, err = b.Get(t.Context(), failed.Stored.ULID)
	b.Must(err)
	if diff := cmp.Diff([]store.Attempt{k.Attempt}, r.AttemptList); diff != "" || r.State != store.Waiting || r.Attempts != 1 {
		t.Errorf("put back after a failure, it is %+v (started %v): %s", r, started, diff)
	}

	b.Interrupt()
	left, err := b.Backlog("inbox")
	b.Must(err)
	want := []store.Due{
		{ID: fresh.Stored.ULID, At: fresh.Stored.Received.UnixNano()},
		{ID: failed.Stored.ULID, At: failed.Stored.Received.UnixNano(), Attempts: 1, Failures: 1},
		{ID: last.Stored.ULID, At: last.Stored.Received.UnixNano()},
	}
	if diff := cmp.Diff(want, left, cmp.AllowUnexported(store.Due{})); diff != "" {
		t.Error(diff)
	}

	at, token := b.Start(fresh)
	done := &store.End{ID: fresh.Stored.ULID, Endpoint: "inbox", From: store.Running, To: store.Done, Attempts: 1, Token: token}
	done.Attempt = store.Attempt{N: 1, Started: at, Ended: true}
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{done}}))
	if r, err = b.Get(t.Context(), fresh.Stored.ULID); err != nil || r.State != store.Done || r.Attempts != 1 || len(r.AttemptList) != 1 {
		t.Errorf("handled at last, it is %+v, %v", r, err)
	}
	counts, err := b.Counts(t.Context())
	b.Must(err)
	if diff := cmp.Diff(store.Counts{"inbox": {store.Waiting: 2, store.Done: 1}}, counts); diff != "" {
		t.Error(diff)
	}
}
