package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// Group commit. Whoever has something to store puts it into Queue.next. If no commit is under way it commits at once, in
// its own goroutine, with all that is in next by then: a lone delivery waits for no one and is handed to no one. If one is
// under way, that one's owner hands the right to commit to the committer when it is through, and the committer goes on
// until no one waits. The right is Queue.committing: who has set it may use the engine's commit and sweep.

// commit is what one commit takes along, and who waits for it.
type commit struct {
	joiners  []*joiner
	closings []*closing
	launches []*launch
	drops    []*drop
	barriers []chan struct{} // closed when the commit is through, well or not
	bytes    int
}

// joiner is an arrival whose Accept waits.
type joiner struct {
	*arrival
	task    *task
	ready   chan struct{} // closed when receipt or err is set
	receipt Receipt
	err     error
}

// closing is the end of an attempt.
type closing struct {
	ending
	task     *task
	stripped bool // its error, output and result are left out, because they could not be stored
	err      error
}

// launch is the start of a delivery that waited.
type launch struct {
	start
	entry entry
	task  *task
	err   error
}

// drop is a Discard that waits.
type drop struct {
	discarding
	ready chan struct{}
	err   error
}

// urgent reports whether someone waits for the commit.
func (c *commit) urgent() bool {
	return len(c.joiners)+len(c.launches)+len(c.drops)+len(c.barriers) > 0
}

func (c *commit) empty() bool { return !c.urgent() && len(c.closings) == 0 }

func (c *commit) join(j *joiner) {
	c.joiners = append(c.joiners, j)
	c.bytes += len(j.header) + len(j.body)
}

// take returns what the next commit is to store, within the bounds of a batch, and leaves the rest to the one after it.
func (q *Queue) take() *commit {
	c := q.next
	q.next = &commit{}
	if len(c.joiners) <= batchRows && c.bytes <= batchBytes {
		return c
	}
	n, bytes := 0, 0
	for _, j := range c.joiners {
		size := len(j.header) + len(j.body)
		if n > 0 && (n == batchRows || bytes+size > batchBytes) {
			break
		}
		n, bytes = n+1, bytes+size
	}
	for _, j := range c.joiners[n:] {
		q.next.join(j)
	}
	c.joiners, c.bytes = c.joiners[:n:n], bytes
	return c
}

// lead commits what waits. It is called with mu held and no commit under way, and unlocks mu meanwhile.
func (q *Queue) lead() {
	q.committing = true
	q.commitOnce()
	q.release()
}

// commitOnce makes one commit. Its caller has the right to, and holds mu.
func (q *Queue) commitOnce() {
	c := q.take()
	q.mu.Unlock()
	q.store(c)
	q.mu.Lock()
	q.settle(c)
}

// release gives the right to commit to the committer if there is more to do at once, or else to no one.
func (q *Queue) release() {
	if q.next.urgent() || q.sweeping {
		q.wake <- struct{}{} // has room: only the one who has the right sends
		return
	}
	q.endCommitting()
}

// endCommitting gives the right to commit to no one.
func (q *Queue) endCommitting() {
	q.committing = false
	q.free.Broadcast()
	q.setLinger()
}

// kick has the committer commit what is urgent, if no one else is about to. It is for those who must not wait for it.
func (q *Queue) kick() {
	if !q.committing && (q.next.urgent() || q.sweeping) {
		q.committing = true
		q.wake <- struct{}{}
	}
}

// setLinger makes sure that outcomes which no other commit takes along are stored soon. The first outcome of a commit sets the time anew:
// one that was set for outcomes which are stored by now would come too soon, and cost a commit that nobody needed.
func (q *Queue) setLinger() {
	if len(q.next.closings) == 0 || q.lingering && len(q.next.closings) > 1 {
		return
	}
	q.lingering = true
	wait := lingerFor
	if q.outage {
		wait = outageRetry
	}
	q.linger.Reset(wait)
}

// committer commits what no one else does, starts what has become due, and removes what need not be kept.
func (q *Queue) committer() {
	defer q.linger.Stop()
	defer q.alarm.Stop()
	for {
		select {
		case <-q.quit:
			return
		case <-q.wake:
			q.mu.Lock()
		case <-q.linger.C:
			q.mu.Lock()
			q.lingering = false
			if q.committing {
				q.mu.Unlock()
				continue
			}
			q.committing = true
			if len(q.next.closings) > 0 {
				q.commitOnce()
			}
		case <-q.alarm.C:
			q.mu.Lock()
			q.alarmAt = time.Time{}
			if now := q.now(); !now.Before(q.sweepAt) {
				q.sweepAt = now.Add(sweepEvery)
				q.sweeping = !q.stopping && q.shared == nil
			}
			if q.outage && len(q.next.closings) == 0 {
				q.outage = false // nothing waits to be stored that would show it, so see whether a start can be
			}
			q.dispatch()
			q.setAlarm()
			if q.committing {
				q.mu.Unlock()
				continue
			}
			q.committing = true
		}
		for {
			if q.next.urgent() {
				q.commitOnce()
			} else if !q.sweeping {
				break
			}
			if q.sweeping {
				q.sweepOnce()
			}
		}
		q.endCommitting()
		q.mu.Unlock()
	}
}

// store hands a commit to the engine. If something of it can't be stored, it tries each change alone, so that one bad
// delivery does not take the others with it.
func (q *Queue) store(c *commit) {
	b := &batch{}
	for _, k := range c.closings {
		b.ends = append(b.ends, &k.ending)
	}
	for _, d := range c.drops {
		b.discards = append(b.discards, &d.discarding)
	}
	for _, l := range c.launches {
		b.starts = append(b.starts, &l.start)
	}
	for _, j := range c.joiners {
		b.arrivals = append(b.arrivals, j.arrival)
	}
	if b.empty() {
		return
	}
	err := q.commitBatch(b)
	if err == nil {
		return
	}
	alone := !q.eng.outage(err)
	one := func(b *batch) error {
		if !alone {
			return err
		}
		if e := q.commitBatch(b); e != nil {
			if q.eng.outage(e) {
				alone, err = false, e
			}
			return e
		}
		return nil
	}
	for _, k := range c.closings {
		k.err = one(&batch{ends: []*ending{&k.ending}})
	}
	for _, d := range c.drops {
		d.err = one(&batch{discards: []*discarding{&d.discarding}})
	}
	for _, l := range c.launches {
		l.err = one(&batch{starts: []*start{&l.start}})
	}
	var failed []ulid.ULID
	for _, j := range c.joiners {
		if j.err = one(&batch{arrivals: []*arrival{j.arrival}}); j.err != nil {
			failed = append(failed, j.task.id)
		}
	}
	q.eng.forget(failed)
}

// commitBatch has the engine commit b, and tells Config.Committed.
func (q *Queue) commitBatch(b *batch) error {
	began := q.cfg.Now()
	if err := q.eng.commit(b); err != nil || q.cfg.Committed == nil {
		return err
	}
	stored := 0
	for _, a := range b.arrivals {
		if a.first == nil {
			stored++
		}
	}
	q.cfg.Committed(stored, len(b.ends)+len(b.discards)+len(b.starts)+len(b.arrivals), q.cfg.Now().Sub(began))
	return nil
}

// settle draws the consequences of a commit, for each change by what became of it.
func (q *Queue) settle(c *commit) {
	var outage error
	stored := false
	noteOutage := func(err error) bool {
		if err != nil && q.eng.outage(err) {
			outage = err
			return true
		}
		stored = stored || err == nil
		return false
	}
	var again []*closing
	for _, k := range c.closings {
		switch {
		case noteOutage(k.err):
			k.err = nil
			again = append(again, k)
			continue
		case k.err != nil && !k.stripped:
			q.cfg.Warn(fmt.Errorf("store how attempt %d of delivery %s ended: %w; it is stored without its output", k.attempt.N, k.task.ID, k.err))
			k.attempt.Error = "what this attempt returned could not be stored: " + k.err.Error()
			k.attempt.Stack, k.attempt.Output, k.attempt.Result = "", nil, nil
			k.reason, k.stripped, k.err = "", true, nil
			again = append(again, k)
			continue
		case k.lost && k.task.gone: // what another process says of it counts
		case k.lost:
			q.cfg.Warn(fmt.Errorf("store how attempt %d of delivery %s ended: %w", k.attempt.N, k.task.ID, errTakenOver))
		case k.err != nil:
			q.cfg.Warn(fmt.Errorf("store how attempt %d of delivery %s ended: %w; it will run again after a restart", k.attempt.N, k.task.ID, k.err))
		default:
			q.announceEnd(k)
		}
		if q.running[k.id] == k.task {
			delete(q.running, k.id)
		}
	}
	// What is in next by now came later than these.
	q.next.closings = append(again, q.next.closings...)

	for _, d := range c.drops {
		noteOutage(d.err)
		q.settleDrop(d)
		close(d.ready)
	}
	for _, l := range c.launches {
		noteOutage(l.err)
		q.settleLaunch(l)
	}
	for _, j := range c.joiners {
		noteOutage(j.err)
		q.settleJoiner(j)
		close(j.ready)
	}
	if outage != nil {
		if !q.outageSaid {
			q.cfg.Warn(fmt.Errorf("store deliveries: %w; nothing is accepted or started until it works again", outage))
		}
		q.outage, q.outageSaid = true, true
	} else if stored {
		q.outage, q.outageSaid = false, false
	}
	if q.shared != nil {
		q.tellOthers(c)
	}
	q.dispatch()
	q.setAlarm()
	for _, b := range c.barriers {
		close(b)
	}
}

func (q *Queue) settleJoiner(j *joiner) {
	t := j.task
	if j.err != nil || j.first != nil {
		switch {
		case t.ended: // given up by Drain
		case t.State == Running:
			delete(q.running, t.id)
			q.freeSlot(t)
		case t.State == Waiting:
			q.waiting--
		}
		if j.err != nil {
			j.err = fmt.Errorf("store the delivery: %w", j.err)
			return
		}
		if first := q.running[idOf(j.first)]; first != nil {
			first.Duplicates = j.first.Duplicates
		}
		j.receipt = Receipt{ID: j.first.ID, State: j.first.State, Duplicate: true, wait: q.waitFor(j.first), q: q}
		q.announce(Change{Delivery: *j.first, Duplicate: true})
		return
	}
	j.receipt = Receipt{ID: t.ID, State: t.State, wait: t.wait, q: q, task: t}
	if q.watched() {
		q.announce(Change{Delivery: t.Delivery, New: true, Value: t.value})
	}
	switch t.State {
	case Running:
		if q.watched() {
			q.announce(Change{Delivery: t.Delivery, Attempt: &Attempt{N: 1, Started: t.started}})
		}
		q.begin(t)
	case Waiting:
		if j.merged != nil {
			q.withdraw(j.merged, Waiting, Report{State: Merged, Reason: "merged into " + t.ID})
		}
		q.waits[t.id] = t.wait
		if q.shared != nil {
			j.receipt.Held = j.behind || j.burst != nil
			break
		}
		e := entry{due: due{at: t.Received.UnixNano(), id: t.id, serial: t.serial}, line: t.line}
		if j.burst != nil {
			// It is read back when it starts, with what was merged into it until then.
			t.burst = j.d.burst
			e.at, e.burst = j.runAt.UnixNano(), t.burst
		} else if q.hold(t) {
			e.task = t
		}
		j.receipt.Held = t.line.push(e) || j.burst != nil
	default:
		t.wait.end(Report{State: t.State, Reason: t.Reason})
	}
}

// waitFor returns what tells the end of the next attempt of an unfinished delivery, or of the last of a finished one.
func (q *Queue) waitFor(d *Delivery) *wait {
	id := idOf(d)
	if t := q.running[id]; t != nil {
		return t.wait
	}
	if w := q.waits[id]; w != nil {
		w.passing = false
		return w
	}
	w := newWait()
	if d.State.Finished() {
		w.end(Report{State: d.State, Reason: d.Reason})
	} else {
		q.waits[id] = w
	}
	return w
}

// hold decides whether the content of a waiting delivery stays in memory.
func (q *Queue) hold(t *task) bool {
	size := len(t.body) + 2048 // for headers and the rest, roughly
	if q.held+size > holdBytes {
		return false
	}
	q.held += size
	t.size = size
	return true
}

func (q *Queue) settleLaunch(l *launch) {
	t := l.task
	if l.err == nil && l.lost { // discarded or merged meanwhile, which has been told
		delete(q.running, t.id)
		if !t.ended {
			t.ended = true
			q.freeSlot(t)
		}
		return
	}
	if l.err == nil {
		if q.alone == t {
			q.aloneTill = q.now().Add(aloneFor)
		}
		q.begin(t)
		return
	}
	if t.ended { // given up by Drain
		return
	}
	delete(q.running, t.id)
	q.freeSlot(t)
	e := l.entry
	if !q.eng.outage(l.err) {
		q.cfg.Warn(fmt.Errorf("start delivery %s: %w; it is tried again in a minute", t.id, l.err))
		e.at = q.now().Add(time.Minute).UnixNano()
	}
	q.requeue(e)
}

// requeue puts an entry back that was taken out to be started.
func (q *Queue) requeue(e entry) {
	e.task = nil // read back: what it says of the attempts may no longer be true
	if !e.retrying {
		q.waiting++
	}
	q.push(e)
}

// push adds a delivery to those that wait to be started.
func (q *Queue) push(e entry) {
	if e.interruptions >= aloneAfter {
		q.suspects.push(e)
	} else {
		e.line.push(e)
	}
}

// freeSlot gives back what a task took that was about to run or has run.
func (q *Queue) freeSlot(t *task) {
	t.line.busy--
	q.active--
	if q.shared == nil {
		t.line.release(t.serial)
	} else if t.serial != 0 || q.shared.left.due[t.Endpoint] || len(q.shared.left.suspects) > 0 {
		q.lookSoon()
	}
	if t.began {
		t.began = false
		q.beginNext(t.line)
	}
	if q.alone == t {
		q.alone = nil
	}
	if q.active == 0 && q.drained != nil {
		close(q.drained)
		q.drained = nil
	}
}

func (q *Queue) settleDrop(d *drop) {
	switch {
	case d.err != nil:
		d.err = fmt.Errorf("discard delivery %s: %w", d.id, d.err)
		return
	case d.from == "":
		d.err = ErrNotFound
		return
	case d.from.Finished():
		d.err = ErrFinished
		return
	}
	q.withdraw(d.d, d.from, Report{State: Discarded, Reason: d.reason})
}

// withdraw draws the consequences of what ended a delivery that was in state from until then, other than an attempt.
func (q *Queue) withdraw(s *stored, from State, report Report) {
	// An attempt that ended while this was being stored is stored next, and changes the state no more.
	for _, k := range q.next.closings {
		if k.id != s.id {
			continue
		}
		if k.to == Waiting {
			from = Waiting // handed back, and counted as such
		}
		k.from, k.to, k.reason, k.runAt = report.State, report.State, report.Reason, time.Time{}
		k.task.gone = true
		k.task.State, k.task.Reason = report.State, report.Reason
	}
	if t := q.running[s.id]; t != nil && !t.ended {
		t.abandon(report, errDiscarded)
	} else {
		q.removeDue(s, from)
		if w := q.waits[s.id]; w != nil {
			delete(q.waits, s.id)
			w.end(report)
		}
	}
	q.announce(Change{Delivery: s.Delivery})
}

// abandon cancels the handler of a delivery that is no longer its to end, and tells who waits for it.
func (t *task) abandon(report Report, cause error) {
	if t.gone { // taken over by another process before it was discarded here
		return
	}
	t.gone = true
	t.State, t.Reason = report.State, report.Reason
	if t.cancel != nil {
		t.cancel(cause)
	}
	t.wait.end(report)
}

// removeDue takes a delivery out of those that wait to be started.
func (q *Queue) removeDue(s *stored, from State) {
	if from == Waiting && q.started {
		q.waiting--
	}
	if i := q.suspects.find(s.id); i >= 0 {
		e := q.suspects.remove(i)
		q.letGo(e.task)
	} else if l := q.lines[s.Endpoint]; l != nil {
		if e, ok := l.take(s.id, s.serial); ok {
			q.letGo(e.task)
		}
	}
}

// letGo takes a waiting task's content off the account of what is held in memory.
func (q *Queue) letGo(t *task) {
	if t != nil {
		q.held -= t.size
		t.size = 0
	}
}

// flush returns once all that has happened so far is stored, or could not be. Reads begin with it, so that they show what
// an answer has said already.
func (q *Queue) flush(ctx context.Context) error {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return errClosed
	case q.next.empty() && !q.committing:
		q.mu.Unlock()
		return nil
	}
	through := make(chan struct{})
	q.next.barriers = append(q.next.barriers, through)
	if !q.committing {
		q.lead()
		q.mu.Unlock()
		return nil
	}
	q.mu.Unlock()
	select {
	case <-through:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var (
	errClosed    = errors.New("the queue is closed")
	errDiscarded = errors.New("the delivery was discarded")
)
