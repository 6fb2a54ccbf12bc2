package inspector

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

const (
	maxStreams = 64

	// How far one stream may lag before it loses events.
	maxBufferedEvents = 1024
	maxBufferedBytes  = 4 << 20

	watchBuffer = 1024 // changes of the queue that may wait, for all streams together

	// Between two looks at the queue's changes. Under load, waking for each change would cost the queue more than the rest of the stream.
	watchPause = 5 * time.Millisecond
)

var (
	errTooManyStreams = errors.New("too many streams are open")
	errClosed         = errors.New("the inspector is shutting down")
)

// event is one server-sent event. All streams share its data.
type event struct {
	seq  uint64
	name string
	data *data
}

// data is a line of JSON. The first stream that sends it encodes it, so that an event that no reader takes costs next to nothing.
type data struct {
	size int // in bytes, roughly
	once sync.Once
	view any // nil once it is encoded
	line []byte
}

func encoded(line []byte) *data { return &data{size: len(line), line: line} }

func (d *data) json() []byte {
	d.once.Do(func() {
		if d.view != nil {
			d.line, d.view = encode(d.view), nil
		}
	})
	return d.line
}

// feed sends events to the streams. It watches the queue while there is a stream. It never waits for a reader.
type feed struct {
	queue   Queue
	wait    sync.WaitGroup // the goroutines that watch the queue
	outputs outputs

	mu       sync.Mutex
	closed   bool
	seq      uint64 // of the newest event; counts events that the watcher lost, too
	streams  map[*subscription]struct{}
	watching *watch // nil without a stream
}

// watch is one period of watching the queue.
type watch struct {
	changes *queue.Watcher
	printed chan struct{} // has one token when an output has more to tell
	stop    chan struct{}
}

// subscription holds the events that one stream has not sent yet. The feed's mutex guards its fields.
type subscription struct {
	events []event
	bytes  int
	missed uint64        // events left out before events[0]
	lags   bool          // its buffer was full, so it drops all events until it has sent "missed"
	wake   chan struct{} // has one token when there is something to take
	done   chan struct{} // closed by feed.close
}

func newFeed(q Queue) *feed {
	return &feed{queue: q, streams: make(map[*subscription]struct{})}
}

// subscribe begins a stream; unsubscribe must follow.
func (f *feed) subscribe() (*subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	if len(f.streams) >= maxStreams {
		return nil, errTooManyStreams
	}
	if f.watching == nil {
		w := &watch{changes: f.queue.Watch(watchBuffer), printed: make(chan struct{}, 1), stop: make(chan struct{})}
		f.watching = w
		f.outputs.open(w.printed)
		f.wait.Go(func() { f.follow(w) })
	}
	s := &subscription{wake: make(chan struct{}, 1), done: make(chan struct{})}
	f.streams[s] = struct{}{}
	return s, nil
}

func (f *feed) unsubscribe(s *subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, s)
	if len(f.streams) == 0 {
		f.stopWatching()
	}
}

// stopWatching is called with the mutex held.
func (f *feed) stopWatching() {
	if f.watching != nil {
		close(f.watching.stop)
		f.watching = nil
		f.outputs.open(nil)
	}
}

// close ends all streams and returns when the queue is no longer watched.
func (f *feed) close() {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		for s := range f.streams {
			close(s.done)
		}
		f.stopWatching()
	}
	f.mu.Unlock()
	f.wait.Wait()
}

// follow publishes the queue's changes and the attempts' output, until w is stopped or the queue ends w.
func (f *feed) follow(w *watch) {
	defer w.changes.Close()
	pause := time.NewTimer(outputPause)
	defer pause.Stop()
	rest := time.NewTimer(watchPause)
	defer rest.Stop()
	changes := w.changes.C    // nil during the pause after a read
	var look <-chan time.Time // nil while no output has news
	lookLater := func() {
		if look == nil {
			pause.Reset(outputPause)
			look = pause.C
		}
	}
	for {
		select {
		case <-w.stop:
			return
		case <-w.printed:
			lookLater()
		case <-look:
			look = nil
			if f.tellOutputs(w) {
				lookLater()
			}
		case <-rest.C:
			changes = w.changes.C
		case c, ok := <-changes:
			if !ok {
				return
			}
			if f.tellChanges(w, c) {
				lookLater()
			}
			changes = nil
			rest.Reset(watchPause)
		}
	}
}

// tellChanges publishes a change and the changes that wait behind it, watchBuffer at most. It reports whether outputs have more text.
func (f *feed) tellChanges(w *watch, c queue.Change) (more bool) {
	for n := 1; ; n++ {
		// Publish an attempt's last output before its end.
		if c.Attempt != nil && c.Attempt.Ended && f.tellOutputs(w) {
			more = true
		}
		f.change(w, c, uint64(w.changes.Missed()))
		if n == watchBuffer || len(w.changes.C) == 0 {
			return more
		}
		var ok bool
		if c, ok = <-w.changes.C; !ok {
			return more
		}
	}
}

// change publishes one change of the queue. If missed changes were lost before it, the streams are told so first.
func (f *feed) change(w *watch, c queue.Change, missed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watching != w { // w was stopped; a later watch may publish the same change
		return
	}
	if missed > 0 {
		f.seq += missed
		for s := range f.streams {
			s.lose(missed)
		}
	}
	if f.allLag() {
		f.send(api.EventDelivery, nil)
		if c.Attempt != nil {
			f.send(api.EventAttempt, nil)
		}
		return
	}
	const fields = 512 // bytes of an event's names, numbers and times, at most
	d := &c.Delivery
	size := fields + len(d.Endpoint) + len(d.Reason) + len(d.WebhookID) + len(d.Scope) + len(d.Action) + len(d.RepoName)
	f.send(api.EventDelivery, &data{view: ViewDelivery(d), size: size})
	if a := c.Attempt; a != nil {
		f.send(api.EventAttempt, &data{view: ViewAttempt(&c), size: fields + len(d.Endpoint) + len(a.Error) + len(d.Reason)})
	}
}

// allLag reports whether all streams lag, so that none takes an event now.
func (f *feed) allLag() bool {
	for s := range f.streams {
		if !s.lags {
			return false
		}
	}
	return true
}

// publish sends v to all streams.
func (f *feed) publish(name string, v any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.streams) == 0 {
		return
	}
	f.send(name, encoded(encode(v)))
}

// send gives an event to all streams. The caller holds the mutex. data may be nil if all streams lag: then the event is only counted.
func (f *feed) send(name string, data *data) {
	f.seq++
	for s := range f.streams {
		s.add(event{seq: f.seq, name: name, data: data})
	}
}

// add appends e. If the buffer is full, the stream lags: it drops the buffer, and all later events until it has sent "missed". The reader
// then fetches the list again, which is newer than the dropped events. So under full load no event is encoded in vain.
func (s *subscription) add(e event) {
	if !s.lags && (len(s.events) >= maxBufferedEvents || s.bytes+e.data.size > maxBufferedBytes) {
		s.lags = true
		s.lose(0)
	}
	if s.lags {
		s.missed++
		return
	}
	s.events = append(s.events, e)
	s.bytes += e.data.size
	s.signal()
}

// lose drops all events that were not sent, and adds them and missed to the number of missed events.
func (s *subscription) lose(missed uint64) {
	s.missed += missed + uint64(len(s.events))
	s.events, s.bytes = nil, 0
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what s has to send: the number of events that were left out, and the events after those.
func (f *feed) take(s *subscription) (missed uint64, events []event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	missed, events = s.missed, s.events
	s.missed, s.events, s.bytes, s.lags = 0, nil, 0, false
	return missed, events
}

// encode returns v as one line of JSON. If v can't be encoded, it returns the reason instead, so that the stream goes on.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		data, _ = json.Marshal(map[string]string{"error": "encoding the event: " + err.Error()}) // strings always encode
	}
	return data
}
