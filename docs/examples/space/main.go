// Command space is the program of a Docker Space that receives webhooks; see README.md.
package main

import (
	"context"
	"log"

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
	server.Main()
}
