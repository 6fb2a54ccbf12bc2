package queue

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

func marksOf(t *testing.T, q *Queue) []Mark {
	t.Helper()
	marks, err := q.Marks(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

func TestMarksAndTheirDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{}, Endpoint{})
		if err := f.SetMark(t.Context(), Mark{Key: "a", Value: []byte("0")}); err != nil {
			t.Fatal(err)
		}
		f.accept(Arrival{Mark: &Mark{Key: "a", Value: []byte("1"), Version: 1}})
		if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox", Mark: &Mark{Key: "a", Value: []byte("no"), Version: 1}}); !errors.Is(err, ErrMarkMoved) {
			t.Errorf("a delivery with an old mark gives %v", err)
		}
		if err := f.SetMark(t.Context(), Mark{Key: "a"}); !errors.Is(err, ErrMarkMoved) {
			t.Errorf("an old mark gives %v", err)
		}
		f.accept(Arrival{}) // what was refused keeps nothing else from being stored
		if diff := cmp.Diff([]Mark{{Key: "a", Value: []byte("1"), Version: 2}}, marksOf(t, f.Queue)); diff != "" {
			t.Error(diff)
		}
		if got := countStored(t, f.Queue); got != recount(t, f.Queue) {
			t.Errorf("the counts are %s", got)
		}
		counts, err := f.Counts(t.Context())
		if err != nil || counts["inbox"][Done] != 2 {
			t.Errorf("the counts are %v, %v", counts, err)
		}
		f.end()
		if err := f.SetMark(t.Context(), Mark{Key: "late"}); !errors.Is(err, ErrStopping) {
			t.Errorf("a mark after the end gives %v", err)
		}
	})
}

func TestFailedSyncPutsMarksBack(t *testing.T) {
	d := newDisk(t)
	q := openOn(t, d, t.TempDir(), sqlite.Config{Warn: func(error) {}})
	if err := q.Start([]Endpoint{{Name: "inbox"}}); err != nil {
		t.Fatal(err)
	}
	accept := func(key, value string, version int64) error {
		_, err := q.Accept(t.Context(), Arrival{Endpoint: "inbox", Mark: &Mark{Key: key, Value: []byte(value), Version: version}})
		return err
	}
	setFail := func(fail bool) { d.mu.Lock(); d.failSync = fail; d.mu.Unlock() }
	if err := accept("a", "1", 0); err != nil {
		t.Fatal(err)
	}
	setFail(true)
	if accept("a", "2", 1) == nil || accept("new", "2", 0) == nil || accept("a", "2", 1) == nil {
		t.Error("a delivery was acknowledged although its sync failed")
	}
	setFail(false)
	if err := accept("a", "2", 1); err != nil {
		t.Errorf("the delivery is refused the second time: %v", err)
	}
	if err := accept("new", "2", 0); err != nil {
		t.Errorf("a delivery with a new mark is refused the second time: %v", err)
	}
	if diff := cmp.Diff([]Mark{{Key: "a", Value: []byte("2"), Version: 2}, {Key: "new", Value: []byte("2"), Version: 1}}, marksOf(t, q)); diff != "" {
		t.Error(diff)
	}
	if counts, err := q.Counts(t.Context()); err != nil || counts["inbox"][Done] != 3 {
		t.Errorf("the counts are %v, %v; want 3 done", counts, err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func TestBackupKeepsMarks(t *testing.T) {
	f := begin(t, Config{}, Endpoint{})
	f.accept(Arrival{Mark: &Mark{Key: "a", Value: []byte("1")}})
	to := t.TempDir()
	if _, err := Backup(t.Context(), BackupConfig{Dir: f.dir, File: filepath.Join(to, sqlite.DatabaseName)}); err != nil {
		t.Fatal(err)
	}
	want := marksOf(t, f.Queue)
	f.end()
	copied := open(t, to, Config{})
	defer copied.close()
	if diff := cmp.Diff(want, marksOf(t, copied.Queue)); diff != "" || len(want) != 1 {
		t.Error(diff)
	}
}

func TestOneLeadsUntilItEnds(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	one, two := join(t, url, Config{}, Endpoint{}), join(t, url, Config{}, Endpoint{})
	lead := func(f *fixture) (leads chan context.Context, end func()) {
		ctx, cancel := context.WithCancel(t.Context())
		leads = make(chan context.Context, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Lead(ctx, "follow", func(ctx context.Context) {
				leads <- ctx
				<-ctx.Done()
			})
		}()
		return leads, func() { cancel(); <-done }
	}
	oneLeads, endOne := lead(one)
	first := <-oneLeads
	twoLeads, endTwo := lead(two)
	if first.Err() != nil || len(twoLeads) != 0 {
		t.Error("two processes lead")
	}
	endOne() // resigns, so the other one need not wait for the end of the lease
	if first.Err() == nil {
		t.Error("the work of a leader goes on after its end")
	}
	select {
	case <-twoLeads:
	case <-time.After(time.Minute):
		t.Error("nobody leads after the first one ended")
	}
	endTwo()
	one.end()
	two.end()
}
