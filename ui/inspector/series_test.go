package inspector

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

// seriesFixture is an inspector on a real queue in a synctest bubble, where no network can be used.
type seriesFixture struct {
	t         *testing.T
	queue     *queue.Queue
	inspector *Inspector
}

// withSeries runs a test on an inspector whose endpoint quick takes 250 µs, and slow 2 s.
func withSeries(t *testing.T, test func(t *testing.T, f *seriesFixture)) {
	synctest.Test(t, func(t *testing.T) {
		q, err := queue.Open(t.Context(), queue.Config{Dir: t.TempDir(), Warn: func(err error) { t.Errorf("the queue warns: %v", err) }})
		if err != nil {
			t.Fatal(err)
		}
		taking := func(d time.Duration) func(context.Context, *queue.Claim) queue.Outcome {
			return func(context.Context, *queue.Claim) queue.Outcome {
				time.Sleep(d)
				return queue.Outcome{}
			}
		}
		err = q.Start([]queue.Endpoint{{Name: "quick", Handle: taking(250 * time.Microsecond)}, {Name: "slow", Handle: taking(2 * time.Second)}})
		if err != nil {
			t.Fatal(err)
		}
		f := &seriesFixture{t: t, queue: q, inspector: New(Config{
			Queue: q, Token: testToken,
			Replay:  func(context.Context, string, []byte) (string, error) { return "", nil },
			Trigger: func(context.Context, api.Trigger) (string, error) { return "", nil },
			Status:  func(context.Context) (api.Status, error) { return api.Status{}, nil },
		})}
		defer func() {
			f.inspector.Close()
			if err := q.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, f)
	})
}

func (f *seriesFixture) get(ctx context.Context, query string) (status int, body string) {
	r := httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:7861/api/series?"+query, nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	f.inspector.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// series is the API's answer, with the API's names.
type series struct {
	StepMS     int64                 `json:"step_ms"`
	Times      []int64               `json:"times"`
	States     map[string][]int64    `json:"states"`
	DurationMS map[string][]*float64 `json:"duration_ms"`
}

func (f *seriesFixture) series(query string) (s series) {
	f.t.Helper()
	status, body := f.get(f.t.Context(), query)
	if status != 200 {
		f.t.Fatalf("?%s: status %d: %s", query, status, body)
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		f.t.Fatalf("?%s: %v in %s", query, err, body)
	}
	return s
}

// accept has a delivery handled, unless it is not to be waited for.
func (f *seriesFixture) accept(endpoint string, wait bool) {
	f.t.Helper()
	receipt, err := f.queue.Accept(f.t.Context(), queue.Arrival{Endpoint: endpoint, Body: []byte("{}")})
	if err != nil {
		f.t.Fatal(err)
	}
	if wait {
		<-receipt.Done()
	}
}

// shown returns the steps of s that are not empty, by the time at which they begin.
func (s series) shown() map[string]string {
	shown := map[string]string{}
	for i, at := range s.Times {
		var text []string
		for state, n := range s.States {
			if n[i] != 0 {
				text = append(text, fmt.Sprint(state, " ", n[i]))
			}
		}
		slices.Sort(text)
		for _, name := range []string{"p50", "p95", "max"} {
			if v := s.DurationMS[name][i]; v != nil {
				text = append(text, fmt.Sprint(name, " ", *v))
			}
		}
		if len(text) > 0 {
			shown[time.Unix(at, 0).UTC().Format("15:04")] = strings.Join(text, ", ")
		}
	}
	return shown
}

func TestSeries(t *testing.T) {
	withSeries(t, func(t *testing.T, f *seriesFixture) {
		midnight := time.Now().Truncate(24 * time.Hour)
		at := func(clock string) {
			t.Helper()
			d, err := time.ParseDuration(clock)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(midnight.Add(d)))
		}
		at("9h50m")
		for range 19 {
			f.accept("quick", true)
		}
		f.accept("slow", true)
		at("11h7m59s")
		f.accept("slow", true) // ends in the next minute
		at("11h29m")
		f.accept("quick", true)
		f.accept("slow", true)
		at("11h30m12s")
		f.accept("slow", false)

		quick, slow := "p50 0.25, p95 0.25, max 0.25", "p50 2000, p95 2000, max 2000"
		both := "done 2, p50 0.25, p95 2000, max 2000"
		for _, c := range []struct {
			query string
			first string
			steps int
			step  time.Duration
			want  map[string]string
		}{
			{"last=1h&endpoint=", "10:31", 60, time.Minute, map[string]string{"11:07": "done 1, " + slow, "11:29": both, "11:30": "running 1"}},
			{"endpoint=quick", "10:31", 60, time.Minute, map[string]string{"11:29": "done 1, " + quick}},
			{"last=1h&endpoint=nobody", "10:31", 60, time.Minute, map[string]string{}},
			{"last=24h", "11:45", 96, 15 * time.Minute, map[string]string{"09:45": "done 20, p50 0.25, p95 0.25, max 2000", "11:00": "done 1, " + slow, "11:15": both, "11:30": "running 1"}},
			{"last=24h&endpoint=slow", "11:45", 96, 15 * time.Minute, map[string]string{"09:45": "done 1, " + slow, "11:00": "done 1, " + slow, "11:15": "done 1, " + slow, "11:30": "running 1"}},
		} {
			s := f.series(c.query)
			if diff := cmp.Diff(c.want, s.shown()); diff != "" {
				t.Errorf("?%s: %s", c.query, diff)
			}
			if got := time.Unix(s.Times[0], 0).UTC().Format("15:04"); got != c.first || s.StepMS != c.step.Milliseconds() || len(s.Times) != c.steps {
				t.Errorf("?%s: %d steps of %d ms from %s on, want %d of %v from %s on", c.query, len(s.Times), s.StepMS, got, c.steps, c.step, c.first)
			}
			for i := range s.Times[1:] {
				if (s.Times[i+1]-s.Times[i])*1000 != s.StepMS {
					t.Errorf("?%s: a step from %d to %d", c.query, s.Times[i], s.Times[i+1])
				}
			}
			for _, state := range queue.States() {
				if n := len(s.States[string(state)]); n != c.steps {
					t.Errorf("?%s: %d numbers of %s", c.query, n, state)
				}
			}
			if len(s.States) != len(queue.States()) || len(s.DurationMS) != 3 {
				t.Errorf("?%s: %d states, %d durations", c.query, len(s.States), len(s.DurationMS))
			}
		}
	})
}

func TestSeriesRefusesWhatItDoesNotKnow(t *testing.T) {
	withSeries(t, func(t *testing.T, f *seriesFixture) {
		for query, say := range map[string]string{
			"last=7d":              "1h or 24h",
			"last=60m":             "1h or 24h",
			"since=1h":             "unknown parameter",
			"last=1h&last=24h":     "2 times",
			"last=1h&endpoint=a&b": "unknown parameter",
		} {
			status, body := f.get(t.Context(), query)
			if status != 400 || !strings.Contains(body, say) {
				t.Errorf("?%s: status %d: %s want 400 and %q", query, status, body, say)
			}
			wantError(t, body)
		}
	})
}

func TestSeriesIsReadOnceForManyPages(t *testing.T) {
	withSeries(t, func(t *testing.T, f *seriesFixture) {
		time.Sleep(30 * time.Second) // to the middle of a minute
		done := func() (n int64) {
			for _, in := range f.series("last=1h").States["done"] {
				n += in
			}
			return n
		}
		f.accept("quick", true)
		if n := done(); n != 1 {
			t.Errorf("of one, %d are done", n)
		}
		f.accept("quick", true)
		if n := done(); n != 1 {
			t.Errorf("at once after it was read, it is read again: %d are done", n)
		}
		time.Sleep(seriesAge)
		if n := done(); n != 2 {
			t.Errorf("a second later, of two, %d are done", n)
		}
		for i := range 2 * maxRecentSeries {
			f.series(fmt.Sprint("endpoint=", i))
		}
		if n := len(f.inspector.recentSeries.known); n != maxRecentSeries {
			t.Errorf("%d are kept, want %d", n, maxRecentSeries)
		}
		// A caller that waits for its turn can give up.
		<-f.inspector.recentSeries.turn
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if status, body := f.get(ctx, "last=1h"); status != 503 {
			t.Errorf("without a turn: status %d: %s", status, body)
		}
		f.inspector.recentSeries.turn <- struct{}{}
	})
}
