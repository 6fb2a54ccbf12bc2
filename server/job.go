package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

// RunJob handles, with the server of [Main], the delivery that a Hub Job was started for, as [Server.RunJob] does.
func RunJob(ctx context.Context, endpoint ...string) error {
	if err := defaultServer.configure(Config{}); err != nil {
		return err
	}
	return defaultServer.RunJob(ctx, endpoint...)
}

// RunJob handles the one delivery that a webhook of the Hub has started a Job for, and returns nil once the handler is done, or once
// [When] has said no. It takes the payload from the variable WEBHOOK_PAYLOAD, or from the file that WEBHOOK_PAYLOAD_FILE names, and the
// rest from WEBHOOK_ID, WEBHOOK_REPO_ID, WEBHOOK_REPO_TYPE and WEBHOOK_SECRET. It stores nothing and opens nothing. It is called in place
// of Run, once.
//
// endpoint names the endpoint whose handler is meant; a server with one endpoint needs none. Its [Timeout] bounds each attempt. A failed
// attempt is made again, after a wait, only where [Retry] says so: the default is one attempt, whose error RunJob returns. [SerialBy],
// [Debounce] and [Concurrency] have no effect, since each delivery has a Job of its own.
//
// [Config].Output gets what the handler writes to [Output], as it comes and all of it, a line before and after it, and the result as JSON.
// Configured secrets are replaced there. When ctx ends, so does the handler's context, and RunJob waits for the handler for up to 30 s.
func (s *Server) RunJob(ctx context.Context, endpoint ...string) error {
	e, err := s.jobEndpoint(endpoint)
	if err != nil {
		return err
	}
	j := &job{server: s, endpoint: e, output: &jobOutput{to: s.settings.Output}}
	if j.output.to == nil {
		j.output.to = os.Stdout
	}
	if err := j.read(); err != nil {
		return err
	}
	s.through = j.output
	return j.run(ctx)
}

// jobEndpoint returns the endpoint that is named, or the only one, and lets no further one be registered.
func (s *Server) jobEndpoint(named []string) (*endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return nil, errors.New("a Job can't be run: the server was started already")
	}
	known := "endpoints here: " + strings.Join(s.names(), ", ")
	var e *endpoint
	all := s.endpoints.all()
	switch {
	case len(all) == 0:
		return nil, text.WithHint(errors.New("no endpoint is registered, so nothing can handle the delivery of a Job"), "register a handler with Handle or Add before")
	case len(named) > 1:
		return nil, text.WithHint(fmt.Errorf("%d endpoints are named, %s; a Job is for one", len(named), strings.Join(named, ", ")), known)
	case len(named) == 1:
		if e = s.endpoints.named(strings.Trim(named[0], "/")); e == nil {
			return nil, text.WithHint(fmt.Errorf("no endpoint is called %q", text.Printable(named[0], maxShownName)), known)
		}
	case len(all) > 1:
		return nil, text.WithHint(errors.New("there are several endpoints, and none is named for the delivery of a Job"), "name the one that is meant; "+known)
	default:
		e = all[0]
	}
	if e.handler == nil {
		return nil, text.WithHint(fmt.Errorf("endpoint %s has no handler, and a Job stores nothing", e.name), "give it a handler, or name another one")
	}
	s.started = true
	return e, nil
}

// job is the one delivery of a Hub Job.
type job struct {
	server   *Server
	endpoint *endpoint
	delivery queue.Delivery
	header   http.Header
	payload  *payload.Payload
	output   *jobOutput
}

// read takes the delivery from the variables.
func (j *job) read() error {
	getenv := func(name string) string {
		value, _ := j.server.settings.Getenv(name)
		return value
	}
	body, from := []byte(getenv(env.JobPayload)), env.JobPayload
	if file := getenv(env.JobPayloadFile); len(body) == 0 && file != "" {
		var err error
		if body, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("read the payload that %s names: %w", env.JobPayloadFile, err)
		}
		from = env.JobPayloadFile
	}
	if len(body) == 0 {
		return text.WithHint(fmt.Errorf("%s is not set, so no webhook of the Hub has started this as a Job", env.JobPayload),
			"let a webhook start the Job; to try it by hand, set "+env.JobPayload+` to the output of: hubhook trigger repo.content --print`)
	}
	p, err := payload.Parse(body)
	if err != nil && !usableWith(p, err, getenv(env.JobRepoType), getenv(env.JobRepo)) {
		return text.WithHint(fmt.Errorf("the payload in %s can't be handled: %w", from, err), "it has to be what the Hub sends; see one with: hubhook trigger repo.content --print")
	}
	id := getenv(env.JobWebhookID)
	j.payload = p
	j.header = http.Header{"Content-Type": {"application/json"}}
	if id != "" {
		j.header.Set("Webhook-Id", id)
	}
	j.delivery = queue.Delivery{
		ID: cmp.Or(id, ulid.Make().String()), Endpoint: j.endpoint.name, State: queue.Running, WebhookID: id, Received: time.Now(),
		Scope: string(p.Event.Scope), Action: string(p.Event.Action), RepoType: string(p.Repo.Type), RepoName: p.Repo.Name,
	}
	return nil
}

// usableWith reports whether p, which Parse found unusable, lacked only what the Hub says about the repo in variables. If so, p has it
// then.
func usableWith(p *payload.Payload, err error, repoType, repo string) bool {
	if _, ok := errors.AsType[*payload.UnusableError](err); !ok {
		return false
	}
	p.Repo.Type = cmp.Or(p.Repo.Type, payload.RepoType(repoType))
	p.Repo.Name = cmp.Or(p.Repo.Name, repo)
	return p.Event.Scope != "" && p.Event.Action != "" && p.Repo.Type != "" && p.Repo.Name != ""
}

// run makes the attempts.
func (j *job) run(ctx context.Context) error {
	d := inspector.ViewDelivery(&j.delivery)
	d.ID = text.Printable(d.ID, maxShownName) // it comes from outside
	j.show(func(screen *ui.Screen) { screen.Delivery(d) })
	most, wait := max(j.endpoint.attempts, 1), min(j.endpoint.firstWait, mostJobWait)
	for n := 1; ; n++ {
		began := time.Now()
		outcome, err := j.attempt(ctx, n)
		if err != nil {
			return err
		}
		took := time.Since(began)
		if outcome.Stack != "" {
			j.output.line(strings.TrimRight(outcome.Stack, "\n")) // nobody can look it up later
		}
		if outcome.Result != nil {
			j.output.line(j.server.secrets.hide.Redact(string(outcome.Result)))
		}
		again := outcome.Error != "" && !outcome.Final && n < most && ctx.Err() == nil
		j.showOutcome(n, took, wait, outcome, again)
		switch {
		case outcome.Error == "":
			return nil
		case again:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return fmt.Errorf("endpoint %s failed, and the Job was ended before attempt %d of %d: %s", j.endpoint.name, n+1, most, outcome.Error)
			}
			wait = min(2*wait, mostJobWait)
		case most > 1:
			return fmt.Errorf("endpoint %s failed in attempt %d of %d: %s", j.endpoint.name, n, most, outcome.Error)
		default:
			return fmt.Errorf("endpoint %s failed: %s", j.endpoint.name, outcome.Error)
		}
	}
}

// mostJobWait is the longest wait between two attempts, as in a queue.
const mostJobWait = 5 * time.Minute

var errJobEnded = errors.New("the Job was asked to end")

// attempt runs the handler once. Its error says that the handler did not return although it was asked to.
func (j *job) attempt(ctx context.Context, n int) (queue.Outcome, error) {
	within, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	defer context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if cause == context.Canceled { // it says nothing to whoever reads that a handler failed with it
			cause = errJobEnded
		}
		end(cause)
	})()
	claim := &queue.Claim{Delivery: j.delivery, Attempt: n, Header: j.header, Body: j.payload.Raw(), Value: &arrival{payload: j.payload}}
	ended := make(chan queue.Outcome, 1) // so that a handler that is given up does not hold its goroutine
	go func() {
		outcome := queue.Outcome{Error: "the handler ended its goroutine (runtime.Goexit)"}
		defer func() { ended <- outcome }()
		outcome = j.server.attempt(within, j.endpoint, claim)
		if outcome.PutBack != nil {
			outcome.Error = "the handler can't handle deliveries now"
		}
	}()
	select {
	case outcome := <-ended:
		return outcome, nil
	case <-ctx.Done():
	}
	patience := time.NewTimer(stopTime)
	defer patience.Stop()
	select {
	case outcome := <-ended:
		return outcome, nil
	case <-patience.C:
		return queue.Outcome{}, fmt.Errorf("endpoint %s: the handler still runs, %v after it was asked to end", j.endpoint.name, stopTime)
	}
}

// showOutcome says how an attempt ended, and if another one follows, after what wait.
func (j *job) showOutcome(n int, took, wait time.Duration, outcome queue.Outcome, again bool) {
	d := j.delivery
	d.Attempts, d.State, d.Reason = n, queue.Done, outcome.Skip
	switch {
	case again:
		d.State, d.Reason, d.RunAt = queue.Retrying, outcome.Error, time.Now().Add(wait)
	case outcome.Error != "":
		d.State, d.Reason = queue.Dead, outcome.Error
	case outcome.Skip != "":
		d.State = queue.Skipped
	}
	v := ui.Outcome{Duration: took, Attempts: max(j.endpoint.attempts, 1), AttemptEvent: inspector.ViewAttempt(&queue.Change{
		Delivery: d, Attempt: &queue.Attempt{N: n, Ended: true, Duration: took, Error: outcome.Error},
	})}
	v.Delivery = text.Printable(v.Delivery, maxShownName)
	j.show(func(screen *ui.Screen) { screen.Outcome(v) })
}

// show prints what put puts on a screen, after all that the handler has printed so far.
func (j *job) show(put func(*ui.Screen)) {
	j.output.endLine()
	screen := ui.New(ui.Config{Output: j.output.to, Errors: io.Discard})
	put(screen)
	screen.Close(context.Background()) // what can't be printed is no reason to fail
}

// jobOutput prints what a handler prints. It remembers whether its last line is complete.
type jobOutput struct {
	to io.Writer

	mu   sync.Mutex
	open bool // the last line has no end yet
}

// Write implements io.Writer.
func (o *jobOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(b) > 0 {
		o.open = !bytes.HasSuffix(b, []byte("\n"))
	}
	return o.to.Write(b)
}

func (o *jobOutput) line(text string) {
	o.endLine()
	io.WriteString(o, text+"\n")
}

func (o *jobOutput) endLine() {
	o.mu.Lock()
	open := o.open
	o.mu.Unlock()
	if open {
		io.WriteString(o, "\n")
	}
}

// inJob reports whether a webhook of the Hub has started this process as a Job.
func inJob(getenv func(string) (string, bool)) bool {
	body, _ := getenv(env.JobPayload)
	file, _ := getenv(env.JobPayloadFile)
	return body != "" || file != ""
}

// secretOfJob is the layer of WEBHOOK_SECRET in a Job. There the Hub has set it: to one secret, which may hold any character, or to nothing
// for a webhook without a secret. Outside of Jobs people set it, and an empty one is a mistake.
func secretOfJob(getenv func(string) (string, bool), inJob bool) layer {
	return func(of *setting) ([]string, string) {
		if !inJob || of.name != "secret" {
			return nil, ""
		}
		secret, _ := getenv(env.WebhookSecret)
		if secret == "" {
			return nil, ""
		}
		return []string{secret}, env.WebhookSecret
	}
}
