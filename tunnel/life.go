package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/latest"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// waitBetween is how long to wait before try n (from 0) of an outage that has lasted for so long. In its first five minutes the
// waits stay short, for the Hub retries its deliveries in that time.
func waitBetween(n int, outage time.Duration) time.Duration {
	longest := time.Second
	if outage > 5*time.Minute {
		longest = 15 * time.Second
	}
	if n == 0 {
		return 0
	}
	if n > 6 {
		return longest
	}
	return min(250*time.Millisecond<<(n-1), longest)
}

// life is a Tunnel: the sessions of a Dialer one after the other, behind one listener.
type life struct {
	*listener
	words
	dialer   Dialer
	terms    terms.Terms
	renewals *latest.Chan[renewal]

	// Of run's goroutine.
	lostInRow int  // sessions lost in a row, each soon after it came online
	anyURL    bool // the service has refused the URL that the tunnel had

	background sync.WaitGroup // what outlives a step of run for a moment
}

func newLife(d Dialer, o Options) *life {
	t := &life{words: words{o}, dialer: d, renewals: latest.New[renewal](4)}
	if o.Terms != nil {
		t.terms = *o.Terms
	} else {
		t.terms = terms.Default()
	}
	t.listener = newListener(o.Name, t.terms.Close)
	return t
}

// Open opens a tunnel with the sessions of d, for a [Provider.Open]. It tries for 12 s at most, and ends sooner where a try fails
// with an error that trying again does not fix. From then on the tunnel
//
//   - replaces a session that is lost: at once, then after waits that grow to a second, and after five minutes to 15 s. Sessions that are
//     lost soon, one after the other, wait as well
//   - asks for the URL that it had, unless the service refuses that one
//   - replaces the session when the machine has slept, when the program has stood still for more than 10 s, and when the machine has lost
//     the network address that the session goes over
//   - proves the URL of a session that came back by itself
//   - tells each change as a [State], and stops where [Error.Final] or a minute of [Error.Refused] says so
//   - lets Close return at once, and takes the session down when nothing is in flight any more
func Open(ctx context.Context, d Dialer, o Options) (Tunnel, error) {
	t := newLife(d, o)
	t.background.Go(func() { t.watch(t.terms.Machine) })
	first, failed := t.first(ctx)
	if failed != nil && !failed.mayBeOwnSession() {
		t.stopTrying()
		t.waitForBackground()
		if err := ctx.Err(); err != nil {
			return nil, &Error{Op: t.openOp(), Cause: "given up: " + err.Error(), Fix: "try again", Temporary: true, Err: err}
		}
		return nil, failed
	}
	if first != nil {
		t.serveOn(first)
	} else {
		t.publish(Connecting, failed)
	}
	go t.run(first, failed)
	return t, nil
}

// mayBeOwnSession reports whether the service may refuse because of this program's own last session, which ends soon.
func (e *Error) mayBeOwnSession() bool { return e.Refused && e.Temporary }

func (t *life) waitForBackground() {
	t.background.Wait()
	t.dialer.Wait()
}

// first tries until a session is online, an error says that another try is pointless, or the time is up.
func (t *life) first(ctx context.Context) (*link, *Error) {
	until := time.Now().Add(t.terms.Open)
	var failed *Error
	for try := 0; ; try++ {
		wait := waitBetween(try, 0)
		if left := time.Until(until); try > 0 && left <= wait {
			return nil, failed
		}
		if !sleep(ctx, wait) {
			return nil, t.failure(context.Cause(ctx))
		}
		l, err := t.dial(ctx, time.Until(until), nil)
		if err == nil {
			return l, nil
		}
		failed = err
		if ctx.Err() != nil || !err.Temporary || err.Refused {
			return nil, failed
		}
		if t.options.Connecting != nil {
			t.options.Connecting(try+1, err)
		}
	}
}

// wantedURL is the URL to ask for: the user's, or else the one that the tunnel had. old reports whether it is the latter.
func (t *life) wantedURL() (url string, old bool) {
	if t.options.URL != "" || t.anyURL {
		return t.options.URL, false
	}
	url = t.URL()
	return url, url != ""
}

// dial makes one try to come online. A renewal ends the try: it may be waiting for an answer on a network that is gone.
func (t *life) dial(ctx context.Context, limit time.Duration, renewals <-chan renewal) (*link, *Error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type result struct {
		session Session
		err     error
	}
	dialed := make(chan result, 1)
	url, _ := t.wantedURL()
	go func() {
		s, err := t.dialer.Dial(ctx, url, limit)
		dialed <- result{s, err}
	}()
	select {
	case r := <-dialed:
		if r.err != nil {
			return nil, t.failure(r.err)
		}
		return newLink(r.session), nil
	case r := <-renewals:
		cancel(r.why)
		if late := <-dialed; late.err == nil {
			late.session.Cut()
			t.background.Go(late.session.Close)
		}
		return nil, r.why
	}
}

// run owns the tunnel from the first session to the last. It is given the first one, or the reason why there is none yet.
func (t *life) run(l *link, failed *Error) {
	defer close(t.done)
	defer t.states.Close()
	defer t.waitForBackground()
	defer t.takeDown()
	defer t.stopTrying()

	if l == nil {
		l, failed = t.reopen(failed, Connecting, 1)
	}
	for l != nil {
		why := t.serve(l)
		if why == nil {
			// Closed or retired: what is in flight keeps the session.
			<-t.down
			l.drop(t.terms.Drop)
			break
		}
		t.publish(Reconnecting, why)
		if errors.Is(why, errMoved) {
			t.replaceLater(l)
		} else {
			t.dropNow(l)
		}
		if why.Final {
			if _, old := t.wantedURL(); !old {
				failed = why
				break
			}
			t.anyURL = true // a session that came back by itself may have been refused its old URL alone
		}
		l, failed = t.reopen(why, Reconnecting, max(0, t.lostInRow-t.terms.QuickLosses))
	}
	t.stop(failed)
}

// reopen retries until a session is online. It returns nil, nil after Close or Retire, and an error when retrying is pointless.
// try is the number of the first try, 0 for one without a wait.
func (t *life) reopen(why *Error, phase Phase, try int) (*link, *Error) {
	began := time.Now()
	var refused time.Time // since when the service has refused
	if why.Refused {
		refused = began
	}
	for ; ; try++ {
		woken, ok := t.pause(waitBetween(try, time.Since(began)))
		if !ok {
			break
		}
		if woken {
			began, try = time.Now(), 0
		}
		l, err := t.dial(t.trying, t.terms.Try, t.renewals.C)
		if err == nil {
			t.serveOn(l)
			return l, nil
		}
		if t.trying.Err() != nil {
			break
		}
		switch {
		case !err.Refused:
			refused = time.Time{}
		case refused.IsZero():
			refused = time.Now()
		}
		over := err.Refused && (err.Final || time.Since(refused) > t.terms.Refused)
		if _, old := t.wantedURL(); old && (over || err.Refused && !err.Temporary) {
			// It may be the URL alone that is refused: ask for any, without a wait.
			t.anyURL, try = true, -1
			continue
		}
		t.publish(phase, err)
		if over {
			return nil, err
		}
		if errors.Is(err, errChanged) {
			began, try = time.Now(), -1 // the next try is the first, without a wait
		}
	}
	t.finishRetire()
	<-t.down
	return nil, nil
}

// serveOn starts to take what arrives on l, and tells its URL.
func (t *life) serveOn(l *link) {
	t.background.Go(func() { t.pump(l) })
	t.anyURL = false
	url, _ := l.URL()
	t.online(url)
}

// serve watches l until it has to be replaced, and returns why; nil says that the tunnel was closed or retired.
func (t *life) serve(l *link) *Error {
	var (
		lost    *Error // why the session is away, nil while it is up
		resumed bool   // the tunnel cut the session, which has yet to tell of it
		tries   int    // in which the session failed to come back by itself
		giveUp  = time.NewTimer(t.options.Resume)
		upSince = l.since
	)
	giveUp.Stop()
	defer giveUp.Stop()
	for {
		select {
		case event := <-l.Events():
			if event == nil {
				url, sure := l.URL()
				if lost == nil && url == t.URL() {
					continue // a session says once that it is up, which Dial has said already
				}
				giveUp.Stop()
				lost, resumed, upSince = nil, false, time.Now()
				if !sure && !t.proven(url) {
					return t.moved(errMoved)
				}
				t.online(url)
				continue
			}
			if t.retiring() {
				return nil
			}
			if resumed {
				resumed = false
				continue
			}
			err := t.lossOf(event)
			if err.Final {
				return err
			}
			if lost == nil {
				giveUp.Reset(t.options.Resume)
				tries = 0
				if t.countLoss(upSince); t.lostInRow > t.terms.QuickLosses {
					return err
				}
			} else if tries++; tries >= t.options.ResumeTries {
				return err
			}
			lost = err
			t.publish(Reconnecting, err)
		case r := <-t.renewals.C:
			if lost != nil || errors.Is(r.why, errMoved) {
				return r.why
			}
			if r.needed != nil && !r.needed(l) {
				continue
			}
			if !l.Resume() {
				return r.why
			}
			// The session comes back at once, as the client that it was, and takes over from what the service may still see of it.
			lost, resumed, tries = r.why, true, 0
			giveUp.Reset(t.options.Resume)
			t.publish(Reconnecting, r.why)
		case err := <-l.ended:
			if t.retiring() {
				return nil
			}
			if lost == nil {
				t.countLoss(upSince)
			}
			return t.lossOf(err)
		case <-giveUp.C:
			return lost
		case <-t.retire:
			return t.retireLink(l)
		case <-t.closed:
			return t.retireLink(l)
		case <-t.down:
			return nil
		}
	}
}

// countLoss counts the loss of a session that was online since then.
func (t *life) countLoss(since time.Time) {
	if time.Since(since) > t.terms.Steady {
		t.lostInRow = 0
	}
	t.lostInRow++
}

// retireLink takes the public URL off the service, keeps what is in flight, and returns nil as serve has to.
func (t *life) retireLink(l *link) *Error {
	l.unbind(&t.background, t.terms.Retire)
	t.finishRetire()
	return nil
}

// proven reports whether url is known to lead here after the session came back by itself.
func (t *life) proven(url string) bool {
	if t.options.Prove == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(t.trying, t.terms.Prove)
	defer cancel()
	return t.options.Prove(ctx, url) == nil
}

// sleep waits for d and reports whether ctx lasted as long.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
