package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

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
		if addresses[i], err = freeAddr(); err != nil {
			return nil, err
		}
	}
	hubhook, err := launchRole(ctx, "hubhook tunnel", addresses[0], config, "https://"+ours)
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
	added, err := w.addedLatency(ctx, through, alone)
	if err != nil {
		return nil, err
	}
	return append(figures, added), nil
}

// tunnelRate is the rate for the added latency, in requests a second.
const tunnelRate = 500

// addedLatency compares the p99 through hubhook's tunnel with that through the SDK alone, at the same rate, taking turns.
func (w *workshop) addedLatency(ctx context.Context, through, alone *load) (figure, error) {
	const turns = 5
	var measured rounds
	var added []float64
	for n := range turns {
		var p99 [2]float64
		sides := []int{0, 1}
		if n%2 == 1 {
			sides = []int{1, 0}
		}
		for _, side := range sides {
			latencies, err := []*load{through, alone}[side].openLoop(ctx, tunnelConnections[0], tunnelRate, w.openLoop/turns)
			if err != nil {
				return figure{}, err
			}
			p99[side] = percentile(latencies, 0.99).Seconds() * 1000
		}
		measured.add(p99[0], p99[1])
		added = append(added, p99[0]-p99[1])
	}
	atMost1 := target{atMost: true, bound: 1, unit: " ms"}
	middle := median(added)
	written := func(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
	return figure{
		what:    fmt.Sprintf("p99 through the tunnel at %d/s", tunnelRate),
		hubhook: written(median(measured.hubhook)),
		against: "SDK alone " + written(median(measured.against)),
		value:   fmt.Sprintf("%+.2f ms (%+.2f to %+.2f)", middle, slices.Min(added), slices.Max(added)),
		target:  "adds " + atMost1.String(),
		short:   atMost1.missed(middle),
	}, nil
}
