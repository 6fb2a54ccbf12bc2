//go:build unix

package e2e_test

import (
	"os"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/payload"
)

// What docs/migrate.md says of a program for WebhooksServer under `hubhook dev`. TestMigrate of docs/examples sends the same to the program
// in Go.
func TestMigrate(t *testing.T) {
	t.Parallel()
	python := realPython(t)
	h := newHome(t)
	code, err := os.ReadFile("../../docs/examples/migrate/app.py")
	if err != nil {
		t.Fatal(err)
	}
	h.work(t, "app.py", string(code))
	h.env = append(h.env, "PYTHONDONTWRITEBYTECODE=1")
	p := h.run(t, hubhook, "dev", "--json", "--no-tunnel", "--port", "0", "--inspector", "127.0.0.1:0", "--reply-within", "25s", "--", python, "app.py")
	p.awaitReady()
	p.await("the doubled path", patience, func(e event) bool {
		return e.Type == "program" && len(e.Endpoints) == 2 && e.Endpoints[1].Name == "webhooks/mirror"
	})
	send := func(endpoint string, set map[string]any) answer {
		body, err := payload.Sample(payload.ScopeRepoContent, payload.Update, set)
		if err != nil {
			t.Fatal(err)
		}
		return p.post(endpoint, string(body.Raw()))
	}
	if a := send("trigger_training", map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data"}); a.body != `{"training":"me/data"}` {
		t.Errorf("a dataset: %d %s", a.status, a.body)
	}
	p.await("no commit", patience, func(e event) bool { return e.Type == "output" && e.Output == "train on me/data at None" })
	if a := send("trigger_training", map[string]any{"repo.type": payload.Bucket}); a.status != 202 || !strings.Contains(a.body, `"state":"retrying"`) {
		t.Errorf("a bucket: %d %s, want a failed attempt", a.status, a.body)
	}
	if a := send("webhooks/mirror", map[string]any{"repo.private": true}); a.status != 200 || a.body != `[{"error":"private"},400]` {
		t.Errorf("a status in the result: %d %s", a.status, a.body)
	}
	p.interrupt()
}
