package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// tunnelConnections are the numbers of public connections to measure with.
var tunnelConnections = []int{16, mostConnections}

// measureTunnel compares requests a second through hubhook's tunnel with those through ngrok's SDK alone. Both go through one stand-in
// for ngrok's service, on loopback and in this process.
func (w *workshop) measureTunnel(ctx context.Context) (figures []figure, err error) {
	edge, err := tunneltest.StartEdge(tunneltest.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, edge.Close()) }()
	const ours, theirs = "hubhook.example.com", "sdk.example.com"
	config := filepath.Join(w.dir, "ngrok.yml")
	if err := edge.WriteConfig(config, tunneltest.DefaultToken); err != nil {
		return nil, err
	}
	addresses := make([]string, 2)
	for i := range addresses {
		if addresses[i], err = freeport.Address(); err != nil {
			return nil, err
		}
	}
	hubhook, err := launchRole(ctx, "hubhook tunnel", addresses[0], "ngrok", config, "https://"+ours)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hubhook.stop()) }()
	sdk, err := launchRole(ctx, "SDK alone", addresses[1], edge.Addr(), edge.CAFile(), tunneltest.DefaultToken, "https://"+theirs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sdk.stop()) }()
	for _, p := range []*process{hubhook, sdk} {
		if _, err := p.ready(ctx); err != nil { // they answer once their tunnel is open
			return nil, err
		}
	}
	rate := func(l *load, connections int) gauge {
		return func(d time.Duration) (float64, error) {
			answered, elapsed, err := l.closedLoop(ctx, connections, d)
			return float64(answered) / elapsed.Seconds(), err
		}
	}
	through := newLoad(edge.PublicAddr(), ours, "/webhooks/inbox", "", w.payload)
	alone := newLoad(edge.PublicAddr(), theirs, "/webhooks/inbox", "", w.payload)
	for _, connections := range tunnelConnections {
		what := "through the tunnel, " + counting(connections, "connection")
		measured, err := w.takeTurns(what, rate(through, connections), rate(alone, connections))
		if err != nil {
			return nil, err
		}
		figures = append(figures, rounds{measured[0], measured[1]}.figure(what, "SDK alone", atLeast(0.95), perSecond))
		if w.profiles == "" {
			continue
		}
		for _, side := range []struct {
			name    string
			process *process
			load    *load
		}{{"tunnel", hubhook, through}, {"sdk", sdk, alone}} {
			file := filepath.Join(w.profiles, fmt.Sprintf("%s-%d.pprof", side.name, connections))
			if err := side.process.profiled(file, func() error {
				_, err := rate(side.load, connections)(w.profile)
				return err
			}); err != nil {
				return nil, err
			}
		}
	}
	added, err := w.addedLatency(ctx, side{"SDK alone", alone}, target{atMost: true, bound: 1, unit: " ms"}, side{"through the tunnel", through})
	return append(figures, added...), err
}

// tunnelRate is the rate for the added latency, in requests a second.
const tunnelRate = 500

// A side is one of the servers that are compared at a fixed rate, as the table names it.
type side struct {
	name string
	load *load
}

// addedLatency compares the p99 of each of the others with that of base, at the same rate, taking turns. The target is for each.
func (w *workshop) addedLatency(ctx context.Context, base side, t target, others ...side) (figures []figure, err error) {
	const turns = 5
	sides := append([]side{base}, others...)
	p99s := make([][]float64, len(sides)) // in milliseconds
	for n := range turns {
		w.progress("p99 at %d/s: round %d of %d", tunnelRate, n+1, turns)
		for _, i := range turn(n, len(sides)) {
			latencies, err := sides[i].load.openLoop(ctx, tunnelConnections[0], tunnelRate, w.openLoop/turns)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sides[i].name, err)
			}
			p99s[i] = append(p99s[i], percentile(latencies, 0.99).Seconds()*1000)
		}
	}
	written := func(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
	for i, other := range others {
		p99 := p99s[i+1]
		added := make([]float64, turns)
		for n := range added {
			added[n] = p99[n] - p99s[0][n]
		}
		f := figure{
			what:    fmt.Sprintf("p99 %s at %d/s", other.name, tunnelRate),
			hubhook: written(median(p99)),
			against: base.name + " " + written(median(p99s[0])),
			value:   fmt.Sprintf("%+.2f ms (%+.2f to %+.2f)", median(added), slices.Min(added), slices.Max(added)),
		}
		if t != (target{}) {
			f.target, f.short = "adds "+t.String(), t.missed(median(added))
		}
		figures = append(figures, f)
	}
	return figures, nil
}
