// Command home has a page of its own where hubhook's would be.
package main

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	ctx, stop := server.UntilSignal(context.Background())
	defer stop()
	if err := run(ctx); err != nil {
		server.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s, err := server.New(server.Config{Home: http.HandlerFunc(page)}) // the secret is that of WEBHOOK_SECRET
	if err != nil {
		return err
	}
	s.Handle("say_hello", hello) // POST /webhooks/say_hello
	s.Add(goodbye)               // POST /webhooks/goodbye
	return s.Run(ctx)
}

// page is what everyone sees who opens the public URL.
func page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, "<!doctype html>\n<title>My webhooks</title>\n<h1>My webhooks</h1>\n<p>They greet the repos of the Hub.</p>\n")
}

func hello(ctx context.Context, p *payload.Payload) (any, error) {
	return map[string]string{"message": "hello " + p.Repo.Name}, nil
}

func goodbye(ctx context.Context, p *payload.Payload) (any, error) {
	return map[string]string{"message": "goodbye " + p.Repo.Name}, nil
}
