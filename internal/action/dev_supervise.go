package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
)

// Times of a supervisor.
const (
	notYetFor    = 10 * time.Second // after a program has begun to listen, 404 and 405 mean that its routes are still to come
	firstBackoff = 1 * time.Second  // after a program has ended by itself; doubles
	mostBackoff  = 30 * time.Second
	healthyFor   = 10 * time.Second // after a run this long the backoff begins again
	loopAfter    = 3                // runs in a row that ended before that are a crash loop
	selfEdits    = 3                // restarts in a row for one file, each so soon after the start, mean that the program writes it itself
	selfEditFor  = 30 * time.Second
	heldAfter    = 5               // after so many restarts in a row for one file the next one waits
	heldWithin   = 2 * time.Second // a restart counts if the file changed so soon after the start: hardly anybody edits that fast
	heldFor      = 30 * time.Second
	eventBuffer  = 64
)

// SupervisorConfig says which program is kept running, and how.
type SupervisorConfig struct {
	Args       []string          // the command and its arguments; no shell sees them
	Dir        string            // where it runs; "" is the working directory
	Env        []string          // what it inherits; nil is this process's environment
	Secret     string            // of the webhook, for WEBHOOK_SECRET; "" for none
	NoSpaceEnv bool              // leave SPACE_ID and SPACE_HOST as they are
	Attempts   bool              // a program that is written with hubhook leaves attempts and repeats to this one, and answers once its handler has ended
	PublicHost func() string     // the public URL's host, asked before each start; nil or "" for none
	Routes     []Route           // of --path; they are always there
	Changes    <-chan Change     // each restarts the program; nil for never
	Lines      func(ProgramLine) // gets each line that the program prints, in order; it must not block. May be nil

	start func(processSpec) (program, error)       // in tests, in place of startProcess
	look  func(ctx context.Context, r *ProgramRun) // in tests, in place of the network
}

// A ProgramLine is one line that the program printed, without its end.
type ProgramLine struct {
	Program string // its name, to stand before the line
	Run     int
	Text    string // as it came, with escape sequences
}

// Plain returns the line without escape sequences.
func (l ProgramLine) Plain() string { return escapes.ReplaceAllString(l.Text, "") }

// A program is a process group that startProcess started.
type program interface {
	Done() <-chan struct{}    // closed once the process has ended
	Err() error               // how, after Done; nil for exit status 0
	Stop(grace time.Duration) // SIGTERM to the group, SIGKILL after grace to it and to what left it; returns once they are gone
	Pid() int                 // of the process, and of its group
	ReadOutput()              // tells what it has printed until now, where the system can: all but Windows
}

// A ProgramPhase is what a supervisor tells of its program.
type ProgramPhase string

// Phases of a program.
const (
	ProgramStarting   ProgramPhase = "starting"
	ProgramListening  ProgramPhase = "listening"  // deliveries are sent to it from now on, as a trial until it is ready
	ProgramReady      ProgramPhase = "ready"      // its endpoints answer
	ProgramEndpoints  ProgramPhase = "endpoints"  // others became known
	ProgramRestarting ProgramPhase = "restarting" // it is ended, if it runs, and started again at once
	ProgramExited     ProgramPhase = "exited"     // by itself
	ProgramLooping    ProgramPhase = "crash loop" // it has ended soon after its start again and again
	ProgramPaused     ProgramPhase = "paused"     // edits do not restart it until Resume
	ProgramResumed    ProgramPhase = "resumed"
	ProgramAdvice     ProgramPhase = "advice" // nothing changed, but there is something to fix
	ProgramStopped    ProgramPhase = "stopped"
)

// A ProgramEvent is one step in a program's life.
type ProgramEvent struct {
	Phase  ProgramPhase
	Run    int      // the number of the run, from 1
	Open   bool     // whether deliveries can be sent to it from now on
	URL    string   // where it listens: "http://127.0.0.1:7000"
	Routes []Route  // with ProgramReady and ProgramEndpoints: all that are known; with ProgramListening: those of --path
	Files  []string // with ProgramRestarting: what was edited; none where someone asked for it
	Exit   *Exit    // with ProgramExited
	// Wait is how long until the next start, with ProgramExited. An edit, a waiting delivery or Restart may start it sooner.
	Wait   time.Duration
	Advice *Advice // nil where there is none
	Missed int     // events before this one that were dropped, because nobody received them
}

// An Exit says how a program ended.
type Exit struct {
	How     string   // "exit status 1", "signal: killed", or why it could not be started
	Lines   []string // what it printed last
	Lived   time.Duration
	Started bool
	Ready   bool // before it ended
}

// A Supervisor keeps one program running: it starts it, says when it takes deliveries, and starts it again after edits and when it has
// ended.
type Supervisor struct {
	cfg    SupervisorConfig
	name   string
	asker  *asker
	events chan ProgramEvent
	wake   chan struct{}
	asked  chan want

	// Of Run's goroutine alone.
	runs     int
	port     int
	pending  []string // edited while paused
	edited   string   // the file that alone caused the last restarts
	edits    int      // how many
	quick    int      // how many of the last came right after the start
	failures int      // runs in a row that ended soon
	pause    bool

	mu      sync.Mutex
	current *ProgramRun
	routes  []Route // of the last run that named any
	ignored int     // the port on which the program listens instead of PORT
	missed  int
	closed  bool // no more events
}

type want int

const (
	wantRestart want = iota
	wantPause
	wantResume
)

// NewSupervisor checks cfg; the program starts with Run.
func NewSupervisor(cfg SupervisorConfig) (*Supervisor, error) {
	if len(cfg.Args) == 0 || cfg.Args[0] == "" {
		return nil, errors.New("no command to run")
	}
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.start == nil {
		cfg.start = startProgram
	}
	if cfg.look == nil {
		cfg.look = func(ctx context.Context, r *ProgramRun) { r.look(ctx) }
	}
	return &Supervisor{
		cfg: cfg, name: programName(cfg.Args, cfg.Dir), asker: newAsker(),
		events: make(chan ProgramEvent, eventBuffer), wake: make(chan struct{}, 1), asked: make(chan want, 16),
	}, nil
}

// Name is what stands before the program's lines.
func (s *Supervisor) Name() string { return s.name }

// Events tells of each step. Where nobody receives, the oldest are dropped, never the latest. It is closed when Run returns.
func (s *Supervisor) Events() <-chan ProgramEvent { return s.events }

// Wake says that a delivery waits: a program that has ended is started now, or a second after its end where it has failed before.
func (s *Supervisor) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Restart ends the program, if it runs, and starts it again, paused or not.
func (s *Supervisor) Restart() { s.ask(wantRestart) }

// Pause keeps edits from restarting the program, and one that ends from being started, until Resume.
func (s *Supervisor) Pause() { s.ask(wantPause) }

// Resume ends Pause. Where something was edited meanwhile, the program is restarted.
func (s *Supervisor) Resume() { s.ask(wantResume) }

// ask tells Run what is wanted. A want that does not fit into the channel is dropped: there are enough in it already.
func (s *Supervisor) ask(w want) {
	select {
	case s.asked <- w:
	default:
	}
}

// Current returns the run that deliveries are sent to, nil where none listens.
func (s *Supervisor) Current() *ProgramRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.URL() == "" {
		return nil
	}
	return s.current
}

// Routes returns the endpoints known so far: those of --path, and those of the last run that named any.
func (s *Supervisor) Routes() []Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mergeRoutes(s.cfg.Routes, s.routes)
}

// Run keeps the program running until ctx ends, and returns nil once it is gone.
func (s *Supervisor) Run(ctx context.Context) error {
	defer s.close()
	wait := time.Duration(0)
	for s.rest(ctx, wait) {
		r := s.begin(ctx)
		wait = s.attend(ctx, r)
	}
	s.emit(ProgramEvent{Phase: ProgramStopped, Run: s.runs})
	return nil
}

// begin starts the next run. One that could not be started has ended.
func (s *Supervisor) begin(ctx context.Context) *ProgramRun {
	s.runs++
	r := &ProgramRun{N: s.runs, started: time.Now(), supervisor: s, ended: make(chan struct{})}
	r.lines.each = func(line string) {
		r.heard(line)
		r.attribute(line)
		if s.cfg.Lines != nil {
			s.cfg.Lines(ProgramLine{Program: s.name, Run: r.N, Text: line})
		}
	}
	s.mu.Lock()
	s.current = r
	s.mu.Unlock()
	s.emit(ProgramEvent{Phase: ProgramStarting, Run: r.N})
	var err error
	if s.port == 0 || !freeport.Free(s.port) {
		s.port, err = freeport.Find()
	}
	if err == nil {
		r.port = s.port
		env := programEnv{port: s.port, secret: s.cfg.Secret, noSpace: s.cfg.NoSpaceEnv, attempts: s.cfg.Attempts}
		if s.cfg.PublicHost != nil {
			env.publicHost = s.cfg.PublicHost()
		}
		r.program, err = s.cfg.start(processSpec{Args: s.cfg.Args, Dir: s.cfg.Dir, Env: env.environ(s.cfg.Env), Output: &r.lines})
	}
	if err != nil {
		r.end(err)
		return r
	}
	look, cancel := context.WithCancel(ctx)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		s.cfg.look(look, r)
	}()
	go func() {
		<-r.program.Done()
		cancel()
		<-looked
		r.lines.flush()
		r.end(r.program.Err())
	}()
	return r
}

// attend follows a run until it has ended, and returns how long to wait before the next.
func (s *Supervisor) attend(ctx context.Context, r *ProgramRun) time.Duration {
	var held []string
	var due <-chan time.Time
	for {
		var files []string
		var advice *Advice
		select {
		case <-ctx.Done():
			r.stop()
			return 0
		case <-r.ended:
			return s.exited(r)
		case change := <-s.cfg.Changes:
			files = change.Files
			if s.pause {
				s.pending = append(s.pending, files...)
				continue
			}
			if s.holds(r, files) {
				if held == nil {
					timer := time.NewTimer(heldFor)
					defer timer.Stop()
					held, due = files, timer.C
				}
				continue
			}
			advice = s.selfEdit(r, files)
		case <-due:
			if files = held; s.pause {
				s.pending, due = append(s.pending, files...), nil
				continue
			}
		case w := <-s.asked:
			var restart bool
			if restart, files = s.obey(w); !restart {
				continue
			}
			advice = s.selfEdit(r, files)
		}
		s.failures = 0
		s.emit(ProgramEvent{Phase: ProgramRestarting, Run: r.N, Files: files, Advice: advice})
		r.stop()
		return 0
	}
}

// rest waits until the next start is due, or until something makes it start sooner. It is false once ctx has ended.
func (s *Supervisor) rest(ctx context.Context, wait time.Duration) bool {
	began := time.Now()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	due := timer.C
	for {
		if s.pause && wait > 0 {
			due = nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-due:
			return ctx.Err() == nil
		case change := <-s.cfg.Changes:
			files := change.Files
			switch {
			case s.pause:
				s.pending = append(s.pending, files...)
				continue
			case s.runs > 0 && s.holds(s.latest(), files):
				continue // it is started again by itself, and the edit is taken up then
			}
			s.startNow(files)
			return true
		case <-s.wake:
			soonest := firstBackoff
			if s.failures <= 1 {
				soonest = 0 // it ended well after a while, or for the first time
			}
			timer.Reset(max(0, min(wait, soonest)-time.Since(began)))
		case w := <-s.asked:
			if restart, files := s.obey(w); restart {
				s.startNow(files)
				return true
			}
			if w == wantResume {
				s.failures = 0
				return true
			}
		}
	}
}

// startNow reports that a program which has ended is started again at once.
func (s *Supervisor) startNow(files []string) {
	s.failures = 0
	if s.runs > 0 {
		s.emit(ProgramEvent{Phase: ProgramRestarting, Run: s.runs, Files: files, Advice: s.selfEdit(s.latest(), files)})
	}
}

// latest returns the latest run, which may have ended.
func (s *Supervisor) latest() *ProgramRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// obey does what is wanted, and reports whether the program has to be started again, and for which edits.
func (s *Supervisor) obey(w want) (restart bool, files []string) {
	switch w {
	case wantRestart:
		files, s.pending = s.pending, nil
		return true, files
	case wantPause:
		if !s.pause {
			s.pause = true
			s.emitNow(ProgramPaused)
		}
	case wantResume:
		if s.pause {
			s.pause = false
			s.emitNow(ProgramResumed)
		}
		files, s.pending = s.pending, nil
		return len(files) > 0, files
	}
	return false, nil
}

// emitNow tells of a phase that changes nothing of the run.
func (s *Supervisor) emitNow(phase ProgramPhase) {
	event := ProgramEvent{Phase: phase, Run: s.runs}
	if r := s.Current(); r != nil {
		event.Open, event.URL = true, r.URL()
	}
	s.emit(event)
}

// exited tells that a run ended by itself, and returns how long to wait before the next.
func (s *Supervisor) exited(r *ProgramRun) time.Duration {
	exit := r.exit
	if exit.Lived >= healthyFor {
		s.failures = 0
	}
	s.failures++
	wait := min(firstBackoff<<min(s.failures-1, 10), mostBackoff)
	event := ProgramEvent{Phase: ProgramExited, Run: r.N, Exit: exit, Wait: wait}
	if advice, ok := exit.explain(r.port); ok {
		event.Advice = &advice
	}
	s.emit(event)
	if s.failures == loopAfter {
		s.emit(ProgramEvent{Phase: ProgramLooping, Run: r.N, Exit: exit, Wait: wait, Advice: &Advice{
			Cause: fmt.Sprintf("it has ended %d times in a row, the last time with %s", s.failures, exit.How),
			Fix:   "correct what its last lines say: it is started again at once after an edit, and deliveries wait until then",
		}})
	}
	return wait
}

// explain returns why the program ended and what to do about it.
func (e *Exit) explain(port int) (Advice, bool) {
	seen := Seen{Lines: e.Lines, Port: port, Exited: true, Ready: e.Ready, Well: e.How == endedWell}
	if !e.Started {
		seen.NotStarted = e.How
	}
	return Explain(seen)
}

// lastLine returns the last line with text that the program printed, "" for none.
func (e *Exit) lastLine() string {
	for _, line := range slices.Backward(e.Lines) {
		if text := oneLine(escapes.ReplaceAllString(line, ""), maxShown); text != "" {
			return text
		}
	}
	return ""
}

// selfEdit notices that the program itself writes the file that it is restarted for.
func (s *Supervisor) selfEdit(r *ProgramRun, files []string) *Advice {
	lived := time.Since(r.started)
	if len(files) != 1 || lived > selfEditFor {
		s.edited, s.edits, s.quick = "", 0, 0
		return nil
	}
	if s.edited != files[0] {
		s.edited, s.edits, s.quick = files[0], 0, 0
	}
	s.edits++
	if s.quick++; lived > heldWithin {
		s.quick = 0
	}
	fix := "leave it out: --ignore " + s.edited
	switch {
	case s.quick == heldAfter:
		return &Advice{fmt.Sprintf("%s has changed right after each of the last %d starts: the program seems to write it, so the next restart for that waits %.0f s", s.edited, s.quick, heldFor.Seconds()), fix}
	case s.edits == selfEdits:
		return &Advice{fmt.Sprintf("%s has changed soon after each of the last %d starts: the program seems to write it", s.edited, s.edits), fix}
	}
	return nil
}

// holds reports whether the program seems to have written files itself, so that it would be restarted for ever.
func (s *Supervisor) holds(r *ProgramRun, files []string) bool {
	return s.quick >= heldAfter && len(files) == 1 && files[0] == s.edited && time.Since(r.started) <= heldWithin
}

// emit sends an event. It never waits: if the channel is full, the oldest event is dropped.
func (s *Supervisor) emit(event ProgramEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed {
		event.Missed = s.missed
		select {
		case s.events <- event:
			s.missed = 0
			return
		default:
		}
		select {
		case dropped := <-s.events:
			s.missed += 1 + dropped.Missed
		default:
		}
	}
}

// close ends the events. An event of the delivery that was answered last may come too late to be sent.
func (s *Supervisor) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	close(s.events)
}

// learn keeps what a run says of its endpoints.
func (s *Supervisor) learn(routes []Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(routes) > 0 {
		s.routes = slices.Clone(routes)
	}
}

// mergeRoutes adds those of more whose names are not taken.
func mergeRoutes(routes, more []Route) []Route {
	merged := slices.Clone(routes)
	for _, route := range more {
		if !slices.ContainsFunc(merged, func(r Route) bool { return r.Name == route.Name }) {
			merged = append(merged, route)
		}
	}
	return merged
}
