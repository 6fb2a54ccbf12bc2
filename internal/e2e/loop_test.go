//go:build unix

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
)

// A program that pushes to the repo that it watches is told of on the screen and in the inspector, once. One whose own changes are skipped is not.
func TestALoopIsNoticed(t *testing.T) {
	t.Parallel()
	handled := make(chan string, 64) // paths
	program := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { handled <- r.URL.Path }))
	defer program.Close()
	h := newHome(t)
	h.work(t, "hubhook.yaml", fmt.Sprintf(`endpoints:
  loops: {forward: %[1]s/loops}
  careful: {if: branch("main"), forward: %[1]s/careful}
`, program.URL))
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel")
	body := func(ref string) string {
		return `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"me/data"},"updatedRefs":[{"ref":"` + ref +
			`","oldSha":"1111111111111111111111111111111111111111","newSha":"2222222222222222222222222222222222222222"}]}`
	}
	// The Hub tells of a push once the program has made it, here at the end of its answer.
	for n := range 8 {
		id := fmt.Sprint("push-", n)
		first := p.settled(p.post("loops", body("refs/heads/main"), "Webhook-Id", id).delivery(), queue.Done, queue.Dead)
		<-handled
		main := p.settled(p.post("careful", body("refs/heads/main"), "Webhook-Id", id).delivery(), queue.Done, queue.Dead)
		<-handled
		own := p.settled(p.post("careful", body("refs/pr/1"), "Webhook-Id", id+"-own").delivery(), queue.Done, queue.Dead, queue.Skipped)
		if first.State != "done" || main.State != "done" || own.State != "skipped" {
			t.Fatalf("the deliveries are %s, %s and %s (%s); want done, done and skipped", first.State, main.State, own.State, own.Reason)
		}
	}
	const words = "does the handler change what it watches?"
	p.poll("the notice", func() (bool, string) { return strings.Contains(p.errs.String(), words), p.errs.String() })
	status, err := p.inspector().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Loops) != 1 || status.Loops[0].Endpoint != "loops" || status.Loops[0].Deliveries < 5 || status.Loops[0].Repo.Name != "me/data" {
		t.Errorf("the inspector's loops are %+v; want one, of the endpoint loops", status.Loops)
	}
	p.stop()
	if said := p.errs.String(); strings.Count(said, words) != 1 || !strings.Contains(said, "endpoint loops: 5 deliveries of repo.content of dataset me/data") {
		t.Errorf("standard error is\n%s\nwant one notice", said)
	}
}
