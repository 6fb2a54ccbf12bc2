package checkup

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
)

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := func(d time.Duration, f api.Finding) func(context.Context) api.Finding {
			return func(ctx context.Context) api.Finding {
				select {
				case <-time.After(d):
					return f
				case <-ctx.Done():
					return Fail(text.WithHint(ctx.Err(), "be quicker"))
				}
			}
		}
		var told []string
		began := time.Now()
		Run(t.Context(), [][]Check{
			{{Name: "slow", Doing: "waiting", Run: wait(3*time.Second, OK("well"))}, {Name: "after it", Run: wait(time.Second, Warn("so so", "correct it"))}},
			{Known("known", Skip("nothing")), {Name: "at once", Doing: "never said", Run: wait(0, OK("well"))}},
			{{Name: "too slow", Doing: "hanging", Run: wait(time.Hour, OK("well"))}},
			{},
		}, func(c Check) { told = append(told, c.Doing) }, func(f api.Finding) { told = append(told, f.Name+" "+string(f.Result)+" "+f.Fix) })
		want := []string{"waiting", "slow ok ", "after it warn correct it", "known skip ", "at once ok ", "hanging", "too slow fail be quicker"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q; want %q", told, want)
		}
		if took := time.Since(began); took != Limit {
			t.Errorf("it took %v; want %v", took, Limit)
		}
	})
}

func TestFailHasTheHintAsItsFix(t *testing.T) {
	t.Parallel()
	if f := Fail(text.WithHint(errors.New("broken"), "correct it")); f.Result != api.Fail || f.Text != "broken" || f.Fix != "correct it" {
		t.Errorf("it is %+v", f)
	}
}
