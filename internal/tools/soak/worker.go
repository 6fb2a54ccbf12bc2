//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// notesVariable names the file in which a worker's handlers write down what they do.
const notesVariable = "HUBHOOK_SOAK_NOTES"

// planField is the field of a payload that holds the plan of its handler.
const planField = "soak"

// A plan is what the handler of an event does.
type plan struct {
	Do    deed   `json:"do"`
	Times int    `json:"times,omitempty"` // attempts up to this number do the deed, later ones succeed
	MS    int    `json:"ms,omitempty"`    // how long the handler works first, in milliseconds
	Key   string `json:"key,omitempty"`   // of SerialBy or Debounce
}

type deed string

const (
	succeed deed = "succeed"
	fail    deed = "fail"
	crash   deed = "panic"
	hang    deed = "hang" // until the context is cancelled
	die     deed = "die"  // kill the process
	decline deed = "skip" // When says no
)

// An endpoint of the workers, as the model knows it.
type endpoint struct {
	attempts int
	timeout  time.Duration // 0: the default, longer than any handler here takes
	handled  bool          // it has a handler
	deeds    []deed        // of its events, beside success
	keys     int           // how many different keys its events have; 0: none
	// debounced: of a burst of events with one key only the last one runs. Otherwise events with one key run one at a time.
	debounced bool
}

var endpoints = map[string]endpoint{
	"plain":  {attempts: 3, handled: true, deeds: []deed{fail, crash, die}},
	"narrow": {attempts: 3, handled: true, deeds: []deed{fail}},
	"timed":  {attempts: 2, handled: true, timeout: 300 * time.Millisecond, deeds: []deed{hang, fail}},
	"picky":  {attempts: 2, handled: true, deeds: []deed{decline}},
	"kept":   {},
	"serial": {attempts: 3, handled: true, keys: 10, deeds: []deed{fail, crash}},
	"burst":  {attempts: 3, handled: true, keys: 20, debounced: true, deeds: []deed{fail}},
}

// firstWait is the wait before the first retry at every endpoint.
const firstWait = 50 * time.Millisecond

// The waits of Debounce.
const (
	burstWait    = 200 * time.Millisecond
	burstMaxWait = time.Second
)

// work is a user's program: handlers that obey the payload, and server.Main.
func work() {
	file, err := os.OpenFile(os.Getenv(notesVariable), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		panic("open the notes: " + err.Error())
	}
	n := notes{file}
	for name, e := range endpoints {
		retry := server.Retry(max(1, e.attempts), firstWait)
		switch name {
		case "kept":
			server.Handle(name, nil)
		case "narrow":
			server.Handle(name, n.handle, retry, server.Concurrency(2))
		case "timed":
			server.Handle(name, n.handle, retry, server.Timeout(e.timeout))
		case "serial":
			server.Handle(name, n.handle, retry, server.SerialBy(keyOf))
		case "burst":
			server.Handle(name, n.handle, retry, server.Debounce(burstWait, burstMaxWait, keyOf))
		case "picky":
			server.Handle(name, n.handle, retry, server.When(func(p *payload.Payload) bool { return planOf(p).Do != decline }))
		default:
			server.Handle(name, n.handle, retry)
		}
	}
	server.Main()
}

func keyOf(p *payload.Payload) string { return planOf(p).Key }

func planOf(p *payload.Payload) plan {
	var do plan
	if raw, ok := p.Lookup(planField); ok {
		if err := json.Unmarshal(raw, &do); err != nil {
			panic("the plan of an event: " + err.Error())
		}
	}
	return do
}

// notes outlive the process, however sudden its end, because each line is one appending write.
type notes struct{ file *os.File }

func (n notes) write(what noteKind, d server.Delivery, key string) error {
	line := noteLine(what, d.ID, os.Getpid(), key, d.Merged)
	_, err := n.file.WriteString(line)
	return err
}

// A noteKind says what a line of the notes reports.
type noteKind string

const (
	noteStart noteKind = "start"
	noteDone  noteKind = "done" // the handler is about to return its result
	noteEnd   noteKind = "end"  // the handler returns, with or without an error
	noteDie   noteKind = "die"  // the handler is about to kill the process
	noteGone  noteKind = "gone" // the process has ended; the soak writes this, not the process
)

// noteLine is a line of the notes: what happens to a delivery in a process. The handlers of two deliveries with one key must not run at once.
func noteLine(what noteKind, id string, pid int, key string, merged []string) string {
	return fmt.Sprintf("%s %s %d %s %s\n", what, id, pid, key, strings.Join(merged, ","))
}

// result is what a handler returns.
type result struct {
	Delivery string `json:"delivery"`
	Repo     string `json:"repo"`
}

func (n notes) handle(ctx context.Context, p *payload.Payload) (done any, err error) {
	d, ok := server.DeliveryFrom(ctx)
	if !ok {
		return nil, errors.New("the context belongs to no delivery")
	}
	do, key := planOf(p), ""
	if !endpoints[d.Endpoint].debounced {
		key = do.Key
	}
	if err := n.write(noteStart, d, key); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.write(noteEnd, d, key)) }()
	if err := sleep(ctx, time.Duration(do.MS)*time.Millisecond); err != nil {
		return nil, err
	}
	if d.Attempt <= do.Times {
		switch do.Do {
		case fail:
			return nil, errors.New("this attempt fails")
		case crash:
			panic("this attempt panics")
		case hang:
			<-ctx.Done()
			return nil, context.Cause(ctx)
		case die:
			if err := n.write(noteDie, d, key); err != nil {
				return nil, err
			}
			return nil, killSelf(ctx)
		}
	}
	if err := n.write(noteDone, d, key); err != nil {
		return nil, err
	}
	return result{Delivery: d.ID, Repo: p.Repo.Name}, nil
}

// killSelf ends the process as the kernel does when memory runs out.
func killSelf(ctx context.Context) error {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := self.Kill(); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
