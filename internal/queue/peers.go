package queue

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	renewEvery = 3 * time.Second // a lease is 10 s
	askAbout   = 500             // deliveries in one question for how they ended
)

var errTakenOver = errors.New("another process has taken the delivery over, since the database had not heard of this one for too long")

// peers keeps this process in step with the others that share its deliveries. It renews the claims of what runs here, hears
// what others changed, and removes what need not be kept.
type peers struct {
	q *Queue
	store.Sharing
	quit     chan struct{} // closed when the work ends
	lookSoon func()        // has the source look for work

	failing bool // the last claim or renewal failed, and a warning said so; guarded by Queue.mu
}

func (p *peers) start() {
	p.q.tasks.Go(p.renew)
	p.q.tasks.Go(p.sweepAll)
	p.q.tasks.Go(func() { p.Follow(p.q.life, p.hear) })
}

// renew renews this process's claims. It also asks how deliveries ended in other processes for which someone waits here.
func (p *peers) renew() {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.q.life.Done():
			return
		case <-tick.C:
		}
		p.renewOnce()
		p.askElsewhere(nil)
	}
}

func (p *peers) renewOnce() {
	q := p.q
	running := q.runner.running
	q.mu.Lock()
	leases := make([]store.Lease, 0, len(running))
	for id, t := range running {
		leases = append(leases, store.Lease{ID: id, Token: t.Token})
	}
	q.mu.Unlock()
	gone, err := p.Renew(q.life, leases)
	defer q.feed.tell()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		p.sayFailing(fmt.Errorf("renew the claims on deliveries that run here: %w", err))
		return
	}
	p.failing = false
	tokens := make(map[ulid.ULID]int64, len(leases))
	for _, l := range leases {
		tokens[l.ID] = l.Token
	}
	for _, g := range gone {
		if t := running[g.ID]; t != nil && t.Token == tokens[g.ID] && !t.ended && !t.gone {
			p.lose(t, g)
		}
	}
}

// lose cancels the handler of a delivery that this process no longer has a claim on.
func (p *peers) lose(t *task, g store.LostLease) {
	report, cause := Report{State: Waiting, Reason: errTakenOver.Error()}, errTakenOver
	if g.Discarded {
		report, cause = Report{State: Discarded, Reason: g.Reason}, errDiscarded
	} else {
		p.q.feed.noteWarning(fmt.Errorf("run delivery %s: %w; its handler is cancelled here", t.ID, cause))
	}
	t.abandon(report, cause)
}

// sweepAll removes what need not be kept, every sweepEvery. It does so beside the commits, so that they do not wait for it when
// the database stands still.
func (p *peers) sweepAll() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-p.q.life.Done():
			return
		case <-tick.C:
		}
		p.sweep()
	}
}

func (p *peers) sweep() {
	q := p.q
	pause := time.NewTimer(sweepPause)
	defer pause.Stop()
	for {
		more, err := q.eng.Sweep(q.life, q.cfg.retention(q.now(), sweepRows))
		if err != nil {
			q.mu.Lock()
			p.sayFailing(fmt.Errorf("remove deliveries that need not be kept: %w", err))
			q.mu.Unlock()
			q.feed.tell()
		}
		if err != nil || !more {
			return
		}
		pause.Reset(sweepPause)
		select {
		case <-p.quit:
			return
		case <-q.life.Done():
			return
		case <-pause.C:
		}
	}
}

// sayFailing notes a warning, once for all that goes on failing.
func (p *peers) sayFailing(err error) {
	q := p.q
	if q.life.Err() == nil && !p.failing && !q.commits.outageSaid {
		q.feed.noteWarning(fmt.Errorf("%w; it is tried again", err))
	}
	p.failing = true
}

// hear handles what other processes told.
func (p *peers) hear(ids []ulid.ULID, due bool) {
	q := p.q
	if due {
		p.lookSoon()
	}
	q.mu.Lock()
	runs := slices.ContainsFunc(ids, func(id ulid.ULID) bool { return q.runner.running[id] != nil })
	q.mu.Unlock()
	if runs {
		p.renewOnce() // it may have been discarded
	}
	if q.feed.watched() {
		p.showElsewhere(ids)
	}
	p.askElsewhere(ids)
}

// showElsewhere tells the watchers, not Config.Changed, of what other processes did.
func (p *peers) showElsewhere(ids []ulid.ULID) {
	q := p.q
	if len(ids) == 0 {
		return
	}
	ds, err := p.Deliveries(q.life, ids)
	defer q.feed.tell()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		p.sayFailing(fmt.Errorf("read what other processes changed: %w", err))
		return
	}
	for i := range ds {
		q.feed.noteElsewhere(Change{Delivery: ds[i]})
	}
}

// askElsewhere asks which deliveries have ended in other processes, of those that someone waits for here. It asks about ids, or
// about all if ids is nil.
func (p *peers) askElsewhere(ids []ulid.ULID) {
	q := p.q
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
	ds, err := p.Deliveries(q.life, ask)
	defer q.feed.tell()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		p.sayFailing(fmt.Errorf("read how deliveries ended elsewhere: %w", err))
		return
	}
	for i := range ds {
		if d := &ds[i]; d.State.Finished() || d.State == Retrying {
			q.waits.endElsewhere(store.IDOf(d), Report{State: d.State, Reason: d.Reason})
		}
	}
}
