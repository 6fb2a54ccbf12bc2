package inspector

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

// follow opens a stream, then calls act. next waits for the stream's next event of a name and skips others; end
// ends the stream.
func (f *fixture) follow(act func()) (next func(name string) StreamEvent, end func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	events := make(chan StreamEvent, 1024)
	var reading sync.WaitGroup
	reading.Go(func() {
		err := f.client.Stream(ctx, func(e StreamEvent) { events <- e })
		if !errors.Is(err, context.Canceled) {
			f.t.Errorf("the stream ended with %v", err)
		}
	})
	next = func(name string) StreamEvent {
		f.t.Helper()
		timeout := time.After(patience)
		for {
			select {
			case e := <-events:
				if e.Name == name {
					return e
				}
			case <-timeout:
				f.t.Fatalf("no event %q came", name)
			}
		}
	}
	next("open")
	act()
	return next, func() { cancel(); reading.Wait() }
}

func TestStream(t *testing.T) {
	f := newFixture(t)
	var id string
	next, end := f.follow(func() { id = f.accept(arrival(t, "failing", "real_discussion_create_pr_model.json")) })
	defer end()

	var states []queue.State
	var last uint64
	for len(states) == 0 || states[len(states)-1] != queue.Dead {
		e := next("delivery")
		var d api.Delivery
		if err := json.Unmarshal(e.Data, &d); err != nil || d.ID != id {
			t.Fatalf("%v: %s, want delivery %s", err, e.Data, id)
		}
		if e.ID <= last {
			t.Errorf("id %d after %d", e.ID, last)
		}
		last = e.ID
		states = append(states, queue.State(d.State))
		if d.State == string(queue.Dead) {
			list, err := f.client.List(t.Context(), queue.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			if want := encode(list.Deliveries[0]); string(want) != string(e.Data) {
				t.Errorf("the stream says %s, the list %s", e.Data, want)
			}
		}
	}
	var attempt api.AttemptEvent
	if err := json.Unmarshal(next("attempt").Data, &attempt); err != nil || attempt.Delivery != id || attempt.Endpoint != "failing" || attempt.N != 1 || attempt.Error != "no such <dataset>" || attempt.DurationMS == nil {
		t.Errorf("%v: attempt %+v", err, attempt)
	}

	f.inspector.Rejected(api.Rejected{Endpoint: "inbox", Error: "line one\nline two"})
	f.inspector.Webhook(map[string]string{"id": "w"})
	if e := next("rejected"); !strings.Contains(string(e.Data), `"error":"line one\nline two"`) {
		t.Errorf("rejected: %s", e.Data)
	}
	if e := next("webhook"); string(e.Data) != `{"id":"w"}` {
		t.Errorf("webhook: %s", e.Data)
	}
	f.inspector.Webhook(func() {})
	if e := next("webhook"); !strings.Contains(string(e.Data), "encoding the event") {
		t.Errorf("what can't be encoded: %s", e.Data)
	}
}

// openRaw begins a stream on a connection of its own and reads the answer's head.
func (f *fixture) openRaw(header string) (net.Conn, *bufio.Reader, *http.Response) {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.server.URL, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /api/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n", testToken, header)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return conn, reader, response
}

// TestStreamUnderLoad has one reader that takes all events, and one that takes none, while many events come. The first reader sees no
// unreported gap. Nobody waits for the second reader, and it is disconnected.
func TestStreamUnderLoad(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		f.inspector.pace = pace{heartbeat: time.Second, flush: time.Millisecond, write: time.Second}
		// Small socket buffers fill soon.
		f.configure = func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				if err := c.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil {
					t.Error(err)
				}
				return ctx
			}
		}
	})
	stuck, _, _ := f.openRaw("")
	defer stuck.Close()
	if err := stuck.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}

	const deliveries, others = 300, 20_000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	finished := make(chan struct{})
	var reading sync.WaitGroup
	opened := make(chan struct{})
	reading.Go(func() {
		var last, missed uint64
		err := f.client.Stream(ctx, func(e StreamEvent) {
			switch e.Name {
			case "open":
				close(opened)
				return
			case "missed":
				var m api.Missed
				if err := json.Unmarshal(e.Data, &m); err != nil || m.Events == nil {
					t.Errorf("missed: %v: %s", err, e.Data)
					return
				}
				missed += *m.Events
				return
			case "tunnel":
				close(finished)
			}
			if last != 0 && e.ID != last+1+missed {
				t.Errorf("event %d after %d, of which %d were said to be missed", e.ID, last, missed)
			}
			last, missed = e.ID, 0
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended with %v", err)
		}
	})
	<-opened

	text := strings.Repeat("x", 500)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range others / 4 {
				f.inspector.Rejected(api.Rejected{Error: text})
			}
		})
		work.Go(func() {
			for range deliveries / 4 {
				if _, err := f.queue.Accept(t.Context(), queue.Arrival{Endpoint: "failing", Body: []byte("{}")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()

	// Bytes in the sockets' buffers delay the end of the reader that takes nothing.
	text = strings.Repeat(text, 100)
	gone := time.After(patience)
	for f.inspector.streams() > 1 {
		select {
		case <-gone:
			t.Fatal("the reader that takes nothing still has its stream")
		case <-time.After(time.Millisecond):
			f.inspector.Rejected(api.Rejected{Error: text})
		}
	}
	f.inspector.Tunnel(api.TunnelChange{Phase: "stopped"})
	select {
	case <-finished:
	case <-time.After(patience):
		t.Error("the reader that takes all has not seen the end")
	}
	cancel()
	reading.Wait()
}

func (in *Inspector) streams() int {
	in.feed.mu.Lock()
	defer in.feed.mu.Unlock()
	return len(in.feed.streams)
}

func TestSubscriptionIsBounded(t *testing.T) {
	f := newFixture(t)
	feed := f.inspector.feed
	sub, err := feed.subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer feed.unsubscribe(sub)
	for range maxBufferedEvents + 10 {
		feed.publish("rejected", 1)
	}
	missed, events := feed.take(sub)
	if missed != maxBufferedEvents+10 || len(events) != 0 {
		t.Errorf("%d missed and %d kept, want %d and none", missed, len(events), maxBufferedEvents+10)
	}
	feed.publish("rejected", 1)
	if missed, events = feed.take(sub); missed != 0 || len(events) != 1 || events[0].seq != maxBufferedEvents+11 {
		t.Errorf("once it has told so: %d missed and %d kept, want none and event %d", missed, len(events), maxBufferedEvents+11)
	}
	large := strings.Repeat("x", maxBufferedBytes/2)
	for range 5 {
		feed.publish("rejected", large)
	}
	if missed, events = feed.take(sub); missed != 5 || len(events) != 0 {
		t.Errorf("of large ones %d missed and %d kept, want 5 and none", missed, len(events))
	}
	if missed, events = feed.take(sub); missed != 0 || events != nil {
		t.Errorf("taken twice: %d, %v", missed, events)
	}
}

func TestChangesThatTheQueueDroppedAreSaid(t *testing.T) {
	f := newFixture(t)
	feed := f.inspector.feed
	sub, err := feed.subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer feed.unsubscribe(sub)
	feed.publish("rejected", 1)
	feed.change(feed.watching, queue.Change{Delivery: queue.Delivery{ID: "A"}}, 5)
	if missed, events := feed.take(sub); missed != 6 || len(events) != 1 || events[0].seq != 7 {
		t.Errorf("%d missed, %+v, want 6 and event 7", missed, events)
	}
}

func TestStreamOutlivesTheServersTimeouts(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		f.inspector.pace.heartbeat = 20 * time.Millisecond
		f.configure = func(s *http.Server) { s.ReadTimeout, s.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond }
	})
	conn, _, response := f.openRaw("")
	defer conn.Close()
	lines := bufio.NewScanner(response.Body)
	for beats := 0; beats < 10; {
		if !lines.Scan() {
			t.Fatalf("the stream ended after %d heartbeats: %v", beats, lines.Err())
		}
		if lines.Text() == ": still here" {
			beats++
		}
	}
}

func TestStreamTellsWhoeverReconnects(t *testing.T) {
	f := newFixture(t)
	conn, _, response := f.openRaw("Last-Event-ID: 7\r\n")
	defer conn.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	want := "retry: 2000\n: the deliveries as they come\n\nevent: missed\ndata: {\"events\":null}\n\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
}

func TestTooManyStreams(t *testing.T) {
	f := newFixture(t)
	for range maxStreams {
		sub, err := f.inspector.feed.subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer f.inspector.feed.unsubscribe(sub)
	}
	response, body := f.request("GET", "/api/stream", "")
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, want 503 with Retry-After", response.StatusCode)
	}
	wantError(t, body)
}

func TestCloseEndsStreams(t *testing.T) {
	f := newFixture(t)
	opened, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- f.client.Stream(t.Context(), func(e StreamEvent) {
			if e.Name == "open" {
				close(opened)
			}
		})
	}()
	<-opened
	f.inspector.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v, want io.EOF", err)
		}
	case <-time.After(patience):
		t.Fatal("the stream did not end")
	}
	stop, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.server.Config.Shutdown(stop); err != nil {
		t.Errorf("shutting down after Close: %v", err)
	}
	f.inspector.Close()
	f.inspector.Rejected(api.Rejected{Error: "nobody listens"})
	if _, err := f.inspector.feed.subscribe(); !errors.Is(err, errClosed) {
		t.Errorf("a stream after Close: %v, want a refusal", err)
	}
}

// TestWatchingOnlyWhileSomeoneLooks: without a stream, the queue is not watched and pays nothing.
func TestWatchingOnlyWhileSomeoneLooks(t *testing.T) {
	f := newFixture(t)
	feed := f.inspector.feed
	for range 3 {
		if feed.watching != nil {
			t.Fatal("the queue is watched though nobody looks")
		}
		sub, err := feed.subscribe()
		if err != nil {
			t.Fatal(err)
		}
		if feed.watching == nil {
			t.Fatal("the queue is not watched though someone looks")
		}
		f.accept(queue.Arrival{Endpoint: "inbox", Body: []byte("{}")})
		select {
		case <-sub.wake:
		case <-time.After(patience):
			t.Fatal("the delivery is not in the stream")
		}
		feed.unsubscribe(sub)
		feed.wait.Wait()
	}
}
