package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// storedSummary is the summary in the file, which need not be up to date.
func storedSummary(t *testing.T, q *Queue) (s summary) {
	t.Helper()
	db, err := q.eng.(*sqliteEngine).reader()
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	if err := db.QueryRowContext(t.Context(), "SELECT value FROM summary").Scan(&text); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// abandoned copies a database as its process leaves it that dies now.
func abandoned(t *testing.T, dir string) string {
	t.Helper()
	copied := t.TempDir()
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// Deliveries that come one after the other don't each write the summary. Whenever the process dies, the counts are right at the next start,
// for a backup and for what looks for damage.
func TestCountsAfterAnEndBetweenSummaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := open(t, dir, Config{})
		handle := func(_ context.Context, c *Claim) Outcome {
			switch string(c.Body) {
			case "fails":
				return Outcome{Error: "no"}
			case "dies":
				return Outcome{Error: "no", Final: true}
			}
			return Outcome{}
		}
		endpoints := []Endpoint{{Name: "inbox", Handle: handle, Attempts: 2, FirstWait: time.Hour}, {Name: "kept"}, {Name: "bursts", Handle: handle}}
		if err := f.Start(endpoints); err != nil {
			t.Fatal(err)
		}
		older := 0 // times that the summary in the file was behind
		for i := range 3 * summaryEvery {
			a := Arrival{Endpoint: "inbox"}
			switch i {
			case 5:
				a.Body = []byte("fails")
			case 7:
				a.Body = []byte("dies")
			case 9:
				a.Endpoint = "kept"
			case 12, 14, summaryEvery + 3:
				a.Endpoint, a.Burst = "bursts", &Burst{Key: "b", Wait: time.Hour}
			}
			r := f.accept(a)
			if a.Burst == nil {
				<-r.Done()
			}
			if i == 2*summaryEvery {
				if err := f.Discard(t.Context(), r.ID, "by hand"); err != ErrFinished {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // it comes to rest
				if s := storedSummary(t, f.Queue); s.sum() != i+1 {
					t.Errorf("at rest the summary counts %d of %d", s.sum(), i+1)
				}
			}
			left := abandoned(t, dir)
			next := open(t, left, Config{})
			if s := storedSummary(t, f.Queue); s.sum() < i {
				older++
			}
			if got, want := countStored(t, next.Queue), recount(t, next.Queue); got != want {
				t.Errorf("after %d the counts are %s, the rows say %s", i+1, got, want)
			}
			if counted := fmt.Sprint(next.eng.(*sqliteEngine).summary.sum()); counted != fmt.Sprint(i+1) {
				t.Errorf("after %d there are %s", i+1, counted)
			}
			if last := next.eng.last().String(); last < r.ID {
				t.Errorf("after %d new ids begin at %s, before %s", i+1, last, r.ID)
			}
			next.end()
			if rec, err := Recover(t.Context(), RecoverConfig{Dir: abandoned(t, dir)}); err != nil || !rec.Sound || rec.Deliveries != i+1 {
				t.Errorf("after %d it is found to be %+v, %v", i+1, rec, err)
			}
		}
		if older < summaryEvery {
			t.Errorf("the summary in the file was behind %d times, want at least %d", older, summaryEvery)
		}
		report, err := Backup(t.Context(), BackupConfig{Dir: dir, File: filepath.Join(t.TempDir(), "copy.db")})
		if err != nil || report.Deliveries != 3*summaryEvery {
			t.Errorf("the backup is %+v, %v", report, err)
		}
		f.end()
	})
}

// What changes a delivery that the summary in the file counts goes there with it, also in one commit with arrivals.
func TestCountsOfOlderDeliveries(t *testing.T) {
	for name, change := range map[string]func(b *bench, runs, waits *arrival) *batch{
		"end": func(b *bench, runs, _ *arrival) *batch { return &batch{ends: []*ending{b.end(runs, Done, "")}} },
		"discarding": func(_ *bench, _, waits *arrival) *batch {
			return &batch{discards: []*discarding{{id: waits.d.id, reason: "by hand"}}}
		},
		"start": func(b *bench, _, waits *arrival) *batch {
			return &batch{starts: []*start{{id: waits.d.id, endpoint: "inbox", from: Waiting, at: b.now}}}
		},
		"merging": func(b *bench, _, _ *arrival) *batch {
			return &batch{arrivals: []*arrival{b.arrive(func(a *arrival) { a.burst = &burst{key: 1, wait: time.Hour} })}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{T: t, dir: t.TempDir(), open: engines["sqlite"], now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			b.engine = b.open(t, b.dir)
			runs, waits := b.store(in(Running)), b.store(nil)
			b.store(func(a *arrival) { a.burst = &burst{key: 1, wait: time.Hour} })
			rests := b.store(in(Running))
			b.must(b.commit(&batch{ends: []*ending{b.end(rests, Done, "")}})) // stores the summary, too
			last := b.store(in(Running))
			changed := change(b, runs, waits)
			changed.ends = append(changed.ends, b.end(last, Done, ""))
			changed.arrivals = append(changed.arrivals, b.arrive(in(Running)))
			b.must(b.commit(changed))
			if rec, err := Recover(t.Context(), RecoverConfig{Dir: abandoned(t, b.dir)}); err != nil || !rec.Sound {
				t.Errorf("it is found to be %+v, %v", rec, err)
			}
			b.must(b.engine.close())
		})
	}
}
