package inspector

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

// talker is an attempt that has printed so many bytes.
type talker struct {
	id string

	mu    sync.Mutex
	bytes int
	at    int64
	asked int
}

func (o *talker) Next(most int) (api.OutputEvent, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	n := min(o.bytes, most)
	if n == 0 {
		return api.OutputEvent{}, false
	}
	piece := api.OutputEvent{Delivery: o.id, N: 1, Offset: o.at, Text: strings.Repeat("x", n)}
	o.bytes -= n
	o.at += int64(n)
	return piece, true
}

func (o *talker) timesAsked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

func TestOutputIsToldInPieces(t *testing.T) {
	f := newFixture(t)
	const bytes = 3*maxPiece + 5
	o := &talker{id: "D", bytes: bytes}
	next, end := f.follow(func() { f.inspector.Printed(o) })
	defer end()
	for told := 0; told < bytes; {
		e := next("output")
		var piece api.OutputEvent
		if err := json.Unmarshal(e.Data, &piece); err != nil || piece.Offset != int64(told) || len(piece.Text) > maxPiece {
			t.Fatalf("%v: a piece of %d bytes at %d, %d were told", err, len(piece.Text), piece.Offset, told)
		}
		if told == 0 && !strings.HasPrefix(string(e.Data), `{"delivery":"D","n":1,"offset":0,"text":"xxx`) {
			t.Errorf("the event is %.80s", e.Data)
		}
		told += len(piece.Text)
	}
}

// Without a stream no output is read, and none is kept.
func TestOutputThatNobodyWatches(t *testing.T) {
	f := newFixture(t)
	before, after, seen := &talker{bytes: 1}, &talker{bytes: 1}, &talker{bytes: 1}
	f.inspector.Printed(before)
	next, end := f.follow(func() { f.inspector.Printed(seen) })
	next("output")
	end()
	for deadline := time.Now().Add(patience); f.inspector.streams() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream has not ended")
		}
	}
	f.inspector.Printed(after)
	if before.timesAsked() != 0 || seen.timesAsked() == 0 || after.timesAsked() != 0 {
		t.Errorf("asked %d times before there was a stream, %d times meanwhile, %d times after its end", before.timesAsked(), seen.timesAsked(), after.timesAsked())
	}
	if n := len(f.inspector.feed.outputs.waiting); n != 0 {
		t.Errorf("%d outputs wait for nobody", n)
	}
}

// Attempts that print without end do not crowd out other events.
func TestOutputIsRationed(t *testing.T) {
	feed := newFeed(nil)
	w := &watch{printed: make(chan struct{}, 1)} // no follow runs, so only the test reads it
	sub := &subscription{wake: make(chan struct{}, 1)}
	feed.watching, feed.streams[sub] = w, struct{}{}
	feed.outputs.open(w.printed)
	const talkers = 100
	for i := range talkers {
		feed.outputs.add(&talker{id: fmt.Sprint(i), bytes: 1 << 30})
	}
	if !feed.tellOutputs(w) {
		t.Fatal("nothing is left to tell")
	}
	_, events := feed.take(sub)
	told := 0
	for _, e := range events {
		told += len(e.data.json())
	}
	if told < maxPieces || told > maxPieces+len(events)*100 {
		t.Errorf("a look tells %d bytes, want %d", told, maxPieces)
	}
	if waiting := len(feed.outputs.waiting); waiting != talkers {
		t.Errorf("%d of %d outputs wait to tell the rest", waiting, talkers)
	}
}

// The last piece comes before the end of its attempt.
func TestOutputComesBeforeTheEnd(t *testing.T) {
	f := newFixture(t)
	next, end := f.follow(func() {
		f.inspector.Printed(&talker{id: "D", bytes: 10})
		f.accept(queue.Arrival{Endpoint: "failing", Body: []byte("{}")})
	})
	defer end()
	next("output") // skips the events before
	if e := next("attempt"); !strings.Contains(string(e.Data), `"error":"no such`) {
		t.Errorf("the attempt's end is told as %s", e.Data)
	}
}

func TestARunningAttemptShowsWhatItHasPrinted(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		f.inspector.config.Output = func(id string, n int) (string, int64) {
			return fmt.Sprintf("attempt %d of %s", n, id), 1 << 40
		}
	})
	id := f.accept(arrival(t, "slow", "real_repo_content_update_bucket.json"))
	f.waitFor(id, queue.Running)
	record, err := f.client.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if a := record.AttemptList[0]; a.Output != "attempt 1 of "+id || a.OutputBytes != 1<<40 {
		t.Errorf("while it runs: %+v", a)
	}
	ended := f.accept(arrival(t, "failing", "real_repo_content_update_bucket.json"))
	if record, err = f.client.Get(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if a := record.AttemptList[0]; a.Output != "line one\nline two\n" || a.OutputBytes != 0 {
		t.Errorf("once it has ended: %+v", a)
	}
}
