package servertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/server/servertest"
)

// register registers the program's endpoints. Its main function calls it with server.Default().
func register(s *server.Server) {
	s.Add(triggerTraining, server.When(isDataset), server.Retry(3, 10*time.Second))
}

func isDataset(p *payload.Payload) bool { return p.Repo.Type == payload.Dataset }

// triggerTraining fails while no GPU is free, which is so at first.
func triggerTraining(ctx context.Context, p *payload.Payload) (any, error) {
	if d, _ := server.DeliveryFrom(ctx); d.Attempt == 1 {
		return nil, errors.New("no GPU is free")
	}
	fmt.Fprintln(server.Output(ctx), "training on", p.Repo.Name)
	return nil, nil
}

// A push to a dataset starts a training, in the second attempt.
func TestTraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the wait between the attempts takes no time in it
		s := servertest.Start(t, server.Config{}, register)
		push := s.Trigger("trigger_training", payload.ScopeRepoContent, payload.Update, map[string]any{
			"repo.type": payload.Dataset,
			"repo.name": "me/data",
		})
		if push.Status != 202 {
			t.Errorf("the Hub is answered %d", push.Status)
		}
		got := push.Wait()
		if got.State != servertest.Done || len(got.Attempts) != 2 || got.Output != "training on me/data\n" {
			t.Errorf("%s after %d attempts: %s%s", got.State, len(got.Attempts), got.Reason, got.Output)
		}
	})
}

// A push to a model does not.
func TestTrainingLeavesModelsAlone(t *testing.T) {
	s := servertest.Start(t, server.Config{}, register)
	got := s.Trigger("trigger_training", payload.ScopeRepoContent, payload.Update, map[string]any{"repo.type": payload.Model}).Wait()
	if got.State != servertest.Skipped {
		t.Errorf("%s: %s", got.State, got.Reason)
	}
}
