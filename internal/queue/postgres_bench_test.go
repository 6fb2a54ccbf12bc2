package queue

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/oklog/ulid/v2"
)

// BenchmarkPostgresCommit measures commits of deliveries that run at once, each commit with the ends of the one before.
func BenchmarkPostgresCommit(b *testing.B) {
	header := packHeader(http.Header{"Content-Type": {"application/json"}, "User-Agent": {"hub"}, "Webhook-Id": {"6653a1b2c3d4e5f6a7b8c9d0"}})
	body := bytes.Repeat([]byte(`{"event":{"action":"update"}} `), 50)
	for _, rows := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			e, err := openPostgres(b.Context(), pgserver.Database(b), postgresConfig{warn: func(err error) { b.Error(err) }})
			if err != nil {
				b.Fatal(err)
			}
			ids := idSource{random: ulid.Monotonic(ulid.DefaultEntropy(), 0)}
			var ends []*ending
			deliveries := 0
			for b.Loop() {
				next := &batch{ends: ends}
				ends = nil
				for range rows {
					now := time.Now()
					a := &arrival{header: header, body: body, dedupe: true, since: now.Add(-time.Hour)}
					a.d.id, a.d.token = ids.next(now), newToken()
					a.d.Delivery = Delivery{
						Endpoint: "inbox", State: Running, Received: now, Attempts: 1, WebhookID: a.d.id.String(),
						Scope: "repo.content", Action: "update", RepoType: "dataset", RepoName: "some-user/some-data",
					}
					a.d.started = now
					next.arrivals = append(next.arrivals, a)
					ends = append(ends, &ending{id: a.d.id, endpoint: "inbox", from: Running, to: Done, attempts: 1, token: a.d.token,
						attempt: Attempt{N: 1, Started: now, Ended: true, Duration: time.Millisecond, Result: []byte("{}")}})
				}
				if err := e.commit(next); err != nil {
					b.Fatal(err)
				}
				deliveries += rows
			}
			b.ReportMetric(float64(deliveries)/b.Elapsed().Seconds(), "deliveries/s")
			if err := e.close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
