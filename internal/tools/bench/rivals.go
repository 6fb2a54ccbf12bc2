package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// rivalsDir is the module of the programs with other job queues, below the module's root.
const rivalsDir = "internal/tools/bench/rivals"

// rivalTargets are the least ratios to River on PostgreSQL, each request with an insert of its own, by connections.
var rivalTargets = []struct {
	connections int
	river       float64
}{{1, 1.1}, {2, 1.1}, {4, 1.3}, {16, 3}, {mostConnections, 4}}

// batched is how a rival stores the deliveries of requests that wait at the same time: together, or each by itself.
type batched bool

func (b batched) String() string {
	if b {
		return "batched"
	}
	return "alone"
}

// measureRivals compares hubhook with other durable job queues on the same engine, which do the same work.
func (w *workshop) measureRivals(ctx context.Context) ([]figure, error) {
	figures, err := w.compareWithGoqite(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := pgserver.Programs(); errors.Is(err, pgserver.ErrNotInstalled) {
		w.skip(fmt.Sprintf("River is skipped: %v", err))
		return figures, nil
	}
	more, err := w.compareWithRiver(ctx)
	return append(figures, more...), err
}

func (w *workshop) compareWithGoqite(ctx context.Context) (_ []figure, err error) {
	var stops stack
	defer func() { err = errors.Join(err, stops.unwind()) }()
	hubhook, err := w.startHubhook(ctx, store{})
	if err != nil {
		return nil, err
	}
	stops.push(hubhook.stop)
	var rivals []*contender
	for _, b := range []batched{false, true} {
		goqite, err := w.startGoqite(ctx, b)
		if err != nil {
			return nil, err
		}
		stops.push(goqite.stop)
		rivals = append(rivals, goqite)
	}
	return w.compareRivals(ctx, "SQLite", hubhook, rivals, false)
}

// compareWithRiver gives each side a server of its own.
func (w *workshop) compareWithRiver(ctx context.Context) (_ []figure, err error) {
	var stops stack
	defer func() { err = errors.Join(err, stops.unwind()) }()
	ours, err := w.startPrimary(ctx, &stops)
	if err != nil {
		return nil, err
	}
	hubhook, err := w.startHubhook(ctx, store{database: ours.URL(databaseName)})
	if err != nil {
		return nil, err
	}
	stops.push(hubhook.stop)
	var rivals []*contender
	for _, b := range []batched{false, true} {
		theirs, err := w.startPrimary(ctx, &stops)
		if err != nil {
			return nil, err
		}
		river, err := w.startRival(ctx, "river", b, theirs.URL(databaseName))
		if err != nil {
			return nil, err
		}
		stops.push(river.stop)
		rivals = append(rivals, river)
	}
	return w.compareRivals(ctx, "PostgreSQL", hubhook, rivals, true)
}

// compareRivals returns the figures for the first rival at each number of connections, then those for the next one. If targets is true, the
// first one's ratios have the rivalTargets. All others have to be at least 1.
func (w *workshop) compareRivals(ctx context.Context, engine string, hubhook *contender, rivals []*contender, targets bool) ([]figure, error) {
	gauges := func(connections int) []gauge {
		all := []gauge{hubhook.gauge(ctx, connections)}
		for _, r := range rivals {
			all = append(all, r.gauge(ctx, connections))
		}
		return all
	}
	byRival := make([][]figure, len(rivals))
	for _, t := range rivalTargets {
		what := fmt.Sprintf("%s, %s", engine, counting(t.connections, "connection"))
		measured, err := w.takeTurns("beside other queues, "+what, gauges(t.connections)...)
		if err != nil {
			return nil, err
		}
		for i, r := range rivals {
			least := 1.0
			if targets && i == 0 {
				least = t.river
			}
			byRival[i] = append(byRival[i], rounds{measured[0], measured[i+1]}.figure(what, r.name, atLeast(least), perSecond))
		}
		if err := w.profiledRate(ctx, hubhook, "rivals-"+strings.ToLower(engine), t.connections); err != nil {
			return nil, err
		}
	}
	return slices.Concat(byRival...), nil
}

// startGoqite makes an empty file for goqite, with the schema from goqite's own source.
func (w *workshop) startGoqite(ctx context.Context, b batched) (*contender, error) {
	dir, err := w.data("goqite")
	if err != nil {
		return nil, err
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "maragu.dev/goqite")
	list.Dir = filepath.Join(w.root, rivalsDir)
	source, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("find goqite's source: %w", err)
	}
	return w.startRival(ctx, "goqite", b, filepath.Join(dir, "goqite.db"), filepath.Join(strings.TrimSpace(string(source)), "schema_sqlite.sql"))
}

// startRival builds a program of the rivals' module and starts it.
func (w *workshop) startRival(ctx context.Context, name string, b batched, args ...string) (*contender, error) {
	binary := filepath.Join(w.dir, name+".exe") // Windows wants the suffix, others don't mind
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./"+name)
	build.Dir = filepath.Join(w.root, rivalsDir)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	w.progress("building %s", name)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	if b {
		name += ", batched"
	}
	p, err := launch(ctx, name, addr, nil, binary, append([]string{addr, b.String()}, args...)...)
	c, err := w.contend(ctx, p, err)
	if err != nil {
		return nil, err
	}
	c.finished = c.recordedByRival
	return c, nil
}

// recordedByRival waits until every accepted delivery is handled, and returns how long that took. It then waits until all are recorded,
// which does not count: River lets up to 250 ms pass before it records a last small batch.
func (c *contender) recordedByRival(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	waited := time.Duration(0)
	for {
		handled, recorded, err := c.rivalCounts(ctx)
		if err != nil {
			return 0, err
		}
		took := time.Since(begin)
		if handled >= c.answered && waited == 0 {
			waited = took
		}
		switch {
		case handled > c.answered || recorded > c.answered:
			return 0, c.broken(fmt.Sprintf("%d deliveries were answered 2xx, %d handled and %d recorded", c.answered, handled, recorded), nil)
		case recorded == c.answered && waited > 0:
			return waited, nil
		case took > answerTime:
			return 0, c.broken(fmt.Sprintf("%d deliveries were answered 2xx, and %v later %d are handled and %d recorded", c.answered, answerTime, handled, recorded), nil)
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *contender) rivalCounts(ctx context.Context) (handled, recorded int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+"/counts", nil)
	if err != nil {
		return 0, 0, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, 0, c.broken("ask what is handled", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, 0, c.broken("ask what is handled", err)
	}
	var counts struct{ Handled, Recorded int }
	if err := json.Unmarshal(text, &counts); err != nil {
		return 0, 0, c.broken(fmt.Sprintf("ask what is handled: %s: %s", response.Status, text), err)
	}
	return counts.Handled, counts.Recorded, nil
}
