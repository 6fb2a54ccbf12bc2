package queue

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store"
)

func TestDiscard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := begin(t, Config{}, Endpoint{Concurrency: 1, Handle: g.handle})
		runs, waits := f.accept(Arrival{Body: []byte("runs")}), f.accept(Arrival{Body: []byte("waits")})
		for _, r := range []*Receipt{waits, runs} {
			if err := f.Discard(t.Context(), r.ID, "by hand"); err != nil {
				t.Fatal(err)
			}
			if got := r.Report(); got.State != Discarded || got.Reason != "by hand" {
				t.Errorf("the report is %+v", got)
			}
			if err := f.Discard(t.Context(), r.ID, "again"); !errors.Is(err, ErrFinished) {
				t.Errorf("discarding it again gives %v", err)
			}
		}
		synctest.Wait()
		rec := f.get(runs.ID)
		if rec.State != Discarded || rec.Reason != "by hand" || len(rec.AttemptList) != 1 || !rec.AttemptList[0].Ended ||
			rec.AttemptList[0].Error != errDiscarded.Error() {
			t.Errorf("discarded while it ran, it is %+v", rec)
		}
		if g.seen() != "runs" {
			t.Errorf("what ran is %q", g.seen())
		}
		if err := f.Discard(t.Context(), "01ARZ3NDEKTSV4RRFFQ69G5FAV", ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown id gives %v", err)
		}
		unreadable := f.accept(Arrival{Dead: "no event.action"})
		if got := unreadable.Report(); got.State != Dead || got.Reason != "no event.action" {
			t.Errorf("an unreadable one is %+v", got)
		}
		f.end()
	})
}

// slowEngine is an engine whose next commit takes until the test lets it go on.
type slowEngine struct {
	*sqlite.Engine
	hold atomic.Bool
	pass chan struct{}
}

func (e *slowEngine) Commit(b *store.Batch) error {
	err := e.Engine.Commit(b)
	if e.hold.CompareAndSwap(true, false) {
		<-e.pass
	}
	return err
}

// A delivery whose handler returns while its discarding is being stored stays discarded, and is counted once.
func TestDiscardWhileTheHandlerReturns(t *testing.T) {
	for name, out := range map[string]Outcome{"done": {}, "retrying": {Error: "no"}, "dead": {Error: "no", Final: true}, "skipped": {Skip: "no"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				f := open(t, t.TempDir(), Config{})
				slow := &slowEngine{Engine: f.eng.(*sqlite.Engine), pass: make(chan struct{})}
				f.eng = slow
				if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle, Attempts: 2, FirstWait: time.Minute}}); err != nil {
					t.Fatal(err)
				}
				r := f.accept(Arrival{})
				synctest.Wait()
				slow.hold.Store(true)
				discarded := make(chan error)
				go func() { discarded <- f.Discard(t.Context(), r.ID, "by hand") }()
				synctest.Wait()
				g.pass <- out
				synctest.Wait()
				close(slow.pass)
				if err := <-discarded; err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // a retry would run now
				if rec := f.get(r.ID); rec.State != Discarded || rec.Reason != "by hand" || g.seen() != "" {
					t.Errorf("it is %s (%s), attempts %+v", rec.State, rec.Reason, rec.AttemptList)
				}
				counts, err := f.Counts(t.Context())
				if err != nil || counts["inbox"][Discarded] != 1 || len(counts["inbox"]) != 1 {
					t.Errorf("the counts are %v, %v", counts, err)
				}
				if r.Now() != Discarded {
					t.Errorf("its receipt says %s", r.Now())
				}
				f.end()
			})
		})
	}
}
