package queue

import (
	"fmt"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// settle applies a commit to each of its changes, by what became of the change.
func (c *committer) settle(done *commit) {
	q := c.q
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
	for _, e := range done.ends {
		if noteOutage(e.err) {
			e.err = nil
			again = append(again, e)
		} else if !e.settle(q) {
			again = append(again, e)
		}
	}
	// The ends that are in next by now came later than these.
	c.next.ends = append(again, c.next.ends...)

	for _, d := range done.discards {
		noteOutage(d.err)
		d.settle(q)
	}
	for _, s := range done.starts {
		noteOutage(s.err)
		s.settle(q)
	}
	for _, a := range done.arrivals {
		noteOutage(a.err)
		a.settle(q)
	}
	for _, m := range done.marks {
		noteOutage(m.err)
	}
	if outage != nil {
		if !c.outageSaid {
			q.feed.noteWarning(fmt.Errorf("store deliveries: %w; nothing is accepted or started until it works again", outage))
		}
		c.outage, c.outageSaid = true, true
	} else if stored {
		c.outage, c.outageSaid = false, false
	}
	q.source.committed(done)
	q.runner.dispatch()
	c.setAlarm()
}

// settle reports whether the end needs no other commit. If it does, it is to be stored once more, without its output.
func (e *pendingEnd) settle(q *Queue) bool {
	t := e.task
	failed := fmt.Sprintf("store how attempt %d of delivery %s ended", e.Attempt.N, t.ID)
	switch {
	case e.err != nil && !e.stripped:
		q.feed.noteWarning(fmt.Errorf("%s: %w; it is stored without its output", failed, e.err))
		e.Attempt.Error = "what this attempt returned could not be stored: " + e.err.Error()
		e.Attempt.Stack, e.Attempt.Output, e.Attempt.Result = "", nil, nil
		e.Reason, e.stripped, e.err = "", true, nil
		return false
	case e.Lost && t.gone: // another process has told how it ended
	case e.Lost:
		q.feed.noteWarning(fmt.Errorf("%s: %w", failed, errTakenOver))
	case e.err != nil:
		q.feed.noteWarning(fmt.Errorf("%s: %w; it will run again after a restart", failed, e.err))
	default:
		e.announce(q)
	}
	if q.runner.running[e.ID] == t {
		delete(q.runner.running, e.ID)
	}
	if e.returns {
		t.handlers.returning--
	}
	return true
}

// announce tells of the end of an attempt.
func (e *pendingEnd) announce(q *Queue) {
	if !q.feed.wanted() {
		return
	}
	t := e.task
	d := t.Delivery
	d.State, d.Reason, d.Attempts, d.RunAt = e.To, e.Reason, e.Attempts, time.Time{}
	if e.To == Retrying {
		d.RunAt = e.RunAt
	}
	c := Change{Delivery: d, Value: t.value, Sender: t.wait.sender}
	if e.Attempt.N > 0 {
		a := e.Attempt
		c.Attempt = &a
	}
	q.feed.note(c)
}

func (a *pendingArrival) settle(q *Queue) {
	t := a.task
	if a.err != nil || a.First != nil {
		switch {
		case t.ended: // given up by Drain
		case t.State == Running:
			delete(q.runner.running, t.ULID)
			q.runner.release(t)
		case t.State == Waiting:
			q.waiting--
			q.waits.forget(t.ULID)
		}
		if a.err != nil {
			a.err = fmt.Errorf("store the delivery: %w", a.err)
			return
		}
		if first := q.runner.running[store.IDOf(a.First)]; first != nil {
			first.Duplicates = a.First.Duplicates
		}
		a.receipt = Receipt{ID: a.First.ID, State: a.First.State, Duplicate: true, wait: q.waitOf(a.First), q: q}
		q.feed.note(Change{Delivery: *a.First, Duplicate: true})
		return
	}
	a.receipt = Receipt{ID: t.ID, State: t.State, wait: t.wait, q: q, task: t}
	wanted := q.feed.wanted()
	if wanted {
		q.feed.note(Change{Delivery: t.Delivery, New: true, Value: t.value})
	}
	switch t.State {
	case Running:
		if wanted {
			q.feed.note(Change{Delivery: t.Delivery, Attempt: &Attempt{N: 1, Started: t.Started}})
		}
		q.runner.begin(t)
	case Waiting:
		if a.Merged != nil {
			q.withdraw(a.Merged, Waiting, Report{State: Merged, Reason: "merged into " + t.ID})
		}
		t.wait.passing = false
		a.receipt.Postponed = q.source.add(a) || t.handlers.rests()
	default:
		t.wait.end(Report{State: t.State, Reason: t.Reason})
	}
}

// waitOf returns the wait for the next attempt of an unfinished delivery, or for the last one of a finished delivery.
func (q *Queue) waitOf(d *Delivery) *wait {
	id := store.IDOf(d)
	if t := q.runner.running[id]; t != nil {
		return t.wait
	}
	if q.waits[id] == nil && d.State.Finished() {
		w := newWait()
		w.end(Report{State: d.State, Reason: d.Reason})
		return w
	}
	return q.waits.of(id)
}

func (s *pendingStart) settle(q *Queue) {
	t := s.task
	switch {
	case s.err == nil && s.Lost: // discarded or merged meanwhile, which has been told
		delete(q.runner.running, t.ULID)
		if !t.ended {
			t.ended = true
			q.runner.release(t)
		}
	case s.err == nil:
		q.runner.solo.lives(t, q.now())
		q.runner.begin(t)
	case t.ended: // given up by Drain
	default:
		delete(q.runner.running, t.ULID)
		q.runner.release(t)
		e := s.entry
		if !q.eng.Outage(s.err) {
			q.feed.noteWarning(fmt.Errorf("start delivery %s: %w; it is tried again in a minute", t.ULID, s.err))
			e.At = q.now().Add(time.Minute).UnixNano()
		}
		s.backlog.startFailed(e)
	}
}

func (d *pendingDiscard) settle(q *Queue) {
	switch {
	case d.err != nil:
		d.err = fmt.Errorf("discard delivery %s: %w", d.ID, d.err)
	case d.Before == "":
		d.err = ErrNotFound
	case d.Before.Finished():
		d.err = ErrFinished
	default:
		q.withdraw(d.After, d.Before, Report{State: Discarded, Reason: d.Reason})
	}
}

// withdraw settles a delivery, in state from until then, that was ended by something other than an attempt.
func (q *Queue) withdraw(s *store.Stored, from State, report Report) {
	// An attempt that ended while this was being stored is stored next, and does not change the state any more.
	for _, e := range q.commits.next.ends {
		if e.ID != s.ULID {
			continue
		}
		if e.To == Waiting {
			from = Waiting // handed back, and counted as such
		}
		e.From, e.To, e.Reason, e.RunAt = report.State, report.State, report.Reason, time.Time{}
		e.task.gone = true
		e.task.State, e.task.Reason = report.State, report.Reason
	}
	if t := q.runner.running[s.ULID]; t != nil && !t.ended {
		t.abandon(report, errDiscarded)
	} else {
		if from == Waiting && q.started {
			q.waiting--
		}
		q.source.remove(s)
		q.waits.end(s.ULID, report)
	}
	q.feed.note(Change{Delivery: s.Delivery})
}
