// Package server receives Hugging Face Hub webhooks: it verifies a delivery, stores it durably, answers 2xx, and then has it handled.
//
// A program registers its handlers and runs:
//
//	server.Add(triggerTraining) // POST /webhooks/trigger_training
//	server.Main()
//
// [Main] has the flags of `hubhook serve`, opens a public URL, serves until Ctrl-C, and ends the process. A program that needs more control
// makes a [Server] with [New], registers handlers with [Server.Handle] and [Server.Add], and calls [Server.Run]. A program with its own HTTP
// server mounts [Server.Handler] there, and calls [Server.Shutdown] at the end.
//
// A [Handler] runs at least once for each delivery. The options [When], [WhenBecause], [WhenChecked], [Retry], [Timeout], [Concurrency],
// [SerialBy] and [Debounce] say for which deliveries it runs, how often and in what order. [DeliveryFrom] tells a handler more about its
// delivery, and what it prints to [Output] is kept.
//
// [Config] has the settings. Each can come from a flag or a field, from a variable named HUBHOOK_ and the flag, or from a variable that
// other programs have as well, such as WEBHOOK_SECRET; the first of these that is set counts.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/hub/follow"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"

	"github.com/hubhook/hubhook/internal/env"
)

// Server receives deliveries for its endpoints. Make one with New, register handlers, then call Run, or use Handler.
type Server struct {
	settings settings
	screen   *ui.Screen
	public   http.Handler // what the world may reach

	endpoints endpoints

	mu      sync.Mutex     // guards what follows, and is held while endpoints change
	started bool           // endpoints change with Replace and Remove alone
	atStart *endpointTable // the endpoints when it started
	opened  bool           // by Handler

	life     context.Context // of answers that wait for a handler; ends once handlers have had their time
	endLife  context.CancelFunc
	queue    atomic.Pointer[queue.Queue] // nil until open
	stopping atomic.Bool
	asking   atomic.Bool  // the person at the terminal, how the public URL is to be opened
	inFlight atomic.Int64 // bytes of bodies that are being read or stored
	secrets  secretSet
	metrics  *metrics
	where    where
	prober   *prober
	newest   atomic.Pointer[string]              // ID of the newest delivery, for the key r
	private  atomic.Pointer[inspector.Inspector] // nil until Run opens it, and where it is off
	keeper   atomic.Pointer[keep.Keeper]         // nil where no webhook is kept on the Hub
	follower atomic.Pointer[follow.Follower]     // nil where nothing is followed
	off      atomic.Pointer[[]api.Followed]      // what should be followed, where the Hub can't be asked
	catchUp  atomic.Pointer[follow.CatchUp]      // nil where it is not wanted
	wayOpen  atomic.Bool                         // the Hub can reach the endpoints, as far as is known
	outputs  outputs
	loops    loops
	joined   *joined   // the program of `hubhook dev`; nil without one
	through  io.Writer // what handlers print goes there, too, as it comes; nil but in a Job

	upstreams *companion.Upstreams // nil for none
}

// New returns a server with the settings of config. Its error is a *[ConfigError]. Nothing is opened before Run or Handler.
func New(config Config) (*Server, error) {
	s := new(Server)
	if err := s.configure(config); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) configure(config Config) error {
	c, err := config.resolve()
	if err != nil {
		return err
	}
	s.settings = c
	s.secrets = newSecretSet(c.Secrets)
	s.prober = newProber(c.probeClient)
	s.public = s.routes()
	s.life, s.endLife = context.WithCancel(context.Background())
	return nil
}

// Secret returns the first webhook secret that the server accepts, "" if it accepts everyone. A handler that forwards deliveries to another
// program can send it, so that the program can check it, too.
func (s *Server) Secret() string {
	if len(s.secrets.texts) == 0 {
		return ""
	}
	return s.secrets.texts[0]
}

// Public reports whether anyone on the internet may post to the server: through a tunnel, open or not, through [Config].PublicURL, or
// because it is in a Space.
func (s *Server) Public() bool {
	return !s.settings.NoTunnel && !s.onlyFollows() || s.settings.PublicURL != "" || s.settings.inSpace
}

// Handler returns the public routes as a plain http.Handler for your own HTTP server, with the defaults of production. The first call opens
// the data directory and starts the handlers. If that fails, Handler returns the error, and a later call tries again. Call Shutdown at the end.
func (s *Server) Handler() (http.Handler, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened {
		return face{s.public, s}, nil
	}
	s.settings.NoTunnel = true
	s.openScreen()
	if !s.secrets.defined() {
		s.screen.Warn(ui.Notice{Text: "no webhook secret is defined: the endpoints are open to everyone", Hint: "set WEBHOOK_SECRET or Config.Secrets; see https://huggingface.co/docs/hub/webhooks#webhook-secret"})
	}
	if err := s.open(context.Background()); err != nil {
		return nil, errors.Join(err, s.flushScreen())
	}
	s.opened = true
	return face{s.public, s}, nil
}

// Shutdown ends what Handler started. It refuses new deliveries with 503 and lets handlers finish until ctx ends. Deliveries whose handler
// has not finished by then run again at the next start. Close the HTTP server first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	var err error
	if q := s.queue.Load(); q != nil {
		err = q.Drain(ctx)
		s.endLife()
		err = errors.Join(err, q.Close())
	}
	if s.screen != nil { // whose last lines may be about handlers that have taken all of ctx's time
		err = errors.Join(err, s.flushScreen())
	}
	return err
}

func (s *Server) openScreen() {
	s.screen = ui.New(ui.Config{Output: s.settings.Output, Errors: s.settings.Errors, JSON: s.settings.JSON})
}

// flushScreen prints the last lines. It waits only briefly for a terminal that is stuck.
func (s *Server) flushScreen() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return s.screen.Close(ctx)
}

// open opens the queue and starts its endpoints. The caller holds s.mu or is alone.
func (s *Server) open(ctx context.Context) error {
	q, err := s.openQueue(ctx)
	if err != nil {
		return err
	}
	if err := s.start(ctx, q); err != nil {
		return errors.Join(err, q.Close())
	}
	return nil
}

func (s *Server) openQueue(ctx context.Context) (*queue.Queue, error) {
	if s.metrics == nil { // it may be tried several times
		s.metrics = newMetrics(s)
	}
	q, err := s.openIn(ctx, queue.Config{
		Dir:        s.settings.Data,
		Database:   s.settings.Database,
		Keep:       s.settings.Keep,
		KeepCount:  s.settings.KeepCount,
		MaxWaiting: s.settings.MaxWaiting,
		Warn:       func(err error) { s.screen.Warn(ui.Notice{Text: err.Error(), Hint: text.Hint(err)}) },
		Changed:    s.changed,
		Committed:  s.metrics.committed,
	})
	var locked *queue.LockedError
	if errors.As(err, &locked) {
		return nil, text.WithHint(err, "stop that process, or give this one a directory of its own with --data DIR")
	}
	return q, err
}

// openIn opens the queue in the data directory that is set, or in the default one. With a database, which other processes of this working
// directory may use at the same time, the default is the first free one of those that are numbered.
func (s *Server) openIn(ctx context.Context, config queue.Config) (*queue.Queue, error) {
	if config.Dir != "" {
		return queue.Open(ctx, config)
	}
	dir, err := defaultDataDirectory(s.settings.Getenv)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		config.Dir = dir
		if config.Database != "" {
			config.Dir = fmt.Sprintf("%s-%d", dir, n)
		}
		s.settings.Data = config.Dir
		q, err := queue.Open(ctx, config)
		var locked *queue.LockedError
		if errors.As(err, &locked) && config.Database != "" && n < mostDirectories {
			continue
		}
		return q, err
	}
}

// defaultDataDirectory is that of this program in this working directory. Only the program's name counts, not its path, which changes
// with each `go run`.
func defaultDataDirectory(getenv func(string) (string, bool)) (string, error) {
	workspace, err := env.Workspace(getenv)
	if err != nil {
		return "", text.WithHint(err, "name one with --data DIR")
	}
	return filepath.Join(workspace, strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")), nil
}

// mostDirectories bounds the search for a free one.
const mostDirectories = 1000

// start names or discards what an earlier run left, and begins to handle deliveries.
func (s *Server) start(ctx context.Context, q *queue.Queue) error {
	if s.settings.Fresh {
		n, err := q.DiscardUnfinished(ctx, "discarded at the start (--fresh)")
		if err != nil {
			return fmt.Errorf("discard what an earlier run left unfinished: %w", err)
		}
		if n > 0 {
			s.screen.Info(ui.Notice{Text: fmt.Sprintf("Discarded %s of an earlier run.", deliveries(n))})
		}
	}
	if s.joined != nil {
		if err := s.joined.left(ctx, q); err != nil {
			return err
		}
	}
	if !s.settings.Fresh && s.settings.Database == "" { // in a database it may be another process's, at work
		if err := s.nameUnfinished(ctx, q); err != nil {
			return err
		}
	}
	s.warnOfAnswers()
	all := s.endpoints.all()
	endpoints := make([]queue.Endpoint, 0, len(all))
	for _, e := range all {
		endpoints = append(endpoints, s.queueEndpoint(e))
		s.metrics.add(e.name)
	}
	if err := q.Start(endpoints); err != nil {
		return err
	}
	s.started, s.atStart = true, s.endpoints.now.Load()
	s.queue.Store(q)
	if s.joined != nil {
		return s.joined.serveLeft()
	}
	return nil
}

// warnOfAnswers warns of settings that don't fit the moment of the answer.
func (s *Server) warnOfAnswers() {
	if s.settings.Answer != answerHandled {
		if s.settings.inSpace && s.settings.Database == "" {
			s.screen.Warn(ui.Notice{
				Text: "this Space's disk does not outlive a restart: deliveries that wait or run at that moment are lost, unless the data directory is on storage that lasts",
				Hint: "--answer handled (HUBHOOK_ANSWER=handled) has the Hub keep each one until it is handled",
			})
		}
		return
	}
	for _, e := range s.endpoints.all() {
		s.warnOfHolding(e)
	}
}

// warnOfHolding says where an endpoint holds deliveries back for longer than the Hub is kept waiting.
func (s *Server) warnOfHolding(e *endpoint) {
	if s.settings.Answer == answerHandled && e.debounce != nil && e.debounce.wait >= s.settings.handledLimit {
		s.screen.Warn(ui.Notice{
			Text: fmt.Sprintf("endpoint %s holds deliveries back for %v, so with --answer handled the Hub is told 503 each time after %v", e.name, e.debounce.wait, s.settings.handledLimit),
			Hint: "give its Debounce a shorter wait, or use --answer stored on a disk that lasts",
		})
	}
}

const unfinishedShown = 5

func (s *Server) nameUnfinished(ctx context.Context, q *queue.Queue) error {
	left, total, err := q.Unfinished(ctx, unfinishedShown)
	if err != nil {
		return fmt.Errorf("look for what an earlier run left unfinished: %w", err)
	}
	orphans, err := s.nameUnserved(ctx, q)
	if err != nil {
		return err
	}
	left = slices.DeleteFunc(left, func(d queue.Delivery) bool { return !s.handles(d.Endpoint) })
	if total -= orphans; total == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("An earlier run left %s unfinished, handled now:", deliveries(total))}
	for _, d := range left {
		lines = append(lines, fmt.Sprintf("  %s  %s  %s/%s  %s %s", d.ID, d.Endpoint, d.Scope, d.Action, d.RepoType, d.RepoName))
	}
	if total > len(left) {
		lines = append(lines, fmt.Sprintf("  and %d more", total-len(left)))
	}
	// Each on its own: the screen makes one line of every text, as it may hold what a stranger sent.
	for i, line := range lines {
		notice := ui.Notice{Text: line}
		if i == len(lines)-1 {
			notice.Hint = "start with --fresh to discard them instead"
		}
		s.screen.Info(notice)
	}
	return nil
}

// nameUnserved warns of each endpoint that handles nothing any more and has deliveries that wait for it, and returns how many those are.
func (s *Server) nameUnserved(ctx context.Context, q *queue.Queue) (total int, err error) {
	counts, err := q.Counts(ctx)
	if err != nil {
		return 0, fmt.Errorf("look for what waits for endpoints that are not served: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if !s.handles(name) {
			total += s.warnOfUnserved(name, counts[name])
		}
	}
	return total, nil
}

func deliveries(n int) string {
	if n == 1 {
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}

// queueEndpoint says to the queue how e's deliveries run.
func (s *Server) queueEndpoint(e *endpoint) queue.Endpoint {
	qe := queue.Endpoint{
		Name:        e.name,
		Concurrency: e.concurrency,
		Attempts:    s.attempts(e),
		FirstWait:   e.firstWait,
	}
	if s.settings.production() {
		qe.DedupeWindow = productionDedupe
	}
	if e.handles() {
		qe.Handle = func(ctx context.Context, c *queue.Claim) queue.Outcome { return s.attempt(ctx, e, c) }
	}
	return qe
}

// attempts is how often a delivery of e is tried.
func (s *Server) attempts(e *endpoint) int {
	switch {
	case e.attempts > 0:
		return e.attempts
	case s.settings.production():
		return productionAttempts
	}
	return 1
}

// stopTime is how long handlers may take to finish once the server shuts down.
const stopTime = 30 * time.Second
