package cli

import (
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
