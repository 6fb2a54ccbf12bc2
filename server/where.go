package server

import (
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

// where keeps the addresses that a running server has, for those who ask: the home page, the inspector.
type where struct {
	mu sync.Mutex
	places
}

type places struct {
	started       time.Time
	local         string // base URLs without a trailing slash
	public        string
	inspector     string
	inspectorPage string           // with the token
	tunnel        api.TunnelChange // its state, and since when it is so
	probe         *api.Probe       // the last one, nil before it
	lost          bool             // the last probe met somebody else
}

func (w *where) get() places {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.places
}

func (w *where) set(change func(*places)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.places)
}

// publicBase returns the base URL to paste into the Hub's settings, the local one where there is no public one, "" before Run.
func (s *Server) publicBase() string {
	p := s.where.get()
	if p.public != "" {
		return p.public
	}
	return p.local
}
