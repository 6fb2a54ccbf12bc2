// Package storetest is the suite that every engine passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// cases are what every engine does the same way.
var cases = map[string]func(t *testing.T, b *Bench){
	"content comes back byte for byte":            conformContent,
	"one with an earlier Webhook-Id is duplicate": conformDedupe,
	"states, attempts and counts follow a batch":  conformStates,
	"one that was put back was never started":     conformPutBack,
	"lists filter and page":                       conformList,
	"searches look at ids and names":              conformQuery,
	"unfinished ones come back after a reopening": conformReopen,
	"retention leaves the unfinished alone":       conformRetention,
	"discarding says what it met":                 conformDiscard,
	"a batch is kept as a whole or not at all":    conformAtomic,
	"the last of a burst is left of it":           conformBurst,
	"a mark goes with its arrival":                conformMarks,
	"a mark that is out of date is refused":       conformMarkVersions,
	"time series count by step, endpoint, state":  conformTimeSeries,
	"percentiles are nearly exact":                conformPercentiles,
}

// Suite runs the cases that every engine must pass.
type Suite struct {
	// Open opens the engine under test on what is stored in dir, which is empty at first.
	Open func(t *testing.T, dir string) store.Engine
	// Left returns the unfinished deliveries of an endpoint, none of which is running. It is needed only for an engine that is
	// not a store.Owning, whose backlog is not asked for otherwise.
	Left func(ctx context.Context, e store.Engine, endpoint string) ([]store.Due, error)
}

// Run runs the cases with these names, all without any.
func (s Suite) Run(t *testing.T, names ...string) {
	for what, test := range cases {
		if len(names) > 0 && !slices.Contains(names, what) {
			continue
		}
		t.Run(what, func(t *testing.T) { test(t, NewBench(t, s)) })
	}
}

// Bench is an engine under test, with a clock.
type Bench struct {
	*testing.T
	store.Engine
	Suite Suite
	Dir   string
	Now   time.Time
	Ids   store.IDSource
}

// NewBench opens an engine in a directory of its own, and closes it when the test ends.
func NewBench(t *testing.T, s Suite) *Bench {
	t.Helper()
	b := &Bench{T: t, Suite: s, Dir: t.TempDir(), Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.Engine = s.Open(t, b.Dir)
	t.Cleanup(func() {
		if err := b.Engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *Bench) Must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *Bench) Reopen() {
	b.Helper()
	b.Must(b.Engine.Close())
	b.Engine = b.Suite.Open(b.T, b.Dir)
}

// Interrupt makes the engine notice that what runs was interrupted: by opening the engine again, or, where deliveries are shared,
// by waiting until the leases have ended.
func (b *Bench) Interrupt() {
	b.Helper()
	b.Reopen()
	if _, ok := b.Engine.(store.Sharing); ok {
		b.InterruptAll()
	}
}

// Backlog returns the unfinished deliveries of an endpoint, none of which is running.
func (b *Bench) Backlog(endpoint string) ([]store.Due, error) {
	if e, ok := b.Engine.(store.Owning); ok {
		return e.Backlog(b.Context(), endpoint)
	}
	return b.Suite.Left(b.Context(), b.Engine, endpoint)
}

// Start starts a, which must be due first of those that wait, and returns when it was started, and the token of its claim where deliveries
// are shared.
func (b *Bench) Start(a *store.Arrival) (at time.Time, token int64) {
	b.Helper()
	s, ok := b.Engine.(store.Sharing)
	if !ok {
		b.Must(b.Commit(&store.Batch{Starts: []*store.Start{{ID: a.Stored.ULID, Endpoint: a.Stored.Endpoint, From: store.Waiting, At: b.Now}}}))
		return b.Now, 0
	}
	for _, suspects := range []bool{true, false} {
		claimed, _, err := s.Claim(b.Context(), []store.Want{{Endpoint: a.Stored.Endpoint, N: 1, Suspects: suspects}})
		b.Must(err)
		if len(claimed) == 1 && claimed[0].ULID == a.Stored.ULID {
			return claimed[0].Started, claimed[0].Token
		}
	}
	b.Fatalf("%s could not be started", a.Stored.ID)
	return time.Time{}, 0
}

// Arrive makes an arrival that was received one second after the last one.
func (b *Bench) Arrive(change func(*store.Arrival)) *store.Arrival {
	b.Now = b.Now.Add(time.Second)
	a := &store.Arrival{}
	a.Stored.ULID = b.Ids.Next(b.Now)
	a.Stored.Delivery = store.Delivery{ID: a.Stored.ULID.String(), Endpoint: "inbox", State: store.Waiting, Received: b.Now}
	if change != nil {
		change(a)
	}
	if a.Stored.State == store.Running {
		a.Stored.Attempts, a.Stored.Started = 1, b.Now
	}
	return a
}

// Store commits one arrival.
func (b *Bench) Store(change func(*store.Arrival)) *store.Arrival {
	b.Helper()
	a := b.Arrive(change)
	b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{a}}))
	return a
}

// StoreDone stores n deliveries that are done, 500 in a commit.
func StoreDone(tb testing.TB, e store.Engine, n int) {
	tb.Helper()
	ids := store.IDSource{}
	body := bytes.Repeat([]byte(`{"event":{"action":"update"}} `), 50)
	for left := n; left > 0; {
		batch := &store.Batch{}
		for ; left > 0 && len(batch.Arrivals) < 500; left-- {
			now := time.Now()
			a := &store.Arrival{Body: body}
			a.Stored.ULID = ids.Next(now)
			a.Stored.Delivery = store.Delivery{
				Endpoint: "inbox", State: store.Done, Received: now, Scope: "repo.content", Action: "update", RepoType: "dataset", RepoName: "me/data",
			}
			batch.Arrivals = append(batch.Arrivals, a)
		}
		if err := e.Commit(batch); err != nil {
			tb.Fatal(err)
		}
	}
}

func In(s store.State) func(*store.Arrival) { return func(a *store.Arrival) { a.Stored.State = s } }

// End is the end of a running delivery's first attempt.
func (b *Bench) End(a *store.Arrival, to store.State, reason string) *store.End {
	k := &store.End{ID: a.Stored.ULID, Endpoint: a.Stored.Endpoint, From: store.Running, To: to, Reason: reason, Attempts: 1}
	k.Attempt = store.Attempt{N: 1, Started: b.Now, Ended: true, Duration: 3 * time.Millisecond, Error: reason}
	if to == store.Retrying {
		k.Failures, k.RunAt = 1, b.Now.Add(time.Minute)
	}
	return k
}

func (b *Bench) State(a *store.Arrival) store.State {
	b.Helper()
	r, err := b.Get(b.Context(), a.Stored.ULID)
	b.Must(err)
	return r.State
}

func (b *Bench) Listed(f store.Filter) (ids []string) {
	b.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	ds, _, err := b.List(b.Context(), f)
	b.Must(err)
	for _, d := range ds {
		ids = append(ids, d.ID)
	}
	return ids
}

func conformContent(t *testing.T, b *Bench) {
	header := http.Header{"X": {"a", "", "\xff\x00é"}, "Y": {"\r\n"}}
	for name, body := range map[string][]byte{
		"empty": {}, "NUL": []byte("{\"a\":\"\x00\\u0000\"}"), "no text": {0xff, 0xfe, 0}, "large": bytes.Repeat([]byte("compressible "), 10000),
	} {
		packed, encoding := store.PackBody(body)
		a := b.Store(func(a *store.Arrival) {
			a.Stored.Scope, a.Stored.Action, a.Stored.RepoType, a.Stored.RepoName = "repo\x00", "\xffup", "dataset", "me/ünï"
			a.Stored.WebhookID, a.Stored.Synthetic = "w"+name, true
			a.Header, a.Body, a.Encoding = store.PackHeader(header), packed, encoding
		})
		b.Reopen()
		r, err := b.Get(t.Context(), a.Stored.ULID)
		b.Must(err)
		if !bytes.Equal(r.Body, body) || !reflect.DeepEqual(r.Header, header) {
			t.Errorf("%s: body %.40q, header %q came back", name, r.Body, r.Header)
		}
		if diff := cmp.Diff(a.Stored.Delivery, r.Delivery, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func conformDedupe(t *testing.T, b *Bench) {
	with := func(id string, since time.Time) func(*store.Arrival) {
		return func(a *store.Arrival) {
			a.Stored.State, a.Stored.WebhookID, a.Dedupe, a.Since = store.Running, id, true, since
		}
	}
	type firstOne struct {
		end    store.State // of the first one; "" while it runs
		window time.Duration
		want   bool
	}
	firstOnes := []firstOne{
		{"", 0, true},
		{"", time.Hour, true},
		{store.Retrying, 0, true},
		{store.Done, 0, false},
		{store.Done, time.Hour, true},
		{store.Done, time.Millisecond, false},
		{store.Skipped, time.Hour, true},
		{store.Dead, time.Hour, false},
		{store.Discarded, time.Hour, false},
	}
	for i, c := range append(firstOnes, firstOnes...) {
		reopened := i >= len(firstOnes)
		id := fmt.Sprintf("%s%v%v", c.end, c.window, reopened)
		first := b.Store(with(id, time.Time{}))
		if c.end != "" {
			b.Must(b.Commit(&store.Batch{Ends: []*store.End{b.End(first, c.end, "")}}))
		}
		var since time.Time
		if c.window > 0 {
			since = b.Now.Add(-c.window + time.Second)
		}
		if reopened {
			b.Reopen()
			if c.end == "" {
				continue // it was interrupted
			}
		}
		second := b.Store(with(id, since))
		if got := second.First != nil; got != c.want {
			t.Errorf("first one %q, window %v: duplicate is %v", c.end, c.window, got)
		}
		if c.want && (second.First.ID != first.Stored.ID || second.First.Duplicates != 1) {
			t.Errorf("first one %q: the duplicate is one of %+v, want %s", c.end, second.First, first.Stored.ID)
		}
	}
	// In one batch, and not across endpoints; ids of any length and content.
	long := store.StoredWebhookID("\x00" + strings.Repeat("x", 20000))
	one, two, other := b.Arrive(with(long, time.Time{})), b.Arrive(with(long, time.Time{})), b.Arrive(with(long, time.Time{}))
	other.Stored.Endpoint = "other"
	b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{one, two, other}}))
	if one.First != nil || two.First == nil || two.First.ID != one.Stored.ID || other.First != nil {
		t.Errorf("in one batch, the firsts are %v, %v, %v", one.First, two.First, other.First)
	}
	if _, err := b.Get(t.Context(), two.Stored.ULID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a duplicate was stored: %v", err)
	}
	b.Reopen()
	if again := b.Store(with(long, time.Time{})); again.First == nil || again.First.ID != one.Stored.ID {
		t.Errorf("after a restart, the first of the long id is %v", again.First)
	}
}

func conformStates(t *testing.T, b *Bench) {
	direct, waits, retries := b.Store(In(store.Running)), b.Store(nil), b.Store(In(store.Running))
	unreadable := b.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Reason, a.Stack = store.Dead, "unreadable", "stack" })
	k := b.End(direct, store.Done, "")
	k.Attempt.Output, k.Attempt.Result = []byte("out\xff"), []byte("{}")
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{k, b.End(retries, store.Retrying, "no")}}))
	started, _ := b.Start(waits)
	counts, err := b.Counts(t.Context())
	b.Must(err)
	want := store.Counts{"inbox": {store.Running: 1, store.Done: 1, store.Retrying: 1, store.Dead: 1}}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	r, err := b.Get(t.Context(), direct.Stored.ULID)
	b.Must(err)
	if diff := cmp.Diff([]store.Attempt{k.Attempt}, r.AttemptList, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
	r, err = b.Get(t.Context(), waits.Stored.ULID)
	b.Must(err)
	if len(r.AttemptList) != 1 || r.AttemptList[0].Ended || r.AttemptList[0].N != 1 || !r.AttemptList[0].Started.Equal(started) {
		t.Errorf("the attempts of a running one are %+v", r.AttemptList)
	}
	r, err = b.Get(t.Context(), retries.Stored.ULID)
	b.Must(err)
	if r.State != store.Retrying || r.Reason != "no" || !r.RunAt.Equal(b.Now.Add(time.Minute)) || r.Attempts != 1 {
		t.Errorf("the retrying one is %+v", r.Delivery)
	}
	r, err = b.Get(t.Context(), unreadable.Stored.ULID)
	b.Must(err)
	if r.State != store.Dead || r.Reason != "unreadable" || len(r.AttemptList) != 1 || r.AttemptList[0].Stack != "stack" {
		t.Errorf("the unreadable one is %+v", r)
	}
	plain := b.Store(In(store.Running))
	k = b.End(plain, store.Done, "")
	k.Attempt.Started = b.Now.Add(time.Millisecond) // the handler began a little after the delivery was stored
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{k}}))
	r, err = b.Get(t.Context(), plain.Stored.ULID)
	b.Must(err)
	if diff := cmp.Diff([]store.Attempt{k.Attempt}, r.AttemptList, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("an attempt of which there is nothing to say: %s", diff)
	}
	replay := b.Store(func(a *store.Arrival) { a.ReplayOf, a.Stored.ReplayOf = unreadable.Stored.ULID, unreadable.Stored.ID })
	if r, err = b.Get(t.Context(), unreadable.Stored.ULID); err != nil || r.Replays != 1 {
		t.Errorf("a replayed one has %d replays, %v", r.Replays, err)
	}
	if r, err = b.Get(t.Context(), replay.Stored.ULID); err != nil || r.ReplayOf != unreadable.Stored.ID {
		t.Errorf("a replay is one of %q, %v", r.ReplayOf, err)
	}
}

func conformList(t *testing.T, b *Bench) {
	make := func(endpoint, scope, kind, name string, s store.State) string {
		return b.Store(func(a *store.Arrival) {
			a.Stored.Endpoint, a.Stored.Scope, a.Stored.Action, a.Stored.RepoType, a.Stored.RepoName, a.Stored.State = endpoint, scope, "update", kind, name, s
		}).Stored.ID
	}
	d1 := make("a", "repo", "dataset", "me/data", store.Waiting)
	d2 := make("a", "repo.content", "dataset", "me/data", store.Dead)
	d3 := make("b", "repository", "model", "me/data", store.Running)
	since := b.Now
	d4 := make("b", "repo.config", "model", "me/other", store.Dead)
	replay := b.Store(func(a *store.Arrival) {
		a.Stored.Endpoint, a.Stored.State = "a", store.Done
		a.ReplayOf, _ = store.ParseID(d2)
	}).Stored.ID
	for name, c := range map[string]struct {
		f    store.Filter
		want []string
	}{
		"all":        {store.Filter{}, []string{replay, d4, d3, d2, d1}},
		"endpoint":   {store.Filter{Endpoint: "a"}, []string{replay, d2, d1}},
		"no such":    {store.Filter{Endpoint: "c"}, nil},
		"state":      {store.Filter{State: store.Dead}, []string{d4, d2}},
		"both":       {store.Filter{State: store.Dead, Endpoint: "b"}, []string{d4}},
		"empty one":  {store.Filter{State: store.Merged}, nil},
		"odd state":  {store.Filter{State: "odd"}, nil},
		"scope":      {store.Filter{Scope: "repo"}, []string{d4, d2, d1}},
		"narrow":     {store.Filter{Scope: "repo.content"}, []string{d2}},
		"action":     {store.Filter{Action: "create"}, nil},
		"repo":       {store.Filter{Repo: "me/data"}, []string{d3, d2, d1}},
		"typed":      {store.Filter{Repo: "dataset:me/data"}, []string{d2, d1}},
		"since":      {store.Filter{Since: since}, []string{replay, d4, d3}},
		"unreplayed": {store.Filter{State: store.Dead, Unreplayed: true}, []string{d4}},
	} {
		if got := b.Listed(c.f); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	var pages [][]string
	for f := (store.Filter{Limit: 2}); ; {
		ds, next, err := b.List(t.Context(), f)
		b.Must(err)
		var page []string
		for _, d := range ds {
			page = append(page, d.ID)
		}
		pages = append(pages, page)
		if f.Before = next; next == "" {
			break
		}
	}
	if want := [][]string{{replay, d4}, {d3, d2}, {d1}}; !reflect.DeepEqual(pages, want) {
		t.Errorf("pages are %v, want %v", pages, want)
	}
}

func conformQuery(t *testing.T, b *Bench) {
	a := b.Store(func(a *store.Arrival) {
		a.Stored.State, a.Stored.WebhookID, a.Stored.RepoName, a.Stored.Reason = store.Dead, "Hook-77", "Me/50%_off", "Exit 3"
	})
	b.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Stored.RepoName = "other", "me/5000off" })
	for _, q := range []string{a.Stored.ID, a.Stored.ID[11:], a.Stored.ID[23:], a.Stored.ID[8:12], a.Stored.ID[12:20], strings.ToLower(a.Stored.ID[13:]), "hook-7", "50%_OFF", "exit 3"} {
		if got := b.Listed(store.Filter{Query: q}); len(got) != 1 || got[0] != a.Stored.ID {
			t.Errorf("a search for %q finds %v", q, got)
		}
	}
	if got := b.Listed(store.Filter{Query: "nothing like it"}); got != nil {
		t.Errorf("a search for nothing finds %v", got)
	}
}

func conformReopen(t *testing.T, b *Bench) {
	done, waits, retries, ran := b.Store(In(store.Done)), b.Store(nil), b.Store(In(store.Running)), b.Store(In(store.Running))
	k := b.End(retries, store.Retrying, "no")
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{k}}))
	b.Interrupt()
	left, err := b.Backlog("inbox")
	b.Must(err)
	want := []store.Due{
		{ID: ran.Stored.ULID, Attempts: 1, Interruptions: 1},
		{ID: waits.Stored.ULID, At: waits.Stored.Received.UnixNano()},
		{ID: retries.Stored.ULID, At: k.RunAt.UnixNano(), Attempts: 1, Failures: 1, Retrying: true},
	}
	if diff := cmp.Diff(want, left, cmp.AllowUnexported(store.Due{})); diff != "" {
		t.Error(diff)
	}
	ds, n, err := b.Unfinished(t.Context(), 2)
	if err != nil || n != 3 || len(ds) != 2 || ds[0].ID != waits.Stored.ID {
		t.Errorf("unfinished are %v of %d, %v", ds, n, err)
	}
	if last := b.Last(); last.Compare(ran.Stored.ULID) < 0 || last.Compare(done.Stored.ULID) < 0 {
		t.Error("new ids may be lower than old ones")
	}
	for i := 2; i <= store.DeadAfter; i++ {
		b.Start(ran)
		b.Interrupt()
	}
	r, err := b.Get(t.Context(), ran.Stored.ULID)
	b.Must(err)
	if r.State != store.Dead || r.Reason != store.DiedReason || len(r.AttemptList) != store.DeadAfter || r.AttemptList[4].Error != store.InterruptedText {
		t.Errorf("after %d interruptions it is %+v", store.DeadAfter, r)
	}
	if n, err := b.DiscardAll("fresh"); err != nil || n != 2 {
		t.Errorf("discarded %d, %v; want 2", n, err)
	}
	counts, err := b.Counts(t.Context())
	b.Must(err)
	if diff := cmp.Diff(store.Counts{"inbox": {store.Done: 1, store.Dead: 1, store.Discarded: 2}}, counts); diff != "" {
		t.Error(diff)
	}
}

func conformRetention(t *testing.T, b *Bench) {
	sweep := func(r store.Retention) {
		r.Rows = 3
		for more := true; more; {
			var err error
			more, err = b.Sweep(b.Context(), r)
			b.Must(err)
		}
	}
	waits := b.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = "w", true })
	runs, dead := b.Store(In(store.Running)), b.Store(In(store.Dead))
	var done []*store.Arrival
	for range 10 {
		done = append(done, b.Store(In(store.Done)))
	}
	sweep(store.Retention{Before: time.Unix(0, 0), Count: 4})
	if got := b.Listed(store.Filter{State: store.Done}); len(got) != 4 || got[3] != done[6].Stored.ID {
		t.Errorf("by count, %v are left of %d", got, len(done))
	}
	if b.State(waits) != store.Waiting || b.State(runs) != store.Running || b.State(dead) != store.Dead {
		t.Error("the count touched unfinished or dead ones")
	}
	sweep(store.Retention{Before: done[8].Stored.Received, Count: 4})
	if got := b.Listed(store.Filter{}); len(got) != 4 || got[1] != done[8].Stored.ID || got[2] != runs.Stored.ID {
		t.Errorf("by age, %v are left", got)
	}
	if _, err := b.Get(t.Context(), dead.Stored.ULID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an old dead one is still there: %v", err)
	}
	if a := b.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = "w", true }); a.First == nil {
		t.Error("the Webhook-Id of an unfinished one was forgotten")
	}
	counts, err := b.Counts(t.Context())
	b.Must(err)
	if diff := cmp.Diff(store.Counts{"inbox": {store.Waiting: 1, store.Running: 1, store.Done: 2}}, counts); diff != "" {
		t.Error(diff)
	}
	// Several steps of an earlier sweep have passed it by.
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{b.End(runs, store.Done, "")}}))
	sweep(store.Retention{Before: done[8].Stored.Received, Count: 4})
	if got := b.Listed(store.Filter{}); len(got) != 3 || got[1] != done[8].Stored.ID || got[2] != waits.Stored.ID {
		t.Errorf("by age, %v are left once an old one has ended", got)
	}
}

func conformDiscard(t *testing.T, b *Bench) {
	waits, done := b.Store(nil), b.Store(In(store.Done))
	unknown := b.Arrive(nil)
	ds := []*store.Discard{{ID: waits.Stored.ULID, Reason: "by hand"}, {ID: done.Stored.ULID}, {ID: unknown.Stored.ULID}}
	b.Must(b.Commit(&store.Batch{Discards: ds}))
	if ds[0].Before != store.Waiting || ds[0].After.State != store.Discarded || ds[1].Before != store.Done || ds[2].Before != "" {
		t.Errorf("discarding met %q, %q, %q", ds[0].Before, ds[1].Before, ds[2].Before)
	}
	if r, err := b.Get(t.Context(), waits.Stored.ULID); err != nil || r.State != store.Discarded || r.Reason != "by hand" {
		t.Errorf("the discarded one is %+v, %v", r, err)
	}
	if b.State(done) != store.Done {
		t.Error("a finished one was discarded")
	}
	if left, err := b.Backlog("inbox"); err != nil || len(left) != 0 {
		t.Errorf("the backlog is %v, %v", left, err)
	}
}

func conformAtomic(t *testing.T, b *Bench) {
	stored := b.Store(In(store.Running))
	fresh := b.Arrive(nil)
	fresh.Stored.Endpoint = "new"
	twice := b.Arrive(nil)
	twice.Stored.ULID = stored.Stored.ULID // can't be stored again
	err := b.Commit(&store.Batch{Ends: []*store.End{b.End(stored, store.Done, "")}, Arrivals: []*store.Arrival{fresh, twice}})
	if err == nil || b.Outage(err) {
		t.Fatalf("an impossible batch gives %v", err)
	}
	if _, err := b.Get(t.Context(), fresh.Stored.ULID); !errors.Is(err, store.ErrNotFound) || b.State(stored) != store.Running {
		t.Errorf("part of a refused batch was kept: %v", err)
	}
	b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{fresh}}))
	counts, err := b.Counts(t.Context())
	b.Must(err)
	if diff := cmp.Diff(store.Counts{"inbox": {store.Running: 1}, "new": {store.Waiting: 1}}, counts); diff != "" {
		t.Error(diff)
	}
}

func conformBurst(t *testing.T, b *Bench) {
	burstOf := func(endpoint string, key int64) func(*store.Arrival) {
		return func(a *store.Arrival) {
			a.Stored.Endpoint, a.Stored.WebhookID, a.Dedupe = endpoint, a.Stored.ID, true
			a.Burst = &store.Burst{Key: key, Wait: time.Minute, MaxWait: 61500 * time.Millisecond}
		}
	}
	first, elsewhere, other := b.Store(burstOf("inbox", 1)), b.Store(burstOf("elsewhere", 1)), b.Store(burstOf("inbox", 2))
	for name, a := range map[string]*store.Arrival{"the first": first, "that of another endpoint": elsewhere, "that of another key": other} {
		if a.Merged != nil || !a.RunAt.Equal(a.Stored.Received.Add(time.Minute)) {
			t.Errorf("%s is due at %v, merged %v", name, a.RunAt, a.Merged)
		}
	}
	// Two of one batch, and the time that the first one may wait at the most.
	second, third := b.Arrive(burstOf("inbox", 1)), b.Arrive(burstOf("inbox", 1))
	b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{second, third}}))
	if second.Merged == nil || second.Merged.ID != first.Stored.ID || third.Merged == nil || third.Merged.ID != second.Stored.ID {
		t.Fatalf("merged are %v and %v", second.Merged, third.Merged)
	}
	if latest := first.Stored.Received.Add(61500 * time.Millisecond); third.RunAt.Sub(latest).Abs() > time.Millisecond {
		t.Errorf("the third is due at %v, want %v", third.RunAt, latest)
	}
	if b.State(first) != store.Merged || b.State(second) != store.Merged || b.State(third) != store.Waiting {
		t.Errorf("they are %s, %s, %s", b.State(first), b.State(second), b.State(third))
	}
	again := b.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = first.Stored.ID, true })
	if again.First == nil || again.First.ID != first.Stored.ID {
		t.Errorf("the same as one that was merged is a duplicate of %v", again.First)
	}
	s, err := b.Load(t.Context(), third.Stored.ULID)
	b.Must(err)
	if want := []string{first.Stored.ID, second.Stored.ID}; !reflect.DeepEqual(s.Merged, want) || s.Burst == 0 {
		t.Errorf("merged into the third are %v of burst %d, want %v", s.Merged, s.Burst, want)
	}
	if n, err := b.DiscardAll("fresh"); err != nil || n != 3 {
		t.Errorf("discarded %d, %v", n, err)
	}
	revived := b.Store(func(a *store.Arrival) {
		a.Stored.State, a.Stored.WebhookID, a.Dedupe, a.Since = store.Done, first.Stored.ID, true, first.Stored.Received.Add(-time.Hour)
	})
	if revived.First != nil {
		t.Error("one whose burst was discarded can't be revived")
	}
	if next := b.Store(burstOf("inbox", 1)); next.Merged != nil {
		t.Errorf("one that was discarded is merged: %v", next.Merged)
	}
	counts, err := b.Counts(t.Context())
	b.Must(err)
	want := store.Counts{"inbox": {store.Merged: 2, store.Discarded: 2, store.Waiting: 1, store.Done: 1}, "elsewhere": {store.Discarded: 1}}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
}

// Eventually waits until cond holds, for what other goroutines or processes do.
func Eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited 30 s in vain")
		}
	}
}
