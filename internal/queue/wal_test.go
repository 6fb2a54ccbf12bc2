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

	"github.com/hubhook/hubhook/internal/queue/sqlite"
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
	path := filepath.Join(dir, sqlite.DatabaseName)
	q := openOn(t, nil, dir, sqlite.Config{LogBytes: bound, Warn: func(err error) { t.Error(err) }})
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
