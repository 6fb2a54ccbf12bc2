//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

const (
	keepCount = 50_000          // more than a round brings, so that its deliveries are still there to compare
	restTime  = 2 * time.Minute // for all work to end after the load
	remember  = 500             // recent events that may be sent, replayed or discarded again
)

type config struct {
	lasts, round time.Duration
	seed         uint64
	database     string // URL; "": SQLite, or the server of postgres
	postgres     bool   // start a server
	processes    int
	senders      int
	dir          string    // "": a temporary one
	out          io.Writer // progress and result
}

// soak is one run.
type soak struct {
	cfg       config
	owner     string   // of all repos of this run, so that it knows its own deliveries
	endpoints []string // sorted
	dir       string
	data      string           // the data directory of the only process that uses SQLite
	disk      string           // "" if the disk can't be filled
	postgres  *pgserver.Server // nil if none was started
	notes     string           // the file
	client    *http.Client
	processes []*process
	tasks     sync.WaitGroup // senders

	events     atomic.Int64
	stored     atomic.Int64 // 2xx answers to new deliveries
	duplicates atomic.Int64 // 2xx answers to duplicates

	mu         sync.Mutex
	counted    map[string]int
	violations []string
	round      []*event      // noted in this round
	slowest    time.Duration // from a start until ready
	sums       sums
}

// sums add up all rounds that were compared.
type sums struct{ events, accepted, handled, again, replays, lost int }

// soakAll runs rounds until the time is over. The error names the first violation.
func soakAll(ctx context.Context, cfg config) (err error) {
	s := &soak{
		cfg: cfg, owner: fmt.Sprintf("soak-%d", cfg.seed), counted: map[string]int{},
		endpoints: slices.Sorted(maps.Keys(endpoints)),
		client:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}},
		dir:       cfg.dir,
	}
	defer s.client.CloseIdleConnections()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "hubhook-soak-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	}
	s.data, s.notes = filepath.Join(s.dir, "data"), filepath.Join(s.dir, "notes")
	if err := errors.Join(os.MkdirAll(s.data, 0o700), os.WriteFile(s.notes, nil, 0o600)); err != nil {
		return err
	}
	s.say("seed %d, %v in rounds of %v", cfg.seed, cfg.lasts, cfg.round)
	if cfg.postgres {
		if err := s.startPostgres(ctx); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
		defer func() { err = errors.Join(err, s.postgres.Close()) }()
	} else if !cfg.sharing() {
		if err := s.mountDisk(); err != nil {
			s.say("WITHOUT a full disk: %v", err)
		} else {
			defer func() { err = errors.Join(err, unmount(s.disk)) }()
		}
	}
	for n := range cfg.processes {
		if err := s.addProcess(n); err != nil {
			return err
		}
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var kept sync.WaitGroup
	for _, p := range s.processes {
		kept.Go(func() { p.keep(running) })
	}
	end := time.Now().Add(cfg.lasts)
	for n := 1; ctx.Err() == nil && time.Now().Before(end) && len(s.wrong()) == 0; n++ {
		s.runRound(ctx, n, min(cfg.round, time.Until(end)))
	}
	for _, p := range s.processes {
		p.end(syscall.SIGTERM, true)
	}
	stop()
	kept.Wait()
	if !cfg.sharing() {
		if err := wantSound(filepath.Join(s.data, "hubhook.db")); err != nil {
			s.violation("%v", err)
		}
	}
	return s.report()
}

// runRound drives hubhook for a while, lets it come to rest, and compares.
func (s *soak) runRound(ctx context.Context, n int, lasts time.Duration) {
	earlier := s.events.Load()
	s.mu.Lock()
	s.round = nil
	s.mu.Unlock()
	if err := os.Truncate(s.notes, 0); err != nil {
		s.violation("empty the notes: %v", err)
	}
	random := func(lane int) *rand.Rand { return rand.New(rand.NewPCG(s.cfg.seed, uint64(n*1000+lane))) }
	load, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	for lane := range s.cfg.senders {
		s.tasks.Go(func() { s.load(load, random(lane)) })
	}
	var faults sync.WaitGroup
	faults.Go(func() { s.replayAndDiscard(load, random(997)) })
	faults.Go(func() { s.harm(load, random(998)) })
	faults.Wait()
	s.tasks.Wait()
	if err := s.rest(); err != nil {
		s.violation("%v", err)
		return
	}
	before := s.sums
	s.compare(earlier)
	s.say("round %d: %d accepted, %d handled, %d again, %d lost", n,
		s.sums.accepted-before.accepted, s.sums.handled-before.handled, s.sums.again-before.again, s.sums.lost-before.lost)
}

// rest waits until every process accepts deliveries and nothing is unfinished.
func (s *soak) rest() error {
	ctx, cancel := context.WithTimeout(context.Background(), restTime)
	defer cancel()
	stand := ""
	for {
		ready := true
		for _, p := range s.processes {
			ready = ready && p.ready(ctx)
		}
		status, err := s.processes[0].inspector.Status(ctx)
		unfinished := int64(0)
		for _, state := range queue.States() {
			if !state.Finished() {
				unfinished += status.Counts[string(state)]
			}
		}
		if ready && err == nil && unfinished == 0 {
			return nil
		}
		if ctx.Err() == nil {
			stand = fmt.Sprintf("ready: %v, counts %v, %v", ready, status.Counts, err)
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("%v after the load, work is not at rest: %s", restTime, stand)
		}
	}
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.cfg.out, "soak: "+format+"\n", args...)
}

// violation notes a violation of the model.
func (s *soak) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, text)
	const shown = 20
	if len(s.violations) <= shown {
		s.say("NOT TRUE at %s: %s", time.Now().UTC().Format("15:04:05.000"), text)
	}
}

func (s *soak) wrong() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.violations
}

func (s *soak) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted[what]++
}

// postgresKilled counts a kill of PostgreSQL, as if its machine had lost power.
const postgresKilled = "PostgreSQL: kill -9"

// times returns how often count was called with this name.
func (s *soak) times(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counted[what]
}

func (s *soak) noteReady(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slowest = max(s.slowest, took)
}

// note adds an event to those that the round compares.
func (s *soak) note(e *event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round = append(s.round, e)
}

// recent returns one of the last events, nil if there is none.
func (s *soak) recent(rnd *rand.Rand) *event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.round) == 0 {
		return nil
	}
	last := s.round[max(0, len(s.round)-remember):]
	return last[rnd.IntN(len(last))]
}

func (s *soak) anyProcess(rnd *rand.Rand) *process { return s.processes[rnd.IntN(len(s.processes))] }

// report prints the sums. The error names the first violation.
func (s *soak) report() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(s.counted)) {
		s.say("%8d %s", s.counted[what], what)
	}
	s.say("%8v from a start until deliveries are accepted, at most", s.slowest.Round(time.Millisecond))
	s.say("%d accepted, %d handled, %d answered as duplicates, %d replays, %d handled more than once, %d lost",
		s.sums.accepted, s.sums.handled, s.duplicates.Load(), s.sums.replays, s.sums.again, s.sums.lost)
	if n := len(s.violations); n > 0 {
		return fmt.Errorf("%d times something was not true, first: %s\n  hint: HUBHOOK_SOAK_SEED=%d repeats the random choices", n, s.violations[0], s.cfg.seed)
	}
	if s.sums.accepted == 0 {
		return errors.New("nothing was accepted: the run has shown nothing")
	}
	return nil
}
