//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

const (
	diskSize = 512 << 20        // of the small disk
	roomBack = 10 * time.Second // from room on the disk to the next accepted delivery, at most
)

// harm kills, stops and disturbs the processes as production does, one fault after the other, until ctx ends.
func (s *soak) harm(ctx context.Context, rnd *rand.Rand) {
	for sleep(ctx, 100*time.Millisecond+time.Duration(rnd.IntN(int(time.Second)))) == nil {
		p := s.anyProcess(rnd)
		switch roll := rnd.IntN(10); {
		case roll < 6:
			if p.end(syscall.SIGKILL, false) {
				s.count("kill -9")
			}
		case roll < 8:
			if p.end(syscall.SIGTERM, false) {
				s.count("SIGTERM")
			}
		case s.postgres != nil:
			if err := s.harmPostgres(ctx, rnd); err != nil {
				s.violation("%v", err)
			}
		case !s.cfg.sharing() && rnd.IntN(2) == 0:
			if err := s.backUp(ctx); err != nil {
				s.violation("%v", err)
			}
		case s.disk != "":
			if err := s.fillDisk(ctx, time.Duration(rnd.IntN(int(2*time.Second)))); err != nil {
				s.violation("%v", err)
			}
		}
	}
}

// mountDisk mounts a small disk below the data directory, if this user may, so that a fault can fill it.
func (s *soak) mountDisk() error {
	if err := mount(s.data, diskSize); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	s.disk = s.data
	return nil
}

// fillDisk fills the disk for a while, and checks that deliveries are accepted again soon after.
func (s *soak) fillDisk(ctx context.Context, lasts time.Duration) (err error) {
	s.count("full disk")
	ballast := filepath.Join(s.disk, "ballast")
	if err := fill(ballast); err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	_ = sleep(ctx, lasts)
	before := s.stored.Load()
	if err := os.Remove(ballast); err != nil {
		return fmt.Errorf("make room on the disk: %w", err)
	}
	room := time.Now()
	for s.stored.Load() == before {
		if time.Since(room) > roomBack {
			return fmt.Errorf("%v after there was room on the disk again, nothing is accepted", roomBack)
		}
		if sleep(ctx, 10*time.Millisecond) != nil {
			return nil
		}
	}
	return nil
}

// fill writes a file until there is no room left.
func fill(file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for size := 1 << 20; size >= 1<<10; size /= 4 {
		block := make([]byte, size)
		for err == nil {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		err = nil
	}
	return nil
}

// backUp copies the database during all other faults. It checks that the copy has the events that were accepted before.
func (s *soak) backUp(ctx context.Context) error {
	s.count("backup")
	s.mu.Lock()
	var last *event
	for i := len(s.round) - 1; i >= 0 && last == nil; i-- {
		if _, ok := s.round[i].accepted(); ok {
			last = s.round[i]
		}
	}
	s.mu.Unlock()
	dir, err := os.MkdirTemp(s.dir, "backup")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "copy.db")
	if _, err := queue.Backup(context.WithoutCancel(ctx), queue.BackupConfig{Dir: s.data, File: file}); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := wantSound(file); err != nil {
		return err
	}
	if last == nil {
		return nil
	}
	return wantRow(file, last.repo)
}

// startPostgres starts a server for this run.
func (s *soak) startPostgres(ctx context.Context) (err error) {
	if s.postgres, err = pgserver.Start(ctx); err != nil {
		return err
	}
	const name = "soak"
	if err := s.postgres.CreateDatabase(ctx, name); err != nil {
		return errors.Join(err, s.postgres.Close())
	}
	s.cfg.database = s.postgres.URL(name)
	return nil
}

// harmPostgres does one of the faults of production to the PostgreSQL server: it cuts its connections, pauses it, or kills it.
func (s *soak) harmPostgres(ctx context.Context, rnd *rand.Rand) error {
	after := context.WithoutCancel(ctx) // undoes a fault after ctx has ended, too
	lasts := time.Duration(rnd.IntN(int(2 * time.Second)))
	switch rnd.IntN(3) {
	case 0:
		s.count("PostgreSQL: connections ended")
		return s.postgres.Exec(after, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'soak'")
	case 1:
		s.count("PostgreSQL: stood still")
		err := s.postgres.Pause()
		_ = sleep(ctx, lasts)
		return errors.Join(err, s.postgres.Continue())
	default:
		s.count(postgresKilled)
		err := s.postgres.Kill()
		_ = sleep(ctx, lasts)
		return errors.Join(err, s.postgres.Resume(after))
	}
}
