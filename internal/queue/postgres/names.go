package postgres

import (
	"context"
	"maps"
	"sync"

	"github.com/jackc/pgx/v5"
)

// names are the names of endpoints by their hash.
type names struct {
	mu     sync.Mutex
	stored map[int64]string
	served map[int64]string // endpoints that this process has claimed deliveries for, stored or not
}

func (n *names) of(id int64) (name string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok = n.stored[id]; !ok {
		name, ok = n.served[id]
	}
	return name, ok
}

func (n *names) isStored(id int64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.stored[id]
	return ok
}

func (n *names) noteStored(some map[int64]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(n.stored, some)
}

func (n *names) noteServed(some map[int64]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(n.served, some)
}

// endpointName returns the name of an endpoint. It asks the database if another process has stored it.
func (d *database) endpointName(id int64) string {
	if name, ok := d.names.of(id); ok {
		return name
	}
	ctx, cancel := context.WithTimeout(d.life, workFor)
	defer cancel()
	var name string
	if err := d.workers.QueryRow(ctx, query("endpoint_name"), pgx.NamedArgs{"id": id}).Scan(&name); err != nil {
		d.cfg.Warn(d.failed("look up an endpoint's name", err))
		return ""
	}
	name = unescapeText(name)
	d.names.noteStored(map[int64]string{id: name})
	return name
}
