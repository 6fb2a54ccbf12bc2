package queue

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// engines open the engine under test on what is stored in dir, which is empty at first. Another engine joins with a line.
var engines = map[string]func(t *testing.T, dir string) engine{
	"sqlite": func(t *testing.T, dir string) engine {
		e, err := openSQLite(t.Context(), filepath.Join(dir, "hubhook.db"), sqliteConfig{warn: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
	"postgres": func(t *testing.T, dir string) engine {
		return openTestPostgres(t, databaseOf(t, dir), postgresConfig{lease: 150 * time.Millisecond})
	},
}

// conform is what every engine does the same way.
var conform = map[string]func(t *testing.T, b *bench){
	"content comes back byte for byte":            conformContent,
	"one with an earlier Webhook-Id is duplicate": conformDedupe,
	"states, attempts and counts follow a batch":  conformStates,
	"lists filter and page":                       conformList,
	"searches look at ids and names":              conformQuery,
	"unfinished ones come back after a reopening": conformReopen,
	"retention leaves the unfinished alone":       conformRetention,
	"discarding says what it met":                 conformDiscard,
	"a batch is kept as a whole or not at all":    conformAtomic,
	"the last of a burst is left of it":           conformBurst,
	"time series count by step, endpoint, state":  conformTimeSeries,
	"percentiles are nearly exact":                conformPercentiles,
}

func TestConformance(t *testing.T) {
	for name, open := range engines {
		for what, test := range conform {
			t.Run(name+"/"+what, func(t *testing.T) {
				b := &bench{T: t, dir: t.TempDir(), open: open, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
				b.engine = open(t, b.dir)
				t.Cleanup(func() {
					if err := b.engine.close(); err != nil {
						t.Error(err)
					}
				})
				test(t, b)
			})
		}
	}
}

// bench is an engine under test, with a clock.
type bench struct {
	*testing.T
	engine
	dir  string
	open func(t *testing.T, dir string) engine
	now  time.Time
	ids  idSource
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) reopen() {
	b.Helper()
	b.must(b.engine.close())
	b.engine = b.open(b.T, b.dir)
}

// interrupt has what runs be found out as interrupted: when the engine is opened the next time, or, where other processes
// may have it, when its lease has ended.
func (b *bench) interrupt() {
	b.Helper()
	b.reopen()
	if _, ok := b.engine.(sharing); ok {
		b.interruptAll()
	}
}

// backlog returns the unfinished deliveries of an endpoint, none of which is running.
func (b *bench) backlog(endpoint string) ([]due, error) {
	if e, ok := b.engine.(owning); ok {
		return e.backlog(b.Context(), endpoint)
	}
	return postgresBacklog(b.Context(), b.engine.(*postgresEngine), endpoint)
}

// start starts a, of those that wait the one that is due first, and says when it was started.
func (b *bench) start(a *arrival) time.Time {
	b.Helper()
	s, ok := b.engine.(sharing)
	if !ok {
		b.must(b.commit(&batch{starts: []*start{{id: a.d.id, endpoint: a.d.Endpoint, from: Waiting, at: b.now}}}))
		return b.now
	}
	for _, suspects := range []bool{true, false} {
		claimed, _, err := s.claim(b.Context(), []want{{endpoint: a.d.Endpoint, n: 1, suspects: suspects}})
		b.must(err)
		if len(claimed) == 1 && claimed[0].id == a.d.id {
			return claimed[0].started
		}
	}
	b.Fatalf("%s could not be started", a.d.ID)
	return time.Time{}
}

// arrive makes an arrival that was received one second after the last one.
func (b *bench) arrive(change func(*arrival)) *arrival {
	b.now = b.now.Add(time.Second)
	a := &arrival{}
	a.d.id = b.ids.next(b.now)
	a.d.Delivery = Delivery{ID: a.d.id.String(), Endpoint: "inbox", State: Waiting, Received: b.now}
	if change != nil {
		change(a)
	}
	if a.d.State == Running {
		a.d.Attempts, a.d.started = 1, b.now
	}
	return a
}

// store commits one arrival.
func (b *bench) store(change func(*arrival)) *arrival {
	b.Helper()
	a := b.arrive(change)
	b.must(b.commit(&batch{arrivals: []*arrival{a}}))
	return a
}

func in(s State) func(*arrival) { return func(a *arrival) { a.d.State = s } }

// end is the end of a running delivery's first attempt.
func (b *bench) end(a *arrival, to State, reason string) *ending {
	k := &ending{id: a.d.id, endpoint: a.d.Endpoint, from: Running, to: to, reason: reason, attempts: 1}
	k.attempt = Attempt{N: 1, Started: b.now, Ended: true, Duration: 3 * time.Millisecond, Error: reason}
	if to == Retrying {
		k.failures, k.runAt = 1, b.now.Add(time.Minute)
	}
	return k
}

func (b *bench) state(a *arrival) State {
	b.Helper()
	r, err := b.get(b.Context(), a.d.id)
	b.must(err)
	return r.State
}

func (b *bench) listed(f Filter) (ids []string) {
	b.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	ds, _, err := b.list(b.Context(), f)
	b.must(err)
	for _, d := range ds {
		ids = append(ids, d.ID)
	}
	return ids
}

func conformContent(t *testing.T, b *bench) {
	header := http.Header{"X": {"a", "", "\xff\x00é"}, "Y": {"\r\n"}}
	for name, body := range map[string][]byte{
		"empty": {}, "NUL": []byte("{\"a\":\"\x00\\u0000\"}"), "no text": {0xff, 0xfe, 0}, "large": bytes.Repeat([]byte("compressible "), 10000),
	} {
		packed, encoding := packBody(body)
		a := b.store(func(a *arrival) {
			a.d.Scope, a.d.Action, a.d.RepoType, a.d.RepoName = "repo\x00", "\xffup", "dataset", "me/ünï"
			a.d.WebhookID, a.d.Synthetic = "w"+name, true
			a.header, a.body, a.encoding = packHeader(header), packed, encoding
		})
		b.reopen()
		r, err := b.get(t.Context(), a.d.id)
		b.must(err)
		if !bytes.Equal(r.Body, body) || !reflect.DeepEqual(r.Header, header) {
			t.Errorf("%s: body %.40q, header %q came back", name, r.Body, r.Header)
		}
		if diff := cmp.Diff(a.d.Delivery, r.Delivery, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func conformDedupe(t *testing.T, b *bench) {
	with := func(id string, since time.Time) func(*arrival) {
		return func(a *arrival) { a.d.State, a.d.WebhookID, a.dedupe, a.since = Running, id, true, since }
	}
	type firstOne struct {
		end    State // of the first one; "" while it runs
		window time.Duration
		want   bool
	}
	firstOnes := []firstOne{
		{"", 0, true},
		{"", time.Hour, true},
		{Retrying, 0, true},
		{Done, 0, false},
		{Done, time.Hour, true},
		{Done, time.Millisecond, false},
		{Skipped, time.Hour, true},
		{Dead, time.Hour, false},
		{Discarded, time.Hour, false},
	}
	for i, c := range append(firstOnes, firstOnes...) {
		reopened := i >= len(firstOnes)
		id := fmt.Sprintf("%s%v%v", c.end, c.window, reopened)
		first := b.store(with(id, time.Time{}))
		if c.end != "" {
			b.must(b.commit(&batch{ends: []*ending{b.end(first, c.end, "")}}))
		}
		var since time.Time
		if c.window > 0 {
			since = b.now.Add(-c.window + time.Second)
		}
		if reopened {
			b.reopen()
			if c.end == "" {
				continue // it was interrupted
			}
		}
		second := b.store(with(id, since))
		if got := second.first != nil; got != c.want {
			t.Errorf("first one %q, window %v: duplicate is %v", c.end, c.window, got)
		}
		if c.want && (second.first.ID != first.d.ID || second.first.Duplicates != 1) {
			t.Errorf("first one %q: the duplicate is one of %+v, want %s", c.end, second.first, first.d.ID)
		}
	}
	// In one batch, and not across endpoints; ids of any length and content.
	long := storedWebhookID("\x00" + strings.Repeat("x", 20000))
	one, two, other := b.arrive(with(long, time.Time{})), b.arrive(with(long, time.Time{})), b.arrive(with(long, time.Time{}))
	other.d.Endpoint = "other"
	b.must(b.commit(&batch{arrivals: []*arrival{one, two, other}}))
	if one.first != nil || two.first == nil || two.first.ID != one.d.ID || other.first != nil {
		t.Errorf("in one batch, the firsts are %v, %v, %v", one.first, two.first, other.first)
	}
	if _, err := b.get(t.Context(), two.d.id); !errors.Is(err, ErrNotFound) {
		t.Errorf("a duplicate was stored: %v", err)
	}
	b.reopen()
	if again := b.store(with(long, time.Time{})); again.first == nil || again.first.ID != one.d.ID {
		t.Errorf("after a restart, the first of the long id is %v", again.first)
	}
}

func conformStates(t *testing.T, b *bench) {
	direct, waits, retries := b.store(in(Running)), b.store(nil), b.store(in(Running))
	unreadable := b.store(func(a *arrival) { a.d.State, a.d.Reason, a.stack = Dead, "unreadable", "stack" })
	k := b.end(direct, Done, "")
	k.attempt.Output, k.attempt.Result = []byte("out\xff"), []byte("{}")
	b.must(b.commit(&batch{ends: []*ending{k, b.end(retries, Retrying, "no")}}))
	started := b.start(waits)
	counts, err := b.counts(t.Context())
	b.must(err)
	want := Counts{"inbox": {Running: 1, Done: 1, Retrying: 1, Dead: 1}}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	r, err := b.get(t.Context(), direct.d.id)
	b.must(err)
	if diff := cmp.Diff([]Attempt{k.attempt}, r.AttemptList, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
	r, err = b.get(t.Context(), waits.d.id)
	b.must(err)
	if len(r.AttemptList) != 1 || r.AttemptList[0].Ended || r.AttemptList[0].N != 1 || !r.AttemptList[0].Started.Equal(started) {
		t.Errorf("the attempts of a running one are %+v", r.AttemptList)
	}
	r, err = b.get(t.Context(), retries.d.id)
	b.must(err)
	if r.State != Retrying || r.Reason != "no" || !r.RunAt.Equal(b.now.Add(time.Minute)) || r.Attempts != 1 {
		t.Errorf("the retrying one is %+v", r.Delivery)
	}
	r, err = b.get(t.Context(), unreadable.d.id)
	b.must(err)
	if r.State != Dead || r.Reason != "unreadable" || len(r.AttemptList) != 1 || r.AttemptList[0].Stack != "stack" {
		t.Errorf("the unreadable one is %+v", r)
	}
	plain := b.store(in(Running))
	k = b.end(plain, Done, "")
	k.attempt.Started = b.now.Add(time.Millisecond) // the handler began a little after the delivery was stored
	b.must(b.commit(&batch{ends: []*ending{k}}))
	r, err = b.get(t.Context(), plain.d.id)
	b.must(err)
	if diff := cmp.Diff([]Attempt{k.attempt}, r.AttemptList, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("an attempt of which there is nothing to say: %s", diff)
	}
	replay := b.store(func(a *arrival) { a.replayOf, a.d.ReplayOf = unreadable.d.id, unreadable.d.ID })
	if r, err = b.get(t.Context(), unreadable.d.id); err != nil || r.Replays != 1 {
		t.Errorf("a replayed one has %d replays, %v", r.Replays, err)
	}
	if r, err = b.get(t.Context(), replay.d.id); err != nil || r.ReplayOf != unreadable.d.ID {
		t.Errorf("a replay is one of %q, %v", r.ReplayOf, err)
	}
}

func conformList(t *testing.T, b *bench) {
	make := func(endpoint, scope, kind, name string, s State) string {
		return b.store(func(a *arrival) {
			a.d.Endpoint, a.d.Scope, a.d.Action, a.d.RepoType, a.d.RepoName, a.d.State = endpoint, scope, "update", kind, name, s
		}).d.ID
	}
	d1 := make("a", "repo", "dataset", "me/data", Waiting)
	d2 := make("a", "repo.content", "dataset", "me/data", Dead)
	d3 := make("b", "repository", "model", "me/data", Running)
	since := b.now
	d4 := make("b", "repo.config", "model", "me/other", Dead)
	replay := b.store(func(a *arrival) {
		a.d.Endpoint, a.d.State = "a", Done
		a.replayOf, _ = parseID(d2)
	}).d.ID
	for name, c := range map[string]struct {
		f    Filter
		want []string
	}{
		"all":        {Filter{}, []string{replay, d4, d3, d2, d1}},
		"endpoint":   {Filter{Endpoint: "a"}, []string{replay, d2, d1}},
		"no such":    {Filter{Endpoint: "c"}, nil},
		"state":      {Filter{State: Dead}, []string{d4, d2}},
		"both":       {Filter{State: Dead, Endpoint: "b"}, []string{d4}},
		"empty one":  {Filter{State: Merged}, nil},
		"odd state":  {Filter{State: "odd"}, nil},
		"scope":      {Filter{Scope: "repo"}, []string{d4, d2, d1}},
		"narrow":     {Filter{Scope: "repo.content"}, []string{d2}},
		"action":     {Filter{Action: "create"}, nil},
		"repo":       {Filter{Repo: "me/data"}, []string{d3, d2, d1}},
		"typed":      {Filter{Repo: "dataset:me/data"}, []string{d2, d1}},
		"since":      {Filter{Since: since}, []string{replay, d4, d3}},
		"unreplayed": {Filter{State: Dead, Unreplayed: true}, []string{d4}},
	} {
		if got := b.listed(c.f); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	var pages [][]string
	for f := (Filter{Limit: 2}); ; {
		ds, next, err := b.list(t.Context(), f)
		b.must(err)
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

func conformQuery(t *testing.T, b *bench) {
	a := b.store(func(a *arrival) {
		a.d.State, a.d.WebhookID, a.d.RepoName, a.d.Reason = Dead, "Hook-77", "Me/50%_off", "Exit 3"
	})
	b.store(func(a *arrival) { a.d.WebhookID, a.d.RepoName = "other", "me/5000off" })
	for _, q := range []string{a.d.ID, a.d.ID[11:], a.d.ID[23:], a.d.ID[8:12], a.d.ID[12:20], strings.ToLower(a.d.ID[13:]), "hook-7", "50%_OFF", "exit 3"} {
		if got := b.listed(Filter{Query: q}); len(got) != 1 || got[0] != a.d.ID {
			t.Errorf("a search for %q finds %v", q, got)
		}
	}
	if got := b.listed(Filter{Query: "nothing like it"}); got != nil {
		t.Errorf("a search for nothing finds %v", got)
	}
}

func conformReopen(t *testing.T, b *bench) {
	done, waits, retries, ran := b.store(in(Done)), b.store(nil), b.store(in(Running)), b.store(in(Running))
	k := b.end(retries, Retrying, "no")
	b.must(b.commit(&batch{ends: []*ending{k}}))
	b.interrupt()
	left, err := b.backlog("inbox")
	b.must(err)
	want := []due{
		{id: ran.d.id, attempts: 1, interruptions: 1},
		{id: waits.d.id, at: waits.d.Received.UnixNano()},
		{id: retries.d.id, at: k.runAt.UnixNano(), attempts: 1, failures: 1, retrying: true},
	}
	if diff := cmp.Diff(want, left, cmp.AllowUnexported(due{})); diff != "" {
		t.Error(diff)
	}
	ds, n, err := b.unfinished(t.Context(), 2)
	if err != nil || n != 3 || len(ds) != 2 || ds[0].ID != waits.d.ID {
		t.Errorf("unfinished are %v of %d, %v", ds, n, err)
	}
	if last := b.last(); last.Compare(ran.d.id) < 0 || last.Compare(done.d.id) < 0 {
		t.Error("new ids may be lower than old ones")
	}
	for i := 2; i <= deadAfter; i++ {
		b.start(ran)
		b.interrupt()
	}
	r, err := b.get(t.Context(), ran.d.id)
	b.must(err)
	if r.State != Dead || r.Reason != diedReason || len(r.AttemptList) != deadAfter || r.AttemptList[4].Error != interruptedText {
		t.Errorf("after %d interruptions it is %+v", deadAfter, r)
	}
	if n, err := b.discardAll("fresh"); err != nil || n != 2 {
		t.Errorf("discarded %d, %v; want 2", n, err)
	}
	counts, err := b.counts(t.Context())
	b.must(err)
	if diff := cmp.Diff(Counts{"inbox": {Done: 1, Dead: 1, Discarded: 2}}, counts); diff != "" {
		t.Error(diff)
	}
}

func conformRetention(t *testing.T, b *bench) {
	sweep := func(r retention) {
		r.rows = 3
		for more := true; more; {
			var err error
			more, err = b.sweep(b.Context(), r)
			b.must(err)
		}
	}
	waits := b.store(func(a *arrival) { a.d.WebhookID, a.dedupe = "w", true })
	runs, dead := b.store(in(Running)), b.store(in(Dead))
	var done []*arrival
	for range 10 {
		done = append(done, b.store(in(Done)))
	}
	sweep(retention{before: time.Unix(0, 0), count: 4})
	if got := b.listed(Filter{State: Done}); len(got) != 4 || got[3] != done[6].d.ID {
		t.Errorf("by count, %v are left of %d", got, len(done))
	}
	if b.state(waits) != Waiting || b.state(runs) != Running || b.state(dead) != Dead {
		t.Error("the count touched unfinished or dead ones")
	}
	sweep(retention{before: done[8].d.Received, count: 4})
	if got := b.listed(Filter{}); len(got) != 4 || got[1] != done[8].d.ID || got[2] != runs.d.ID {
		t.Errorf("by age, %v are left", got)
	}
	if _, err := b.get(t.Context(), dead.d.id); !errors.Is(err, ErrNotFound) {
		t.Errorf("an old dead one is still there: %v", err)
	}
	if a := b.store(func(a *arrival) { a.d.WebhookID, a.dedupe = "w", true }); a.first == nil {
		t.Error("the Webhook-Id of an unfinished one was forgotten")
	}
	counts, err := b.counts(t.Context())
	b.must(err)
	if diff := cmp.Diff(Counts{"inbox": {Waiting: 1, Running: 1, Done: 2}}, counts); diff != "" {
		t.Error(diff)
	}
}

func conformDiscard(t *testing.T, b *bench) {
	waits, done := b.store(nil), b.store(in(Done))
	unknown := b.arrive(nil)
	ds := []*discarding{{id: waits.d.id, reason: "by hand"}, {id: done.d.id}, {id: unknown.d.id}}
	b.must(b.commit(&batch{discards: ds}))
	if ds[0].from != Waiting || ds[0].d.State != Discarded || ds[1].from != Done || ds[2].from != "" {
		t.Errorf("discarding met %q, %q, %q", ds[0].from, ds[1].from, ds[2].from)
	}
	if r, err := b.get(t.Context(), waits.d.id); err != nil || r.State != Discarded || r.Reason != "by hand" {
		t.Errorf("the discarded one is %+v, %v", r, err)
	}
	if b.state(done) != Done {
		t.Error("a finished one was discarded")
	}
	if left, err := b.backlog("inbox"); err != nil || len(left) != 0 {
		t.Errorf("the backlog is %v, %v", left, err)
	}
}

func conformAtomic(t *testing.T, b *bench) {
	stored := b.store(in(Running))
	fresh := b.arrive(nil)
	fresh.d.Endpoint = "new"
	twice := b.arrive(nil)
	twice.d.id = stored.d.id // can't be stored again
	err := b.commit(&batch{ends: []*ending{b.end(stored, Done, "")}, arrivals: []*arrival{fresh, twice}})
	if err == nil || b.outage(err) {
		t.Fatalf("an impossible batch gives %v", err)
	}
	if _, err := b.get(t.Context(), fresh.d.id); !errors.Is(err, ErrNotFound) || b.state(stored) != Running {
		t.Errorf("part of a refused batch was kept: %v", err)
	}
	b.must(b.commit(&batch{arrivals: []*arrival{fresh}}))
	counts, err := b.counts(t.Context())
	b.must(err)
	if diff := cmp.Diff(Counts{"inbox": {Running: 1}, "new": {Waiting: 1}}, counts); diff != "" {
		t.Error(diff)
	}
}

func conformBurst(t *testing.T, b *bench) {
	burstOf := func(endpoint string, key int64) func(*arrival) {
		return func(a *arrival) {
			a.d.Endpoint, a.d.WebhookID, a.dedupe = endpoint, a.d.ID, true
			a.burst = &burst{key: key, wait: time.Minute, maxWait: 61500 * time.Millisecond}
		}
	}
	first, elsewhere, other := b.store(burstOf("inbox", 1)), b.store(burstOf("elsewhere", 1)), b.store(burstOf("inbox", 2))
	for name, a := range map[string]*arrival{"the first": first, "that of another endpoint": elsewhere, "that of another key": other} {
		if a.merged != nil || !a.runAt.Equal(a.d.Received.Add(time.Minute)) {
			t.Errorf("%s is due at %v, merged %v", name, a.runAt, a.merged)
		}
	}
	// Two of one batch, and the time that the first one may wait at the most.
	second, third := b.arrive(burstOf("inbox", 1)), b.arrive(burstOf("inbox", 1))
	b.must(b.commit(&batch{arrivals: []*arrival{second, third}}))
	if second.merged == nil || second.merged.ID != first.d.ID || third.merged == nil || third.merged.ID != second.d.ID {
		t.Fatalf("merged are %v and %v", second.merged, third.merged)
	}
	if latest := first.d.Received.Add(61500 * time.Millisecond); third.runAt.Sub(latest).Abs() > time.Millisecond {
		t.Errorf("the third is due at %v, want %v", third.runAt, latest)
	}
	if b.state(first) != Merged || b.state(second) != Merged || b.state(third) != Waiting {
		t.Errorf("they are %s, %s, %s", b.state(first), b.state(second), b.state(third))
	}
	again := b.store(func(a *arrival) { a.d.WebhookID, a.dedupe = first.d.ID, true })
	if again.first == nil || again.first.ID != first.d.ID {
		t.Errorf("the same as one that was merged is a duplicate of %v", again.first)
	}
	s, err := b.load(t.Context(), third.d.id)
	b.must(err)
	if want := []string{first.d.ID, second.d.ID}; !reflect.DeepEqual(s.merged, want) || s.burst == 0 {
		t.Errorf("merged into the third are %v of burst %d, want %v", s.merged, s.burst, want)
	}
	if n, err := b.discardAll("fresh"); err != nil || n != 3 {
		t.Errorf("discarded %d, %v", n, err)
	}
	revived := b.store(func(a *arrival) {
		a.d.State, a.d.WebhookID, a.dedupe, a.since = Done, first.d.ID, true, first.d.Received.Add(-time.Hour)
	})
	if revived.first != nil {
		t.Error("one whose burst was discarded can't be revived")
	}
	if next := b.store(burstOf("inbox", 1)); next.merged != nil {
		t.Errorf("one that was discarded is merged: %v", next.merged)
	}
	counts, err := b.counts(t.Context())
	b.must(err)
	want := Counts{"inbox": {Merged: 2, Discarded: 2, Waiting: 1, Done: 1}, "elsewhere": {Discarded: 1}}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
}
