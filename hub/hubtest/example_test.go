package hubtest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
)

// A receiver that fails at first gets the delivery again, under the same Webhook-Id.
func Example() {
	broken := true
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken {
			broken = false
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer receiver.Close()

	hub := hubtest.New(hubtest.Options{Retry: hubtest.Backoff(time.Millisecond, time.Second, 5)})
	defer hub.Close()
	id, err := hub.Create(hubtest.Webhook{URL: receiver.URL + "/webhooks/inbox", Secret: "s3cret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	delivery, err := hub.Send(id, []byte(`{"event": {"scope": "repo.content", "action": "update"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(delivery.Wait(context.Background()))
	for _, attempt := range delivery.Attempts() {
		fmt.Println(attempt.Status, attempt.DeliveryID == delivery.ID)
	}
	// Output:
	// delivered <nil>
	// 502 true
	// 200 true
}
