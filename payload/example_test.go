package payload_test

import (
	"errors"
	"fmt"

	"github.com/hubhook/hubhook/payload"
)

func ExampleParse() {
	p, err := payload.Parse([]byte(`{
		"event": {"action": "update", "scope": "repo.content"},
		"repo": {"type": "dataset", "name": "me/data", "gated": "manual"},
		"updatedRefs": [{"ref": "refs/heads/main", "oldSha": null, "newSha": "4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b"}]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	if p.Repo.Type == payload.Dataset && p.Is(payload.ScopeRepoContent, payload.Update) && p.TouchesBranch("main") {
		fmt.Println("train on", p.Repo.Name, "at", p.UpdatedRefs[0].NewSHA)
	}
	if gated, ok := p.Lookup("repo.gated"); ok {
		fmt.Println("gated:", string(gated))
	}
	// Output:
	// train on me/data at 4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b
	// gated: "manual"
}

func ExampleParse_errors() {
	for _, body := range []string{
		`{"event": "update"`,
		`{"event": {"action": "update", "scope": "repo"}, "repo": {"type": "model", "name": 5}}`,
		`{"event": "update", "scope": "repo", "webhook": {"version": 2}}`,
	} {
		_, err := payload.Parse([]byte(body))
		fmt.Println(errors.Is(err, payload.ErrUnusable), err)
	}
	// Output:
	// false not a JSON object: line 1, column 19 (byte 18): want , or }, have the end
	// true repo.name: want a string, have a number
	// true webhook.version: want 3 or later, have 2, where event is a string beside scope; make a new webhook in the Hub's settings: it sends version 3
}

// A test of a handler needs no Hub.
func ExampleSample() {
	p, err := payload.Sample(payload.ScopeRepoContent, payload.Update, map[string]any{
		"repo.name":         "me/data",
		"updatedRefs.0.ref": "refs/heads/dev",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	branch, _ := p.UpdatedRefs[0].Branch()
	fmt.Println(p.Event, p.Repo.URL.Web, branch)
	// Output: repo.content/update https://huggingface.co/datasets/me/data dev
}

func ExampleEvent_Documented() {
	p, err := payload.Sample(payload.ScopeRepoConfig, "", map[string]any{"event.scope": "repo.config.dois", "event.action": "create"})
	if err != nil {
		fmt.Println(err)
		return
	}
	event, ok := p.Event.Documented()
	fmt.Println(p.Event, "counts as", event, ok)
	// Output: repo.config.dois/create counts as repo.config/update true
}
