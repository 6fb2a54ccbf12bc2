package main

import (
	"context"
	"log"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func triggerTraining(ctx context.Context, p *payload.Payload) (any, error) {
	if p.Repo.Type == payload.Dataset && p.Event.Action == payload.Update {
		log.Printf("train on %s at %s", p.Repo.Name, p.Repo.HeadSHA)
	}
	return nil, nil
}

func main() {
	server.Add(triggerTraining) // POST /webhooks/trigger_training
	server.Main()
}
