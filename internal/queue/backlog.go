package queue

import (
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// maxKept bounds the bytes of content that the backlog keeps in memory.
const maxKept = 8 << 20

// backlog is the source for a process that alone has the deliveries. All that wait are in memory with the time when they are due. Their
// content is too, up to maxKept; the rest is read back when it starts.
type backlog struct {
	q        *Queue
	lines    map[string]*line // by endpoint
	suspects dueHeap          // to be started alone
	kept     int              // bytes of content in memory
}

func newBacklog(q *Queue) *backlog { return &backlog{q: q} }

// start reads what an earlier process left.
func (b *backlog) start(endpoints map[string]*handlers) error {
	q := b.q
	own, ok := q.eng.(store.Owning)
	if !ok {
		return errors.New("start the queue: its engine can't tell what an earlier process left")
	}
	b.lines, b.suspects = make(map[string]*line, len(endpoints)), nil // an earlier call may have failed
	window := time.Duration(0)
	for _, h := range endpoints {
		if err := b.read(own, h); err != nil {
			return err
		}
		window = max(window, h.DedupeWindow)
	}
	counts, err := q.eng.Counts(q.life)
	if err != nil {
		return fmt.Errorf("start the queue: %w", err)
	}
	for _, states := range counts {
		q.waiting += int(states[Waiting])
	}
	if window > 0 {
		own.Preload(q.now().Add(-window))
	}
	q.commits.sweepAt = q.now().Add(sweepEvery)
	return nil
}

// read makes the line of an endpoint, with what an earlier process left.
func (b *backlog) read(own store.Owning, h *handlers) error {
	q := b.q
	left, err := own.Backlog(q.life, h.Name)
	if err != nil {
		return fmt.Errorf("read the deliveries left to endpoint %s: %w", h.Name, err)
	}
	l := &line{handlers: h}
	b.lines[h.Name] = l
	for _, d := range left {
		d.At = notLater(d, q.now(), h.MaxWait)
		b.push(entry{Due: d, line: l})
	}
	return nil
}

// serve does not read the earlier deliveries that an arrival may repeat. The first arrival reads them.
func (b *backlog) serve(h *handlers) error { return b.read(b.q.eng.(store.Owning), h) } // start has checked that it is one

// resumed has nothing to do: what is due is looked for next.
func (b *backlog) resumed() {}

// notLater is when a delivery that an earlier process left is due. The clock may have been set back since, so it is due now, or
// within one wait, at the latest.
func notLater(d store.Due, now time.Time, maxWait time.Duration) int64 {
	switch {
	case d.Retrying:
		return min(d.At, now.Add(maxWait).UnixNano())
	case d.Burst == 0:
		return min(d.At, now.UnixNano())
	}
	return d.At
}

// stop has nothing to wait for: startDue is called no more.
func (b *backlog) stop() {}

func (b *backlog) startDue(now time.Time) {
	b.startSuspect(now)
	r := &b.q.runner
	if r.blocked(now) {
		return
	}
	for _, l := range b.lines {
		h := l.handlers
		room := h.refill()
		for h.started < room {
			if h.started >= h.Concurrency && len(l.due) > 0 && l.due[0].Interruptions > 0 {
				break // it must not count as interrupted again without having begun
			}
			e, ok := l.pop(now.UnixNano())
			if !ok {
				break
			}
			b.startEntry(e, now)
		}
	}
}

func (b *backlog) startSuspect(now time.Time) {
	i := b.firstSuspect(now)
	if i < 0 {
		return
	}
	r := &b.q.runner
	switch r.solo.turn(now, r.active) {
	case startAlone:
		t := b.startEntry(b.suspects.remove(i), now)
		r.solo.begin(t)
	case giveWay:
		e := b.suspects.remove(i)
		e.At = now.Add(giveWayFor).UnixNano()
		b.suspects.push(e)
	}
}

// startEntry takes a handler for an entry. The delivery runs when its start is stored.
func (b *backlog) startEntry(e entry, now time.Time) *task {
	q := b.q
	t := e.task
	if t == nil {
		t = &task{}
		t.ULID, t.ID, t.Endpoint = e.ID, e.ID.String(), e.line.handlers.Name
		t.Attempts, t.Failures, t.Interruptions = int(e.Attempts), int(e.Failures), int(e.Interruptions)
		t.Serial, t.Burst = e.Serial, e.Burst
	}
	b.letGo(t)
	if w := q.waits.take(e.ID); w != nil {
		t.wait = w
	} else if t.wait == nil {
		t.wait = newWait()
	}
	from := Retrying
	if !e.Retrying {
		from = Waiting
		q.waiting--
	}
	t.handlers = e.line.handlers
	e.line.hold(t.Serial)
	t.State, t.Started, t.RunAt = Running, now, time.Time{}
	t.late = true
	t.Attempts++
	q.runner.take(t)
	q.commits.next.starts = append(q.commits.next.starts, &pendingStart{
		Start: store.Start{ID: t.ULID, Endpoint: t.Endpoint, From: from, At: now, Burst: t.Burst != 0},
		task:  t, backlog: b, entry: e,
	})
	return t
}

// startFailed puts back an entry whose start could not be stored.
func (b *backlog) startFailed(e entry) {
	e.task = nil // read back: what it says of the attempts may no longer be true
	if !e.Retrying {
		b.q.waiting++
	}
	b.push(e)
}

// push adds a delivery to those that wait to be started.
func (b *backlog) push(e entry) {
	if e.Interruptions >= store.AloneAfter {
		b.suspects.push(e)
	} else {
		e.line.push(e)
	}
}

func (b *backlog) nextDue(now time.Time) time.Time {
	var next time.Time
	look := func(h dueHeap) {
		if len(h) > 0 && h[0].At > now.UnixNano() {
			next = earlier(next, time.Unix(0, h[0].At))
		}
	}
	for _, l := range b.lines {
		look(l.due)
	}
	look(b.suspects)
	return earlier(next, b.q.runner.solo.next())
}

func (b *backlog) hasDue(endpoint string, now time.Time) bool {
	l := b.lines[endpoint]
	return len(l.due) > 0 && l.due[0].At <= now.UnixNano()
}

func (b *backlog) suspectDue(now time.Time) bool {
	return b.firstSuspect(now) >= 0
}

// firstSuspect returns the index of the suspect that is due first and whose endpoint does not rest, -1 for none.
func (b *backlog) firstSuspect(now time.Time) int {
	first := -1
	for i := range b.suspects { // there are few, as each has ended a process several times
		e := &b.suspects[i]
		if e.At <= now.UnixNano() && !e.line.handlers.rests() && (first < 0 || e.At < b.suspects[first].At) {
			first = i
		}
	}
	return first
}

func (b *backlog) oldest() map[string]time.Time {
	first := map[string]ulid.ULID{}
	look := func(h dueHeap) {
		for i := range h {
			e := &h[i]
			if e.Retrying {
				continue
			}
			name := e.line.handlers.Name
			if id, ok := first[name]; !ok || e.ID.Compare(id) < 0 {
				first[name] = e.ID
			}
		}
	}
	look(b.suspects)
	for _, l := range b.lines {
		look(l.due)
		for _, s := range l.series {
			look(s.due)
		}
	}
	oldest := make(map[string]time.Time, len(first))
	for endpoint, id := range first {
		oldest[endpoint] = id.Timestamp()
	}
	return oldest
}

func (b *backlog) add(a *pendingArrival) (postponed bool) {
	t := a.task
	e := entry{Due: store.Due{At: t.Received.UnixNano(), ID: t.ULID, Serial: t.Serial}, line: b.lines[t.Endpoint]}
	if a.Burst != nil {
		// It is read back when it starts, with the IDs of those that were merged into it until then.
		t.Burst = a.Stored.Burst
		e.At, e.Burst = a.RunAt.UnixNano(), t.Burst
	} else if b.keep(t) {
		e.task = t
	}
	return e.line.push(e) || a.Burst != nil
}

func (b *backlog) putBack(t *task) {
	e := entry{line: b.lines[t.Endpoint], Due: store.Due{
		At: t.RunAt.UnixNano(), ID: t.ULID, Retrying: t.State == Retrying,
		Attempts: int32(t.Attempts), Failures: int32(t.Failures), Interruptions: int32(t.Interruptions),
		Serial: t.Serial, Burst: t.Burst,
	}}
	next := &task{Stored: t.Stored, value: t.value, loaded: t.loaded}
	if t.loaded && b.keep(next) {
		e.task = next
	}
	b.push(e)
}

func (b *backlog) remove(s *store.Stored) {
	if i := b.suspects.find(s.ULID); i >= 0 {
		e := b.suspects.remove(i)
		b.letGo(e.task)
	} else if l := b.lines[s.Endpoint]; l != nil {
		if e, ok := l.take(s.ULID, s.Serial); ok {
			b.letGo(e.task)
		}
	}
}

// keep decides whether the content of a waiting delivery stays in memory.
func (b *backlog) keep(t *task) bool {
	size := len(t.Body) + 2048 // for headers and the rest, roughly
	if b.kept+size > maxKept {
		return false
	}
	b.kept += size
	t.kept = size
	return true
}

// letGo stops counting the content of a task as kept. The task may be nil.
func (b *backlog) letGo(t *task) {
	if t != nil {
		b.kept -= t.kept
		t.kept = 0
	}
}

func (b *backlog) released(t *task) { b.lines[t.Endpoint].release(t.Serial) }

// committed has no one to tell.
func (b *backlog) committed(*commit) {}

func (b *backlog) token() int64 { return 0 }

func (b *backlog) recheck() time.Duration { return 0 }

func (b *backlog) runsAgain() string { return "after a restart" }
