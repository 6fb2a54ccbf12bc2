// Command migrate is app.py, moved to Go: go run .
package main

import (
	"context"
	"errors"
	"log"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func triggerTraining(_ context.Context, p *payload.Payload) (any, error) {
	if p.Repo.Type != payload.Dataset || p.Event.Action != payload.Update {
		return map[string]bool{"skipped": true}, nil
	}
	log.Printf("train on %s at %s", p.Repo.Name, p.Repo.HeadSHA)
	return map[string]string{"training": p.Repo.Name}, nil
}

func mirror(_ context.Context, p *payload.Payload) (any, error) {
	if p.Repo.Private {
		return nil, errors.New("private")
	}
	return map[string]string{"mirrored": p.Repo.Name}, nil
}

func main() {
	server.Add(triggerTraining)
	server.Handle("webhooks/mirror", mirror) // /webhooks/webhooks/mirror, as before
	server.Main()
}
