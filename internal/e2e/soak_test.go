//go:build unix

package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

const (
	soakTime = 12 * time.Second      // CI takes longer
	soakGap  = 10 * time.Millisecond // between two events of the Hub
	probeGap = 50 * time.Millisecond // between two of the prober
	traceGap = 3 * time.Second       // between two lists of goroutines that the program's runtime prints

	// Most events are handled at once. Every tenth takes slowTakes, so that the Hub sends some of these again while they run.
	quickEndpoint = "nothing"
	slowEndpoint  = "slow"
	slowTakes     = 500 * time.Millisecond

	// How soon after a fault's end a sender gets through again: after one of up to 3 s, after a longer one that could be noticed, and
	// after one that could not, and after a program was started again. An exponential backoff that has waited through an outage tries again within as long once more.
	soonBack     = 2 * time.Second
	shortFault   = 3 * time.Second
	backUnfrozen = 10 * time.Second
	backStarted  = 10 * time.Second
	// The edge, the Hub, the program and other tests share the machine; TestTheEdgeComesBack has it for itself, and no such allowance.
	busy = 500 * time.Millisecond
)

// The service of a tunnel fails in every way while the Hub sends a hundred events a second and retries. Each event is handled, and none
// twice unless the Hub had to send it twice. The tunnel is open again as soon as possible after each fault. Afterwards the process holds no
// more goroutines and files than before.
//
// By default some faults of ngrok fill 12 s. HUBHOOK_SOAK sets the least duration; then all providers run at once, share the events, and
// have each fault once at least. HUBHOOK_SOAK_TUNNEL names one provider, HUBHOOK_SOAK_SEED repeats the order of an earlier run's faults.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes a while")
	}
	t.Parallel()
	lasts, seed, whole := soakSettings(t)
	t.Logf("HUBHOOK_SOAK=%v HUBHOOK_SOAK_SEED=%d", lasts, seed)
	only := os.Getenv("HUBHOOK_SOAK_TUNNEL")
	if only == "" && !whole {
		only = "ngrok"
	}
	chosen := maps.Clone(soakedWays)
	if only != "" {
		maps.DeleteFunc(chosen, func(name string, _ func(*testing.T, *home) soakedWay) bool { return name != only })
		if len(chosen) == 0 {
			t.Fatalf("HUBHOOK_SOAK_TUNNEL: there is no provider %q; name one of %q", only, slices.Sorted(maps.Keys(soakedWays)))
		}
	}
	var running sync.WaitGroup // they wait more than they work: t.Parallel would run as many at once as there are cores
	defer running.Wait()
	for name, start := range chosen {
		running.Go(func() {
			t.Run(name, func(t *testing.T) { soakTunnel(t, start, time.Duration(len(chosen))*soakGap, lasts, seed, whole) })
		})
	}
}

// soakTunnel has an event each gap. A whole soak has each fault once at least, however long that takes.
func soakTunnel(t *testing.T, start func(*testing.T, *home) soakedWay, gap, lasts time.Duration, seed uint64, whole bool) {
	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW="+slowTakes.String(), fmt.Sprintf("GODEBUG=schedtrace=%d,scheddetail=1", traceGap.Milliseconds()))
	way := start(t, h)
	p := h.serve(t, bot, append(way.flags, "--secret", secret)...)
	public := p.ready.PublicURL
	if public == "" {
		t.Fatal("there is no public URL")
	}
	hubClient := publicClient(t, way)
	s := &soak{
		t:       t,
		way:     way,
		program: p,
		hub:     hubtest.New(hubtest.Options{Client: hubClient, Retry: hubtest.Backoff(20*time.Millisecond, 2*time.Second, 1000)}),
		prober:  publicClient(t, way),
		body:    push(t),
	}
	s.large = strings.TrimSuffix(strings.TrimSpace(s.body), "}") + `,"futureField":"` + noise(64<<10) + `"}`
	var err error
	if s.disk, err = os.Create(filepath.Join(t.TempDir(), "sync")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.disk.Close() })
	t.Cleanup(s.hub.Close)
	t.Cleanup(s.showStory)
	for _, endpoint := range []string{quickEndpoint, slowEndpoint} {
		if _, err := s.hub.Create(hubtest.Webhook{ID: endpoint, URL: public + "/webhooks/" + endpoint, Secret: secret}); err != nil {
			t.Fatal(err)
		}
	}

	// The process's goroutines and files at rest, after a burst as large as after an outage.
	for range 1000 {
		s.send()
	}
	s.settle(hubClient)
	rest := s.measureRest(nil)

	follow := inBackground(t, s.follow)
	load := inBackground(t,
		func(ctx context.Context) { every(ctx, gap, s.send) },
		s.probeAll,
		func(ctx context.Context) { every(ctx, 250*time.Millisecond, s.sampleMemory) },
		func(ctx context.Context) { every(ctx, 20*time.Millisecond, s.watchMachine) },
	)
	s.runFaults(lasts, whole, rand.New(rand.NewPCG(seed, 0)))
	load()
	s.settle(hubClient)
	s.wantEachHandledOnce(h)
	s.wantShortDowntimes()
	s.wantFlatMemory()
	s.measureRest(&rest)
	follow()
	p.stop()
	noSession(t, way)
}

// soakSettings reads the environment. A soak whose duration is set is whole.
func soakSettings(t *testing.T) (lasts time.Duration, seed uint64, whole bool) {
	t.Helper()
	lasts, seed = soakTime, uint64(time.Now().UnixNano())
	var err error
	if text := os.Getenv("HUBHOOK_SOAK"); text != "" {
		whole = true
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal("HUBHOOK_SOAK:", err)
		}
	}
	if text := os.Getenv("HUBHOOK_SOAK_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal("HUBHOOK_SOAK_SEED:", err)
		}
	}
	return lasts, seed, whole
}

// inBackground runs tasks until the test ends or stop is called. stop waits for them.
func inBackground(t *testing.T, tasks ...func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, task := range tasks {
		running.Go(func() { task(ctx) })
	}
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// every calls do at once and then each gap, until ctx ends.
func every(ctx context.Context, gap time.Duration, do func()) {
	ticker := time.NewTicker(gap)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

type soak struct {
	t       *testing.T
	way     soakedWay
	program *program
	hub     *hubtest.Hub // its webhooks have the names of their endpoints for IDs
	prober  *http.Client
	body    string // of most events
	large   string // of every fiftieth, which is long on the way

	sent   int           // only send uses it
	memory []int64       // samples, in KiB
	faults []passedFault // in order, none over another
	traces traces
	disk   *os.File // only watchMachine uses it
	stalls []stall  // of the machine

	mu     sync.Mutex
	probes []probe
}

// A stall is a time in which the whole machine stalled: a small write, its sync, and a request within this process took that long.
type stall struct {
	ended  time.Time
	lasted time.Duration
}

// watchMachine records stalls of the machine, which don't count as downtime.
func (s *soak) watchMachine() {
	began := time.Now()
	_, err := s.disk.WriteAt([]byte("still here"), 0)
	if err := errors.Join(err, s.disk.Sync()); err != nil {
		s.t.Errorf("watch the machine: %v", err)
	}
	machineTime(s.t)
	if lasted := time.Since(began); lasted > 50*time.Millisecond {
		s.stalls = append(s.stalls, stall{time.Now(), lasted})
	}
}

// stalled returns for how long the machine stalled between two times.
func (s *soak) stalled(from, to time.Time) time.Duration {
	total := time.Duration(0)
	for _, stop := range s.stalls {
		if stop.ended.After(from) && stop.ended.Add(-stop.lasted).Before(to) {
			total += stop.lasted
		}
	}
	return total
}

// send makes one event happen.
func (s *soak) send() {
	s.sent++
	body, endpoint := s.body, quickEndpoint
	if s.sent%50 == 0 {
		body = s.large
	}
	if s.sent%10 == 5 {
		endpoint = slowEndpoint
	}
	if _, err := s.hub.Send(endpoint, []byte(body)); err != nil {
		s.t.Error(err)
	}
}

// follow points the webhooks at the program's current public URL, as their owner would.
func (s *soak) follow(ctx context.Context) {
	for seen := 0; ; {
		lines, more := s.program.out.since(seen)
		seen += len(lines)
		for _, line := range lines {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				s.t.Errorf("--json printed %q: %v", line, err)
			}
			if e.Type != "tunnel" || e.Phase != "online" && e.Phase != "url changed" {
				continue
			}
			for _, endpoint := range []string{quickEndpoint, slowEndpoint} {
				if err := s.hub.Update(hubtest.Webhook{ID: endpoint, URL: e.URL + "/webhooks/" + endpoint, Secret: secret}); err != nil {
					s.t.Error(err)
				}
			}
		}
		if len(lines) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// showStory logs, if the test has failed, the faults of the tunnel, the program's lines about it, and the program's standard error without
// traces.
func (s *soak) showStory() {
	if !s.t.Failed() {
		return
	}
	type line struct {
		at   time.Time
		text string
	}
	var story []line
	for _, f := range s.faults {
		story = append(story, line{f.began, f.name + " begins"}, line{f.ended, f.name + " is over"})
	}
	printed, _ := s.program.out.since(0)
	for _, text := range printed {
		var e event
		if err := json.Unmarshal([]byte(text), &e); err == nil && e.Type == "tunnel" {
			story = append(story, line{e.Time, fmt.Sprintf("    %s %s %s", e.Phase, e.URL, e.Error)})
		}
	}
	slices.SortStableFunc(story, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range story {
		s.t.Logf("%s %s", l.at.UTC().Format("15:04:05.000"), l.text)
	}
	printed, _ = s.program.errs.since(0)
	printed = slices.DeleteFunc(printed, traceLine.MatchString)
	s.t.Logf("standard error:\n%s", strings.Join(printed, "\n"))
}

// settle waits until every event of the Hub is delivered and handled, and closes idle connections.
func (s *soak) settle(client *http.Client) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.hub.Wait(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.program.finished(patience)
	client.CloseIdleConnections()
	s.prober.CloseIdleConnections()
}

// A probe is one request of a sender that does not wait between tries.
type probe struct {
	started, ended time.Time
	status         int
	err            error
}

func (p probe) ok() bool { return p.err == nil && p.status/100 == 2 }

// probeAll posts deliveries one after the other without waiting for their answers, until ctx ends.
func (s *soak) probeAll(ctx context.Context) {
	var flying sync.WaitGroup
	defer flying.Wait()
	every(ctx, probeGap, func() {
		w, err := s.hub.Webhook(quickEndpoint)
		if err != nil {
			s.t.Error(err)
			return
		}
		flying.Go(func() {
			limit, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
			defer cancel()
			p := probe{started: time.Now()}
			p.status, p.err = s.probeOnce(limit, strings.TrimSuffix(w.URL, quickEndpoint)+"kept")
			p.ended = time.Now()
			s.mu.Lock()
			s.probes = append(s.probes, p)
			s.mu.Unlock()
		})
	})
}

func (s *soak) probeOnce(ctx context.Context, url string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(s.body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-Webhook-Secret", secret)
	a, err := do(s.prober, r)
	return a.status, err
}

// backSince returns the time of the first 2xx answer to a probe that was started after a given time.
func (s *soak) backSince(moment time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first time.Time
	for _, p := range s.probes {
		if p.ok() && !p.started.Before(moment) && (first.IsZero() || p.ended.Before(first)) {
			first = p.ended
		}
	}
	return first, !first.IsZero()
}

// runFaults runs faults in random order until the time is over, all of them once at least where the soak is whole. Each begins some time
// after the tunnel is open again.
func (s *soak) runFaults(lasts time.Duration, whole bool, rnd *rand.Rand) {
	s.t.Helper()
	random := func(least, most time.Duration) time.Duration {
		return least + time.Duration(rnd.Int64N(int64(most-least)))
	}
	begin := time.Now()
	time.Sleep(second)
	faults := s.way.faults
	over := func() bool {
		return time.Since(begin) >= lasts && (!whole || len(s.faults) >= len(faults))
	}
	for !over() {
		for _, kind := range rnd.Perm(len(faults)) {
			if over() {
				break
			}
			f := passedFault{fault: faults[kind], began: time.Now()}
			f.fail(random)
			f.ended = time.Now()
			s.faults = append(s.faults, f)
			pollFor(s.t, 30*time.Second, "the way is open again after "+f.name, func() (bool, string) {
				_, back := s.backSince(f.ended)
				return back, "no delivery has got through"
			})
			time.Sleep(random(5*tenth, second+5*tenth))
		}
	}
}

// wantShortDowntimes compares the downtime that the prober saw after each fault with the fault's limit.
func (s *soak) wantShortDowntimes() {
	s.t.Helper()
	worst := map[string]time.Duration{}
	times := map[string]int{}
	for n, f := range s.faults {
		next := time.Now()
		if n+1 < len(s.faults) {
			next = s.faults[n+1].began
		}
		back, ok := s.backSince(f.ended)
		if !ok {
			continue // runFaults has reported it
		}
		down := back.Sub(f.ended)
		limit := f.limit() + s.stalled(f.ended, back)
		times[f.name]++
		worst[f.name] = max(worst[f.name], down)
		if down > limit {
			s.t.Errorf("%s of %v: the first 2xx came %v after its end; want %v at most", f.name, f.ended.Sub(f.began), down, limit)
		}
		late := 0
		var last probe
		for _, p := range s.probes {
			if !p.ok() && p.started.After(f.ended.Add(limit)) && p.started.Before(next) && p.ended.Before(next) {
				late++
				if p.started.After(last.started) {
					last = p
				}
			}
		}
		if late > 0 {
			s.t.Errorf("%s of %v: %d deliveries failed that were sent more than %v after its end, the last of them %v after it: %d %v",
				f.name, f.ended.Sub(f.began), late, limit, last.started.Sub(f.ended), last.status, last.err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(worst)) {
		s.t.Logf("%-20s %d times, down for %v at most", name, times[name], worst[name].Round(time.Millisecond))
	}
}

// quickDrops counts the drops after which the tunnel was back while half of the slow deliveries that the drop met were still running.
func (s *soak) quickDrops() int {
	drops := 0
	for _, f := range s.faults {
		if back, ok := s.backSince(f.ended); f.name == "drop" && ok && back.Sub(f.began) < slowTakes/2 {
			drops++
		}
	}
	return drops
}

// wantEachHandledOnce compares the Hub's deliveries with those that were stored and handled.
func (s *soak) wantEachHandledOnce(h *home) {
	s.t.Helper()
	stored := map[string][]string{} // delivery IDs by Webhook-Id
	again := map[string]int{}       // answers as a duplicate by Webhook-Id
	runs := s.handlerRuns(h)
	for _, d := range append(s.program.list(quickEndpoint), s.program.list(slowEndpoint)...) {
		stored[d.WebhookID] = append(stored[d.WebhookID], d.ID)
		again[d.WebhookID] += d.Duplicates
		if d.State != string(queue.Done) || d.Attempts != 1 || len(runs[d.ID]) != 1 || runs[d.ID][0].end == 0 {
			s.t.Errorf("delivery %s is %s (%s) after %d attempts, its handler ran %+v; want it done at the first", d.ID, d.State, d.Reason, d.Attempts, runs[d.ID])
		}
	}
	sent, attempts, lost, duplicates, repeated, twice := s.hub.Deliveries(), 0, 0, 0, 0, 0
	answers := map[string]int{}
	for _, d := range sent {
		if d.State() != hubtest.Delivered {
			s.t.Errorf("event %s is %s at the Hub", d.ID, d.State())
			continue
		}
		all := d.Attempts()
		unanswered := 0 // attempts that may have arrived, and whose answer did not
		for _, a := range all {
			attempts++
			answers[answerKind(a)]++
			switch code := serviceCode(a); {
			case a.Succeeded():
			case a.Status == 0 || code == "ERR_NGROK_3004" || code == tunneltest.Lost:
				unanswered++
			case code == "":
				s.t.Errorf("hubhook itself refused: %v %s", a, a.Body)
			}
		}
		lost, duplicates = lost+unanswered, duplicates+again[d.ID]
		repeated += max(0, len(stored[d.ID])-1) + again[d.ID]
		if n := len(stored[d.ID]); n == 0 || n-1+again[d.ID] > unanswered {
			s.t.Errorf("event %s is stored %d times and was answered %d times as a duplicate; the Hub did not see %d answers: %v", d.ID, n, again[d.ID], unanswered, all)
		} else if n > 1 {
			twice++
		}
		last := all[len(all)-1]
		if id := last.Header.Get("Hubhook-Delivery"); !slices.Contains(stored[d.ID], id) {
			s.t.Errorf("event %s was answered with the delivery %q; stored are %q", d.ID, id, stored[d.ID])
		}
		// While a delivery is unfinished, another one of the same event is a duplicate, so their handlers never run at once.
		var ran []handlerRun
		for _, id := range stored[d.ID] {
			ran = append(ran, runs[id]...)
		}
		slices.SortFunc(ran, func(a, b handlerRun) int { return cmp.Compare(a.start, b.start) })
		for n := 1; n < len(ran); n++ {
			if ran[n].start < ran[n-1].end {
				s.t.Errorf("the handlers of two deliveries of the event %s ran at once", d.ID)
			}
		}
		delete(stored, d.ID)
	}
	for id := range stored {
		s.t.Errorf("Webhook-Id %q is stored and was never sent", id)
	}
	// A repeat is a duplicate only while the first delivery runs. On a busy machine the tunnel may never be back in that time. A drop meets one
	// or two slow deliveries, and none by chance, so only several drops show that repeats should have been duplicates.
	const several = 5
	if lost == 0 || repeated == 0 || duplicates == 0 && s.quickDrops() >= several || len(sent) < 10*len(s.faults) {
		s.t.Errorf("%d events were sent, %d answers lost, %d accepted events repeated, %d repeats answered as a duplicate; the test has shown nothing",
			len(sent), lost, repeated, duplicates)
	}
	s.t.Logf("%d events, %d attempts (%v), %d answers that may be lost, %d answers as a duplicate and %d events handled more than once for that", len(sent), attempts, answers, lost, duplicates, twice)
}

// serviceCode is the code of an answer that is the tunnel service's own, "" for one of hubhook's.
func serviceCode(a hubtest.Attempt) string {
	return a.Header.Get("Ngrok-Error-Code") + a.Header.Get(tunneltest.ServiceHeader)
}

// answerKind names the answer that the Hub has seen.
func answerKind(a hubtest.Attempt) string {
	if a.Status == 0 {
		return "none"
	}
	return strings.TrimSpace(fmt.Sprint(a.Status, " ", serviceCode(a)))
}

// handlerRun is one run of a handler, by the lines of the bot's log, from 1.
type handlerRun struct{ start, end int }

// handlerRuns are all runs by delivery ID.
func (s *soak) handlerRuns(h *home) map[string][]handlerRun {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "bot", "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	runs := map[string][]handlerRun{}
	for n, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		what, id, _ := strings.Cut(line, " ")
		switch of := runs[id]; {
		case what == "start":
			runs[id] = append(of, handlerRun{start: n + 1})
		case what == "end" && len(of) > 0 && of[len(of)-1].end == 0:
			of[len(of)-1].end = n + 1
		default:
			s.t.Fatalf("line %d of the bot's log is %q", n+1, line)
		}
	}
	return runs
}

// wantFlatMemory compares the last third of the load with the one before, by medians: after a long outage a lot arrives at once.
func (s *soak) wantFlatMemory() {
	s.t.Helper()
	if len(s.memory) == 0 {
		s.t.Log("memory: not measured without /proc")
		return
	}
	third := len(s.memory) / 3
	if third < 10 {
		s.t.Fatalf("%d samples of the memory are too few", len(s.memory))
	}
	first, before, after := median(s.memory[:third]), median(s.memory[third:2*third]), median(s.memory[2*third:])
	if most := before*13/10 + 8<<10; after > most {
		s.t.Errorf("%d KiB of memory in the last third and %d in the second; want %d at most", after, before, most)
	}
	s.t.Logf("memory, the median by thirds: %d, %d and %d KiB; at most %d", first, before, after, slices.Max(s.memory))
}

func median(samples []int64) int64 {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[len(sorted)/2]
}

func (s *soak) sampleMemory() {
	text, err := s.proc("status")
	if errors.Is(err, fs.ErrNotExist) && runtime.GOOS != "linux" {
		return
	}
	kib := vmRSS.FindStringSubmatch(text)
	if err != nil || kib == nil {
		s.t.Errorf("read the memory of the process: %v, %q", err, text)
		return
	}
	n, err := strconv.ParseInt(kib[1], 10, 64)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.memory = append(s.memory, n)
}

var vmRSS = regexp.MustCompile(`(?m)^VmRSS:\s*(\d+) kB$`)

func (s *soak) proc(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.program.cmd.Process.Pid), name))
	return string(text), err
}

// atRest holds the goroutines and open files of an idle process.
type atRest struct {
	descriptors []string // what they are open on; nil where that cannot be seen
	databases   int      // descriptors of the database's files, which are not among those
	goroutines  int
}

func (r atRest) String() string {
	return fmt.Sprintf("%d descriptors %q, %d of the database, %d goroutines", len(r.descriptors), r.descriptors, r.databases, r.goroutines)
}

func (r atRest) noMoreThan(before atRest) bool {
	// The queue opens up to four reading connections as it needs them, beside the writing one. While one connection has a lock, SQLite keeps
	// the files that another has closed, for the next connection.
	const mostOfDatabases = 5*2 + 1
	// The SDK's heartbeat check waits for ever if a heartbeat is answered at the moment when it becomes overdue.
	const mostOfHeartbeats = 2
	return len(r.descriptors) <= len(before.descriptors) && r.databases <= mostOfDatabases &&
		r.goroutines <= before.goroutines+mostOfHeartbeats
}

// measureRest returns what the process holds at rest. With before, it waits until the process holds no more than that; without, until the
// numbers no longer change. A lost session is gone after 10 s.
func (s *soak) measureRest(before *atRest) atRest {
	s.t.Helper()
	now, since := s.holds(), time.Now()
	pollFor(s.t, 45*time.Second, "the process comes to rest", func() (bool, string) {
		next := s.holds()
		if next.goroutines != now.goroutines || !slices.Equal(next.descriptors, now.descriptors) {
			since = time.Now()
		}
		now = next
		if before != nil {
			return now.noMoreThan(*before), fmt.Sprintf("it holds %v; before there were %v", now, *before)
		}
		return now.goroutines > 0 && time.Since(since) > 2*traceGap, fmt.Sprintf("it holds %v", now)
	})
	s.t.Logf("at rest: %d descriptors, %d more of the database, %d goroutines", len(now.descriptors), now.databases, now.goroutines)
	return now
}

func (s *soak) holds() atRest {
	s.t.Helper()
	var now atRest
	dir := filepath.Join("/proc", strconv.Itoa(s.program.cmd.Process.Pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil && (runtime.GOOS == "linux" || !errors.Is(err, fs.ErrNotExist)) {
		s.t.Fatal(err)
	}
	for _, entry := range entries {
		// Skip a descriptor that was closed meanwhile.
		of, err := os.Readlink(filepath.Join(dir, entry.Name()))
		switch {
		case err != nil:
		case strings.HasPrefix(filepath.Base(of), "hubhook.db"):
			now.databases++
		default:
			now.descriptors = append(now.descriptors, of)
		}
	}
	slices.Sort(now.descriptors)
	s.traces.read(s.program.errs)
	now.goroutines = s.traces.goroutines
	return now
}

// traces reads what GODEBUG=schedtrace,scheddetail makes Go's runtime print to standard error: a line that begins a trace, and among
// others one for each goroutine that there is or was.
type traces struct {
	seen       int // lines
	living     int // in the trace that has begun
	begun      bool
	goroutines int // living ones of the last whole trace, those of the runtime included; 0 before that
}

var (
	traceLine   = regexp.MustCompile(`^(SCHED \d+ms|  [PMG]\d+): `)
	traceBegins = regexp.MustCompile(`^SCHED \d+ms: `)
	traceOfG    = regexp.MustCompile(`^  G\d+: status=(\d+)\(`)
)

func (r *traces) read(printed *output) {
	const (
		idle, dead, deadExtra = 0, 6, 11 // of the runtime's file runtime2.go
		scanned               = 0x1000
	)
	lines, _ := printed.since(r.seen)
	r.seen += len(lines)
	for _, line := range lines {
		if traceBegins.MatchString(line) {
			if r.begun {
				r.goroutines = r.living
			}
			r.living, r.begun = 0, true
			continue
		}
		g := traceOfG.FindStringSubmatch(line)
		if g == nil {
			continue
		}
		status, err := strconv.Atoi(g[1])
		if err != nil {
			continue
		}
		switch status &^ scanned {
		case idle, dead, deadExtra:
		default:
			r.living++
		}
	}
}
