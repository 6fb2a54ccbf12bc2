package queue

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAccept measures whole deliveries in closed loop: stored, synced, handled, the outcome recorded.
func BenchmarkAccept(b *testing.B) {
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"hub"}, "Webhook-Id": {"6653a1b2c3d4e5f6a7b8c9d0"}}
	body := bytes.Repeat([]byte(`{"event":{"action":"update"}} `), 50)
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			q, err := Open(b.Context(), Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			done := func(context.Context, *Claim) Outcome { return Outcome{} }
			if err := q.Start([]Endpoint{{Name: "inbox", Handle: done, DedupeWindow: time.Hour}}); err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			errs := make(chan error, clients)
			b.ResetTimer()
			for range clients {
				go func() {
					for {
						i := n.Add(1)
						if i > int64(b.N) {
							errs <- nil
							return
						}
						r, err := q.Accept(b.Context(), Arrival{
							Endpoint: "inbox", WebhookID: fmt.Sprintf("6653a1b2c3d4%012x", i), Header: header, Body: body,
							Scope: "repo.content", Action: "update", RepoType: "dataset", RepoName: "some-user/some-data",
						})
						if err != nil {
							errs <- err
							return
						}
						<-r.Done()
					}
				}()
			}
			for range clients {
				if err := <-errs; err != nil {
					b.Fatal(err)
				}
			}
			if err := q.Drain(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
