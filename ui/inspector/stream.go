package inspector

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

// pace holds the times of a stream.
type pace struct {
	heartbeat time.Duration // between comments, by which both ends notice a dead connection
	flush     time.Duration // at least this long between two writes: under load events go out in batches
	write     time.Duration // a reader that takes nothing for this long is disconnected
}

var defaultPace = pace{heartbeat: 15 * time.Second, flush: 50 * time.Millisecond, write: 10 * time.Second}

// stream answers GET /api/stream. Each event has an id, one more than the id before. After a gap, an event "missed" or a
// reconnection, the client should fetch the list again.
func (in *Inspector) stream(w http.ResponseWriter, r *http.Request) {
	sub, err := in.feed.subscribe()
	if err != nil {
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer in.feed.unsubscribe(sub)

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // for users who put a proxy in front
	if r.Method == http.MethodHead {
		return
	}
	out := &streamWriter{w: w, control: http.NewResponseController(w), limit: in.pace.write}
	// Subscribe before answering, so that a client that has the answer's head misses no later event.
	out.WriteString("retry: 2000\n: the deliveries as they come\n\n")
	if r.Header.Get("Last-Event-ID") != "" {
		out.event(api.EventMissed, 0, encode(api.Missed{}))
	}
	if out.flush() != nil {
		return
	}
	heartbeat := time.NewTicker(in.pace.heartbeat)
	defer heartbeat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		// Events that come during the pause are sent together at its end.
		select {
		case <-r.Context().Done():
			return
		case <-sub.done:
			return
		case <-pause.C:
		}
		select {
		case <-r.Context().Done():
			return
		case <-sub.done:
			return
		case <-heartbeat.C:
			out.WriteString(": still here\n\n")
		case <-sub.wake:
			missed, events := in.feed.take(sub)
			if missed > 0 {
				out.event(api.EventMissed, 0, encode(api.Missed{Events: &missed}))
			}
			for _, e := range events {
				out.event(e.name, e.seq, e.data.json())
			}
		}
		if out.flush() != nil {
			return
		}
		pause.Reset(in.pace.flush)
	}
}

// streamWriter collects events and writes them at once.
type streamWriter struct {
	bytes.Buffer
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

// event adds one event. One with seq 0 has no id.
func (s *streamWriter) event(name string, seq uint64, data []byte) {
	if seq != 0 {
		fmt.Fprintf(s, "id: %d\n", seq)
	}
	fmt.Fprintf(s, "event: %s\ndata: %s\n\n", name, data)
}

// chunk is how many bytes are written under one deadline. A slow reader of a large batch takes some chunks in time; a dead one takes none.
const chunk = 64 << 10

// flush sends the collected events. An error means that the reader is gone or takes nothing.
func (s *streamWriter) flush() error {
	for s.Len() > 0 {
		if err := s.control.SetWriteDeadline(time.Now().Add(s.limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := s.w.Write(s.Next(chunk)); err != nil {
			return err
		}
		if err := s.control.Flush(); err != nil {
			return err
		}
	}
	s.Reset()
	if s.Cap() > maxBufferedBytes/4 {
		s.Buffer = bytes.Buffer{}
	}
	return nil
}
