package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Where deliveries are shared, what is due is not kept in memory: any process may start it. This one claims as much as it
// has handlers for, renews what it runs, and hears of what others do.

const (
	lookEvery  = 2 * time.Second // for work that nobody told of
	renewEvery = 3 * time.Second // a lease is 10 s
	claimGrace = 2 * time.Second // what a claim that is under way when the work ends may take
	askAbout   = 500             // deliveries whose end someone waits for here, in one question
)

var errTakenOver = errors.New("another process has taken the delivery over, since the database had not heard of this one for too long")

// shared is what a queue keeps of deliveries that other processes handle too.
type shared struct {
	store.Sharing
	look     time.Duration // lookEvery; tests take another time
	poke     chan struct{} // asks for a look at what is due
	quit     chan struct{} // closed by Drain: nothing is claimed any more
	claiming chan struct{} // closed when the last claim has ended

	endClaims context.CancelFunc // gives up the claim under way

	// Guarded by Queue.mu.
	left    store.Remaining
	failing bool // the last claim or renewal failed, which has been said
	giveWay time.Time
}

// share prepares a queue for an engine that several processes use.
func (q *Queue) share(eng store.Sharing) {
	q.shared = &shared{
		Sharing:  eng,
		look:     lookEvery,
		poke:     make(chan struct{}, 1),
		quit:     make(chan struct{}),
		claiming: make(chan struct{}),
	}
	q.ids.Random = ulid.Monotonic(rand.Reader, 0)
}

// startSharing starts what a queue does where deliveries are shared.
func (q *Queue) startSharing() {
	claims, end := context.WithCancel(q.life)
	q.shared.endClaims = end
	q.tasks.Go(func() { q.claimer(claims) })
	q.tasks.Go(q.renewer)
	q.tasks.Go(q.sweeper)
	q.tasks.Go(func() { q.shared.Follow(q.life, q.hear) })
	q.lookSoon()
}

// now is the time on the clock of the store.
func (q *Queue) now() time.Time {
	if q.shared == nil {
		return q.cfg.Now()
	}
	return q.cfg.Now().Add(q.shared.Skew())
}

// lookSoon has the claimer look for work.
func (q *Queue) lookSoon() {
	select {
	case q.shared.poke <- struct{}{}:
	default:
	}
}

// claimer claims deliveries for handlers that are free.
func (q *Queue) claimer(ctx context.Context) {
	s := q.shared
	defer close(s.claiming)
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.poke:
		case <-look.C:
		}
		look.Reset(q.claimOnce(ctx))
	}
}

// claimOnce claims what handlers are free for, and says after what time to look again. Where an arrival takes such a handler
// meanwhile, what was claimed is ready for the next one, or handed back soon.
func (q *Queue) claimOnce(ctx context.Context) (again time.Duration) {
	s := q.shared
	q.mu.Lock()
	wants := q.wants(q.now())
	q.mu.Unlock()
	claimed, left, err := s.Claim(ctx, wants)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			q.sayFailing(fmt.Errorf("look for deliveries that are due: %w", err))
		}
		return s.look
	}
	s.failing = false
	// What is to start alone of an endpoint that is not served here is for others to start.
	maps.DeleteFunc(left.Suspects, func(endpoint string, _ bool) bool { return !q.handles(endpoint) })
	s.left, q.waiting = left, left.Waiting
	q.suppose(wants)
	alone := len(wants) == 1 && wants[0].Suspects
	for _, c := range claimed {
		t := q.adopt(c)
		if alone {
			q.alone, q.aloneTill = t, q.now().Add(aloneFor)
		}
		q.begin(t)
	}
	for _, w := range q.wants(q.now()) {
		// One that was asked about with no result is left to others: it would be asked about again and again.
		if left.Due[w.Endpoint] && (len(claimed) > 0 || !asksFor(wants, w.Endpoint)) {
			return 0
		}
	}
	again = s.look
	if !left.Next.IsZero() {
		again = min(again, max(10*time.Millisecond, left.Next.Sub(q.now())))
	}
	return again
}

// handles reports whether deliveries of an endpoint can start in this process.
func (q *Queue) handles(endpoint string) bool {
	l := q.lines[endpoint]
	return l != nil && l.Handle != nil
}

// suppose has it that work is left for endpoints that were not asked about, none of whose handlers was free: the next one that
// is free looks for it.
func (q *Queue) suppose(wants []store.Want) {
	for name := range q.lines {
		if q.handles(name) && !asksFor(wants, name) {
			q.shared.left.Due[name] = true
		}
	}
}

func asksFor(wants []store.Want, endpoint string) bool {
	return slices.ContainsFunc(wants, func(w store.Want) bool { return w.Endpoint == endpoint })
}

// adopt makes a task of a delivery that was claimed for this process.
func (q *Queue) adopt(c *store.Stored) *task {
	t := &task{Stored: *c, line: q.lines[c.Endpoint], loaded: true, late: true, wait: q.waits[c.ULID]}
	if t.wait == nil {
		t.wait = newWait()
	}
	t.wait.passing = false
	delete(q.waits, c.ULID)
	t.line.busy++
	q.active++
	q.running[t.ULID] = t
	return t
}

// wants says what there are handlers for. Without any, a claim still tells how much is left.
func (q *Queue) wants(now time.Time) (wants []store.Want) {
	if q.stopping || q.outage {
		return nil
	}
	if w, ok := q.wantSuspect(now); ok {
		return []store.Want{w}
	}
	if q.heldBack(now) {
		return nil
	}
	for _, l := range q.lines {
		if n := l.room() - l.busy; n > 0 && l.Handle != nil {
			wants = append(wants, store.Want{Endpoint: l.Name, N: n})
		}
	}
	return wants
}

// wantSuspect is dispatchSuspect where deliveries are shared.
func (q *Queue) wantSuspect(now time.Time) (store.Want, bool) {
	s := q.shared
	if !q.suspectDue(now) || q.alone != nil && now.Before(q.aloneTill) {
		return store.Want{}, false
	}
	switch {
	case q.active == 0:
		q.holdTill = time.Time{}
		for endpoint := range s.left.Suspects {
			return store.Want{Endpoint: endpoint, N: 1, Suspects: true}, true
		}
	case q.holdTill.IsZero():
		q.holdTill = now.Add(aloneFor)
	case !now.Before(q.holdTill):
		q.holdTill = time.Time{}
		s.giveWay = now.Add(time.Minute)
	}
	return store.Want{}, false
}

// suspectDue reports whether a delivery waits that is to be started alone.
func (q *Queue) suspectDue(now time.Time) bool {
	if q.shared != nil {
		return len(q.shared.left.Suspects) > 0 && !now.Before(q.shared.giveWay)
	}
	return len(q.suspects) > 0 && q.suspects[0].At <= now.UnixNano()
}

// mayBeDue reports whether deliveries of an endpoint are known to be due, which go before those that arrive.
func (q *Queue) mayBeDue(l *line, now time.Time) bool {
	if q.shared != nil {
		return q.shared.left.Due[l.Name]
	}
	return len(l.due) > 0 && l.due[0].At <= now.UnixNano()
}

// renewer keeps this process's claims, and asks how those deliveries ended elsewhere whose end someone waits for here.
func (q *Queue) renewer() {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.life.Done():
			return
		case <-tick.C:
		}
		q.renewOnce()
		q.askElsewhere(nil)
	}
}

func (q *Queue) renewOnce() {
	q.mu.Lock()
	claims := make([]store.Lease, 0, len(q.running))
	for id, t := range q.running {
		claims = append(claims, store.Lease{ID: id, Token: t.Token})
	}
	q.mu.Unlock()
	gone, err := q.shared.Renew(q.life, claims)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.sayFailing(fmt.Errorf("renew the claims on deliveries that run here: %w", err))
		return
	}
	q.shared.failing = false
	tokens := make(map[ulid.ULID]int64, len(gone))
	for _, c := range claims {
		tokens[c.ID] = c.Token
	}
	for _, g := range gone {
		if t := q.running[g.ID]; t != nil && t.Token == tokens[g.ID] && !t.ended && !t.gone {
			q.loseClaim(t, g)
		}
	}
}

// loseClaim cancels a handler whose delivery is no longer this process's.
func (q *Queue) loseClaim(t *task, g store.LostLease) {
	report, cause := Report{State: Waiting, Reason: errTakenOver.Error()}, errTakenOver
	if g.Discarded {
		report, cause = Report{State: Discarded, Reason: g.Reason}, errDiscarded
	} else {
		q.cfg.Warn(fmt.Errorf("run delivery %s: %w; its handler is cancelled here", t.ID, cause))
	}
	t.abandon(report, cause)
}

// sweeper removes what need not be kept. It does so beside the commits, which must not wait for it when the database stands still.
func (q *Queue) sweeper() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.shared.quit:
			return
		case <-q.life.Done():
			return
		case <-tick.C:
		}
		q.sweepShared()
	}
}

func (q *Queue) sweepShared() {
	pause := time.NewTimer(sweepPause)
	defer pause.Stop()
	for {
		more, err := q.eng.Sweep(q.life, q.retention(q.now(), sweepRows))
		if err != nil {
			q.mu.Lock()
			q.sayFailing(fmt.Errorf("remove deliveries that need not be kept: %w", err))
			q.mu.Unlock()
		}
		if err != nil || !more {
			return
		}
		pause.Reset(sweepPause)
		select {
		case <-q.shared.quit:
			return
		case <-q.life.Done():
			return
		case <-pause.C:
		}
	}
}

// sayFailing warns once of what goes on failing.
func (q *Queue) sayFailing(err error) {
	if q.life.Err() == nil && !q.shared.failing && !q.outageSaid {
		q.cfg.Warn(fmt.Errorf("%w; it is tried again", err))
	}
	q.shared.failing = true
}

// hear takes in what other processes told.
func (q *Queue) hear(ids []ulid.ULID, due bool) {
	if due {
		q.lookSoon()
	}
	q.mu.Lock()
	watched := len(q.watchers) > 0
	runs := slices.ContainsFunc(ids, func(id ulid.ULID) bool { return q.running[id] != nil })
	q.mu.Unlock()
	if runs {
		q.renewOnce() // it may have been discarded
	}
	if watched {
		q.showElsewhere(ids)
	}
	q.askElsewhere(ids)
}

// showElsewhere tells the watchers, not Config.Changed, of what other processes did.
func (q *Queue) showElsewhere(ids []ulid.ULID) {
	if len(ids) == 0 {
		return
	}
	ds, err := q.shared.Deliveries(q.life, ids)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.sayFailing(fmt.Errorf("read what other processes changed: %w", err))
		return
	}
	for i := range ds {
		q.tellWatchers(Change{Delivery: ds[i]})
	}
}

// askElsewhere tells those who wait here for the end of deliveries that another process has handled: of those among ids,
// or of any if ids is nil.
func (q *Queue) askElsewhere(ids []ulid.ULID) {
	q.mu.Lock()
	var ask []ulid.ULID
	if ids == nil {
		for id := range q.waits {
			if len(ask) < askAbout {
				ask = append(ask, id)
			}
		}
	}
	for _, id := range ids {
		if q.waits[id] != nil {
			ask = append(ask, id)
		}
	}
	q.mu.Unlock()
	if len(ask) == 0 {
		return
	}
	ds, err := q.shared.Deliveries(q.life, ask)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.sayFailing(fmt.Errorf("read how deliveries ended elsewhere: %w", err))
		return
	}
	for i := range ds {
		d := &ds[i]
		id := store.IDOf(d)
		if w := q.waits[id]; w != nil && (d.State.Finished() || d.State == Retrying) {
			delete(q.waits, id)
			w.elsewhere = true
			w.end(Report{State: d.State, Reason: d.Reason})
		}
	}
}

// resultTime bounds the reading of a result for an answer that waits.
const resultTime = time.Second

// resultOf reads what the handler of a delivery returned in another process, nil where that can't be read in time: the
// delivery is done all the same.
func (q *Queue) resultOf(id string) []byte {
	key, ok := store.ParseID(id)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.life, resultTime)
	defer cancel()
	r, err := q.eng.Get(ctx, key)
	if err != nil {
		q.cfg.Warn(fmt.Errorf("read what the handler of delivery %s returned in another process: %w; it is answered without", id, err))
		return nil
	}
	return reportOf(r).Result
}

// tellOthers lets other processes know what a commit changed.
func (q *Queue) tellOthers(c *commit) {
	var ids []ulid.ULID
	due := false
	for _, j := range c.arrivals {
		switch {
		case j.err != nil:
		case j.First != nil:
			ids = append(ids, store.IDOf(j.First))
		default:
			ids = append(ids, j.task.ULID)
			due = due || j.task.State == Waiting && j.Burst == nil
			if j.Merged != nil {
				ids = append(ids, j.Merged.ULID)
			}
		}
	}
	for _, k := range c.ends {
		if k.err == nil && !k.Lost {
			ids = append(ids, k.ID)
			due = due || k.To == Waiting || k.task.Serial != 0
		}
	}
	for _, d := range c.discards {
		if d.err == nil && d.Before != "" {
			ids = append(ids, d.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	if due {
		q.lookSoon()
	}
	q.shared.Tell(ids, due)
}

// stopClaiming returns once nothing is claimed any more. A claim that the database does not answer is given up: should it be made all the
// same, others take it over when its lease has ended.
func (q *Queue) stopClaiming() {
	s := q.shared
	close(s.quit)
	patience := time.NewTimer(claimGrace)
	defer patience.Stop()
	select {
	case <-s.claiming:
	case <-patience.C:
	}
	s.endClaims()
	<-s.claiming
}
