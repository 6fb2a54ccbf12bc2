package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	probeSize  = 4096
	probePages = 256
	// probeEvery leaves the disk free between two writes, so that the probe itself slows nothing.
	probeEvery = 5 * time.Millisecond
)

// A probe times writes of 4 KB with their syncs, until it is stopped. It writes the same pages again and again, as a database does with its
// log, so that a sync has no new size of the file to store.
type probe struct {
	file *os.File
	end  chan struct{}
	done chan error // the end of the goroutine
	took []time.Duration
}

// startProbe probes the disk that is measured.
func (w *workshop) startProbe() (*probe, error) {
	f, err := os.Create(filepath.Join(w.dir, "probe"))
	if err == nil {
		_, err = f.Write(make([]byte, probeSize*probePages))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the disk's probe: %w", err), f.Close())
	}
	p := &probe{file: f, end: make(chan struct{}), done: make(chan error, 1)}
	go func() { p.done <- p.run() }()
	return p, nil
}

func (p *probe) run() error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	page := make([]byte, probeSize)
	for n := int64(0); ; n++ {
		select {
		case <-p.end:
			return nil
		case <-tick.C:
		}
		begin := time.Now()
		if _, err := p.file.WriteAt(page, n%probePages*probeSize); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		if err := dataSync(p.file); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		p.took = append(p.took, time.Since(begin))
	}
}

// stop returns how long each write took with its sync, in order.
func (p *probe) stop() ([]time.Duration, error) {
	close(p.end)
	err := errors.Join(<-p.done, p.file.Close())
	if err == nil && len(p.took) == 0 {
		err = errors.New("probe the disk: no write ended in time")
	}
	return p.took, err
}
