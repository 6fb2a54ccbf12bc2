package queue

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
)

// everySummary is how many commits may go by without the summary.
const everySummary = 16

// keptSummary is the part of the summary that counts.
type keptSummary struct {
	Counts map[int64][8]int64 `json:"counts"`
}

func (s keptSummary) sum() (n int) {
	for _, states := range s.Counts {
		for _, count := range states {
			n += int(count)
		}
	}
	return n
}

// storedSummary is the summary in the file, which need not be up to date.
func storedSummary(t *testing.T, q *Queue) (s keptSummary) {
	t.Helper()
	db := database(t, q)
	defer db.Close()
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
	for _, name := range []string{sqlite.DatabaseName, sqlite.DatabaseName + "-wal"} {
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
		for i := range 3 * everySummary {
			a := Arrival{Endpoint: "inbox"}
			switch i {
			case 5:
				a.Body = []byte("fails")
			case 7:
				a.Body = []byte("dies")
			case 9:
				a.Endpoint = "kept"
			case 12, 14, everySummary + 3:
				a.Endpoint, a.Burst = "bursts", &Burst{Key: "b", Wait: time.Hour}
			}
			r := f.accept(a)
			if a.Burst == nil {
				<-r.Done()
			}
			if i == 2*everySummary {
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
			if counted := storedCount(t, next.Queue); counted != int64(i+1) {
				t.Errorf("after %d there are %d", i+1, counted)
			}
			if last := next.eng.Last().String(); last < r.ID {
				t.Errorf("after %d new ids begin at %s, before %s", i+1, last, r.ID)
			}
			next.end()
			if rec, err := Recover(t.Context(), RecoverConfig{Dir: abandoned(t, dir)}); err != nil || !rec.Sound || rec.Deliveries != i+1 {
				t.Errorf("after %d it is found to be %+v, %v", i+1, rec, err)
			}
		}
		if older < everySummary {
			t.Errorf("the summary in the file was behind %d times, want at least %d", older, everySummary)
		}
		report, err := Backup(t.Context(), BackupConfig{Dir: dir, File: filepath.Join(t.TempDir(), "copy.db")})
		if err != nil || report.Deliveries != 3*everySummary {
			t.Errorf("the backup is %+v, %v", report, err)
		}
		f.end()
	})
}

// storedCount is how many deliveries there are by the counts that are kept.
func storedCount(t *testing.T, q *Queue) (n int64) {
	t.Helper()
	counts, err := q.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, states := range counts {
		for _, count := range states {
			n += count
		}
	}
	return n
}
