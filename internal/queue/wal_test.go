package queue

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The write-ahead log stays within a few times its bound under full load, with readers beside it. HUBHOOK_SOAK=10m makes the load
// last as long, with a bound that is nearer to the real one: a read keeps the log from starting over for as long as it lasts, and what
// is written meanwhile counts for nothing only beside a bound of some size.
func TestLogIsBounded(t *testing.T) {
	// Unbounded, the log of so many bodies would have some 58 MiB.
	bound, limit, written := int64(256<<10), int64(12<<20), int64(16<<20)
	var until time.Time
	if long, err := time.ParseDuration(os.Getenv("HUBHOOK_SOAK")); err == nil {
		bound, limit, written, until = 4<<20, 32<<20, 0, time.Now().Add(long)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, databaseName)
	eng, err := openSQLite(t.Context(), path, sqliteConfig{walBytes: bound, warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(Config{Dir: dir, Warn: func(err error) { t.Error(err) }}.withDefaults(), eng, nil)
	if err := q.Start([]Endpoint{{Name: "inbox", Handle: func(context.Context, *Claim) Outcome { return Outcome{} }, DedupeWindow: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	var stored, n atomic.Int64
	over := func() bool { return stored.Load() >= written && time.Now().After(until) }
	body := bytes.Repeat([]byte("0123456789abcdef"), 128)
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for !over() {
				r, err := q.Accept(t.Context(), Arrival{Endpoint: "inbox", WebhookID: fmt.Sprint(n.Add(1)), Body: body})
				if err != nil {
					t.Error(err)
					return
				}
				<-r.Done()
				stored.Add(int64(len(body)))
			}
		})
	}
	clients.Go(func() {
		for !over() {
			if _, _, err := q.List(t.Context(), Filter{}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	largest := int64(0)
	for !over() {
		if info, err := os.Stat(path + "-wal"); err == nil {
			largest = max(largest, info.Size())
		}
		time.Sleep(time.Millisecond) // between two looks at the file
	}
	clients.Wait()
	if err := q.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d MiB of bodies were stored; the log had %d KiB at most", stored.Load()>>20, largest>>10)
	// What is committed during a read comes on top, and that is more the less of the machine the reader gets.
	if largest > limit {
		t.Errorf("the log grew to %d KiB, over %d; its bound is %d KiB", largest>>10, limit>>10, bound>>10)
	}
}

// What retention removes gives its room back to the system, in steps of which none is large.
func TestRetentionGivesSpaceBack(t *testing.T) {
	f := begin(t, Config{}, Endpoint{})
	for i := range 1500 {
		f.accept(Arrival{Body: bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, 2500)})
	}
	eng := f.eng.(*sqliteEngine)
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
	exclusive(f.Queue, func() {
		before, steps := size(), 0
		for more := true; more; steps++ {
			was := keptCount(eng)
			var err error
			if more, err = eng.sweep(t.Context(), retention{before: time.Now().Add(time.Hour), rows: 200}); err != nil {
				t.Fatal(err)
			}
			if removed := was - keptCount(eng); removed > 200 {
				t.Errorf("one step removed %d", removed)
			}
		}
		// 4 MiB of free pages are kept for what comes.
		if after := size(); after > 4<<20+before/8 {
			t.Errorf("of %d KiB %d KiB are left after %d steps", before>>10, after>>10, steps)
		}
		if n := keptCount(eng); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
	f.end()
}

// keptCount is how many deliveries there are by the counts that are kept.
func keptCount(e *sqliteEngine) (n int64) {
	for _, states := range e.summary.Counts {
		for _, count := range states {
			n += count
		}
	}
	return n
}
