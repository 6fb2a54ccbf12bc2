package hubtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Feed is the live feed of a [Bucket], as huggingface_hub 2.4.0 reads it: server-sent events. Each change of the bucket is one batch. A
// client that comes back within [Options].ReplayWindow gets the batches that it has missed.
//
// To refuse streams, use [Faults] with the path /api/buckets/OWNER/NAME/events, and [Unavailable] for example.
type Feed struct {
	bucket *Bucket

	// Under the Hub's lock.
	batches []batch // that can be replayed, oldest first
	last    int64   // number of the newest batch, from 1
	dropped batch   // the newest batch that can't be replayed any more
	streams map[*stream]struct{}
	changed chan struct{} // closed and made anew when a stream begins or ends
}

// batch is one change of the bucket.
type batch struct {
	number  int64
	at      time.Time // in milliseconds
	changes []fileChange
}

// fileChange is what happened to one file. A field that is missing in an update has not changed.
type fileChange struct {
	Path       string `json:"path"`
	Op         string `json:"op"` // add, update or delete
	Size       *int64 `json:"size,omitzero"`
	XetHash    string `json:"xetHash,omitzero"`
	UploadedAt string `json:"uploadedAt,omitzero"`
}

// changeOf is the change of an upload.
func changeOf(was, is BucketFile, there bool) fileChange {
	c := fileChange{Path: is.Path, Op: "add", UploadedAt: stamp(is.UploadedAt)}
	if there {
		c.Op = "update"
	}
	if !there || was.Size != is.Size {
		c.Size = &is.Size
	}
	if was.XetHash != is.XetHash {
		c.XetHash = is.XetHash
	}
	return c
}

// stream is one client that follows the bucket.
type stream struct {
	wake   chan struct{} // has room for one
	sent   int64         // number of the last batch that was sent or is in frames
	frames []frame       // to be sent before later batches
	ended  bool          // ends after its frames
	cut    bool          // ends at once
	silent bool
}

// frame is one server-sent event.
type frame struct {
	event string
	data  any
}

// each does something to all streams and wakes them. It is called with the lock held.
func (f *Feed) each(do func(*stream)) {
	for s := range f.streams {
		do(s)
		select {
		case s.wake <- struct{}{}:
		default: // a wake-up is waiting already
		}
	}
}

// add is called with the lock held.
func (f *Feed) add(changes []fileChange) {
	f.last++
	f.batches = append(f.batches, batch{f.last, f.bucket.updated, changes})
	f.each(func(*stream) {})
}

// trim drops batches that are too old to be replayed. It is called with the lock held.
func (f *Feed) trim() {
	oldest := f.bucket.hub.options.Now().Add(-f.bucket.hub.options.ReplayWindow)
	for len(f.batches) > 0 && f.batches[0].at.Before(oldest) {
		f.dropped, f.batches = batch{number: f.batches[0].number, at: f.batches[0].at}, f.batches[1:]
	}
}

// Streams returns the number of clients that follow the bucket.
func (f *Feed) Streams() int {
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	return len(f.streams)
}

// WaitStreams waits until that many clients follow the bucket, and returns an error if ctx ends first.
func (f *Feed) WaitStreams(ctx context.Context, count int) error {
	for {
		f.bucket.hub.mu.Lock()
		changed, is := f.changed, len(f.streams)
		f.bucket.hub.mu.Unlock()
		if is == count {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d clients that follow the bucket: there are %d: %w", count, is, ctx.Err())
		}
	}
}

// signal is called with the lock held.
func (f *Feed) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Reconnect ends all streams as the Hub does on purpose: by the event reconnect with a cursor to come back with.
func (f *Feed) Reconnect() {
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	f.end("reconnect", f.cursorObject(f.last))
}

// Reset ends all streams by the event reset, and forgets what could be replayed: clients have to list the bucket.
func (f *Feed) Reset() {
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	f.end("reset", tooOld)
	if n := len(f.batches); n > 0 {
		f.dropped, f.batches = batch{number: f.batches[n-1].number, at: f.batches[n-1].at}, nil
	}
}

var tooOld = map[string]string{"reason": "cursor_too_old"}

func (f *Feed) end(event string, data any) {
	f.each(func(s *stream) { f.queue(s, frame{event, data}); s.ended = true })
}

// queue puts a frame after the batches so far. It is called with the lock held.
func (f *Feed) queue(s *stream, last frame) {
	if !s.ended {
		s.frames = append(append(s.frames, f.missed(s)...), last)
	}
}

// Cut ends all streams without a word.
func (f *Feed) Cut() {
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	f.each(func(s *stream) { s.cut = true })
}

// Silence makes the present streams send nothing any more, no comment lines either, while their connections stay open. Clients have to notice
// that. New streams are not silent.
func (f *Feed) Silence() {
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	f.each(func(s *stream) { s.silent = true })
}

// Send sends an event to all streams, for example an event that clients do not know. The data is written as JSON.
func (f *Feed) Send(event string, data any) error {
	if _, err := json.Marshal(data); err != nil {
		return fmt.Errorf("send the event %s: write its data as JSON: %w", event, err)
	}
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	f.each(func(s *stream) { f.queue(s, frame{event, data}) })
	return nil
}

// cursor names a batch. Clients are not to read it.
func (f *Feed) cursor(number int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s:%d", f.bucket.id, number))
}

// cursorObject is the data of ready and reconnect. It has no cursor as long as the bucket has not changed.
func (f *Feed) cursorObject(number int64) any {
	if number == 0 {
		return struct{}{}
	}
	return map[string]string{"cursor": f.cursor(number)}
}

// resume returns the number of the last batch that a client has, by its request. old says that the client has missed a batch that can't be replayed.
func (f *Feed) resume(cursor, since string) (sent int64, old bool, err error) {
	f.trim()
	switch {
	case cursor != "":
		b, err := base64.RawURLEncoding.DecodeString(cursor)
		id, digits, _ := strings.Cut(string(b), ":")
		number, numberErr := strconv.ParseInt(digits, 10, 64)
		if err != nil || numberErr != nil || id != f.bucket.id || number > f.last {
			return 0, false, badFeed("the cursor is none of this bucket")
		}
		old = number < f.dropped.number || f.bucket.hub.options.API.OldCursorResets && number <= f.dropped.number && f.dropped.number > 0
		return number, old, nil
	case since != "":
		at, err := time.Parse(time.RFC3339, since)
		if err != nil {
			return 0, false, badFeed("since is no time such as 2026-11-27T09:00:00.000Z")
		}
		if at.Before(f.dropped.at) {
			return 0, true, nil
		}
		// Batches of that very instant are sent again: of two with the same time the client may have only one.
		sent = f.dropped.number
		for _, b := range f.batches {
			if b.at.Before(at) {
				sent = b.number
			}
		}
		return sent, false, nil
	}
	return f.last, false, nil
}

// badFeed refuses a resume point. Its status is 400, whatever [API].BadRequest says: clients take it for their resume point alone.
func badFeed(message string) error {
	return &apiError{status: http.StatusBadRequest, messages: []string{message}}
}

// missed returns the frames of the batches that a stream has not sent. It is called with the lock held.
func (f *Feed) missed(s *stream) []frame {
	if s.sent < f.dropped.number { // its client reads too slowly
		s.ended = true
		return []frame{{"reset", tooOld}}
	}
	var frames []frame
	for _, b := range f.batches {
		if b.number > s.sent {
			frames = append(frames, frame{"changes", map[string]any{"cursor": f.cursor(b.number), "changes": b.changes}})
			s.sent = b.number
		}
	}
	return frames
}

// next returns what a stream has to send now, and what it is to do afterwards.
func (f *Feed) next(s *stream) (frames []frame, ended, cut, silent bool) {
	f.bucket.hub.mu.Lock()
	defer f.bucket.hub.mu.Unlock()
	if s.silent {
		return nil, false, s.cut, true
	}
	frames = s.frames
	if !s.ended {
		frames = append(frames, f.missed(s)...)
	}
	s.frames = nil
	return frames, s.ended, s.cut, false
}

// serve sends the feed until the client goes, the stream is ended or the Hub is closed. It is called without the lock.
func (f *Feed) serve(c *call) error {
	h := f.bucket.hub
	query := c.r.URL.Query()
	h.mu.Lock()
	sent, old, err := f.resume(query.Get("cursor"), query.Get("since"))
	if err != nil {
		h.mu.Unlock()
		return err
	}
	s := &stream{wake: make(chan struct{}, 1), sent: sent, ended: old}
	frames := []frame{{"reset", tooOld}}
	if !old {
		frames = append(f.missed(s), frame{"ready", f.cursorObject(f.last)})
	}
	ended, cut, silent := s.ended, false, false
	f.streams[s] = struct{}{}
	f.signal()
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(f.streams, s)
		f.signal()
	}()

	c.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-cache")
	keepAlive := time.NewTicker(h.options.KeepAlive)
	defer keepAlive.Stop()
	comment := false
	for {
		if cut {
			panic(http.ErrAbortHandler)
		}
		if !silent {
			if err := write(c.w, frames, comment); err != nil {
				return nil // the client has gone
			}
		}
		if ended {
			return nil
		}
		comment = false
		select {
		case <-s.wake:
		case <-keepAlive.C:
			comment = true
		case <-c.r.Context().Done():
			return nil
		}
		frames, ended, cut, silent = f.next(s)
	}
}

// write sends frames, and a comment line after them.
func write(w http.ResponseWriter, frames []frame, comment bool) error {
	var b []byte
	for _, f := range frames {
		data, err := json.Marshal(f.data)
		if err != nil {
			return err // Feed.Send has checked it
		}
		b = fmt.Appendf(b, "event: %s\ndata: %s\n\n", f.event, data)
	}
	if comment {
		b = append(b, ": keep-alive\n\n"...)
	}
	if len(b) > 0 {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return http.NewResponseController(w).Flush()
}
