package inspector

import (
	"slices"
	"testing"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
)

func TestSamples(t *testing.T) {
	f := newFixture(t)
	var list api.Samples
	f.get("/api/samples", &list)
	var events []payload.Event
	buckets := 0
	for _, sample := range list.Samples {
		p, err := payload.Parse(sample.Body)
		if err != nil {
			t.Errorf("the sample of %s/%s: %v", sample.Scope, sample.Action, err)
			continue
		}
		if e := (payload.Event{Scope: payload.Scope(sample.Scope), Action: payload.Action(sample.Action)}); p.Event != e {
			t.Errorf("the sample of %s is one of %s", e, p.Event)
		}
		if p.Repo.Type == payload.Bucket && p.Is(payload.ScopeRepoContent, payload.Update) {
			buckets++
			if len(p.UpdatedFiles) == 0 {
				t.Errorf("the bucket's sample has no files: %s", sample.Body)
			}
			continue
		}
		events = append(events, p.Event)
	}
	if !slices.Equal(events, payload.Samples()) || buckets != 1 {
		t.Errorf("samples of %v and %d of a bucket, want %v and 1", events, buckets, payload.Samples())
	}
}
