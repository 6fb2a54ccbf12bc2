package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// summary is stored beside the deliveries, in the same transactions, so that Open need not count them all.
type summary struct {
	Last   int64                              `json:"last"`           // the greatest key that was ever stored
	Low    int64                              `json:"low"`            // deliveries that run without having waited have this key or a greater one
	Base   int64                              `json:"base,omitempty"` // the stored Counts leave out deliveries with this key or a greater one; 0: they count all
	Clean  bool                               `json:"clean"`          // Close ended in order
	Counts map[int64]*[store.StateCount]int64 `json:"counts"`
}

// summaryEvery is after how many commits the summary is stored at the latest. A commit that changes a delivery that the stored summary counts
// always stores it. The others can go without, because Open counts the newer deliveries. That saves a lone delivery one of the three or
// four pages that it writes.
const summaryEvery = 16

// countNewer adds the deliveries that the stored Counts leave out. rows are the result of the query newer.
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

// newer counts the deliveries from a key on. The rows are endpoint, state, number and greatest key.
const newer = "SELECT endpoint, state, count(*), max(id) FROM delivery WHERE id >= ? GROUP BY 1, 2"

// sum returns the number of deliveries in Counts.
func (s *summary) sum() (n int) {
	for _, states := range s.Counts {
		for _, count := range states {
			n += int(count)
		}
	}
	return n
}

// from returns the least key that the stored Counts may leave out.
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
