// Command handlers serves four endpoints, each with an option or two: training when a dataset changes, evaluation when a model does, a
// greeting for everything, and a farewell to repos that are deleted.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	register(server.Default())
	server.Main()
}

// register registers the endpoints. It is apart from main so that a test can do the same.
func register(s *server.Server) {
	s.Add(triggerTraining, server.When(isDatasetPush), server.Concurrency(1), server.Timeout(6*time.Hour))
	s.Add(triggerEvaluation, server.Retry(3, 10*time.Second))
	s.Handle("say_hello", sayHello)
	s.Handle("goodbye", goodbye, server.WhenBecause(deletes))
}

// isDatasetPush picks pushes to main. The Hub's own bots push too, a Parquet copy for example, to refs of their own.
func isDatasetPush(p *payload.Payload) bool {
	return p.Repo.Type == payload.Dataset && p.Is(payload.ScopeRepoContent, payload.Update) && p.TouchesBranch("main")
}

// triggerTraining is where a training run would start. It may take hours: the Hub has its answer after three seconds.
func triggerTraining(ctx context.Context, p *payload.Payload) (any, error) {
	log.Printf("training on %s at %s", p.Repo.Name, p.Repo.HeadSHA)
	return map[string]string{"training_on": p.Repo.HeadSHA}, nil
}

// triggerEvaluation fails for models without a commit to evaluate; a failed attempt is made again.
func triggerEvaluation(ctx context.Context, p *payload.Payload) (any, error) {
	if p.Repo.Type != payload.Model || !p.In(payload.ScopeRepo) || p.Event.Action == payload.Delete {
		return nil, nil
	}
	if p.Repo.HeadSHA == "" {
		return nil, fmt.Errorf("evaluate %s: the payload has no headSha", p.Repo.Name)
	}
	log.Printf("evaluating %s at %s", p.Repo.Name, p.Repo.HeadSHA)
	return map[string]string{"evaluating": p.Repo.HeadSHA}, nil
}

// sayHello answers every event with a greeting, and says which delivery it was.
func sayHello(ctx context.Context, p *payload.Payload) (any, error) {
	d, _ := server.DeliveryFrom(ctx)
	log.Printf("hello from %s, attempt %d", d.ID, d.Attempt)
	return map[string]string{"message": "hello " + p.Repo.Name}, nil
}

// deletes picks the end of a repo, a discussion or a comment. What it says of the rest is shown where they are listed as skipped.
func deletes(p *payload.Payload) (keep bool, why string) {
	return p.Event.Action == payload.Delete, p.Event.String() + " deletes nothing"
}

// goodbye takes leave of what is deleted.
func goodbye(ctx context.Context, p *payload.Payload) (any, error) {
	switch {
	case p.Is(payload.ScopeRepo, payload.Delete):
		log.Printf("goodbye %s", p.Repo.Name)
		return map[string]string{"message": "goodbye " + p.Repo.Name}, nil
	case p.Is(payload.ScopeDiscussion, payload.Delete) && p.Discussion != nil:
		log.Printf("goodbye discussion %d of %s", p.Discussion.Num, p.Repo.Name)
	}
	return nil, nil
}
