package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

func newWorkshop(t *testing.T) (*workshop, *bytes.Buffer) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "..", "..", "payload", "testdata", "synthetic_repo_content_update_main_model.json"))
	if err != nil {
		t.Fatal(err)
	}
	said := new(bytes.Buffer)
	return &workshop{dir: t.TempDir(), root: filepath.Join("..", "..", ".."), payload: body, reporter: reporter{out: said, state: new(reported)}}, said
}

func TestTurn(t *testing.T) {
	const n = 4
	before := map[[2]int]int{} // by pair: how often the first went before the second
	first := make([]int, n)
	const all = 2 * n
	for round := range all {
		order := turn(round, n)
		if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(sorted, []int{0, 1, 2, 3}) {
			t.Fatalf("turn(%d, %d) = %v, want each once", round, n, order)
		}
		first[order[0]]++
		for i, a := range order {
			for _, b := range order[i+1:] {
				before[[2]int{a, b}]++
			}
		}
	}
	for i, times := range first {
		if times != all/n {
			t.Errorf("%d began %d of %d rounds, want %d", i, times, all, all/n)
		}
	}
	for pair, times := range before {
		if times != all/2 {
			t.Errorf("%d went before %d in %d of %d rounds, want half", pair[0], pair[1], times, all)
		}
	}
}

func TestWithoutPythonTheRunGoesOn(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	w, said := newWorkshop(t)
	w.venv = t.TempDir()
	for range 2 { // once for each measurement that has it
		c, err := w.startWebhooksServer(t.Context())
		if c != nil || err != nil {
			t.Fatalf("startWebhooksServer without Python = %v, %v, want neither", c, err)
		}
	}
	const want = "WebhooksServer is skipped: "
	if len(w.skipped) != 1 || !strings.HasPrefix(w.skipped[0], want) || !strings.Contains(w.skipped[0], "Python 3.11") {
		t.Errorf("skipped = %q, want one that begins with %q and says what it needs", w.skipped, want)
	}
	if got := strings.Count(said.String(), want); got != 1 {
		t.Errorf("it was said %d times, want once:\n%s", got, said)
	}
}

func TestFillStoresHandledDeliveries(t *testing.T) {
	const n = 1000
	w, _ := newWorkshop(t)
	if err := w.fill(t.Context(), w.dir, n); err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), queue.Config{Dir: w.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	counts, err := q.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if counts["inbox"][queue.Done] != n {
		t.Errorf("counts = %v, want %d done", counts, n)
	}
	newest, _, err := q.List(t.Context(), queue.Filter{Limit: 1000})
	if err != nil || len(newest) != n {
		t.Fatalf("the list has %d deliveries, %v, want %d", len(newest), err, n)
	}
	span := newest[0].Received.Sub(newest[n-1].Received)
	if span < storedSpan*9/10 || span > storedSpan {
		t.Errorf("they came in over %v, want about %v", span, storedSpan)
	}
	d := newest[0]
	if d.Scope != "repo.content" || d.Attempts != 1 || len(d.WebhookID) != idDigits || time.Since(d.Received) < 0 {
		t.Errorf("a stored delivery = %+v, want the payload's scope, one attempt, a Webhook-Id as the load's, received in the past", d)
	}
}

func TestReporter(t *testing.T) {
	var b bytes.Buffer
	r := reporter{out: &b, state: new(reported)}
	r.progress("round %d", 1)
	r.say("deliveries...")
	if got, want := b.String(), "bench: deliveries...\n"; got != want {
		t.Errorf("without a terminal it writes %q, want %q", got, want)
	}
	b.Reset()
	r.terminal = true
	r.progress("round %d", 1)
	r.progress("round %d", 2)
	r.say("deliveries...")
	if got, want := b.String(), clearLine+"bench: round 1"+clearLine+"bench: round 2"+clearLine+"bench: deliveries...\n"; got != want {
		t.Errorf("on a terminal it writes %q, want %q", got, want)
	}
}

func TestRatioText(t *testing.T) {
	for ratio, want := range map[float64]string{0.4: "0.40", 12: "12.00", 0.0064: "0.0064", 0.0949: "0.095", 0.096: "0.10"} {
		if got := ratioText(ratio); got != want {
			t.Errorf("ratioText(%v) = %q, want %q", ratio, got, want)
		}
	}
}

func TestStackStopsTheLastFirst(t *testing.T) {
	var stopped []string
	var s stack
	for _, name := range []string{"server", "hubhook"} {
		s.push(func() error {
			stopped = append(stopped, name)
			return errors.New(name)
		})
	}
	if err := s.unwind(); err == nil || !strings.Contains(err.Error(), "server") || !strings.Contains(err.Error(), "hubhook") {
		t.Errorf("unwind = %v, want both errors", err)
	}
	if !slices.Equal(stopped, []string{"hubhook", "server"}) {
		t.Errorf("stopped %v, want the last one first", stopped)
	}
}

func TestAttributes(t *testing.T) {
	out := "=== RUN   TestX\n=== ATTR  TestX/a every 1m23s\n=== ATTR  TestX/b every 2m\n=== ATTR  TestX/a note two words\n--- PASS: TestX\n"
	if all := attributes(out, "TestX/a"); len(all) != 2 || all["every"] != "1m23s" || all["note"] != "two words" {
		t.Errorf("the attributes are %q", all)
	}
}

// Each way in opens, and comes back after its loss.
func TestWaysIn(t *testing.T) {
	t.Parallel()
	w, _ := newWorkshop(t)
	program := httptest.NewServer(routes(http.HandlerFunc(answerEmpty)))
	defer program.Close()
	upstream, err := url.Parse(program.URL + deliveryPath)
	if err != nil {
		t.Fatal(err)
	}
	if open, back, err := w.timeProxy(t.Context(), upstream); err != nil || open <= 0 || back <= 0 {
		t.Errorf("the reverse proxy: %v, %v, %v", open, back, err)
	}
	for _, start := range []func() (*way, error){w.ngrokWay, w.sshWay} {
		by, err := start()
		if err != nil {
			t.Fatal(err)
		}
		if open, back, err := w.timeTunnel(t.Context(), by); err != nil || open <= 0 || back <= 0 {
			t.Errorf("%s: %v, %v, %v", by.name, open, back, err)
		}
		if err := by.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Each rival builds, handles deliveries and records that.
func TestRivals(t *testing.T) {
	if os.Getenv("HUBHOOK_TEST_RIVALS") == "" {
		t.Skip("compiling the rivals takes up to a minute; HUBHOOK_TEST_RIVALS=1 does, as in .ci/run")
	}
	server, err := pgserver.Start(t.Context())
	pgserver.Need(t, err)
	defer server.Close()
	for _, b := range []batched{false, true} {
		database := "river_" + b.String()
		if err := server.CreateDatabase(t.Context(), database); err != nil {
			t.Fatal(err)
		}
		for name, start := range map[string]func(*workshop) (*contender, error){
			"goqite": func(w *workshop) (*contender, error) { return w.startGoqite(t.Context(), b) },
			"river": func(w *workshop) (*contender, error) {
				return w.startRival(t.Context(), "river", b, server.URL(database))
			},
		} {
			t.Run(name+"/"+b.String(), func(t *testing.T) { deliverToRival(t, start) })
		}
	}
}

func deliverToRival(t *testing.T, start func(*workshop) (*contender, error)) {
	w, _ := newWorkshop(t)
	c, err := start(w)
	if err != nil {
		t.Fatal(err)
	}
	senders, hangUp, err := c.load.dial(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp()
	var sending sync.WaitGroup
	for _, s := range senders {
		c.answered++
		sending.Go(func() {
			if err := s.deliver(); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	if _, err := c.finish(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}
