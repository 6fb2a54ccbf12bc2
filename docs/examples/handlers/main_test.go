package main

import (
	"testing"

	"github.com/hubhook/hubhook/payload"
)

func TestTrainingWantsDatasets(t *testing.T) {
	push, err := payload.Sample(payload.ScopeRepoContent, payload.Update, map[string]any{
		"repo.type": payload.Dataset,
		"repo.name": "me/data",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !isDatasetPush(push) {
		t.Errorf("%s of %s %s starts no training", push.Event, push.Repo.Type, push.Repo.Name)
	}
	result, err := triggerTraining(t.Context(), push)
	if got := result.(map[string]string)["training_on"]; err != nil || got != push.Repo.HeadSHA {
		t.Errorf("training on %q (%v), want %q", got, err, push.Repo.HeadSHA)
	}
}

func TestTrainingLeavesOthersAlone(t *testing.T) {
	for name, set := range map[string]map[string]any{
		"a model":       {"repo.type": payload.Model},
		"another ref":   {"repo.type": payload.Dataset, "updatedRefs.0.ref": "refs/convert/parquet"},
		"a new comment": {"repo.type": payload.Dataset, "event.scope": "discussion.comment", "event.action": "create"},
	} {
		p, err := payload.Sample(payload.ScopeRepoContent, payload.Update, set)
		if err != nil {
			t.Fatal(err)
		}
		if isDatasetPush(p) {
			t.Errorf("%s starts a training", name)
		}
	}
}
