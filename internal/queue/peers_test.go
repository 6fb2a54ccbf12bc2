package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// endlessEngine always has more to remove.
type endlessEngine struct {
	store.Engine
	store.Sharing
	sweeps int
}

func (e *endlessEngine) Skew() time.Duration { return 0 }

func (e *endlessEngine) Sweep(context.Context, store.Retention) (bool, error) {
	e.sweeps++
	return true, nil
}

// However much there is to remove from a database that others use too, it is left alone between two steps, and the end of the work is an end
// of that.
func TestSweepingSharedDeliveriesPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endlessEngine{}
		p := &peers{q: &Queue{eng: e, cfg: Config{}.withDefaults(), now: time.Now, life: t.Context()}, Sharing: e, quit: make(chan struct{})}
		swept := make(chan struct{})
		go func() {
			defer close(swept)
			p.sweep()
		}()
		time.Sleep(10*sweepPause + sweepPause/2)
		close(p.quit)
		<-swept
		if e.sweeps != 11 {
			t.Errorf("%d steps in the time of ten pauses, want 11", e.sweeps)
		}
	})
}
