package sqlite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// openBench returns a bench on a new engine. The engine is closed when the test ends.
func openBench(t *testing.T, cfg Config) (*storetest.Bench, *Engine) {
	t.Helper()
	cfg.Warn = func(err error) { t.Error(err) }
	var e *Engine
	b := storetest.NewBench(t, storetest.Suite{Open: func(t *testing.T, dir string) store.Engine {
		var err error
		if e, err = Open(t.Context(), filepath.Join(dir, DatabaseName), cfg); err != nil {
			t.Fatal(err)
		}
		return e
	}})
	return b, e
}

func TestConformance(t *testing.T) {
	storetest.Suite{Open: func(t *testing.T, dir string) store.Engine {
		e, err := Open(t.Context(), filepath.Join(dir, DatabaseName), Config{Warn: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}}.Run(t)
}

func TestMigrations(t *testing.T) {
	_, e := openBench(t, Config{})
	w := e.w
	more := append(slices.Clone(migrations), "ALTER TABLE delivery ADD COLUMN later INTEGER", "CREATE TABLE later (id INTEGER PRIMARY KEY)")
	for range 2 { // the second time there is nothing to do
		if err := w.migrate(more); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.exec("INSERT INTO later SELECT count(later) FROM delivery"); err != nil {
		t.Error(err)
	}
	broken := append(slices.Clone(more), "CREATE TABLE half (id); CREATE TABLE delivery (id)")
	if err := w.migrate(broken); err == nil {
		t.Error("a step that fails is no error")
	}
	row, err := w.queryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half'")
	if err != nil || row[0].(int64) != 0 {
		t.Errorf("a step was done by half: %v, %v", row, err)
	}
	row, err = w.queryRow("PRAGMA auto_vacuum")
	if err != nil || row[0].(int64) != 2 {
		t.Errorf("auto_vacuum is %v, %v; want incremental", row, err)
	}
}

// Sweeps return the space of removed deliveries to the file system, in small steps.
func TestRetentionGivesSpaceBack(t *testing.T) {
	b, eng := openBench(t, Config{})
	for i := range 1500 {
		b.Store(func(a *store.Arrival) {
			a.Stored.State = store.Done
			a.Body, a.Encoding = store.PackBody(bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, 2500))
		})
	}
	size := func() int64 {
		t.Helper()
		if _, err := eng.w.queryRow("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(eng.path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before, steps := size(), 0
	for more := true; more; steps++ {
		was := keptCount(eng)
		var err error
		if more, err = eng.Sweep(t.Context(), store.Retention{Before: time.Now().Add(time.Hour), Rows: 200}); err != nil {
			t.Fatal(err)
		}
		if removed := was - keptCount(eng); removed > 200 {
			t.Errorf("one step removed %d", removed)
		}
	}
	// Up to 4 MiB of free pages are kept for later deliveries.
	if after := size(); after > 4<<20+before/8 {
		t.Errorf("of %d KiB %d KiB are left after %d steps", before>>10, after>>10, steps)
	}
	if n := keptCount(eng); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// keptCount returns the number of deliveries by the counts of the engine.
func keptCount(e *Engine) (n int64) {
	for _, states := range e.summary.Counts {
		for _, count := range states {
			n += count
		}
	}
	return n
}

// A time series that is read in parts has each delivery once.
func TestTimeSeriesInParts(t *testing.T) {
	b, e := openBench(t, Config{})
	arrivals := &store.Batch{}
	for i := range 12 {
		b.Now = b.Now.Add(-time.Second) // all at the same time, so that their keys follow each other
		arrivals.Arrivals = append(arrivals.Arrivals, b.Arrive(func(a *store.Arrival) { a.Stored.Endpoint = []string{"a", "b"}[i/2%2] }))
	}
	b.Must(b.Commit(arrivals))
	for _, rows := range []int{1, 2, 5, 6, 11, 12, 13} {
		e.file.cfg.partRows = rows
		for endpoint, want := range map[string]int64{"": 12, "a": 6} {
			got := storetest.TimeSeriesOf(b, store.TimeSeriesQuery{Endpoint: endpoint, Step: time.Hour, Steps: 1, Until: b.Now})
			if n := got[0].States[store.Waiting]; n != want {
				t.Errorf("in parts of %d, %d wait for endpoint %q, want %d", rows, n, endpoint, want)
			}
		}
	}
}

// BenchmarkSweep measures the removal of deliveries, in steps.
func BenchmarkSweep(b *testing.B) {
	const stored = 40_000
	for _, rows := range []int{64, 256} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			e, err := Open(b.Context(), filepath.Join(b.TempDir(), DatabaseName), Config{Warn: func(err error) { b.Error(err) }})
			if err != nil {
				b.Fatal(err)
			}
			removed := 0
			for b.Loop() {
				if removed%stored == 0 {
					b.StopTimer()
					storetest.StoreDone(b, e, stored)
					b.StartTimer()
				}
				was := keptCount(e)
				if _, err := e.Sweep(b.Context(), store.Retention{Count: 0, Rows: rows}); err != nil {
					b.Fatal(err)
				}
				removed += int(was - keptCount(e))
			}
			b.ReportMetric(float64(removed)/b.Elapsed().Seconds(), "rows/s")
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
