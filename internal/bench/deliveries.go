package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// deliverySecret is checked by hubhook, as in its normal use.
const deliverySecret = "a-secret-of-usual-length-0123456789"

// deliveryTargets are the least ratios of durable deliveries a second, by connections.
var deliveryTargets = []struct {
	connections int
	ratio       float64
}{{1, 0.22}, {16, 0.25}, {64, 0.35}}

// mostConnections are those of the figures that don't name a number.
const mostConnections = 64

// A pair is hubhook and the bare server, both running, and the same load for each. Only one of them has work at any time.
type pair struct {
	hubhook, bare         *process
	hubhookLoad, bareLoad *load
	inspector             string
	answered              int // by hubhook, 2xx
}

func (w *workshop) startPair(ctx context.Context) (*pair, error) {
	data, err := w.data("deliveries")
	if err != nil {
		return nil, err
	}
	binary, err := w.build(ctx, barePackage)
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p := new(pair)
	if p.inspector, err = freeAddr(); err != nil {
		return nil, err
	}
	if p.bare, err = launchBare(ctx, binary); err != nil {
		return nil, err
	}
	if p.hubhook, err = launchRole(ctx, "hubhook", addr, data, p.inspector, deliverySecret); err != nil {
		return nil, errors.Join(err, p.bare.stop())
	}
	for _, server := range []*process{p.bare, p.hubhook} {
		if _, err := server.ready(ctx); err != nil {
			return nil, errors.Join(err, p.stop())
		}
	}
	const endpoint = "/webhooks/inbox"
	p.hubhookLoad = newLoad(addr, addr, endpoint, deliverySecret, w.payload)
	p.bareLoad = newLoad(p.bare.addr, p.bare.addr, endpoint, deliverySecret, w.payload)
	return p, nil
}

func (p *pair) stop() error {
	return errors.Join(p.hubhook.stop(), p.bare.stop())
}

// rateHubhook returns deliveries a second. The clock stops once the last outcome is recorded.
func (p *pair) rateHubhook(ctx context.Context, connections int, d time.Duration) (float64, error) {
	answered, elapsed, err := p.hubhookLoad.closedLoop(ctx, connections, d)
	if err != nil {
		return 0, err
	}
	p.answered += answered
	waited, err := p.recorded(ctx)
	return float64(answered) / (elapsed + waited).Seconds(), err
}

func (p *pair) rateBare(ctx context.Context, connections int, d time.Duration) (float64, error) {
	answered, elapsed, err := p.bareLoad.closedLoop(ctx, connections, d)
	return float64(answered) / elapsed.Seconds(), err
}

// recorded waits until nothing that was accepted is unfinished, and returns how long that took. It fails unless every delivery that was
// answered has had its handler run without an error.
func (p *pair) recorded(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	for {
		stored, err := counted(ctx, p.inspector, "hubhook_stored_deliveries")
		if err != nil {
			return 0, err
		}
		waited := time.Since(begin)
		unfinished := stored["waiting"] + stored["running"] + stored["retrying"]
		if unfinished == 0 {
			break
		}
		if waited > answerTime {
			return 0, p.hubhook.broken(fmt.Sprintf("%d deliveries are unfinished %v after the last was answered", unfinished, answerTime), nil)
		}
	}
	waited := time.Since(begin)
	// What is stored may already have been thinned out by age and count; what this process did is all there.
	ended, err := counted(ctx, p.inspector, "hubhook_deliveries_total")
	if err != nil {
		return 0, err
	}
	if ended["done"] != p.answered {
		return 0, p.hubhook.broken(fmt.Sprintf("%d deliveries were answered 2xx, and they ended as %v", p.answered, ended), nil)
	}
	return waited, nil
}

// measureDeliveries compares durable deliveries a second and the memory after them, then looks at latency at half of the most that hubhook
// served.
func (w *workshop) measureDeliveries(ctx context.Context) ([]figure, error) {
	figures, most, err := w.measureRates(ctx)
	if err != nil || w.only == "deliveries" {
		return figures, err
	}
	latency, err := w.measureLatency(ctx, most/2)
	return append(figures, latency...), err
}

// measureRates returns also the most deliveries a second that hubhook served. Its servers have ended when it returns: one whose database
// holds more than is kept has work to do at rest.
func (w *workshop) measureRates(ctx context.Context) (figures []figure, most float64, err error) {
	p, err := w.startPair(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	for _, t := range deliveryTargets {
		if w.only == "latency" && t.connections != mostConnections {
			continue
		}
		measured, err := w.compareRates(ctx, p, t.connections)
		if err != nil {
			return nil, 0, err
		}
		most = max(most, percentile(measured.hubhook, 0.5))
		what := fmt.Sprintf("deliveries, %d connections", t.connections)
		if t.connections == 1 {
			what = "deliveries, 1 connection"
		}
		figures = append(figures, measured.figure(what, target{bound: t.ratio}, perSecond))
	}
	held, err := w.rested(ctx, p.hubhook)
	if err != nil {
		return nil, 0, err
	}
	after := memoryFigure(fmt.Sprintf("memory after %d deliveries", p.answered), held, "")
	after.target, after.short = "", false // the target is for a server at rest that has just started
	return append(figures, after), most, nil
}

func (w *workshop) compareRates(ctx context.Context, p *pair, connections int) (*rounds, error) {
	hubhook := func(d time.Duration) (float64, error) { return p.rateHubhook(ctx, connections, d) }
	bare := func(d time.Duration) (float64, error) { return p.rateBare(ctx, connections, d) }
	measured, err := w.takeTurns(hubhook, bare)
	if err != nil {
		return nil, err
	}
	if w.profiles != "" {
		file := filepath.Join(w.profiles, fmt.Sprintf("deliveries-%d.pprof", connections))
		err = p.hubhook.profiled(file, func() error {
			_, err := hubhook(w.profile)
			return err
		})
	}
	return measured, err
}

// takeTurns measures two servers in rounds, each beginning every other time, after a round of each that is not counted.
func (w *workshop) takeTurns(hubhook, against func(time.Duration) (float64, error)) (*rounds, error) {
	for _, rate := range []func(time.Duration) (float64, error){hubhook, against} {
		if _, err := rate(w.warmUp); err != nil {
			return nil, err
		}
	}
	measured := new(rounds)
	for n := range w.lengths.rounds {
		first, second := hubhook, against
		if n%2 == 1 {
			first, second = against, hubhook
		}
		a, err := first(w.round)
		if err != nil {
			return nil, err
		}
		b, err := second(w.round)
		if err != nil {
			return nil, err
		}
		if n%2 == 1 {
			a, b = b, a
		}
		measured.add(a, b)
	}
	return measured, nil
}

// measureLatency sends both servers the same rate, so that what the client and the machine add is seen beside hubhook's own.
func (w *workshop) measureLatency(ctx context.Context, rate float64) (_ []figure, err error) {
	p, err := w.startPair(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	latencies, err := p.hubhookLoad.openLoop(ctx, mostConnections, rate, w.openLoop)
	if err != nil {
		return nil, err
	}
	p.answered += len(latencies)
	if _, err := p.recorded(ctx); err != nil {
		return nil, err
	}
	bare, err := p.bareLoad.openLoop(ctx, mostConnections, rate, w.openLoop)
	if err != nil {
		return nil, err
	}
	atMost10 := target{atMost: true, bound: 10, unit: " ms"}
	typical := medianSecond(latencies, w.openLoop)
	bareTypical := medianSecond(bare, w.openLoop)
	p99 := percentile(latencies, 0.99)
	figures := []figure{{
		what:    fmt.Sprintf("p99 at %s, half of the most", perSecond(rate)),
		hubhook: milliseconds(p99),
		against: milliseconds(percentile(bare, 0.99)),
		target:  atMost10.String(),
		short:   atMost10.missed(p99.Seconds() * 1000),
	}, {
		what:    "the same in the median second",
		hubhook: milliseconds(typical),
		against: milliseconds(bareTypical),
	}}
	if w.profiles != "" {
		err = p.hubhook.profiled(filepath.Join(w.profiles, "latency.pprof"), func() error {
			latencies, err := p.hubhookLoad.openLoop(ctx, mostConnections, rate, w.profile)
			p.answered += len(latencies)
			return err
		})
	}
	return figures, err
}

// medianSecond is the p99 of the median second of d, in which a disk's rare long stalls don't show.
func medianSecond(latencies []time.Duration, d time.Duration) time.Duration {
	seconds := max(1, int(d/time.Second))
	var p99s []time.Duration
	for n := range seconds {
		second := slices.Clone(latencies[n*len(latencies)/seconds : (n+1)*len(latencies)/seconds])
		p99s = append(p99s, percentile(second, 0.99))
	}
	return percentile(p99s, 0.5)
}
