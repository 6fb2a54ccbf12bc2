package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// postgresTargets are the least ratios to the bare server, by connections; 0 for no promise. There is none with standbys: here they share
// the primary's cores, and in production they have their own.
var postgresTargets = []struct {
	connections int
	alone       float64
}{{1, 0}, {16, 0}, {mostConnections, 0.25}, {256, 0}}

// postgresSettings restore PostgreSQL's own defaults; pgserver sets smaller ones for tests.
var postgresSettings = []string{"shared_buffers=128MB", "max_wal_size=1GB"}

// measurePostgreSQL compares hubhook on a server, and on one whose commits wait for one of two standbys, with the bare server. All run
// on this machine.
func (w *workshop) measurePostgreSQL(ctx context.Context) (_ []figure, err error) {
	if _, err := pgserver.Programs(); errors.Is(err, pgserver.ErrNotInstalled) {
		w.skip(fmt.Sprintf("PostgreSQL is skipped: %v", err))
		return nil, nil
	}
	w.progress("starting PostgreSQL's servers")
	var stops stack
	defer func() { err = errors.Join(err, stops.unwind()) }()
	alone, err := w.startPrimary(ctx, &stops)
	if err != nil {
		return nil, err
	}
	replicated, err := w.startPrimary(ctx, &stops, "standby1", "standby2")
	if err != nil {
		return nil, err
	}
	sides := []struct {
		name, profile string
		server        *pgserver.Server
		hubhook       *contender
	}{
		{name: "PostgreSQL", profile: "postgresql", server: alone},
		{name: "PostgreSQL with two standbys", profile: "standbys", server: replicated},
	}
	bare, err := w.startBare(ctx)
	if err != nil {
		return nil, err
	}
	stops.push(bare.stop)
	for i := range sides {
		s := &sides[i]
		if s.hubhook, err = w.startHubhook(ctx, store{database: s.server.URL(databaseName)}); err != nil {
			return nil, err
		}
		stops.push(s.hubhook.stop)
	}

	byName := make(map[string][]figure)
	most := make(map[string]float64)
	for _, t := range postgresTargets {
		connections := counting(t.connections, "connection")
		gauges := []gauge{bare.gauge(ctx, t.connections)}
		for _, s := range sides {
			gauges = append(gauges, s.hubhook.gauge(ctx, t.connections))
		}
		measured, err := w.takeTurns("PostgreSQL, "+connections, gauges...)
		if err != nil {
			return nil, err
		}
		for i, s := range sides {
			rates, least := measured[i+1], target{}
			if s.server == alone {
				least = atLeast(t.alone)
			}
			byName[s.name] = append(byName[s.name], rounds{rates, measured[0]}.figure(s.name+", "+connections, "bare", least, perSecond))
			if t.connections == mostConnections {
				most[s.name] = median(rates)
			}
			if err := w.profiledRate(ctx, s.hubhook, s.profile, t.connections); err != nil {
				return nil, err
			}
		}
	}
	var figures []figure
	for _, s := range sides {
		half := most[s.name] / 2
		latency, err := w.compareLatency(ctx, fmt.Sprintf("%s at %s, half of its most", s.name, perSecond(half)), half, s.hubhook, bare, "bare", target{})
		if err != nil {
			return nil, err
		}
		figures = append(append(figures, byName[s.name]...), latency...)
	}
	return figures, nil
}

const databaseName = "bench"

// startPrimary starts a server with an empty database, and standbys with these names. Each commit waits for any one of the standbys.
func (w *workshop) startPrimary(ctx context.Context, stops *stack, standbys ...string) (*pgserver.Server, error) {
	primary, err := pgserver.Start(ctx, postgresSettings...)
	if err != nil {
		return nil, err
	}
	stops.push(primary.Close)
	for _, name := range standbys {
		standby, err := primary.Standby(ctx, name, postgresSettings...)
		if err != nil {
			return nil, fmt.Errorf("start the standby %s: %w", name, err)
		}
		stops.push(standby.Close)
	}
	if len(standbys) > 0 {
		if err := primary.RequireStandbys(ctx, standbys...); err != nil {
			return nil, err
		}
	}
	return primary, primary.CreateDatabase(ctx, databaseName)
}

// A stack holds things to stop, the last one first.
type stack []func() error

func (s *stack) push(stop func() error) { *s = append(*s, stop) }

func (s *stack) unwind() error {
	var errs []error
	for i := len(*s) - 1; i >= 0; i-- {
		errs = append(errs, (*s)[i]())
	}
	return errors.Join(errs...)
}
