package hubtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
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

// A push to a repo is delivered to the webhooks that watch it or its owner.
func ExampleRepo_Push() {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if p, err := payload.Parse(body); err == nil {
			fmt.Println(p.Event.Scope, p.Event.Action, p.Repo.Name, p.UpdatedRefs[0].Ref)
		}
	}))
	defer receiver.Close()
	ctx := context.Background()

	hub := hubtest.New(hubtest.Options{})
	defer hub.Close()
	repo, err := hub.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := hub.Create(hubtest.Webhook{
		URL:     receiver.URL + "/webhooks/inbox",
		Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}},
	}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := repo.Push(hubtest.Commit{
		Title: "Add rows", Authors: []string{"jo"},
		Files: []hubtest.File{{Path: "data/train.csv", Content: []byte("a,b")}},
	}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(hub.Wait(ctx))
	// Output:
	// repo.content update me/data refs/heads/main
	// <nil>
}

// The next request for the webhooks fails as it does when the quota is used up; the log counts the requests.
func ExampleFaults_Inject() {
	hub := hubtest.NewServer(hubtest.Options{})
	defer hub.Close()
	token := hub.Accounts.AddToken(hubtest.Token{Permissions: []string{hubtest.ReadWebhooks}})
	hub.Faults.Inject(hubtest.Fault{
		Path: "/api/settings/webhooks*", Requests: 1, Answer: hubtest.TooManyRequests(30 * time.Second),
	})

	for range 2 {
		req, err := http.NewRequest("GET", hub.URL+"/api/settings/webhooks", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Printf("%d %s.\n", resp.StatusCode, resp.Header.Get("RateLimit"))
	}
	fmt.Println(hub.Requests.Count("GET", "/api/settings/webhooks"), "requests")
	// Output:
	// 429 "api";r=0;t=30.
	// 200 .
	// 2 requests
}

// A client that follows a bucket hears of an upload, and is told to reconnect.
func ExampleFeed_Reconnect() {
	hub := hubtest.NewServer(hubtest.Options{})
	defer hub.Close()
	bucket, err := hub.CreateBucket("me/files", hubtest.RepoOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := http.Get(hub.URL + "/api/buckets/me/files/events")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	if err := bucket.Upload(hubtest.File{Path: "model.bin", Content: []byte("weights")}); err != nil {
		fmt.Println(err)
		return
	}
	bucket.Feed.Reconnect()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if event, is := strings.CutPrefix(lines.Text(), "event: "); is {
			fmt.Println(event)
		}
	}
	// Output:
	// ready
	// changes
	// reconnect
}
