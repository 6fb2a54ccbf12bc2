package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// leastOfEarlier is the least ratio to the hubhook of an earlier commit.
const leastOfEarlier = 0.97

// measureEarlier compares this hubhook with the hubhook of another commit, on each engine, if -earlier names a build of bench from there.
func (w *workshop) measureEarlier(ctx context.Context) ([]figure, error) {
	if w.earlier == "" {
		if w.only == "earlier" {
			return nil, errors.New("-only earlier needs -earlier: go build -o FILE ./internal/tools/bench in a checkout of the earlier commit")
		}
		return nil, nil
	}
	program, err := exec.LookPath(w.earlier)
	if err != nil {
		return nil, fmt.Errorf("find the earlier build of bench: %w", err)
	}
	figures, err := w.compareEarlier(ctx, "SQLite", store{}, store{program: program})
	if err != nil {
		return nil, err
	}
	if _, err := pgserver.Programs(); errors.Is(err, pgserver.ErrNotInstalled) {
		w.skip(fmt.Sprintf("the earlier hubhook on PostgreSQL is skipped: %v", err))
		return figures, nil
	}
	more, err := w.compareEarlierOnPostgres(ctx, program)
	return append(figures, more...), err
}

// compareEarlierOnPostgres gives each of the two a server of its own.
func (w *workshop) compareEarlierOnPostgres(ctx context.Context, program string) (_ []figure, err error) {
	var stops stack
	defer func() { err = errors.Join(err, stops.unwind()) }()
	var urls []string
	for range 2 {
		s, err := w.startPrimary(ctx, &stops)
		if err != nil {
			return nil, err
		}
		urls = append(urls, s.URL(databaseName))
	}
	return w.compareEarlier(ctx, "PostgreSQL", store{database: urls[0]}, store{database: urls[1], program: program})
}

func (w *workshop) compareEarlier(ctx context.Context, engine string, ours, theirs store) (figures []figure, err error) {
	var stops stack
	defer func() { err = errors.Join(err, stops.unwind()) }()
	now, err := w.startHubhook(ctx, ours)
	if err != nil {
		return nil, err
	}
	stops.push(now.stop)
	before, err := w.startHubhook(ctx, theirs)
	if err != nil {
		return nil, err
	}
	stops.push(before.stop)
	for _, t := range deliveryTargets {
		what := fmt.Sprintf("%s, %s", engine, counting(t.connections, "connection"))
		measured, err := w.takeTurns("beside the earlier one, "+what, now.gauge(ctx, t.connections), before.gauge(ctx, t.connections))
		if err != nil {
			return nil, err
		}
		figures = append(figures, rounds{measured[0], measured[1]}.figure(what, "earlier", atLeast(leastOfEarlier), perSecond))
	}
	return figures, nil
}
