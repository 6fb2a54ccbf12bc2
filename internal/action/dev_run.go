package action

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	lookOften    = 2 * time.Millisecond   // whether a program listens that was started just now
	lookRarely   = 100 * time.Millisecond // whether one listens that takes long to start
	lookEvery    = 10 * time.Millisecond  // whether one that listens is ready
	askEvery     = 250 * time.Millisecond // while its endpoints are not known
	ignoredAfter = 3 * time.Second        // listening elsewhere and not on PORT for so long: PORT was ignored
	silentAfter  = 30 * time.Second       // not listening anywhere for so long is worth a word
	traceQuiet   = 200 * time.Millisecond // after 5xx: nothing printed for so long is the end of the trace
	traceMost    = 2 * time.Second
	dialTimeout  = time.Second
	endsSoon     = time.Second      // a cut connection is often seen before the end of the process that cut it
	endsLater    = 20 * time.Second // on a busy machine, where the process does not accept connections any more
)

// A ProgramRun is one life of a program, from its start to its end.
type ProgramRun struct {
	N          int // from 1
	started    time.Time
	port       int
	supervisor *Supervisor
	program    program // nil where it could not be started
	lines      programLines
	ended      chan struct{}
	exit       *Exit // once ended is closed

	mu        sync.Mutex
	url       string // where it listens, "" until it does
	listening time.Time
	ready     bool
	answered  bool // a delivery, with anything but 404 or 405
	replaced  bool // hubhook ends it
	printed   []Route
	printedAt time.Time // of the last of them
	found     Found
	forwards  map[string]*Forward      // by path
	having    map[context.Context]bool // the attempts that the program has at the moment, and whether a line was printed to them
}

// URL returns where the program listens, "http://127.0.0.1:7000", and "" while it does not.
func (r *ProgramRun) URL() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.url
}

// Ready reports whether the program has answered for one of its endpoints.
func (r *ProgramRun) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready
}

// Found returns what the program says about itself.
func (r *ProgramRun) Found() Found {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// Ended is closed once the program has ended and its output was told.
func (r *ProgramRun) Ended() <-chan struct{} { return r.ended }

// Exit returns how the program ended, nil before Ended.
func (r *ProgramRun) Exit() *Exit {
	select {
	case <-r.ended:
		return r.exit
	default:
		return nil
	}
}

// LastLines returns what the program printed last.
func (r *ProgramRun) LastLines() []string { return r.lines.kept() }

// A Verdict says what an answer, or none, means for the delivery that was sent to a program.
type Verdict int

const (
	Handled  Verdict = iota // 2xx
	Failed                  // an attempt that failed
	NotYet                  // the program does not take deliveries yet: no attempt was made
	Replaced                // hubhook ended the program meanwhile: the delivery was interrupted, and no attempt has failed
)

// Judge says what the answer means for a delivery that was sent to this run. status is the answer's; err is why there was no answer.
func (r *ProgramRun) Judge(status int, err error) Verdict {
	if err != nil {
		return r.judgeCut(err)
	}
	r.mu.Lock()
	missing := status == http.StatusNotFound || status == http.StatusMethodNotAllowed
	r.answered = r.answered || !missing && !r.replaced
	notYet := missing && !r.answered && time.Since(r.listening) < notYetFor
	replaced := r.replaced
	r.mu.Unlock()
	if !missing {
		r.becomeReady()
	}
	switch {
	case status >= 200 && status < 300:
		return Handled
	case notYet:
		return NotYet
	case replaced && (missing || status == http.StatusServiceUnavailable || status == http.StatusBadGateway):
		return Replaced // it refuses, or has unloaded, what it serves while it ends
	}
	return Failed
}

// judgeCut judges a delivery without an answer.
func (r *ProgramRun) judgeCut(err error) Verdict {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return NotYet // it never got there
	}
	// A program that hubhook ends cuts its connections, too, and so does one that ends by itself. Which of the two it was is known a moment
	// later.
	for wait, waited := endsSoon, time.Duration(0); waited < endsLater && !r.endsWithin(wait) && !r.accepts(); waited += wait {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.replaced {
		return Replaced
	}
	return Failed
}

// endsWithin waits up to d for the program's end, and reports whether it came.
func (r *ProgramRun) endsWithin(d time.Duration) bool {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-r.ended:
		return true
	case <-late.C:
		return false
	}
}

// accepts reports whether the program still accepts connections.
func (r *ProgramRun) accepts() bool {
	at, err := url.Parse(r.URL())
	if err != nil || at.Host == "" {
		return false
	}
	conn, err := net.DialTimeout("tcp", at.Host, dialTimeout)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// stop ends the program.
func (r *ProgramRun) stop() {
	r.mu.Lock()
	r.replaced = true
	r.mu.Unlock()
	if r.program != nil {
		r.program.Stop(stopGrace)
	}
	<-r.ended
}

// end notes how the program ended. What it started may live on, so that is ended too.
func (r *ProgramRun) end(err error) {
	if r.program != nil {
		r.program.Stop(stopGrace)
	}
	lines := r.lines.kept()
	r.mu.Lock()
	r.exit = &Exit{How: howEnded(err), Lines: lines, Lived: time.Since(r.started), Started: r.program != nil, Ready: r.ready}
	r.url = ""
	r.mu.Unlock()
	r.closeForwards()
	close(r.ended)
}

// endedWell is the Exit.How of status 0.
const endedWell = "exit status 0"

func howEnded(err error) string {
	if err == nil {
		return endedWell
	}
	return err.Error()
}

// heard reads a line of the program's output for the endpoints in it.
func (r *ProgramRun) heard(line string) {
	route, ok := printedRoute(line)
	if !ok {
		return
	}
	r.mu.Lock()
	known := slices.Contains(r.printed, route)
	if !known {
		r.printed = append(r.printed, route)
		r.printedAt = time.Now()
	}
	same := func(other Route) bool { return other.Name == route.Name && other.Path == route.Path }
	late := r.ready && !known && !slices.ContainsFunc(r.found.Routes, same)
	r.mu.Unlock()
	if late {
		r.announce(ProgramEndpoints)
	}
}

// look waits until the program listens and its endpoints are known.
func (r *ProgramRun) look(ctx context.Context) {
	if !r.awaitListening(ctx) {
		return
	}
	next, wait := time.Now(), askEvery
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for first := true; !r.Ready(); {
		if !time.Now().Before(next) {
			// The program may log each question, so they become rare.
			next, wait = next.Add(wait), 2*wait
			r.ask(ctx, first)
			first = false
		}
		if r.namesRoutes() || r.listensFor() >= notYetFor {
			r.becomeReady()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask asks the program for its endpoints. The first call in a run asks the program's router too. A router has all its paths from the start,
// so later calls need not ask it.
func (r *ProgramRun) ask(ctx context.Context, first bool) {
	found, err := r.supervisor.asker.ask(ctx, r.URL(), r.supervisor.Routes(), first)
	if err != nil {
		return // it is asked again, or has ended
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = found
}

// listensFor returns for how long the program has listened.
func (r *ProgramRun) listensFor() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.listening)
}

// namesRoutes reports whether the program has named endpoints, and is not in the middle of it.
func (r *ProgramRun) namesRoutes() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.found.Routes) > 0 || len(r.printed) > 0 && time.Since(r.printedAt) >= 2*lookEvery
}

// becomeReady tells, once, that the program takes deliveries.
func (r *ProgramRun) becomeReady() {
	r.mu.Lock()
	first := !r.ready && !r.replaced && r.exit == nil
	r.ready = r.ready || first
	r.mu.Unlock()
	if first {
		r.announce(ProgramReady)
	}
}

// announce tells of the endpoints that are known now.
func (r *ProgramRun) announce(phase ProgramPhase) {
	r.mu.Lock()
	routes := mergeRoutes(r.printed, r.found.Routes)
	event := ProgramEvent{Phase: phase, Run: r.N, Open: true, URL: r.url}
	posts, answered := r.found.Posts, r.answered
	r.mu.Unlock()
	r.supervisor.learn(routes)
	event.Routes = r.supervisor.Routes()
	if advice, ok := explainRoutes(event.Routes, posts); ok {
		event.Advice = &advice
	} else if len(event.Routes) == 0 && !answered {
		event.Advice = &Advice{
			Cause: "the program does not say which endpoints it has: deliveries to /webhooks/NAME go to its path /webhooks/NAME",
			Fix:   "if it takes deliveries at another path, name that path: --path /hook",
		}
	}
	r.supervisor.emit(event)
}

// awaitListening waits until the program accepts connections. It is false where ctx ended first.
func (r *ProgramRun) awaitListening(ctx context.Context) bool {
	var elsewhere []int
	var since time.Time // of elsewhere
	looked := time.Now()
	said := false
	for {
		if url := dialLoopback(ctx, r.port); url != "" {
			r.nowListening(url, nil)
			return true
		}
		if time.Since(looked) >= askEvery {
			looked = time.Now()
			if ports := r.otherPorts(ctx); !slices.Equal(ports, elsewhere) {
				elsewhere, since = ports, looked
			}
			if r.adopt(ctx, elsewhere, since) {
				return true
			}
			if !said {
				said = r.adviseSilent(elsewhere, since)
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(r.untilLook()):
		}
	}
}

// untilLook returns the time between two looks whether the program listens: 2 % of the time that it has had to start. No program is seen
// much too late, and one that starts slowly is not asked thousands of times.
func (r *ProgramRun) untilLook() time.Duration {
	return min(max(time.Since(r.started)/50, lookOften), lookRarely)
}

// adopt takes the one port on which the program listens instead of PORT. In its first run the program has ignoredAfter to listen on PORT
// after all.
func (r *ProgramRun) adopt(ctx context.Context, ports []int, since time.Time) bool {
	if len(ports) != 1 {
		return false
	}
	s := r.supervisor
	s.mu.Lock()
	before := s.ignored == ports[0]
	s.mu.Unlock()
	if !before && time.Since(since) < ignoredAfter {
		return false
	}
	url := dialLoopback(ctx, ports[0])
	if url == "" {
		return false
	}
	s.mu.Lock()
	s.ignored = ports[0]
	s.mu.Unlock()
	var advice *Advice
	if !before {
		a, _ := Explain(Seen{Port: r.port, Listens: ports})
		advice = &a
	}
	r.nowListening(url, advice)
	return true
}

// adviseSilent says, once, that the program does not listen where deliveries could reach it.
func (r *ProgramRun) adviseSilent(ports []int, since time.Time) bool {
	if len(ports) > 1 && time.Since(since) < ignoredAfter || len(ports) < 2 && time.Since(r.started) < silentAfter {
		return false
	}
	advice, ok := Explain(Seen{Port: r.port, Listens: ports, Silent: true})
	if ok {
		r.supervisor.emit(ProgramEvent{Phase: ProgramAdvice, Run: r.N, Advice: &advice})
	}
	return ok
}

func (r *ProgramRun) nowListening(url string, advice *Advice) {
	r.mu.Lock()
	r.url, r.listening = url, time.Now()
	r.mu.Unlock()
	r.supervisor.emit(ProgramEvent{Phase: ProgramListening, Run: r.N, Open: true, URL: url, Routes: r.supervisor.cfg.Routes, Advice: advice})
}

// otherPorts returns the ports on which the program listens, sorted, as the system or else its output tells.
func (r *ProgramRun) otherPorts(ctx context.Context) []int {
	at, err := listensAt(r.program.Pid())
	if err == nil && len(at) > 0 {
		return portsOf(at)
	}
	var ports []int
	for _, line := range r.lines.kept() {
		for _, m := range printedURL.FindAllStringSubmatch(escapes.ReplaceAllString(line, ""), -1) {
			port, err := strconv.Atoi(m[1])
			if err == nil && port != r.port && !slices.Contains(ports, port) && dialLoopback(ctx, port) != "" {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return ports
}

func portsOf(addrs []netip.AddrPort) []int {
	var ports []int
	for _, addr := range addrs {
		ports = append(ports, int(addr.Port()))
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// dialLoopback returns the URL of a loopback port that accepts connections, "" where none does. A program may listen on IPv6 alone.
func dialLoopback(ctx context.Context, port int) string {
	dialer := net.Dialer{Timeout: dialTimeout}
	for _, host := range []string{"127.0.0.1", "::1"} {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		if conn, err := dialer.DialContext(ctx, "tcp", addr); err == nil {
			conn.Close()
			return "http://" + addr
		}
	}
	return ""
}
