// Command own-server has webhooks beside other pages on an HTTP server of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "local `ADDR` to listen on")
	flag.Parse()
	ctx, stop := server.UntilSignal(context.Background())
	defer stop()
	if err := run(ctx, *addr); err != nil {
		server.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string) error {
	hooks, err := server.New(server.Config{})
	if err != nil {
		return err
	}
	hooks.Handle("trigger_training", triggerTraining)

	webhooks, err := hooks.Handler()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/webhooks/", webhooks)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "my own page") })

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, hooks.Shutdown(ctx))
	}
	log.Printf("listening on http://%s", listener.Addr())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}

	// First no new requests, then the handlers.
	ending, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(err, srv.Shutdown(ending), hooks.Shutdown(ending))
}

func triggerTraining(ctx context.Context, p *payload.Payload) (any, error) {
	log.Printf("training on %s at %s", p.Repo.Name, p.Repo.HeadSHA)
	return map[string]string{"training_on": p.Repo.Name}, nil
}
