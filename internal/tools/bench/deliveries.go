package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// deliveryTargets are the least ratios of durable deliveries a second, by connections; 0 where none is promised.
var deliveryTargets = []struct {
	connections          int
	bare, webhooksServer float64
}{
	{1, 0.25, 0.8},
	{16, 0.30, 2.5},
	{mostConnections, 0.40, 3.5},
	{256, 0, 0},
}

// mostConnections is the number of connections of figures that name none.
const mostConnections = 64

// A field is the servers that are compared. webhooks is nil if WebhooksServer can't be had.
type field struct {
	hubhook, bare, webhooksServer *contender
}

func (w *workshop) startField(ctx context.Context) (f *field, err error) {
	f = new(field)
	if f.bare, err = w.startBare(ctx); err != nil {
		return nil, err
	}
	if f.hubhook, err = w.startHubhook(ctx, store{}); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	if f.webhooksServer, err = w.startWebhooksServer(ctx); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	return f, nil
}

// all returns the running servers, hubhook first.
func (f *field) all() []*contender {
	return slices.DeleteFunc([]*contender{f.hubhook, f.bare, f.webhooksServer}, func(c *contender) bool { return c == nil })
}

func (f *field) stop() error {
	var errs []error
	for _, c := range f.all() {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// reached holds the deliveries a second that servers reached in this run, for later measurements; 0 for a server that did not run.
type reached struct {
	hubhook, webhooksServer float64
}

// measureDeliveries compares durable deliveries a second and the memory after them, then measures latency at half of the rates reached.
func (w *workshop) measureDeliveries(ctx context.Context) ([]figure, error) {
	figures, most, err := w.measureRates(ctx)
	if err != nil || w.only == "deliveries" {
		return figures, err
	}
	latency, err := w.measureLatency(ctx, most)
	if w.only == "latency" {
		return latency, err
	}
	return append(figures, latency...), err
}

// measureRates also returns the deliveries a second over mostConnections. It ends its servers, because a server that holds more
// deliveries than it keeps is busy removing them at rest.
func (w *workshop) measureRates(ctx context.Context) (_ []figure, most reached, err error) {
	f, err := w.startField(ctx)
	if err != nil {
		return nil, reached{}, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	var toBare, toWebhooksServer []figure
	for _, t := range deliveryTargets {
		if w.only == "latency" && t.connections != mostConnections {
			continue
		}
		what := "deliveries, " + counting(t.connections, "connection")
		var gauges []gauge
		for _, c := range f.all() {
			gauges = append(gauges, c.gauge(ctx, t.connections))
		}
		measured, err := w.takeTurns(what, gauges...)
		if err != nil {
			return nil, reached{}, err
		}
		hubhook, bare := measured[0], measured[1]
		toBare = append(toBare, rounds{hubhook, bare}.figure(what, "bare", atLeast(t.bare), perSecond))
		if f.webhooksServer != nil {
			toWebhooksServer = append(toWebhooksServer, rounds{hubhook, measured[2]}.figure(what, webhooksServer, atLeast(t.webhooksServer), perSecond))
		}
		if t.connections == mostConnections {
			most.hubhook = median(hubhook)
			if f.webhooksServer != nil {
				most.webhooksServer = median(measured[2])
			}
		}
		if err := w.profiledRate(ctx, f.hubhook, "deliveries", t.connections); err != nil {
			return nil, reached{}, err
		}
	}
	w.progress("memory after the deliveries")
	held, err := w.rested(ctx, f.hubhook.process)
	if err != nil {
		return nil, reached{}, err
	}
	after := figure{what: fmt.Sprintf("memory after %d deliveries", f.hubhook.answered), hubhook: mebibytes(held)}
	return append(append(toBare, toWebhooksServer...), after), most, nil
}

// measureLatency compares hubhook with the bare server at hubhook's rate, which shows what client and machine add to hubhook's latency.
// It compares hubhook with WebhooksServer at WebhooksServer's rate.
func (w *workshop) measureLatency(ctx context.Context, most reached) (_ []figure, err error) {
	f, err := w.startField(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	half := fmt.Sprintf("at %s, half of hubhook's most", perSecond(most.hubhook/2))
	figures, err := w.compareLatency(ctx, half, most.hubhook/2, f.hubhook, f.bare, "bare", target{atMost: true, bound: 10, unit: " ms"})
	if err != nil {
		return nil, err
	}
	if f.webhooksServer != nil {
		half := fmt.Sprintf("at %s, half of %s's most", perSecond(most.webhooksServer/2), webhooksServer)
		compared, err := w.compareLatency(ctx, half, most.webhooksServer/2, f.hubhook, f.webhooksServer, webhooksServer, target{})
		if err != nil {
			return nil, err
		}
		figures = append(figures, compared...)
	}
	return figures, w.profiledLatency(ctx, f.hubhook, "latency", most.hubhook/2)
}

// compareLatency sends two servers the same rate, one after the other. The target is for hubhook's p99.
func (w *workshop) compareLatency(ctx context.Context, what string, rate float64, hubhook, against *contender, rival string, t target) ([]figure, error) {
	w.progress("latency %s", what)
	taken, err := hubhook.latencies(ctx, rate, w.openLoop)
	if err != nil {
		return nil, err
	}
	takenByRival, err := against.latencies(ctx, rate, w.openLoop)
	if err != nil {
		return nil, err
	}
	typical, rivalsTypical := medianSecond(taken, w.openLoop), medianSecond(takenByRival, w.openLoop)
	p99 := percentile(taken, 0.99)
	return []figure{
		{what: "p50 " + what, hubhook: milliseconds(percentile(taken, 0.5)), against: rival + " " + milliseconds(percentile(takenByRival, 0.5))},
		{what: "p99", hubhook: milliseconds(p99), against: rival + " " + milliseconds(percentile(takenByRival, 0.99)),
			target: t.String(), short: t.missed(p99.Seconds() * 1000)},
		{what: "p99 of the median second", hubhook: milliseconds(typical), against: rival + " " + milliseconds(rivalsTypical)},
	}, nil
}

// profiledLatency writes a CPU profile of hubhook at a fixed rate, if -profile asks for profiles.
func (w *workshop) profiledLatency(ctx context.Context, c *contender, name string, rate float64) error {
	if w.profiles == "" {
		return nil
	}
	return c.profiled(filepath.Join(w.profiles, name+".pprof"), func() error {
		_, err := c.latencies(ctx, rate, w.profile)
		return err
	})
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
