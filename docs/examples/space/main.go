// Command space is the program of a Docker Space that receives webhooks, and, as `space run-job`, of a Hub Job that a webhook starts; see
// README.md.
package main

import (
	"context"
	"log"
	"os"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// triggerTraining is called for each delivery to /webhooks/trigger_training, and what it returns is the answer's body.
func triggerTraining(ctx context.Context, p *payload.Payload) (any, error) {
	if p.Repo.Type != payload.Dataset || p.Event.Action != payload.Update {
		return map[string]bool{"training": false}, nil
	}
	log.Printf("start training on %s at %s", p.Repo.Name, p.Repo.HeadSHA)
	return map[string]bool{"training": true}, nil
}

func main() {
	server.Add(triggerTraining)
	if len(os.Args) > 1 && os.Args[1] == "run-job" {
		os.Exit(runJob())
	}
	server.Main()
}

// runJob handles the one delivery that a webhook has started this Job for.
func runJob() (status int) {
	ctx, stop := server.UntilSignal(context.Background())
	defer stop()
	if err := server.RunJob(ctx); err != nil {
		server.PrintError(os.Stderr, err)
		return 1
	}
	return 0
}
