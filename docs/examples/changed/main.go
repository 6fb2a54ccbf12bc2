// Command changed says which files a push changed, and at its start which webhooks the token's user has on the Hub.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
	server.Main()
}

// run prints the webhooks and registers the handler.
func run(ctx context.Context) error {
	client, err := hub.New(hub.Config{}) // the token and the address that the environment names
	if err != nil {
		return err
	}
	webhooks, err := client.Webhooks.List(ctx)
	if err != nil {
		return err
	}
	for _, w := range webhooks {
		fmt.Println(w.ID, w.State, w.PlainURL())
	}
	server.Handle("changed", func(ctx context.Context, p *payload.Payload) (any, error) { return printChanged(ctx, client, p) })
	return nil
}

// printChanged prints the files that an event changed, and returns how many they are.
func printChanged(ctx context.Context, client *hub.Client, p *payload.Payload) (any, error) {
	changes, err := client.ChangedFiles(ctx, p)
	if err != nil {
		return nil, err // the attempt fails, and is tried again
	}
	for _, f := range changes.Files {
		fmt.Println(f.Action, f.Path)
	}
	return len(changes.Files), nil
}
