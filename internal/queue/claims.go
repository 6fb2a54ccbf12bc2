package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	lookEvery  = 2 * time.Second        // between looks for work that nobody told of
	claimGrace = 2 * time.Second        // how long a claim may still take that is under way when the work ends
	askAgain   = 500 * time.Millisecond // how often the store is asked whether a delivery has ended that Outcome waits for
)

// claims is the source where several processes share the deliveries. Any process may start what is due, so nothing of it is
// kept in memory. This process claims as much as it has handlers for.
type claims struct {
	q *Queue
	store.Sharing
	peers   *peers
	look    time.Duration // lookEvery; tests take another time
	poke    chan struct{} // asks for a look at what is due
	quit    chan struct{} // closed by stop: nothing is claimed any more
	stopped chan struct{} // closed when the last claim has ended

	giveUp context.CancelFunc // gives up the claim under way

	left       store.Remaining // what the last claim left behind
	suspectsAt time.Time       // suspects give way until then
}

func newClaims(q *Queue, eng store.Sharing) *claims {
	s := &claims{
		q:       q,
		Sharing: eng,
		look:    lookEvery,
		poke:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	s.peers = &peers{q: q, Sharing: eng, quit: s.quit, lookSoon: s.lookSoon}
	return s
}

func (s *claims) start(map[string]*handlers) error {
	q := s.q
	ctx, giveUp := context.WithCancel(q.life)
	s.giveUp = giveUp
	q.tasks.Go(func() { s.claim(ctx) })
	s.peers.start()
	s.lookSoon()
	return nil
}

// serve looks for deliveries of the endpoint, as they may have waited for it.
func (s *claims) serve(*handlers) error {
	s.lookSoon()
	return nil
}

func (s *claims) resumed() { s.lookSoon() }

// stop gives up a claim that the database does not answer. If the claim is made all the same, other processes take it over when
// its lease has ended.
func (s *claims) stop() {
	close(s.quit)
	patience := time.NewTimer(claimGrace)
	defer patience.Stop()
	select {
	case <-s.stopped:
	case <-patience.C:
	}
	s.giveUp()
	<-s.stopped
}

// startDue does nothing. The claiming goroutine starts what is due: it looks every lookEvery, and when lookSoon is called.
func (s *claims) startDue(time.Time) {}

func (s *claims) nextDue(time.Time) time.Time { return time.Time{} }

// hasDue also reports true while a delivery that was handed back is not stored yet: an arrival must not overtake it.
func (s *claims) hasDue(endpoint string, _ time.Time) bool {
	return s.left.Due[endpoint] || s.q.runner.endpoints[endpoint].returning > 0
}

func (s *claims) suspectDue(now time.Time) bool {
	return !now.Before(s.suspectsAt) && s.suspect() != ""
}

// suspect returns an endpoint that has a suspect and does not rest, "" for none.
func (s *claims) suspect() string {
	for endpoint := range s.left.Suspects {
		if h := s.q.runner.endpoints[endpoint]; h == nil || !h.rests() {
			return endpoint
		}
	}
	return ""
}

func (s *claims) oldest() map[string]time.Time { return maps.Clone(s.left.Oldest) }

func (s *claims) add(a *pendingArrival) (postponed bool) { return a.Behind || a.Burst != nil }

func (s *claims) putBack(*task) {}

func (s *claims) remove(*store.Stored) {}

func (s *claims) released(t *task) {
	if t.Serial != 0 || s.left.Due[t.Endpoint] || len(s.left.Suspects) > 0 {
		s.lookSoon()
	}
}

func (s *claims) token() int64 { return store.NewToken() }

func (s *claims) recheck() time.Duration { return askAgain }

func (s *claims) runsAgain() string { return "elsewhere or after a restart" }

// lookSoon has the claiming goroutine look for work.
func (s *claims) lookSoon() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// claim claims deliveries for free handlers, until stop.
func (s *claims) claim(ctx context.Context) {
	defer close(s.stopped)
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.poke:
		case <-look.C:
		}
		look.Reset(s.claimOnce(ctx))
	}
}

// claimOnce claims what handlers are free for, and returns the time until the next look. If an arrival takes such a handler
// meanwhile, the claimed delivery is ready for the next handler, or handed back soon.
func (s *claims) claimOnce(ctx context.Context) (again time.Duration) {
	q := s.q
	q.mu.Lock()
	wants := s.wants(q.now())
	q.mu.Unlock()
	claimed, left, err := s.Claim(ctx, wants)
	defer q.feed.tell()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			s.peers.sayFailing(fmt.Errorf("look for deliveries that are due: %w", err))
		}
		return s.look
	}
	s.peers.failing = false
	// Other processes start the suspects of endpoints that are not served here.
	maps.DeleteFunc(left.Suspects, func(endpoint string, _ bool) bool { return !s.handles(endpoint) })
	s.left, q.waiting = left, left.Waiting
	s.suppose(wants)
	alone := len(wants) == 1 && wants[0].Suspects
	for _, c := range claimed {
		t := s.adopt(c)
		if alone {
			q.runner.solo.begin(t)
			q.runner.solo.lives(t, q.now())
		}
		q.runner.begin(t)
	}
	if len(claimed) > 0 {
		q.commits.setAlarm() // those that found no free handler are handed back soon
	}
	for _, w := range s.wants(q.now()) {
		// An endpoint for which this claim got nothing is left to others: it would be asked about again and again.
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
func (s *claims) handles(endpoint string) bool {
	h := s.q.runner.endpoints[endpoint]
	return h != nil && h.Handle != nil
}

// suppose notes work as due for endpoints that the claim did not ask about, since they had no free handler. So their next
// free handler looks for work.
func (s *claims) suppose(wants []store.Want) {
	for name := range s.q.runner.endpoints {
		if s.handles(name) && !asksFor(wants, name) {
			s.left.Due[name] = true
		}
	}
}

func asksFor(wants []store.Want, endpoint string) bool {
	return slices.ContainsFunc(wants, func(w store.Want) bool { return w.Endpoint == endpoint })
}

// adopt returns the task of a delivery that this process has claimed.
func (s *claims) adopt(c *store.Stored) *task {
	r := &s.q.runner
	t := &task{Stored: *c, handlers: r.endpoints[c.Endpoint], loaded: true, late: true, wait: s.q.waits.take(c.ULID)}
	if t.wait == nil {
		t.wait = newWait()
	}
	r.take(t)
	return t
}

// wants returns what there are free handlers for. A claim that wants nothing still tells how much is left.
func (s *claims) wants(now time.Time) (wants []store.Want) {
	q := s.q
	if q.stopping || q.commits.outage {
		return nil
	}
	if s.suspectDue(now) {
		switch q.runner.solo.turn(now, q.runner.active) {
		case startAlone:
			return []store.Want{{Endpoint: s.suspect(), N: 1, Suspects: true}}
		case giveWay:
			s.suspectsAt = now.Add(giveWayFor)
		}
	}
	if q.runner.blocked(now) {
		return nil
	}
	for _, h := range q.runner.endpoints {
		// Later deliveries must not overtake one that is handed back, so it has to be stored first. Then committed looks again.
		if n := h.room() - h.started; n > 0 && h.returning == 0 {
			wants = append(wants, store.Want{Endpoint: h.Name, N: n})
		}
	}
	return wants
}

// committed lets other processes know what a commit changed.
func (s *claims) committed(c *commit) {
	var ids []ulid.ULID
	due := false
	for _, a := range c.arrivals {
		switch {
		case a.err != nil:
		case a.First != nil:
			ids = append(ids, store.IDOf(a.First))
		default:
			ids = append(ids, a.task.ULID)
			due = due || a.task.State == Waiting && a.Burst == nil
			if a.Merged != nil {
				ids = append(ids, a.Merged.ULID)
			}
		}
	}
	for _, e := range c.ends {
		if e.err == nil && !e.Lost {
			ids = append(ids, e.ID)
			due = due || e.To == Waiting || e.task.Serial != 0
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
		s.lookSoon()
	}
	s.Tell(ids, due)
}
