package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
)

// unreadableEngine is an engine that can't read single deliveries back for a while.
type unreadableEngine struct {
	*sqlite.Engine
	err error
}

func (e *unreadableEngine) Get(ctx context.Context, id ulid.ULID) (*Record, error) {
	if e.err != nil {
		return nil, e.err
	}
	return e.Engine.Get(ctx, id)
}

// Who asked for an outcome and was told nothing leaves nothing behind; who still waits for the same one is told.
func TestOutcomesThatAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		f := open(t, t.TempDir(), Config{})
		eng := &unreadableEngine{Engine: f.eng.(*sqlite.Engine)}
		f.eng = eng
		if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle, Attempts: 2, FirstWait: time.Hour}}); err != nil {
			t.Fatal(err)
		}
		kept := func(want int) {
			t.Helper()
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.waits) != want {
				t.Errorf("%d ends are waited for, want %d", len(f.waits), want)
			}
		}

		done := f.accept(Arrival{})
		synctest.Wait()
		g.pass <- Outcome{}
		time.Sleep(time.Second) // until its end is stored
		eng.err = errors.New("the disk is gone")
		if _, err := f.Outcome(t.Context(), done.ID); !errors.Is(err, eng.err) {
			t.Errorf("the outcome that can't be read: %v, want %v", err, eng.err)
		}
		kept(0)
		eng.err = nil

		retrying := f.accept(Arrival{})
		synctest.Wait()
		g.pass <- Outcome{Error: "no"}
		synctest.Wait()
		ended := make(chan Report, 2)
		wait := func(ctx context.Context) {
			report, _ := f.Outcome(ctx, retrying.ID)
			ended <- report
		}
		hasty, cancel := context.WithCancel(t.Context())
		cancel()
		wait(hasty)
		<-ended
		kept(0)
		hasty, cancel = context.WithCancel(t.Context())
		go wait(hasty)
		go wait(t.Context())
		synctest.Wait()
		kept(1)
		cancel()
		<-ended
		kept(1)
		time.Sleep(time.Hour)
		g.pass <- Outcome{Result: []byte(`"late"`)}
		if report := <-ended; report.State != Done || string(report.Result) != `"late"` {
			t.Errorf("the outcome is %+v", report)
		}
		kept(0)
		f.end()
	})
}
