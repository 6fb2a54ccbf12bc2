// Command mounted is a user's program with its own HTTP server; hubhook is one handler of that server. It prints its URL, and shares
// BOT_DIR with its test as the command bot does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	if err := run(); err != nil {
		server.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := server.UntilSignal(context.Background())
	defer stop()
	s, err := server.New(server.Config{ReplyWithin: -1, Output: io.Discard})
	if err != nil {
		return err
	}
	s.Handle("held", waitForGate)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	face, err := s.Handler()
	if err != nil {
		return err
	}
	web := &http.Server{Handler: face, ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(ln) }()
	fmt.Printf("http://%s\n", ln.Addr())

	<-ctx.Done()
	err = s.Shutdown(context.Background()) // before the HTTP server, which answers 503 meanwhile
	err = errors.Join(err, web.Shutdown(context.Background()))
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

func waitForGate(ctx context.Context, _ *payload.Payload) (any, error) {
	d, _ := server.DeliveryFrom(ctx)
	dir := os.Getenv("BOT_DIR")
	for {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if _, err := os.Stat(filepath.Join(dir, "gate")); err == nil {
			return nil, os.WriteFile(filepath.Join(dir, "log"), []byte("end "+d.ID+"\n"), 0o600)
		}
	}
}
