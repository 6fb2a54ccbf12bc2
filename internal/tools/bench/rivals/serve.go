// Package rivals has what the programs in river and goqite share: a webhook server in front of a job queue, which bench compares hubhook
// with. It checks less than hubhook does: there is no secret, and no duplicate is found.
package rivals

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// A Queue is a job queue under measurement.
type Queue interface {
	// Store returns once the bodies are stored durably, all in one transaction.
	Store(ctx context.Context, bodies ...[]byte) error
	// Recorded returns how many deliveries are handled and recorded so.
	Recorded(ctx context.Context) (int64, error)
	// Close ends the queue's work.
	Close(ctx context.Context) error
}

// A Tally counts handled deliveries.
type Tally struct{ handled atomic.Int64 }

// Handle is the handler of every delivery. It looks at the payload as the handler of hubhook does.
func (t *Tally) Handle(body []byte) error {
	var event struct {
		Event struct {
			Action string `json:"action"`
			Scope  string `json:"scope"`
		} `json:"event"`
		UpdatedRefs []struct {
			Ref string `json:"ref"`
		} `json:"updatedRefs"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	if event.Event.Scope != "repo.content" || event.Event.Action != "update" || len(event.UpdatedRefs) == 0 {
		return errors.New("not a push")
	}
	t.handled.Add(1)
	return nil
}

// An Opener opens a queue whose deliveries t handles. The args are those of the program without the first two.
type Opener func(ctx context.Context, args []string, t *Tally) (Queue, error)

// Main serves until SIGTERM: deliveries, and how many of them are handled and recorded. The first two arguments of the program are the
// host:port to serve on, and "alone" or "batched": each request stores its own delivery, or those that wait at the same time are stored
// together, by that many writers at most.
func Main(open Opener, writers int) {
	if err := run(open, writers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(open Opener, writers int) error {
	if len(os.Args) < 3 || os.Args[2] != "alone" && os.Args[2] != "batched" {
		return fmt.Errorf("usage: %s HOST:PORT alone|batched ARGUMENTS", os.Args[0])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var t Tally
	q, err := open(ctx, os.Args[3:], &t)
	if err != nil {
		return fmt.Errorf("open the queue: %w", err)
	}
	store, end := func(ctx context.Context, body []byte) error { return q.Store(ctx, body) }, func() {}
	if os.Args[2] == "batched" {
		b := newBatcher(q, writers)
		store, end = b.store, b.close
	}
	s := &http.Server{Addr: os.Args[1], Handler: routes(q, &t, store)}
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = s.Shutdown(context.WithoutCancel(ctx))
		<-ended
	}
	end()
	return errors.Join(err, q.Close(context.WithoutCancel(ctx)))
}

// Counts is the answer to GET /counts.
type Counts struct {
	Handled  int64 `json:"handled"`
	Recorded int64 `json:"recorded"`
}

func routes(q Queue, t *Tally, store func(ctx context.Context, body []byte) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, `{"status":"ok"}`) })
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, r *http.Request) {
		c := Counts{Handled: t.handled.Load()}
		var err error
		if c.Recorded, err = q.Recorded(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		text, err := json.Marshal(c)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, string(text))
	})
	mux.HandleFunc("POST /webhooks/inbox", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && !json.Valid(body) {
			err = errors.New("the body is not JSON")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := store(r.Context(), body); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		answer(w, "{}")
	})
	return mux
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, body) // if this fails, the client has gone and reports it
}
