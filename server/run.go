package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

// Run opens the data directory, the listeners, the inspector and the tunnel, prints the banner, and serves until ctx ends. Then it refuses new
// deliveries, lets handlers finish for up to 30 s, and returns nil. Deliveries whose handler has not finished by then run again at the next
// start.
//
// Run returns an error if the data directory or the database can't be opened, if a listener fails, or after [Config].ExitOnDown. If the
// tunnel can't be opened, Run says why and serves without it. While the disk is full, Run refuses deliveries with 503 and waits for room. A
// server runs once.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.opened || s.started {
		s.mu.Unlock()
		return errors.New("run the server: it was run already, or its Handler is in use")
	}
	s.opened = true
	s.mu.Unlock()
	s.openScreen()
	if p := companion.From(ctx); p != nil {
		s.join(p)
	}
	if s.upstreams = companion.UpstreamsFrom(ctx); s.upstreams != nil {
		s.upstreams.Attach(s.upstreamChanged)
	}
	run := &run{Server: s}
	err := s.checkKeptEndpoints()
	if err == nil {
		err = s.checkFollowedEndpoints()
	}
	if err == nil {
		err = s.checkCatchUp()
	}
	if err == nil {
		err = run.open(ctx)
	}
	if err == nil {
		err = run.serve(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // it was asked to end before it was ready
	}
	if closing := run.close(err); err == nil {
		err = closing
	}
	return err
}

// run is what one Run opens, in the order in which it does.
type run struct {
	*Server
	store           *queue.Queue
	localListener   net.Listener
	privateListener net.Listener
	address         inspector.Address
	removeAddress   func() error // nil while address is not in the data directory
	publicServer    *http.Server
	privateServer   *http.Server
	tunnel          tunnel.Tunnel
	keeping         keeping
	shown           atomic.Bool    // the banner is, and keys are read from now on
	failed          chan error     // a listener's end, when nobody asked for it
	tasks           sync.WaitGroup // goroutines of this run, but that of opening
	opening         sync.WaitGroup // the goroutine that may still set tunnel
}

// open opens everything that serving needs. The queue comes first, because its lock keeps a second process out before that opens a port.
func (r *run) open(ctx context.Context) (err error) {
	r.failed = make(chan error, 3) // one for each listener, and --exit-on-down
	if r.store, err = r.openQueue(ctx); errors.Is(err, queue.ErrDiskFull) {
		r.store, err = r.openOnceThereIsRoom(ctx, err)
	}
	if err != nil {
		return err
	}
	if r.localListener == nil {
		if r.localListener, err = r.settings.listenLocal(); err != nil {
			return err
		}
	}
	if r.privateListener, err = r.settings.listenInspector(); err != nil {
		return err
	}
	r.where.set(func(p *places) {
		p.started = time.Now()
		p.local = baseURL(r.localListener)
		p.public = r.settings.PublicURL
		if r.settings.spaceHost != "" {
			p.public = "https://" + r.settings.spaceHost
		}
	})
	if r.privateListener == nil {
		return nil
	}
	r.address = inspector.Address{URL: baseURL(r.privateListener), Token: r.settings.InspectorToken, PID: os.Getpid()}
	if r.address.Token == "" {
		var trouble error
		if r.address.Token, trouble = inspector.KeptToken(r.settings.Data); trouble != nil {
			r.screen.Warn(ui.Notice{Text: trouble.Error(), Hint: text.Hint(trouble)})
		}
	}
	r.where.set(func(p *places) { p.inspector = r.address.URL; p.inspectorPage = r.address.Page() })
	r.screen.LinkDeliveries(r.address.DeliveryPage)
	r.private.Store(r.newInspector(r.store, r.address.Token))
	if r.removeAddress, err = inspector.WriteAddress(r.settings.Data, r.address); err != nil {
		r.screen.Warn(ui.Notice{Text: err.Error(), Hint: "is the disk full, or the directory read-only? until it can be written, which is tried again, other commands of hubhook need --server " + r.address.URL})
	}
	return nil
}

// openRetry is how long to wait before a queue on a full disk is opened again.
const openRetry = time.Second

// openOnceThereIsRoom opens the queue as soon as the disk, which is full, has room. Until then deliveries are refused with 503, so that the
// Hub keeps them.
func (r *run) openOnceThereIsRoom(ctx context.Context, full error) (store *queue.Queue, err error) {
	r.screen.Warn(ui.Notice{Text: full.Error() + "; deliveries are refused with 503 until there is room", Hint: text.Hint(full)})
	if r.localListener, err = r.settings.listenLocal(); err != nil {
		return nil, err
	}
	r.servePublic()
	ticker := time.NewTicker(openRetry)
	defer ticker.Stop()
	for errors.Is(full, queue.ErrDiskFull) {
		select {
		case <-ctx.Done():
			return nil, full
		case err := <-r.failed:
			return nil, err
		case <-ticker.C:
			store, full = r.openQueue(ctx)
		}
	}
	return store, full
}

// servePublic begins to answer on the local listener.
func (r *run) servePublic() {
	r.publicServer = r.httpServer(r.public)
	// Where a handler may take its time, so may the answer; a stuck client is cut off after that.
	r.publicServer.WriteTimeout = r.settings.longestAnswer() + time.Minute
	r.listen(r.publicServer, netutil.LimitListener(r.localListener, mostConnections()))
}

// mostConnections returns how many connections the local listener may have. Further ones wait until one is closed. Each takes about 20 KiB of
// memory while nothing comes, and a file. Half of the files are left for handlers, the database and the tunnel.
func mostConnections() int {
	const most = 4096
	if files, ok := openFiles(); ok {
		return min(most, max(1, files/2))
	}
	return most
}

// addressRetry is how long to wait before the inspector's address is written again.
const addressRetry = 2 * time.Second

// leaveAddress writes the inspector's address once the disk has room for it.
func (r *run) leaveAddress(ctx context.Context) {
	ticker := time.NewTicker(addressRetry)
	defer ticker.Stop()
	for r.removeAddress == nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.removeAddress, _ = inspector.WriteAddress(r.settings.Data, r.address) // what keeps it from working has been said
		}
	}
}

// serve serves until ctx ends or a listener fails.
func (r *run) serve(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	quit := func() { end() }
	r.mu.Lock() // endpoints may be replaced already
	err := r.start(ctx, r.store)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if r.publicServer == nil {
		r.servePublic()
	}
	if r.privateListener != nil {
		r.privateServer = r.httpServer(r.private.Load())
		r.listen(r.privateServer, r.privateListener)
		if r.removeAddress == nil {
			r.tasks.Go(func() { r.leaveAddress(ctx) })
		}
	}
	r.openKeeper()
	r.keepWebhooks(ctx)
	r.openFollower(ctx)
	if r.settings.provesPublicURL() {
		r.notePublicURL()
	}
	provider, again, err := r.openPublic(ctx)
	if err != nil {
		return err
	}
	keys := r.settings.Keys != nil && ui.CanReadKeys(r.settings.Keys)
	r.shown.Store(true)
	r.screen.Ready(r.ready(keys))
	r.followHub(ctx)
	if r.joined != nil {
		close(r.joined.shown)
		quit = r.joined.program.Quit
	}
	switch {
	case r.tunnel != nil:
		r.attendTunnel(ctx)
	case again:
		r.opening.Go(func() { r.keepOpening(ctx, provider) })
	case r.settings.provesPublicURL():
		r.tasks.Go(func() { r.probe(ctx) })
		r.prober.wanted()
	}
	if r.settings.ExitOnDown > 0 && (provider != nil || r.settings.provesPublicURL()) {
		r.tasks.Go(func() { r.watchDown(ctx) })
	}
	if keys {
		r.tasks.Go(func() { r.obeyKeys(ctx, quit) })
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.failed:
		return err
	}
}

func (r *run) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute, // the Hub itself gives up after 30 s
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(screenLog{r.Server}, "", 0),
	}
}

// screenLog shows what net/http has to say of a connection.
type screenLog struct{ *Server }

func (l screenLog) Write(b []byte) (int, error) {
	l.screen.Warn(ui.Notice{Text: l.secrets.hide.Redact(string(b[:len(b)-1]))})
	return len(b), nil
}

func (r *run) listen(srv *http.Server, ln net.Listener) {
	r.tasks.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			r.failed <- fmt.Errorf("serve %s: %w", ln.Addr(), err)
		}
	})
}

// listenTunnel serves what comes through the tunnel. Its end is no end of the server: the tunnel's last state says why.
func (r *run) listenTunnel() {
	r.tasks.Go(func() { r.publicServer.Serve(r.tunnel) })
}

func (r *run) ready(keys bool) ui.Ready {
	p := r.where.get()
	return ui.Ready{
		Ready: api.Ready{
			LocalURL:     p.local,
			PublicURL:    p.public,
			Checking:     p.public != "" && (r.tunnel != nil || r.settings.provesPublicURL()),
			InspectorURL: p.inspectorPage,
			Endpoints:    r.endpointURLs(r.publicBase()),
			Secret:       r.secrets.defined(),
			Data:         r.settings.Data,
			Version:      version.String(),
			Webhooks:     r.webhooks(),
			Followed:     r.followed(),
		},
		Keys:        keys,
		OnlyFollows: r.settings.opensTunnel() && r.onlyFollows(),
	}
}

// close ends everything in the order that loses no answer: no new requests through the tunnel, then handlers, while new deliveries are
// refused, then requests in flight, then the tunnel itself and the rest.
func (r *run) close(cause error) error {
	r.opening.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	stopped := ui.Stopped{HadTunnel: r.tunnel != nil && !r.keepsAll()}
	if cause != nil {
		stopped.Reason = cause.Error()
	}
	released := r.releaseWebhooks()
	if r.tunnel != nil {
		r.retireTunnel(ctx)
	}
	var errs []error
	// From here on deliveries are refused with 503, and those under way are answered.
	r.stopping.Store(true)
	if r.store != nil {
		if err := r.store.Drain(ctx); err != nil { // nothing is lost: what it names runs again at the next start
			r.screen.Warn(ui.Notice{Text: "shut down: " + err.Error()})
		}
		if r.settings.Database == "" { // otherwise other processes go on with them
			stopped.Unfinished = r.unfinished()
		}
	}
	r.endLife() // answers that still wait are 503 now
	if r.publicServer != nil {
		// Answers take so long at most; who has not sent a whole request by then is cut off.
		limit, stop := context.WithTimeout(context.Background(), r.settings.longestAnswer()+2*time.Second)
		if err := r.publicServer.Shutdown(limit); err != nil {
			r.publicServer.Close()
		}
		stop()
	} else if r.localListener != nil {
		errs = append(errs, r.localListener.Close())
	}
	if r.tunnel != nil {
		r.tunnel.Close()
	}
	released() // while there are still streams that can tell of it
	if private := r.private.Load(); private != nil {
		private.Close()
	}
	if r.privateServer != nil {
		limit, stop := context.WithTimeout(context.Background(), time.Second)
		if err := r.privateServer.Shutdown(limit); err != nil {
			r.privateServer.Close()
		}
		stop()
	} else if r.privateListener != nil {
		errs = append(errs, r.privateListener.Close())
	}
	r.tasks.Wait()
	if r.removeAddress != nil {
		errs = append(errs, r.removeAddress())
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	if r.publicServer != nil { // it did serve
		r.screen.Stopped(stopped)
	}
	closing := errors.Join(errs...)
	if closing != nil && cause != nil { // the cause is what Run returns
		r.screen.Warn(ui.Notice{Text: "shut down: " + closing.Error()})
	}
	return errors.Join(closing, r.flushScreen())
}

func (r *run) unfinished() int {
	counts, err := r.store.Counts(context.Background())
	if err != nil {
		r.screen.Warn(ui.Notice{Text: "count what is left unfinished: " + err.Error()})
		return 0
	}
	n := 0
	for _, byState := range counts {
		for state, count := range byState {
			if !state.Finished() {
				n += int(count)
			}
		}
	}
	return n
}
