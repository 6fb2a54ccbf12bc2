package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
)

const (
	// deliverySecret is checked by hubhook and by WebhooksServer, as in their normal use.
	deliverySecret = "a-secret-of-usual-length-0123456789"
	deliveryPath   = "/webhooks/inbox"
)

// A contender is a running server and its load. Only one of the compared contenders has work at any time.
type contender struct {
	*process
	load      *load
	inspector string // address of hubhook's metrics; empty for other servers
	answered  int    // 2xx, so far
	// finished waits until every answered delivery is handled, and returns how long that took; nil if the work ends with the answer.
	finished func(context.Context) (time.Duration, error)
}

// contend waits until a server is ready, and ends it if it never is.
func (w *workshop) contend(ctx context.Context, p *process, err error) (*contender, error) {
	if err != nil {
		return nil, err
	}
	if _, err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return &contender{process: p, load: newLoad(p.addr, p.addr, deliveryPath, deliverySecret, w.payload)}, nil
}

func (w *workshop) startBare(ctx context.Context) (*contender, error) {
	binary, err := w.build(ctx, barePackage)
	if err != nil {
		return nil, err
	}
	p, err := launchBare(ctx, binary)
	return w.contend(ctx, p, err)
}

// A store says where a hubhook keeps its deliveries. A zero field is hubhook's default.
type store struct {
	data      string // the data directory; empty: a new one
	database  string // the URL of a PostgreSQL database; empty: SQLite in data
	keepCount int
	program   string // a build of bench with the hubhook to run; empty: this build
}

func (w *workshop) startHubhook(ctx context.Context, s store) (*contender, error) {
	if s.data == "" {
		data, err := w.data("deliveries")
		if err != nil {
			return nil, err
		}
		s.data = data
	}
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	inspector, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	if s.program == "" {
		if s.program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("start hubhook: find this program: %w", err)
		}
	}
	p, err := launchRoleOf(ctx, s.program, "hubhook", addr, s.data, inspector, deliverySecret, strconv.Itoa(s.keepCount), s.database)
	c, err := w.contend(ctx, p, err)
	if err != nil {
		return nil, err
	}
	c.inspector, c.finished = inspector, c.recorded
	if s.database != "" {
		if _, err := os.Stat(filepath.Join(s.data, "hubhook.db")); !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(c.broken("it was given a database, and keeps deliveries in a file of its own", err), c.stop())
		}
	}
	return c, nil
}

// rate returns deliveries a second over that many connections. For hubhook, the clock stops once the last outcome is recorded.
func (c *contender) rate(ctx context.Context, connections int, d time.Duration) (float64, error) {
	answered, elapsed, err := c.load.closedLoop(ctx, connections, d)
	if err != nil {
		return 0, err
	}
	c.answered += answered
	waited, err := c.finish(ctx)
	return float64(answered) / (elapsed + waited).Seconds(), err
}

func (c *contender) finish(ctx context.Context) (time.Duration, error) {
	if c.finished == nil {
		return 0, nil
	}
	return c.finished(ctx)
}

// latencies sends deliveries at a fixed rate, and returns how long each took.
func (c *contender) latencies(ctx context.Context, rate float64, d time.Duration) ([]time.Duration, error) {
	taken, err := c.load.openLoop(ctx, mostConnections, rate, d)
	if err != nil {
		return nil, err
	}
	c.answered += len(taken)
	_, err = c.finish(ctx)
	return taken, err
}

// recorded waits until every accepted delivery is finished, and returns how long that took. It fails unless the handler of every answered
// delivery has succeeded.
func (c *contender) recorded(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	for {
		stored, err := counted(ctx, c.inspector, "hubhook_stored_deliveries")
		if err != nil {
			return 0, err
		}
		waited := time.Since(begin)
		unfinished := stored["waiting"] + stored["running"] + stored["retrying"]
		if unfinished == 0 {
			break
		}
		if waited > answerTime {
			return 0, c.broken(fmt.Sprintf("%d deliveries are unfinished %v after the last was answered", unfinished, answerTime), nil)
		}
	}
	waited := time.Since(begin)
	// Retention may already have removed stored deliveries, so count with the process's own metrics.
	ended, err := counted(ctx, c.inspector, "hubhook_deliveries_total")
	if err != nil {
		return 0, err
	}
	if ended["done"] != c.answered {
		return 0, c.broken(fmt.Sprintf("%d deliveries were answered 2xx, and they ended as %v", c.answered, ended), nil)
	}
	return waited, nil
}

// profiledRate writes a CPU profile of hubhook under that load, if -profile asks for profiles.
func (w *workshop) profiledRate(ctx context.Context, c *contender, name string, connections int) error {
	if w.profiles == "" {
		return nil
	}
	return c.profiled(filepath.Join(w.profiles, fmt.Sprintf("%s-%d.pprof", name, connections)), func() error {
		_, err := c.rate(ctx, connections, w.profile)
		return err
	})
}

// A gauge measures a server for about d, and returns what it found in any unit.
type gauge func(d time.Duration) (float64, error)

func (c *contender) gauge(ctx context.Context, connections int) gauge {
	return func(d time.Duration) (float64, error) { return c.rate(ctx, connections, d) }
}

// takeTurns measures servers in rounds, after a round that is not counted. It returns each server's values, round by round. Each server
// goes before each other one about as often as after it, so that no server alone suffers from what another leaves behind.
func (w *workshop) takeTurns(what string, gauges ...gauge) ([][]float64, error) {
	for _, measure := range gauges {
		w.progress("%s: warming up", what)
		if _, err := measure(w.warmUp); err != nil {
			return nil, err
		}
	}
	measured := make([][]float64, len(gauges))
	for round := range w.lengths.rounds {
		w.progress("%s: round %d of %d", what, round+1, w.lengths.rounds)
		for _, i := range turn(round, len(gauges)) {
			value, err := gauges[i](w.round)
			if err != nil {
				return nil, err
			}
			measured[i] = append(measured[i], value)
		}
	}
	return measured, nil
}

// turn returns the order of n servers in one round. The servers take turns to begin, and every other round is reversed.
func turn(round, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (round/2 + i) % n
		if round%2 == 1 {
			order[i] = (round/2 + n - 1 - i) % n
		}
	}
	return order
}
