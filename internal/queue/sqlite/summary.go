package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// summary is what is kept beside the deliveries, in the same transactions, so that opening need not count them.
type summary struct {
	Last   int64                              `json:"last"`           // the greatest key ever
	Low    int64                              `json:"low"`            // no delivery before it runs without having waited
	Base   int64                              `json:"base,omitempty"` // as stored, Counts has no delivery from it on; 0: it has all
	Clean  bool                               `json:"clean"`          // closed in order
	Counts map[int64]*[store.StateCount]int64 `json:"counts"`
}

// summaryEvery is how many commits may go by without the summary, as long as they change nothing that the stored one counts: it is a page of
// its own, and one of three or four that a lone delivery writes. What has come since then is counted at the next start.
const summaryEvery = 16

// countNewer adds the deliveries from Base on, if there are any, of which rows are endpoint, state, number and greatest key.
func (s *summary) countNewer(rows [][]driver.Value) error {
	for _, row := range rows {
		endpoint, state := row[0].(int64), row[1].(int64)
		if state < 0 || state >= store.StateCount {
			return fmt.Errorf("there is no state %d", state)
		}
		if s.Counts[endpoint] == nil {
			s.Counts[endpoint] = new([store.StateCount]int64)
		}
		s.Counts[endpoint][state] += row[2].(int64)
		s.Last = max(s.Last, row[3].(int64))
	}
	return nil
}

// newer is the query for countNewer. Its argument is that of from.
const newer = "SELECT endpoint, state, count(*), max(id) FROM delivery WHERE id >= ? GROUP BY 1, 2"

// sum is how many deliveries Counts has.
func (s *summary) sum() (n int) {
	for _, states := range s.Counts {
		for _, count := range states {
			n += int(count)
		}
	}
	return n
}

// from is the key of the first delivery that the stored counts do not have.
func (s *summary) from() int64 {
	if s.Base == 0 {
		return math.MaxInt64
	}
	return s.Base
}

func (s *summary) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers only
	}
	return b
}

func (e *Engine) readSummary() error {
	e.summary = summary{Clean: true, Counts: map[int64]*[store.StateCount]int64{}}
	e.endpoints, e.names, e.greatest = map[string]int64{}, map[int64]string{}, 0
	rows, err := e.w.query("SELECT value FROM summary")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := json.Unmarshal(row[0].([]byte), &e.summary); err != nil {
			return fmt.Errorf("read the summary: %w", err)
		}
	}
	if rows, err = e.w.query(newer, e.summary.from()); err == nil {
		err = e.summary.countNewer(rows)
	}
	if err != nil {
		return fmt.Errorf("count the newest deliveries: %w", err)
	}
	rows, err = e.w.query("SELECT id, name FROM endpoint")
	if err != nil {
		return err
	}
	for _, row := range rows {
		e.endpoints[row[1].(string)], e.names[row[0].(int64)] = row[0].(int64), row[1].(string)
		e.greatest = max(e.greatest, row[0].(int64))
	}
	for id := range e.names {
		e.countsOf(id)
	}
	e.publish()
	return nil
}

// countsOf returns the counts of an endpoint, to be changed.
func (e *Engine) countsOf(endpoint int64) *[store.StateCount]int64 {
	n := e.summary.Counts[endpoint]
	if n == nil {
		n = new([store.StateCount]int64)
		e.summary.Counts[endpoint] = n
	}
	return n
}

// publish makes the counts of the last commit those that readers get.
func (e *Engine) publish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shown == nil || len(e.shown) != len(e.summary.Counts) {
		e.shown = make(map[int64]*[store.StateCount]int64, len(e.summary.Counts))
	}
	for id, n := range e.summary.Counts {
		if e.shown[id] == nil {
			e.shown[id] = new([store.StateCount]int64)
		}
		*e.shown[id] = *n
	}
	e.low = e.summary.Low
}

// sumUp returns the summary to be stored, which counts the deliveries before base: all that are stored by now.
func (e *Engine) sumUp(base int64) []byte {
	e.summary.Base, e.unsaid = base, 0
	return e.summary.encode()
}
