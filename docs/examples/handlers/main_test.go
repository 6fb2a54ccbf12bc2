package main

import (
	"testing"
	"testing/synctest"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/server/servertest"
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

func TestEvaluation(t *testing.T) {
	s := servertest.Start(t, server.Config{}, register)
	push := s.Trigger("trigger_evaluation", payload.ScopeRepoContent, payload.Update, map[string]any{
		"repo.type":    payload.Model,
		"repo.headSha": "4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b",
	})
	got := push.Wait()
	if got.State != servertest.Done || string(got.Result) != `{"evaluating":"4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b"}` {
		t.Errorf("%s: %s %s", got.State, got.Reason, got.Result)
	}
}

func TestEvaluationWithoutACommitIsTriedThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servertest.Start(t, server.Config{}, register)
		got := s.Trigger("trigger_evaluation", payload.ScopeRepoContent, payload.Update, map[string]any{
			"repo.type": payload.Model, "repo.headSha": "",
		}).Wait()
		if got.State != servertest.Dead || len(got.Attempts) != 3 {
			t.Errorf("%s after %d attempts: %s", got.State, len(got.Attempts), got.Reason)
		}
	})
}

func TestGoodbyeSaysWhatItDeclines(t *testing.T) {
	s := servertest.Start(t, server.Config{}, register)
	got := s.Trigger("goodbye", payload.ScopeRepo, payload.Create, nil).Wait()
	if got.State != servertest.Skipped || got.Reason != "repo/create deletes nothing" {
		t.Errorf("%s: %s", got.State, got.Reason)
	}
}
