// Command bot is a user's program for the end-to-end tests: it registers handlers of all kinds with server.Handle and server.Add, and
// calls server.Main. It has the flags of `hubhook serve`.
//
// BOT_DIR names a directory that bot shares with its test. Handlers write to the file log there, one line for each start and each end.
// The endpoints held, single, pair and series wait for the file gate there; barred fails while there is none. BOT_SLOW is how long the
// endpoints slow and keyed take (default 100ms). If BOT_FAILS is set, the endpoint moody fails.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	slow := 100 * time.Millisecond
	if text := os.Getenv("BOT_SLOW"); text != "" {
		var err error
		if slow, err = time.ParseDuration(text); err != nil {
			panic("BOT_SLOW: " + err.Error())
		}
	}
	server.Add(triggerTraining)
	server.Handle("nothing", logged(func(context.Context, *payload.Payload) (any, error) { return nil, nil }))
	server.Handle("slow", logged(func(ctx context.Context, _ *payload.Payload) (any, error) { return nil, sleep(ctx, slow) }))
	server.Handle("keyed", logged(func(ctx context.Context, _ *payload.Payload) (any, error) { return nil, sleep(ctx, slow) }),
		server.SerialBy(func(p *payload.Payload) string { return p.Repo.Name }))
	server.Handle("moody", logged(failHere), server.Retry(3, 2*time.Second))
	server.Handle("held", logged(waitForGate))
	server.Handle("single", logged(waitForGate), server.Concurrency(1))
	server.Handle("pair", logged(waitForGate), server.Concurrency(2))
	server.Handle("series", logged(waitForGate), server.SerialBy(func(p *payload.Payload) string { return p.Repo.Name }))
	server.Handle("burst", logged(merged), server.Debounce(2*time.Second, 0, nil))
	server.Handle("steady", logged(merged), server.Debounce(time.Second, 2*time.Second, nil))
	server.Handle("overdue", logged(func(ctx context.Context, _ *payload.Payload) (any, error) { return nil, sleep(ctx, time.Hour) }),
		server.Timeout(50*time.Millisecond), server.Retry(1, time.Second))
	server.Handle("barred", logged(barred), server.Retry(1, time.Second))
	server.Handle("failing", logged(fail), server.Retry(2, time.Hour))
	server.Handle("recovering", logged(failOnce), server.Retry(2, time.Millisecond))
	server.Handle("hopeless", logged(fail), server.Retry(1, time.Second))
	server.Handle("panicking", logged(func(context.Context, *payload.Payload) (any, error) { panic("oh no") }), server.Retry(1, time.Second))
	server.Handle("killing", logged(kill))
	server.Handle("picky", logged(triggerTraining), server.When(func(p *payload.Payload) bool { return p.Repo.Type == payload.Bucket }))
	server.Handle("kept", nil)
	server.Main()
}

// triggerTraining answers with fields of the payload.
func triggerTraining(_ context.Context, p *payload.Payload) (any, error) {
	return map[string]string{"scope": string(p.Event.Scope), "action": string(p.Event.Action), "repo": p.Repo.Name}, nil
}

func fail(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom") }

func failHere(ctx context.Context, p *payload.Payload) (any, error) {
	if os.Getenv("BOT_FAILS") != "" {
		return fail(ctx, p)
	}
	return nil, nil
}

func failOnce(ctx context.Context, p *payload.Payload) (any, error) {
	if d, _ := server.DeliveryFrom(ctx); d.Attempt == 1 {
		return fail(ctx, p)
	}
	return nil, nil
}

// kill ends the process as the kernel does when memory runs out: with SIGKILL, which no handler can catch.
func kill(ctx context.Context, _ *payload.Payload) (any, error) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return nil, err
	}
	if err := self.Kill(); err != nil {
		return nil, err
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// merged answers with the IDs of the deliveries that were merged into this one.
func merged(ctx context.Context, _ *payload.Payload) (any, error) {
	d, _ := server.DeliveryFrom(ctx)
	return d.Merged, nil
}

// barred fails until the gate is open.
func barred(context.Context, *payload.Payload) (any, error) {
	_, err := os.Stat(filepath.Join(os.Getenv("BOT_DIR"), "gate"))
	return nil, err
}

func waitForGate(ctx context.Context, _ *payload.Payload) (any, error) {
	for {
		if _, err := os.Stat(filepath.Join(os.Getenv("BOT_DIR"), "gate")); err == nil {
			return nil, nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// logged writes a line when h starts and when it has succeeded. The lines survive the end of the process, however sudden.
func logged(h server.Handler) server.Handler {
	return func(ctx context.Context, p *payload.Payload) (any, error) {
		d, ok := server.DeliveryFrom(ctx)
		if !ok {
			return nil, errors.New("the context belongs to no delivery")
		}
		if err := note("start", d.ID); err != nil {
			return nil, err
		}
		result, err := h(ctx, p)
		if err == nil {
			err = note("end", d.ID)
		}
		return result, err
	}
}

func note(what, id string) error {
	f, err := os.OpenFile(filepath.Join(os.Getenv("BOT_DIR"), "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s\n", what, id)
	return errors.Join(err, f.Close())
}
