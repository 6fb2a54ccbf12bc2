package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Group commit. Whoever has something to store puts it into Queue.next. If no commit is under way it commits at once, in
// its own goroutine, with all that is in next by then: a lone delivery waits for no one and is handed to no one. If one is
// under way, that one's owner hands the right to commit to the committer when it is through, and the committer goes on
// until no one waits. The right is Queue.committing: who has set it may use the engine's Commit and Sweep.

// commit is what one commit takes along, and who waits for it.
type commit struct {
	arrivals []*pendingArrival
	ends     []*pendingEnd
	starts   []*pendingStart
	discards []*pendingDiscard
	barriers []chan struct{} // closed when the commit is through, well or not
	bytes    int
}

// pendingArrival is an arrival whose Accept waits.
type pendingArrival struct {
	*store.Arrival
	task    *task
	ready   chan struct{} // closed when receipt or err is set
	receipt Receipt
	err     error
}

// pendingEnd is the end of an attempt.
type pendingEnd struct {
	store.End
	task     *task
	stripped bool // its error, output and result are left out, because they could not be stored
	err      error
}

// pendingStart is the start of a delivery that waited.
type pendingStart struct {
	store.Start
	entry entry
	task  *task
	err   error
}

// pendingDiscard is a Discard that waits.
type pendingDiscard struct {
	store.Discard
	ready chan struct{}
	err   error
}

// urgent reports whether someone waits for the commit.
func (c *commit) urgent() bool {
	return len(c.arrivals)+len(c.starts)+len(c.discards)+len(c.barriers) > 0
}

func (c *commit) empty() bool { return !c.urgent() && len(c.ends) == 0 }

func (c *commit) add(j *pendingArrival) {
	c.arrivals = append(c.arrivals, j)
	c.bytes += len(j.Header) + len(j.Body)
}

// take returns what the next commit is to store, within the bounds of a batch, and leaves the rest to the one after it.
func (q *Queue) take() *commit {
	c := q.next
	q.next = &commit{}
	if len(c.arrivals) <= batchRows && c.bytes <= batchBytes {
		return c
	}
	n, bytes := 0, 0
	for _, j := range c.arrivals {
		size := len(j.Header) + len(j.Body)
		if n > 0 && (n == batchRows || bytes+size > batchBytes) {
			break
		}
		n, bytes = n+1, bytes+size
	}
	for _, j := range c.arrivals[n:] {
		q.next.add(j)
	}
	c.arrivals, c.bytes = c.arrivals[:n:n], bytes
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
	if len(q.next.ends) == 0 || q.lingering && len(q.next.ends) > 1 {
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
			if len(q.next.ends) > 0 {
				q.commitOnce()
			}
		case <-q.alarm.C:
			q.mu.Lock()
			q.alarmAt = time.Time{}
			if now := q.now(); !now.Before(q.sweepAt) {
				q.sweepAt = now.Add(sweepEvery)
				q.sweeping = !q.stopping && q.shared == nil
			}
			if q.outage && len(q.next.ends) == 0 {
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
	b := &store.Batch{}
	for _, k := range c.ends {
		b.Ends = append(b.Ends, &k.End)
	}
	for _, d := range c.discards {
		b.Discards = append(b.Discards, &d.Discard)
	}
	for _, l := range c.starts {
		b.Starts = append(b.Starts, &l.Start)
	}
	for _, j := range c.arrivals {
		b.Arrivals = append(b.Arrivals, j.Arrival)
	}
	if b.Empty() {
		return
	}
	err := q.commitBatch(b)
	if err == nil {
		return
	}
	alone := !q.eng.Outage(err)
	one := func(b *store.Batch) error {
		if !alone {
			return err
		}
		if e := q.commitBatch(b); e != nil {
			if q.eng.Outage(e) {
				alone, err = false, e
			}
			return e
		}
		return nil
	}
	for _, k := range c.ends {
		k.err = one(&store.Batch{Ends: []*store.End{&k.End}})
	}
	for _, d := range c.discards {
		d.err = one(&store.Batch{Discards: []*store.Discard{&d.Discard}})
	}
	for _, l := range c.starts {
		l.err = one(&store.Batch{Starts: []*store.Start{&l.Start}})
	}
	var failed []ulid.ULID
	for _, j := range c.arrivals {
		if j.err = one(&store.Batch{Arrivals: []*store.Arrival{j.Arrival}}); j.err != nil {
			failed = append(failed, j.task.ULID)
		}
	}
	q.eng.Forget(failed)
}

// commitBatch has the engine commit b, and tells Config.Committed.
func (q *Queue) commitBatch(b *store.Batch) error {
	began := q.cfg.Now()
	if err := q.eng.Commit(b); err != nil || q.cfg.Committed == nil {
		return err
	}
	stored := 0
	for _, a := range b.Arrivals {
		if a.First == nil {
			stored++
		}
	}
	q.cfg.Committed(stored, len(b.Ends)+len(b.Discards)+len(b.Starts)+len(b.Arrivals), q.cfg.Now().Sub(began))
	return nil
}

// settle draws the consequences of a commit, for each change by what became of it.
func (q *Queue) settle(c *commit) {
	var outage error
	stored := false
	noteOutage := func(err error) bool {
		if err != nil && q.eng.Outage(err) {
			outage = err
			return true
		}
		stored = stored || err == nil
		return false
	}
	var again []*pendingEnd
	for _, k := range c.ends {
		switch {
		case noteOutage(k.err):
			k.err = nil
			again = append(again, k)
			continue
		case k.err != nil && !k.stripped:
			q.cfg.Warn(fmt.Errorf("store how attempt %d of delivery %s ended: %w; it is stored without its output", k.Attempt.N, k.task.ID, k.err))
			k.Attempt.Error = "what this attempt returned could not be stored: " + k.err.Error()
			k.Attempt.Stack, k.Attempt.Output, k.Attempt.Result = "", nil, nil
			k.Reason, k.stripped, k.err = "", true, nil
			again = append(again, k)
			continue
		case k.Lost && k.task.gone: // what another process says of it counts
		case k.Lost:
			q.cfg.Warn(fmt.Errorf("store how attempt %d of delivery %s ended: %w", k.Attempt.N, k.task.ID, errTakenOver))
		case k.err != nil:
			q.cfg.Warn(fmt.Errorf("store how attempt %d of delivery %s ended: %w; it will run again after a restart", k.Attempt.N, k.task.ID, k.err))
		default:
			q.announceEnd(k)
		}
		if q.running[k.ID] == k.task {
			delete(q.running, k.ID)
		}
	}
	// What is in next by now came later than these.
	q.next.ends = append(again, q.next.ends...)

	for _, d := range c.discards {
		noteOutage(d.err)
		q.settleDiscard(d)
		close(d.ready)
	}
	for _, l := range c.starts {
		noteOutage(l.err)
		q.settleStart(l)
	}
	for _, j := range c.arrivals {
		noteOutage(j.err)
		q.settleArrival(j)
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

func (q *Queue) settleArrival(j *pendingArrival) {
	t := j.task
	if j.err != nil || j.First != nil {
		switch {
		case t.ended: // given up by Drain
		case t.State == Running:
			delete(q.running, t.ULID)
			q.freeSlot(t)
		case t.State == Waiting:
			q.waiting--
		}
		if j.err != nil {
			j.err = fmt.Errorf("store the delivery: %w", j.err)
			return
		}
		if first := q.running[store.IDOf(j.First)]; first != nil {
			first.Duplicates = j.First.Duplicates
		}
		j.receipt = Receipt{ID: j.First.ID, State: j.First.State, Duplicate: true, wait: q.waitFor(j.First), q: q}
		q.announce(Change{Delivery: *j.First, Duplicate: true})
		return
	}
	j.receipt = Receipt{ID: t.ID, State: t.State, wait: t.wait, q: q, task: t}
	if q.watched() {
		q.announce(Change{Delivery: t.Delivery, New: true, Value: t.value})
	}
	switch t.State {
	case Running:
		if q.watched() {
			q.announce(Change{Delivery: t.Delivery, Attempt: &Attempt{N: 1, Started: t.Started}})
		}
		q.begin(t)
	case Waiting:
		if j.Merged != nil {
			q.withdraw(j.Merged, Waiting, Report{State: Merged, Reason: "merged into " + t.ID})
		}
		q.waits[t.ULID] = t.wait
		if q.shared != nil {
			j.receipt.Held = j.Behind || j.Burst != nil
			break
		}
		e := entry{Due: store.Due{At: t.Received.UnixNano(), ID: t.ULID, Serial: t.Serial}, line: t.line}
		if j.Burst != nil {
			// It is read back when it starts, with what was merged into it until then.
			t.Burst = j.Stored.Burst
			e.At, e.Burst = j.RunAt.UnixNano(), t.Burst
		} else if q.hold(t) {
			e.task = t
		}
		j.receipt.Held = t.line.push(e) || j.Burst != nil
	default:
		t.wait.end(Report{State: t.State, Reason: t.Reason})
	}
}

// waitFor returns what tells the end of the next attempt of an unfinished delivery, or of the last of a finished one.
func (q *Queue) waitFor(d *Delivery) *wait {
	id := store.IDOf(d)
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
	size := len(t.Body) + 2048 // for headers and the rest, roughly
	if q.held+size > holdBytes {
		return false
	}
	q.held += size
	t.size = size
	return true
}

func (q *Queue) settleStart(l *pendingStart) {
	t := l.task
	if l.err == nil && l.Lost { // discarded or merged meanwhile, which has been told
		delete(q.running, t.ULID)
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
	delete(q.running, t.ULID)
	q.freeSlot(t)
	e := l.entry
	if !q.eng.Outage(l.err) {
		q.cfg.Warn(fmt.Errorf("start delivery %s: %w; it is tried again in a minute", t.ULID, l.err))
		e.At = q.now().Add(time.Minute).UnixNano()
	}
	q.requeue(e)
}

// requeue puts an entry back that was taken out to be started.
func (q *Queue) requeue(e entry) {
	e.task = nil // read back: what it says of the attempts may no longer be true
	if !e.Retrying {
		q.waiting++
	}
	q.push(e)
}

// push adds a delivery to those that wait to be started.
func (q *Queue) push(e entry) {
	if e.Interruptions >= store.AloneAfter {
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
		t.line.release(t.Serial)
	} else if t.Serial != 0 || q.shared.left.Due[t.Endpoint] || len(q.shared.left.Suspects) > 0 {
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

func (q *Queue) settleDiscard(d *pendingDiscard) {
	switch {
	case d.err != nil:
		d.err = fmt.Errorf("discard delivery %s: %w", d.ID, d.err)
		return
	case d.Before == "":
		d.err = ErrNotFound
		return
	case d.Before.Finished():
		d.err = ErrFinished
		return
	}
	q.withdraw(d.After, d.Before, Report{State: Discarded, Reason: d.Reason})
}

// withdraw draws the consequences of what ended a delivery that was in state from until then, other than an attempt.
func (q *Queue) withdraw(s *store.Stored, from State, report Report) {
	// An attempt that ended while this was being stored is stored next, and changes the state no more.
	for _, k := range q.next.ends {
		if k.ID != s.ULID {
			continue
		}
		if k.To == Waiting {
			from = Waiting // handed back, and counted as such
		}
		k.From, k.To, k.Reason, k.RunAt = report.State, report.State, report.Reason, time.Time{}
		k.task.gone = true
		k.task.State, k.task.Reason = report.State, report.Reason
	}
	if t := q.running[s.ULID]; t != nil && !t.ended {
		t.abandon(report, errDiscarded)
	} else {
		q.removeDue(s, from)
		if w := q.waits[s.ULID]; w != nil {
			delete(q.waits, s.ULID)
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
func (q *Queue) removeDue(s *store.Stored, from State) {
	if from == Waiting && q.started {
		q.waiting--
	}
	if i := q.suspects.find(s.ULID); i >= 0 {
		e := q.suspects.remove(i)
		q.letGo(e.task)
	} else if l := q.lines[s.Endpoint]; l != nil {
		if e, ok := l.take(s.ULID, s.Serial); ok {
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
		return store.ErrClosed
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

var errDiscarded = errors.New("the delivery was discarded")
