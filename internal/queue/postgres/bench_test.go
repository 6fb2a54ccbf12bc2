package postgres

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/testing/pgserver"

	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// BenchmarkCommit measures commits of deliveries that run at once. Each commit also has the ends of the previous one.
func BenchmarkCommit(b *testing.B) {
	header := store.PackHeader(http.Header{"Content-Type": {"application/json"}, "User-Agent": {"hub"}, "Webhook-Id": {"6653a1b2c3d4e5f6a7b8c9d0"}})
	body := bytes.Repeat([]byte(`{"event":{"action":"update"}} `), 50)
	for _, rows := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			e, err := Open(b.Context(), pgserver.Database(b), Config{Warn: func(err error) { b.Error(err) }})
			if err != nil {
				b.Fatal(err)
			}
			ids := store.IDSource{Random: ulid.Monotonic(ulid.DefaultEntropy(), 0)}
			var ends []*store.End
			deliveries := 0
			for b.Loop() {
				next := &store.Batch{Ends: ends}
				ends = nil
				for range rows {
					now := time.Now()
					a := &store.Arrival{Header: header, Body: body, Dedupe: true, Since: now.Add(-time.Hour)}
					a.Stored.ULID, a.Stored.Token = ids.Next(now), store.NewToken()
					a.Stored.Delivery = store.Delivery{
						Endpoint: "inbox", State: store.Running, Received: now, Attempts: 1, WebhookID: a.Stored.ULID.String(),
						Scope: "repo.content", Action: "update", RepoType: "dataset", RepoName: "some-user/some-data",
					}
					a.Stored.Started = now
					next.Arrivals = append(next.Arrivals, a)
					ends = append(ends, &store.End{ID: a.Stored.ULID, Endpoint: "inbox", From: store.Running, To: store.Done, Attempts: 1, Token: a.Stored.Token,
						Attempt: store.Attempt{N: 1, Started: now, Ended: true, Duration: time.Millisecond, Result: []byte("{}")}})
				}
				if err := e.Commit(next); err != nil {
					b.Fatal(err)
				}
				deliveries += rows
			}
			b.ReportMetric(float64(deliveries)/b.Elapsed().Seconds(), "deliveries/s")
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSweep measures the removal of deliveries, in steps, while no vacuum has been where they were removed. Each step goes on from
// where the one before has come, or begins anew.
func BenchmarkSweep(b *testing.B) {
	const stored = 40_000
	for _, rows := range []int{64, 256, 1024} {
		for _, goesOn := range []bool{false, true} {
			b.Run(fmt.Sprintf("rows=%d/goes_on=%v", rows, goesOn), func(b *testing.B) {
				e, err := Open(b.Context(), pgserver.Database(b), Config{Warn: func(err error) { b.Error(err) }})
				if err != nil {
					b.Fatal(err)
				}
				storetest.StoreDone(b, e, stored)
				removed := 0
				for b.Loop() {
					if !goesOn {
						e.swept = swept{}
					}
					if more, err := e.Sweep(b.Context(), store.Retention{Count: 0, Rows: rows}); err != nil || !more {
						b.Fatal(more, err)
					}
					removed += rows
				}
				b.ReportMetric(float64(removed)/b.Elapsed().Seconds(), "rows/s")
				if err := e.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
