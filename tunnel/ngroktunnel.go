package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// timing has the limits and waits of a tunnel.
type timing struct {
	// open bounds the tries of Open; finding the reason for a failure takes diagnoseLimit more, 15 s in all.
	open time.Duration
	// ours is how long a refusal is retried that our own dying session can be the reason of.
	ours time.Duration
	// try bounds one try to come back.
	try time.Duration
	// sdk is how long the SDK may try to bring a lost session back: it does so at once and after 0.5, 1.5 and 3.5 s, and keeps
	// the session's identity. After sdkTries or this time tries of our own take over, for its waits grow to 30 s.
	sdk time.Duration
	// steady is how long a session has to last for its loss not to count as one of a row.
	steady time.Duration
	// prove bounds NgrokConfig.Prove.
	prove time.Duration
	// unbind is how long the service may take to take the public URL off.
	unbind time.Duration
	// swap is the same for a session that is being replaced, which the next one has to wait for.
	swap time.Duration
	// linger is how long a session that was replaced keeps its requests in flight.
	linger time.Duration
	// close bounds the second Close.
	close time.Duration
}

var defaultTiming = timing{
	open:   12 * time.Second,
	ours:   60 * time.Second,
	try:    6 * time.Second,
	sdk:    4 * time.Second,
	steady: 2 * time.Second,
	prove:  5 * time.Second,
	unbind: 2 * time.Second,
	swap:   700 * time.Millisecond,
	linger: 30 * time.Second,
	close:  5 * time.Second,
}

const (
	// sdkTries are those that the SDK has before tries of our own take over: at once, after 0.5 and after 1.5 s.
	sdkTries = 3
	// quickLosses are as many sessions as may be lost in a row, each soon after it was online, before the next ones have to wait:
	// the SDK itself has no wait after a session that was up, however short.
	quickLosses = 5
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

var (
	// errMoved ends a session whose public URL may no longer be the one that the SDK says.
	errMoved = errors.New("the public URL may have changed")
	// errChanged ends what was begun before the machine slept or changed its network.
	errChanged = errors.New("the machine or its network has changed")
)

// renewal asks for a new session.
type renewal struct {
	why *Error // wraps errMoved or errChanged
	// needed is asked about a session that is up, with errChanged; nil says that it is.
	needed func(*serviceDialer) bool
}

type ngrokTunnel struct {
	client ngrokClient
	timing timing
	prove  func(context.Context, string) error

	conns    chan net.Conn
	states   *latest[State]
	renewals *latest[renewal]
	open     openConns

	// Of run's goroutine.
	lostInRow int // sessions lost one after the other, each soon after it was online

	trying     context.Context // ends when no new session is wanted
	stopTrying context.CancelFunc

	closeOnce sync.Once
	closed    chan struct{} // the first Close: Accept fails
	downOnce  sync.Once
	down      chan struct{} // take the session down
	retireOne sync.Once
	retire    chan struct{} // take no new request
	retired   chan struct{} // closed when that has been done
	done      chan struct{} // closed when all is over

	background sync.WaitGroup // what outlives a step of run for a moment

	mu   sync.Mutex
	url  string
	last State
	err  error // why the tunnel stopped by itself
}

func openNgrokTunnel(ctx context.Context, config NgrokConfig, settings ngrokSettings, limits timing, on machine) (Tunnel, error) {
	getenv := config.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	secrets := []string{settings.credential.token}
	if via, err := newServiceDialer(settings, getenv).proxyFor(settings.address()); err == nil && via != nil && via.User != nil {
		password, _ := via.User.Password()
		secrets = append(secrets, password)
	}
	hide := newRedactor(secrets...)
	t := &ngrokTunnel{
		client: ngrokClient{
			settings: settings,
			getenv:   getenv,
			logger:   newSDKLogger(config.Logger, hide),
			hide:     hide,
			version:  orDefault(config.Version, "dev"),
		},
		timing:   limits,
		prove:    config.Prove,
		conns:    make(chan net.Conn),
		states:   newLatest[State](16),
		renewals: newLatest[renewal](4),
		closed:   make(chan struct{}),
		down:     make(chan struct{}),
		retire:   make(chan struct{}),
		retired:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	t.trying, t.stopTrying = context.WithCancel(context.Background())
	t.background.Add(1)
	go func() {
		defer t.background.Done()
		t.watch(on)
	}()

	first, failed := t.first(ctx, config.Connecting)
	if failed != nil && !waitHelps(failed.Code) {
		t.stopTrying()
		t.background.Wait()
		if err := ctx.Err(); err != nil {
			return nil, &Error{Op: openNgrok, Cause: "given up: " + err.Error(), Fix: "try again", Temporary: true, Err: err}
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

// first tries to come online until it is known whether that will do.
func (t *ngrokTunnel) first(ctx context.Context, connecting func(int, error)) (*link, *Error) {
	until := time.Now().Add(t.timing.open)
	var failed *Error
	for try := 0; ; try++ {
		wait := waitBetween(try, 0)
		if left := time.Until(until); try > 0 && left <= wait {
			return nil, failed
		}
		if !sleep(ctx, wait) {
			return nil, t.client.failure(context.Cause(ctx))
		}
		l, err := t.client.connect(ctx, time.Until(until), nil, &t.background)
		if err == nil {
			return l, nil
		}
		failed = err
		if ctx.Err() != nil || !err.Temporary || waitHelps(err.Code) {
			return nil, failed
		}
		if connecting != nil {
			connecting(try+1, err)
		}
	}
}

// run owns the tunnel from the first session to the last. It takes the first one, or why there is none yet.
func (t *ngrokTunnel) run(l *link, failed *Error) {
	defer close(t.done)
	defer t.states.close()
	defer t.background.Wait()
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
			l.drop()
			break
		}
		t.publish(Reconnecting, why)
		if errors.Is(why, errMoved) {
			t.replaceLater(l)
		} else {
			t.dropNow(l)
		}
		if isFinal(why.Code) {
			failed = why
			break
		}
		l, failed = t.reopen(why, Reconnecting, max(0, t.lostInRow-quickLosses))
	}
	t.stop(failed)
}

// stop says the tunnel's last word: why it stopped by itself, or nil after Close or Retire.
func (t *ngrokTunnel) stop(why *Error) {
	if why == nil {
		t.publish(Stopped, nil)
		return
	}
	t.mu.Lock()
	t.err = why
	t.mu.Unlock()
	t.publish(Stopped, why)
}

// reopen tries until a new session is online. It returns neither where the tunnel was closed or retired, and why where it is
// no use to go on. try is the number of the first try, 0 for one without a wait.
func (t *ngrokTunnel) reopen(why *Error, phase Phase, try int) (*link, *Error) {
	began := time.Now()
	var refused time.Time // since when the service has refused with a code
	if why.Code != "" {
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
		l, err := t.client.connect(t.trying, t.timing.try, t.renewals.c, &t.background)
		if err == nil {
			t.serveOn(l)
			return l, nil
		}
		if t.trying.Err() != nil {
			break
		}
		t.publish(phase, err)
		if errors.Is(err, errChanged) {
			began, try = time.Now(), -1 // the next try is the first, without a wait
		}
		if err.Code == "" {
			refused = time.Time{}
			continue
		}
		if refused.IsZero() {
			refused = time.Now()
		}
		if isFinal(err.Code) || time.Since(refused) > t.timing.ours {
			return nil, err
		}
	}
	t.finishRetire()
	<-t.down
	return nil, nil
}

// serveOn starts to take what arrives on l, and tells its URL.
func (t *ngrokTunnel) serveOn(l *link) {
	t.background.Add(1)
	go func() {
		defer t.background.Done()
		l.pump(t.handOver)
	}()
	t.mu.Lock()
	phase := Online
	if t.url != "" && t.url != l.url {
		phase = URLChanged
	}
	t.url = l.url
	t.mu.Unlock()
	t.publish(phase, nil)
}

// serve watches l until it has to be replaced, and returns why; nil says that the tunnel was closed or retired.
func (t *ngrokTunnel) serve(l *link) *Error {
	var (
		lost    *Error // why the session is away, nil while it is up
		ours    bool   // it was ended here, and the SDK has yet to say so
		tries   int    // of the SDK to bring it back
		giveUp  = time.NewTimer(t.timing.sdk)
		upSince = l.online
	)
	giveUp.Stop()
	defer giveUp.Stop()
	for {
		select {
		case event := <-l.events.c:
			if event.err == nil {
				if lost == nil {
					continue // the first connection, which connect has seen by its result
				}
				giveUp.Stop()
				lost, ours, upSince = nil, false, time.Now()
				if t.client.settings.url == "" && !t.proven(l) {
					return t.moved(errMoved)
				}
				t.publish(Online, nil)
				continue
			}
			if t.retiring() {
				return nil
			}
			if ours {
				ours = false
				continue
			}
			err := t.lossOf(event.err)
			if isFinal(err.Code) {
				return err
			}
			if lost == nil {
				giveUp.Reset(t.timing.sdk)
				tries = 0
				if t.countLoss(upSince); t.lostInRow > quickLosses {
					return err
				}
			} else if tries++; tries >= sdkTries {
				return err
			}
			lost = err
			t.publish(Reconnecting, err)
		case r := <-t.renewals.c:
			if lost != nil || errors.Is(r.why, errMoved) {
				return r.why
			}
			if r.needed != nil && !r.needed(l.dialer) {
				continue
			}
			// The SDK comes back at once, as the agent that it was, and takes over from the session that the service may still see.
			lost, ours, tries = r.why, true, 0
			giveUp.Reset(t.timing.sdk)
			t.publish(Reconnecting, r.why)
			l.dialer.cutNow()
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

// countLoss notes that a session was lost that had been online since then.
func (t *ngrokTunnel) countLoss(since time.Time) {
	if time.Since(since) > t.timing.steady {
		t.lostInRow = 0
	}
	t.lostInRow++
}

// moved is why a session has to be replaced that is up and may not be behind its URL.
func (t *ngrokTunnel) moved(cause error) *Error {
	return &Error{
		Op:        keepNgrok,
		Cause:     "it is opened anew: " + t.client.hide.line(cause.Error()),
		Fix:       "look at https://dashboard.ngrok.com/endpoints if this goes on",
		Temporary: true,
		Err:       errMoved,
	}
}

// Renew replaces the session at once and keeps the listener and what is in flight. It is for whoever has found that the public URL
// does not lead here although nothing is wrong from this side; cause says how, and is shown in [Reconnecting]. It does not wait.
func (t *ngrokTunnel) Renew(cause error) {
	t.renewals.send(renewal{why: t.moved(cause)})
}

// watch asks for a new session when the machine has slept or changed its network.
func (t *ngrokTunnel) watch(on machine) {
	w := newWatcher(on)
	tick := time.NewTicker(on.interval)
	defer tick.Stop()
	for {
		select {
		case <-t.trying.Done():
			return
		case <-tick.C:
		}
		c := w.look()
		if c.cause == "" {
			continue
		}
		r := renewal{why: &Error{
			Op:        keepNgrok,
			Cause:     c.cause,
			Fix:       "nothing; it comes back as soon as there is a network",
			Temporary: true,
			Err:       errChanged,
		}}
		if !c.slept {
			// A connection whose address the machine has lost cannot carry another byte. Others may go on, which their heartbeats tell.
			r.needed = func(d *serviceDialer) bool { return d.uses(c.gone) }
		}
		t.renewals.send(r)
	}
}

// pause waits for d. It reports whether it was cut short because the machine or its network changed, and whether there is to be
// another try at all.
func (t *ngrokTunnel) pause(d time.Duration) (woken, ok bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, t.trying.Err() == nil
	case <-t.renewals.c:
		return true, t.trying.Err() == nil
	case <-t.trying.Done():
		return false, false
	}
}

// retireLink takes the public URL off the service, keeps what is in flight, and returns nil as serve has to.
func (t *ngrokTunnel) retireLink(l *link) *Error {
	l.unbind(&t.background, t.timing.unbind)
	t.finishRetire()
	return nil
}

// lossOf is what an error means that ended a session or a try of the SDK to bring it back.
func (t *ngrokTunnel) lossOf(err error) *Error {
	if codeIn(err.Error()) != "" {
		return serviceError(err.Error(), t.client.settings.credential, t.client.hide)
	}
	e := t.client.failure(err)
	e.Op = keepNgrok
	e.Cause = "the connection to " + t.client.address() + " was lost: " + e.Cause
	return e
}

// proven reports whether the assigned URL is known to lead here after a reconnect.
func (t *ngrokTunnel) proven(l *link) bool {
	if t.prove == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(t.trying, t.timing.prove)
	defer cancel()
	return t.prove(ctx, l.url) == nil
}

// replaceLater takes l's URL off the service now and ends its session when what is in flight on it is done. Where the URL does not
// come off, the session has to end first: nothing could take the URL over.
func (t *ngrokTunnel) replaceLater(l *link) {
	if !l.unbind(&t.background, t.timing.swap) {
		t.dropNow(l)
		return
	}
	t.background.Add(1)
	go func() {
		defer t.background.Done()
		timer := time.NewTimer(t.timing.linger)
		defer timer.Stop()
		select {
		case <-l.open.drained():
		case <-timer.C:
		case <-t.down:
		}
		l.drop()
	}()
}

// dropNow cuts l's connection and leaves the rest of taking it down, which can take the SDK seconds, to the background: the next
// session does not wait for it.
func (t *ngrokTunnel) dropNow(l *link) {
	l.end()
	l.dialer.cutAll()
	t.background.Add(1)
	go func() {
		defer t.background.Done()
		l.drop()
	}()
}

// handOver gives conn to Accept, or closes it where nobody wants it any more.
func (t *ngrokTunnel) handOver(conn net.Conn, l *link) {
	c := &tunnelConn{Conn: conn, tunnel: t, link: l}
	t.open.add()
	l.open.add()
	select {
	case t.conns <- c:
	case <-t.closed:
		c.Close()
	case <-l.dropped:
		c.Close()
	}
}

// Accept returns the next connection. Its RemoteAddr is that of the client at the public side.
func (t *ngrokTunnel) Accept() (net.Conn, error) {
	select {
	case <-t.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	case <-t.done:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err != nil {
			return nil, t.err
		}
		return nil, net.ErrClosed
	}
}

// Close stops Accept; see [Tunnel].
func (t *ngrokTunnel) Close() error {
	first := false
	t.closeOnce.Do(func() {
		first = true
		close(t.closed)
		t.stopTrying()
		t.downWhenDrained()
	})
	if first {
		return nil
	}
	t.takeDown()
	timer := time.NewTimer(t.timing.close)
	defer timer.Stop()
	select {
	case <-t.done:
		return nil
	case <-timer.C:
		return &Error{
			Op:    "close the ngrok tunnel",
			Cause: "the session did not end within " + t.timing.close.String(),
			Fix:   "end the process; the service then drops the session by itself",
		}
	}
}

func (t *ngrokTunnel) takeDown() { t.downOnce.Do(func() { close(t.down) }) }

// downWhenDrained takes the session down if the tunnel is closed and nothing is in flight. Close and the last connection to
// close both call it, whichever comes later.
func (t *ngrokTunnel) downWhenDrained() {
	select {
	case <-t.closed:
		if t.open.none() {
			t.takeDown()
		}
	default:
	}
}

// Addr is the public URL's host, in a [net.Addr].
func (t *ngrokTunnel) Addr() net.Addr { return publicAddr(t.URL()) }

// URL is the current public URL.
func (t *ngrokTunnel) URL() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.url
}

// States tells what becomes of the tunnel; see [Tunnel].
func (t *ngrokTunnel) States() <-chan State { return t.states.c }

// Retire takes the public URL off the service; see [Tunnel].
func (t *ngrokTunnel) Retire(ctx context.Context) {
	t.retireOne.Do(func() {
		close(t.retire)
		t.stopTrying()
	})
	select {
	case <-t.retired:
	case <-t.done:
	case <-ctx.Done():
	}
}

func (t *ngrokTunnel) retiring() bool {
	select {
	case <-t.retire:
		return true
	case <-t.closed:
		return true
	default:
		return false
	}
}

// finishRetire lets Retire return. Only run calls it.
func (t *ngrokTunnel) finishRetire() {
	select {
	case <-t.retired:
	default:
		close(t.retired)
	}
}

// publish tells a state, unless it says the same as the one before.
func (t *ngrokTunnel) publish(phase Phase, why *Error) {
	t.mu.Lock()
	s := State{Phase: phase, URL: t.url, Since: t.last.Since}
	if s.Phase != t.last.Phase || s.URL != t.last.URL || s.Since.IsZero() {
		s.Since = time.Now().Round(0)
	}
	if why != nil {
		s.Err = why
	}
	same := s.Phase == t.last.Phase && s.URL == t.last.URL && s.Err != nil && t.last.Err != nil && s.Err.Error() == t.last.Err.Error()
	t.last = s
	t.mu.Unlock()
	if !same {
		t.states.send(s)
	}
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
