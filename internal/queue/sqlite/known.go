package sqlite

import (
	"context"
	"database/sql/driver"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// known is what queries have to know without reading the file: the counts as of the last commit, and the names of endpoints.
type known struct {
	mu        sync.Mutex
	endpoints map[string]int64
	names     map[int64]string
	shown     map[int64]*[store.StateCount]int64 // counts of deliveries by endpoint and state
	low       int64                              // summary.Low
}

// setEndpoints replaces all endpoints.
func (k *known) setEndpoints(names map[int64]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endpoints, k.names = make(map[string]int64, len(names)), names
	for id, name := range names {
		k.endpoints[name] = id
	}
}

func (k *known) addEndpoint(id int64, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endpoints[name], k.names[id] = id, name
}

// dropEndpointsAfter removes the endpoints whose numbers are greater than last.
func (k *known) dropEndpointsAfter(last int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, name := range k.names {
		if id > last {
			delete(k.names, id)
			delete(k.endpoints, name)
		}
	}
}

// endpoint returns the number of an endpoint.
func (k *known) endpoint(name string) (id int64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id, ok = k.endpoints[name]
	return id, ok
}

func (k *known) name(id int64) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.names[id]
}

// publish shows readers the counts of a commit.
func (k *known) publish(s *summary) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.shown == nil || len(k.shown) != len(s.Counts) {
		k.shown = make(map[int64]*[store.StateCount]int64, len(s.Counts))
	}
	for id, n := range s.Counts {
		if k.shown[id] == nil {
			k.shown[id] = new([store.StateCount]int64)
		}
		*k.shown[id] = *n
	}
	k.low = s.Low
}

// Counts implements store.Engine.
func (k *known) Counts(context.Context) (store.Counts, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(store.Counts, len(k.shown))
	for id, c := range k.shown {
		states := map[store.State]int64{}
		for i, n := range c {
			if n != 0 {
				states[store.StateNames[i]] = n
			}
		}
		all[k.names[id]] = states
	}
	return all, nil
}

// delivery makes a Delivery from a row with the given columns.
func (k *known) delivery(row []driver.Value) store.Delivery {
	number := func(i int) int64 { n, _ := row[i].(int64); return n }
	str := func(i int) string { s, _ := row[i].(string); return s }
	d := store.Delivery{
		ID:       store.FromKey(number(colID)).String(),
		Endpoint: k.name(number(colEndpoint)), State: store.StateNames[number(colState)], Reason: str(colReason),
		WebhookID: str(colWebhookID), Synthetic: number(colSynthetic) != 0, Received: time.Unix(0, number(colReceived)),
		Scope: str(colScope), Action: str(colAction), RepoType: str(colRepoType), RepoName: str(colRepoName),
		Attempts: int(number(colAttempts)), Duplicates: int(number(colDuplicates)), Replays: int(number(colReplays)),
		Duration: time.Duration(number(colDuration)),
	}
	if row[colReplayOf] != nil {
		d.ReplayOf = store.FromKey(number(colReplayOf)).String()
	}
	if row[colMergedInto] != nil {
		d.MergedInto = store.FromKey(number(colMergedInto)).String()
	}
	if d.State == store.Retrying {
		d.RunAt = time.Unix(0, number(colRunAt))
	}
	return d
}

// stored makes a Stored from a row with the given columns. It has no content.
func (k *known) stored(row []driver.Value) *store.Stored {
	number := func(i int) int64 { n, _ := row[i].(int64); return n }
	s := &store.Stored{
		Delivery: k.delivery(row), ULID: store.FromKey(number(colID)),
		Failures: int(number(colFailures)), Interruptions: int(number(colInterruptions)), Serial: number(colSerial), Burst: number(colBurst),
	}
	if row[colStarted] != nil {
		s.Started = time.Unix(0, number(colStarted))
	}
	return s
}
