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
