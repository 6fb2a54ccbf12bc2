package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

func TestSkew(t *testing.T) {
	t.Parallel()
	asked := time.Date(2026, 11, 27, 8, 0, 0, 500e6, time.UTC)
	answered := asked.Add(4 * time.Second)
	for date, want := range map[string]api.Result{
		"08:00:00": api.OK, "08:00:04": api.OK, // anywhere between the question and the answer
		"07:59:50": api.OK, "08:00:14": api.OK, // near enough
		"07:59:48": api.Warn, "08:00:16": api.Warn, "09:00:00": api.Warn,
	} {
		at, err := time.Parse(time.DateTime, "2026-11-27 "+date)
		if err != nil {
			t.Fatal(err)
		}
		if f := skew(asked, answered, at, "hub"); f.Result != want {
			t.Errorf("%s: %+v; want %s", date, f, want)
		}
	}
}

func TestDeliveriesOfADayAgainstTheLimit(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]api.Result{0: api.OK, 799: api.OK, 800: api.Warn, 999: api.Warn, 1000: api.Fail, 1200: api.Fail} {
		if f := ofDay(n, "train"); f.Result != want || (f.Fix == "") != (want == api.OK) {
			t.Errorf("%d: %+v; want %s", n, f, want)
		}
	}
}

func TestWhatBecameOfDeliveries(t *testing.T) {
	t.Parallel()
	of := func(state, reason string, source api.Source) api.Delivery {
		return api.Delivery{ID: "ID", State: state, Reason: reason, Source: source}
	}
	done, skipped := of("done", "", api.Hub), of("skipped", "branch was false", api.Hub)
	for _, test := range []struct {
		came []api.Delivery
		more bool
		want string // result, and words of the text or the fix
	}{
		{nil, false, "skip none of it"},
		{[]api.Delivery{done, skipped, skipped}, false, "ok 3 have come: 1 done, 2 skipped; the latest, ID at "},
		{[]api.Delivery{done}, true, "ok 1 or more have come"},
		{[]api.Delivery{skipped, done, skipped, of("skipped", "no", api.Hub)}, false, "warn branch was false (2 times); no (1 times)"},
		{[]api.Delivery{of("dead", "exit status 1", api.Hub), done}, false, "warn exit status 1"},
		{[]api.Delivery{of("retrying", "exit status 1", api.Hub)}, false, "warn hubhook deliveries show ID"},
		{[]api.Delivery{of("discarded", "by hand", api.Hub)}, false, "warn replay ID"},
		{[]api.Delivery{of("waiting", "", api.Hub)}, false, "ok 1 waiting"},
		{[]api.Delivery{of("done", "", api.Follow), of("done", "", api.CatchUp)}, false, "ok 1 of them by follow, 1 of them by catch-up"},
	} {
		f := became(test.came, test.more)
		result, words, _ := strings.Cut(test.want, " ")
		if string(f.Result) != result || !strings.Contains(f.Text+"\n"+f.Fix, words) || (f.Fix != "") != (f.Result == api.Warn) {
			t.Errorf("%+v; want %s", f, test.want)
		}
	}
}
