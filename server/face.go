package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/hubhook/hubhook/internal/queue"
)

// face is what Handler returns. Package servertest finds its methods by an interface. They are not exported otherwise, because it needs
// more of a server than users are promised.
type face struct {
	http.Handler
	server *Server
}

// Endpoints returns the names of the endpoints.
func (f face) Endpoints() []string { return f.server.names() }

// Finished waits until a delivery is finished, and that is stored, and returns it.
func (f face) Finished(ctx context.Context, id string) (*queue.Record, error) {
	q := f.server.queue.Load()
	watcher := q.Watch(1) // before the reading, so that no change is missed: more than one only says again that there was one
	defer watcher.Close()
	for {
		r, err := q.Get(ctx, id)
		if err != nil || r.State.Finished() {
			return r, err
		}
		select {
		case _, open := <-watcher.C:
			if !open {
				return r, errors.New("the server was shut down before")
			}
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}
