package inspector

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
)

// documentedSamples returns a payload for each documented event. A push has two: to a repo, and to a bucket, which has other fields.
var documentedSamples = sync.OnceValues(func() ([]api.SampleEvent, error) {
	var samples []api.SampleEvent
	add := func(e payload.Event, set map[string]any) error {
		p, err := payload.Sample(e.Scope, e.Action, set)
		if err != nil {
			return fmt.Errorf("making the sample of %s: %w", e, err)
		}
		samples = append(samples, api.SampleEvent{Scope: string(e.Scope), Action: string(e.Action), Body: p.Raw()})
		return nil
	}
	for _, e := range payload.Samples() {
		if err := add(e, nil); err != nil {
			return nil, err
		}
		if e.Scope != payload.ScopeRepoContent {
			continue
		}
		if err := add(e, map[string]any{"repo.type": payload.Bucket}); err != nil {
			return nil, err
		}
	}
	return samples, nil
})

func (in *Inspector) samples(w http.ResponseWriter, r *http.Request) {
	samples, err := documentedSamples()
	if err != nil {
		fail(w, "listing the samples", err)
		return
	}
	writeJSON(w, http.StatusOK, api.Samples{Samples: samples})
}
