package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	lingerFor   = 2 * time.Millisecond   // how long outcomes may wait for the company of a commit
	outageRetry = 250 * time.Millisecond // between tries to write while nothing can be stored
	sweepEvery  = 10 * time.Second
	sweepRows   = 256                  // removed at a time: a smaller step takes longer for each row, and commits wait for a larger one
	sweepPause  = 5 * time.Millisecond // after that: without it, removing leaves the disk little time for what arrives
	batchRows   = 512                  // changes in one commit
	batchBytes  = 8 << 20              // headers and bodies in one commit
	smallCommit = 4                    // beside a commit of up to so many arrivals another may begin; beside a larger one, arrivals wait, and share the next commit
)

// commit is the changes of one commit, and who waits for it.
type commit struct {
	arrivals []*pendingArrival
	ends     []*pendingEnd
	starts   []*pendingStart
	discards []*pendingDiscard
	marks    []*pendingMark
	barriers []chan struct{} // closed when the commit is through, well or not
	bytes    int
	linked   bool // an arrival depends on others, or others on it
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
	returns  bool // the delivery was handed back
	err      error
}

// pendingStart is the start of a delivery that waited in the backlog.
type pendingStart struct {
	store.Start
	task    *task
	backlog *backlog
	entry   entry
	err     error
}

// pendingDiscard is a Discard that waits.
type pendingDiscard struct {
	store.Discard
	ready chan struct{}
	err   error
}

// pendingMark is a SetMark that waits.
type pendingMark struct {
	store.Mark
	ready chan struct{}
	err   error
}

// urgent reports whether someone waits for the commit.
func (c *commit) urgent() bool {
	return len(c.arrivals)+len(c.starts)+len(c.discards)+len(c.marks)+len(c.barriers) > 0
}

func (c *commit) empty() bool { return !c.urgent() && len(c.ends) == 0 }

// alone reports whether no other commit may be under way beside this one. Independent arrivals, and ends of attempts, may be in two commits
// at once.
func (c *commit) alone() bool {
	return c.linked || len(c.starts)+len(c.discards)+len(c.marks)+len(c.barriers) > 0
}

func (c *commit) add(a *pendingArrival) {
	c.arrivals = append(c.arrivals, a)
	c.bytes += len(a.Header) + len(a.Body)
	c.linked = c.linked || a.Burst != nil || a.Mark != nil || a.ReplayOf != ulid.ULID{} || a.task.Serial != 0
}

// wake lets all go on that wait for the commit.
func (c *commit) wake() {
	for _, d := range c.discards {
		close(d.ready)
	}
	for _, a := range c.arrivals {
		close(a.ready)
	}
	for _, m := range c.marks {
		close(m.ready)
	}
	for _, b := range c.barriers {
		close(b)
	}
}

// committer is the group commit. Whoever has something to store adds it to next. If no commit is under way, the caller takes a right to
// commit and commits next at once, in its own goroutine. So a lone delivery waits for no one and is handed to no one. If a commit is under
// way, its owner hands the right to one of the committer's goroutines at the end, and that goroutine commits until no one waits. Only the
// owner of a right may call the engine's Commit and Sweep.
//
// There are as many rights as the engine has writers. With one, a commit takes all that waits. With two, an arrival need not wait for a
// commit that began just before it: it takes the second right. If the commit under way is large, arrivals wait for its end all the same,
// because one large commit costs less than two small ones. If commits are small, ends of attempts get commits of their own, so that no
// sender waits for them.
type committer struct {
	q       *Queue
	writers int
	quit    chan struct{} // closed by Close: run returns
	handed  chan struct{} // hands a right to commit to run
	linger  *time.Timer   // outcomes have waited long enough
	alarm   *time.Timer   // something is due to start, or there is another reason to look

	next       *commit    // the changes that the next commit stores
	busy       int        // how many rights are taken
	alone      bool       // the commit under way must have no other beside it
	carried    int        // arrivals of the commits under way
	idle       *sync.Cond // busy has become 0
	lingering  bool       // linger runs
	endsDue    bool       // linger has ended, and the ends are not stored yet
	alarmAt    time.Time  // zero when alarm does not run
	outage     bool       // nothing can be stored, and nothing starts
	outageSaid bool
	sweepAt    time.Time // when to look for deliveries that need not be kept; zero where that is done beside the commits
	sweeping   bool
}

func (c *committer) init(q *Queue) {
	*c = committer{
		q:       q,
		writers: 1,
		quit:    make(chan struct{}),
		linger:  time.NewTimer(time.Hour),
		alarm:   time.NewTimer(time.Hour),
		next:    &commit{},
		idle:    sync.NewCond(&q.mu),
	}
	if s, ok := q.eng.(store.Sharing); ok {
		c.writers = s.Writers()
	}
	c.handed = make(chan struct{}, c.writers)
	c.linger.Stop()
	c.alarm.Stop()
}

// take returns what the next commit stores, within the bounds of a batch, and leaves the rest to the one after it. A commit of ends leaves
// the arrivals. With several writers, a small commit of arrivals leaves the ends.
func (c *committer) take(ends bool) *commit {
	now, rest := c.next, &commit{}
	c.next = rest
	switch {
	case ends:
		rest.arrivals, rest.bytes = now.arrivals, now.bytes
		now.arrivals, now.bytes = nil, 0
	case c.writers > 1 && !now.alone() && len(now.arrivals) <= smallCommit:
		now.ends, rest.ends = nil, now.ends
	}
	c.endsDue = c.endsDue && len(rest.ends) > 0
	if len(now.arrivals) <= batchRows && now.bytes <= batchBytes {
		return now
	}
	n, bytes := 0, 0
	for _, a := range now.arrivals {
		size := len(a.Header) + len(a.Body)
		if n > 0 && (n == batchRows || bytes+size > batchBytes) {
			break
		}
		n, bytes = n+1, bytes+size
	}
	for _, a := range now.arrivals[n:] {
		rest.add(a)
	}
	now.arrivals, now.bytes = now.arrivals[:n:n], bytes
	return now
}

// isFree reports whether next may be committed now, when so many rights are taken.
func (c *committer) isFree(taken int) bool {
	return taken == 0 || taken < c.writers && !c.alone && !c.next.alone()
}

// mayLead reports whether the caller that adds to next should commit it.
func (c *committer) mayLead() bool {
	return c.isFree(c.busy) && (c.busy == 0 || c.carried <= smallCommit)
}

// isDue reports whether a commit should begin, when so many rights are taken, and whether it should have ends alone.
func (c *committer) isDue(taken int) (due, ends bool) {
	if !c.isFree(taken) {
		return false, false
	}
	if c.endsDue {
		return true, c.writers > 1 && !c.next.alone()
	}
	return c.next.urgent() && (taken == 0 || c.carried <= smallCommit), false
}

// lead commits what waits. It is called with Queue.mu held, while mayLead, and unlocks Queue.mu.
func (c *committer) lead() {
	c.busy++
	done := c.commitOnce(false)
	c.passOn() // before through: the senders that it wakes find the right free, and need not wait for the committer's goroutine
	c.q.mu.Unlock()
	c.through(done)
}

// commitOnce makes one commit. Its caller has a right to, and has locked Queue.mu, which is unlocked while the engine works.
// The caller then unlocks it and calls through.
func (c *committer) commitOnce(ends bool) *commit {
	all := c.take(ends)
	c.alone = all.alone()
	c.carried += len(all.arrivals)
	c.q.mu.Unlock()
	c.write(all)
	c.q.mu.Lock()
	c.alone = false
	c.carried -= len(all.arrivals)
	c.settle(all)
	return all
}

// through reports what a commit changed, and then wakes those who wait for it. So Config.Changed hears of a delivery before anyone who
// waits for it does. Queue.mu must not be held.
func (c *committer) through(done *commit) {
	c.q.feed.tell()
	done.wake()
}

// passOn gives a right to commit to a goroutine of the committer if there is more to do at once, or else to no one.
func (c *committer) passOn() {
	if due, _ := c.isDue(c.busy - 1); due || c.sweeping {
		c.handed <- struct{}{} // has room: it has one place for each right
		return
	}
	c.rest()
}

// rest gives a right to commit to no one.
func (c *committer) rest() {
	if c.busy--; c.busy == 0 {
		c.idle.Broadcast()
	}
	c.setLinger()
}

// awaitIdle returns once nobody has a right to commit. It is called with Queue.mu held.
func (c *committer) awaitIdle() {
	for c.busy > 0 {
		c.idle.Wait()
	}
}

// kick makes a goroutine of the committer commit what is due, unless someone is about to. It is for callers who must not wait.
func (c *committer) kick() {
	if due, _ := c.isDue(c.busy); due || c.sweeping && c.busy == 0 {
		c.busy++
		c.handed <- struct{}{}
	}
}

// ended commits what the end of an attempt makes urgent, or sees that the end is stored soon. It is called with Queue.mu held, and unlocks it.
func (c *committer) ended() {
	if c.next.urgent() && c.mayLead() {
		c.lead()
		return
	}
	if c.busy == 0 || c.writers > 1 { // else who commits takes the end along
		c.setLinger()
	}
	c.q.mu.Unlock()
}

// setLinger makes sure that outcomes are stored soon even if no other commit takes them along. The first outcome after a commit sets the
// time. The time that an earlier outcome has set does not count: that outcome is stored by now, and the commit would come too soon and for
// nothing.
func (c *committer) setLinger() {
	if len(c.next.ends) == 0 || c.lingering && len(c.next.ends) > 1 {
		return
	}
	c.lingering = true
	wait := lingerFor
	if c.outage {
		wait = outageRetry
	}
	c.linger.Reset(wait)
}

// setAlarm sets the time when to look for work again.
func (c *committer) setAlarm() {
	q := c.q
	if !q.started || q.stopping {
		return
	}
	now := q.now()
	at := earlier(c.sweepAt, q.source.nextDue(now))
	at = earlier(at, q.runner.nextTurn())
	if c.outage {
		at = earlier(at, now.Add(outageRetry))
	}
	if !at.IsZero() && (c.alarmAt.IsZero() || at.Before(c.alarmAt)) {
		c.alarmAt = at
		c.alarm.Reset(max(0, at.Sub(now)))
	}
}

// start has a goroutine for each right to commit.
func (c *committer) start() {
	for range c.writers {
		c.q.tasks.Go(c.run)
	}
}

// run commits what no one else does, starts what has become due, and removes what need not be kept. One goroutine runs it for each
// right to commit.
func (c *committer) run() {
	defer c.linger.Stop()
	defer c.alarm.Stop()
	q := c.q
	for {
		select {
		case <-c.quit:
			return
		case <-c.handed:
			q.mu.Lock()
		case <-c.linger.C:
			q.mu.Lock()
			c.lingering = false
			c.endsDue = len(c.next.ends) > 0
			if !c.isFree(c.busy) {
				q.mu.Unlock()
				continue
			}
			c.busy++
		case <-c.alarm.C:
			q.mu.Lock()
			c.wakeUp()
			if c.busy > 0 {
				q.mu.Unlock()
				continue
			}
			c.busy++
		}
		for {
			if due, ends := c.isDue(c.busy - 1); due {
				c.commitHere(ends)
			} else if !c.sweeping {
				break
			}
			if c.sweeping {
				c.sweepOnce()
			}
		}
		c.rest()
		q.mu.Unlock()
	}
}

// commitHere makes one commit and keeps the right to the next. It is called with Queue.mu held, and unlocks it meanwhile.
func (c *committer) commitHere(ends bool) {
	done := c.commitOnce(ends)
	c.q.mu.Unlock()
	c.through(done)
	c.q.mu.Lock()
}

// wakeUp looks for work at the time of the alarm.
func (c *committer) wakeUp() {
	q := c.q
	c.alarmAt = time.Time{}
	if now := q.now(); !c.sweepAt.IsZero() && !now.Before(c.sweepAt) {
		c.sweepAt = now.Add(sweepEvery)
		c.sweeping = !q.stopping
	}
	if c.outage && len(c.next.ends) == 0 {
		c.outage = false // no outcome waits whose commit would show that the outage is over, so try to store a start
	}
	q.runner.dispatch()
	c.setAlarm()
}

// write hands a commit to the engine. If something of it can't be stored, it tries each change alone, so that one bad delivery
// does not take the others with it.
func (c *committer) write(all *commit) {
	b := &store.Batch{}
	for _, e := range all.ends {
		b.Ends = append(b.Ends, &e.End)
	}
	for _, d := range all.discards {
		b.Discards = append(b.Discards, &d.Discard)
	}
	for _, s := range all.starts {
		b.Starts = append(b.Starts, &s.Start)
	}
	for _, a := range all.arrivals {
		b.Arrivals = append(b.Arrivals, a.Arrival)
	}
	for _, m := range all.marks {
		b.Alone = append(b.Alone, &m.Mark)
	}
	if b.Empty() {
		return
	}
	err := c.commitBatch(b)
	if err == nil {
		return
	}
	eng := c.q.eng
	alone := !eng.Outage(err)
	one := func(b *store.Batch) error {
		if !alone {
			return err
		}
		if e := c.commitBatch(b); e != nil {
			if eng.Outage(e) {
				alone, err = false, e
			}
			return e
		}
		return nil
	}
	for _, e := range all.ends {
		e.err = one(&store.Batch{Ends: []*store.End{&e.End}})
	}
	for _, d := range all.discards {
		d.err = one(&store.Batch{Discards: []*store.Discard{&d.Discard}})
	}
	for _, s := range all.starts {
		s.err = one(&store.Batch{Starts: []*store.Start{&s.Start}})
	}
	for _, m := range all.marks {
		m.err = one(&store.Batch{Alone: []*store.Mark{&m.Mark}})
	}
	var failed []ulid.ULID
	for _, a := range all.arrivals {
		if a.err = one(&store.Batch{Arrivals: []*store.Arrival{a.Arrival}}); a.err != nil {
			failed = append(failed, a.task.ULID)
		}
	}
	eng.Forget(failed)
}

// commitBatch has the engine commit b, and tells Config.Committed.
func (c *committer) commitBatch(b *store.Batch) error {
	cfg := &c.q.cfg
	began := cfg.Now()
	if err := c.q.eng.Commit(b); err != nil || cfg.Committed == nil {
		return err
	}
	stored := 0
	for _, a := range b.Arrivals {
		if a.First == nil {
			stored++
		}
	}
	cfg.Committed(stored, len(b.Ends)+len(b.Discards)+len(b.Starts)+len(b.Arrivals), cfg.Now().Sub(began))
	return nil
}

// sweepOnce removes some of what need not be kept. Its caller has the right to commit.
func (c *committer) sweepOnce() {
	q := c.q
	now := q.now()
	q.mu.Unlock()
	more, err := q.eng.Sweep(q.life, q.cfg.retention(now, sweepRows))
	if err != nil {
		q.feed.noteWarning(fmt.Errorf("remove deliveries that need not be kept: %w; it is tried again later", err))
		q.feed.tell()
		more = false
	}
	q.mu.Lock()
	c.sweeping = false
	if more && !q.stopping {
		c.sweepAt = q.now().Add(sweepPause)
		c.setAlarm()
	}
}

// retention says what the next step of a sweep removes.
func (c *Config) retention(now time.Time, rows int) store.Retention {
	return store.Retention{Before: now.Add(-c.Keep), Count: c.KeepCount, Rows: rows}
}

// flush returns once everything that has happened so far is stored and reported, or could not be stored. Reads begin with it, so that they
// show what an answer has said already.
func (c *committer) flush(ctx context.Context) error {
	mu := &c.q.mu
	mu.Lock()
	switch {
	case c.q.closed:
		mu.Unlock()
		return store.ErrClosed
	case c.next.empty() && c.busy == 0:
		mu.Unlock()
		c.q.feed.tell()
		return nil
	}
	through := make(chan struct{})
	c.next.barriers = append(c.next.barriers, through)
	return c.await(ctx, through)
}

// await returns once what its caller added to next is through. It is called with Queue.mu held, and unlocks it. After an error,
// which is ctx's, it may still be stored.
func (c *committer) await(ctx context.Context, through <-chan struct{}) error {
	if c.mayLead() {
		c.lead()
	} else {
		c.q.mu.Unlock()
	}
	select {
	case <-through:
		return nil
	default:
	}
	select {
	case <-through:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
