//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// endpoints of the site.
var endpoints = []string{"train_on_push", "index_datasets", "triage_discussions", "mirror_bucket", "evaluate"}

// past is a delivery that was handled before the server started.
type past struct {
	name     string        // pictures refer to the delivery by it
	before   time.Duration // the end of the history
	endpoint string
	scope    payload.Scope
	action   payload.Action
	repo     string
	set      map[string]any
	sample   bool
	took     time.Duration
	outcome  queue.Outcome
	first    *queue.Outcome // of the first attempt, if there were two
	left     bool           // it was running when the history ended
}

const panicStack = `goroutine 84 [running]:
main.labels(...)
	/home/ana/data-bot/triage.go:41
main.triage({0x9b41f8, 0xc000212a80}, 0xc0001f6000)
	/home/ana/data-bot/triage.go:58 +0x1c6
github.com/hubhook/hubhook/server.runHandler({0x9b41f8, 0xc000212a80}, 0xc00019e000, 0xc0001f6000)
	/home/ana/go/pkg/mod/github.com/hubhook/hubhook/server/dispatch.go:83 +0x12b`

const trained = `loading acme/sentiment-base at 575db8b
epoch 1/3  loss 0.812  accuracy 0.741
epoch 2/3  loss 0.574  accuracy 0.823
epoch 3/3  loss 0.491  accuracy 0.857
pushed to acme/sentiment-base-finetuned
`

// newest are the deliveries at the top of the list, newest first.
var newest = []past{
	{before: 9 * time.Second, endpoint: "train_on_push", scope: payload.ScopeRepoContent, repo: "dataset acme/reviews-2026", left: true},
	{before: 18 * time.Second, endpoint: "evaluate", scope: payload.ScopeRepoContent, repo: "model acme/reranker", took: 2300 * time.Millisecond,
		outcome: queue.Outcome{Error: "upload scores: connection reset by peer"}, left: true},
	{name: "retried", before: 2*time.Minute + 31*time.Second, endpoint: "train_on_push", scope: payload.ScopeRepoContent, repo: "model acme/sentiment-base", took: 41300 * time.Millisecond,
		first:   &queue.Outcome{Error: "train: no GPU is free: 8 of 8 are in use", Output: []byte("loading acme/sentiment-base at 575db8b\n")},
		outcome: queue.Outcome{Result: []byte(`{"run":"2026-11-23-17","accuracy":0.857,"pushed":"acme/sentiment-base-finetuned"}`), Output: []byte(trained)},
		set:     map[string]any{"updatedRefs.0.oldSha": "ce9a4674fa833a68d5a73ec355f0ea95eedd60b7", "updatedRefs.0.newSha": "575db8b7a51b6f85eb06eee540738584589f131c", "repo.headSha": "575db8b7a51b6f85eb06eee540738584589f131c"}},
	{name: "discussion", before: 3 * time.Minute, endpoint: "triage_discussions", scope: payload.ScopeDiscussionComment, action: payload.Create, repo: "model acme/sentiment-base", took: 380 * time.Millisecond,
		outcome: queue.Outcome{Result: []byte(`{"labels":["question"]}`)},
		set:     map[string]any{"discussion.title": "How was the tokenizer trained?", "discussion.num": 12, "comment.content": "Is the script for it in the repo?"}},
	{name: "panicked", before: 4*time.Minute + 20*time.Second, endpoint: "triage_discussions", scope: payload.ScopeDiscussion, action: payload.Create, repo: "dataset acme/reviews-2026", took: 4 * time.Millisecond,
		outcome: queue.Outcome{Error: "panic: runtime error: index out of range [0] with length 0", Stack: panicStack, Final: true},
		set:     map[string]any{"discussion.title": "Duplicate rows in the test split", "discussion.num": 5}},
	{before: 5 * time.Minute, endpoint: "mirror_bucket", scope: payload.ScopeRepoContent, repo: "bucket acme/checkpoints", took: 8200 * time.Millisecond, outcome: queue.Outcome{Result: []byte(`{"copied":2}`)}},
	{name: "failed", before: 6*time.Minute + 5*time.Second, endpoint: "train_on_push", scope: payload.ScopeRepoContent, repo: "dataset acme/reviews-2026", took: 1200 * time.Millisecond,
		outcome: queue.Outcome{Error: "train on acme/reviews-2026: the branch experiment has no config.yaml", Output: []byte("looking for config.yaml at refs/heads/experiment\n"), Final: true},
		set:     map[string]any{"updatedRefs.0.ref": "refs/heads/experiment", "repo.private": true}},
	{before: 6*time.Minute + 50*time.Second, endpoint: "index_datasets", scope: payload.ScopeRepoConfig, repo: "dataset acme/reviews-2026", took: 90 * time.Millisecond, outcome: queue.Outcome{Result: []byte(`{"visibility":"private"}`)}},
	{before: 8 * time.Minute, endpoint: "train_on_push", scope: payload.ScopeRepoContent, repo: "model acme/sentiment-base-finetuned", took: time.Millisecond, outcome: queue.Outcome{Skip: `the branch main is not watched: repo.name != "acme/sentiment-base-finetuned" is false`}},
	{name: "earlier", before: 11 * time.Minute, endpoint: "train_on_push", scope: payload.ScopeRepoContent, repo: "dataset acme/reviews-2026", took: 38 * time.Second, outcome: queue.Outcome{Result: []byte(`{"run":"2026-11-23-16","accuracy":0.849}`)}},
	{before: 12 * time.Minute, endpoint: "index_datasets", scope: payload.ScopeRepo, action: payload.Create, repo: "dataset acme/reviews-2026", took: 240 * time.Millisecond, outcome: queue.Outcome{Result: []byte(`{"indexed":true}`)}},
	{before: 14 * time.Minute, endpoint: "train_on_push", scope: payload.ScopeRepoContent, repo: "model acme/sentiment-base", sample: true, took: 12 * time.Millisecond, outcome: queue.Outcome{Result: []byte(`{"dry_run":true}`)}},
}

// clock is a clock that moves only when set is called.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// set moves the clock forward to t. It never moves back, because the queue's clock would not follow.
func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.now) {
		c.now = t
	}
}

func (c *clock) advance(d time.Duration) { c.set(c.Now().Add(d)) }

// storeHistory stores the deliveries before config.end in a data directory, and returns the IDs of those in pictures.
func storeHistory(ctx context.Context, dir string, config siteConfig) (ids map[string]string, err error) {
	all := older(config.busy)
	for i := range newest {
		all = append(all, newest[len(newest)-1-i])
	}
	c := &clock{now: config.end.Add(-2 * time.Hour)}
	q, err := queue.Open(ctx, queue.Config{Dir: dir, Now: c.Now, Rand: func() float64 { return 0 }, Keep: 100 * 365 * 24 * time.Hour})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	left := make(chan struct{}, len(all))
	served := make([]queue.Endpoint, len(endpoints))
	for i, name := range endpoints {
		// This history makes a second attempt at once, unless the attempt is left to the server.
		wait := time.Millisecond
		if name == "evaluate" {
			wait = time.Minute
		}
		served[i] = queue.Endpoint{Name: name, Attempts: 3, FirstWait: wait, Handle: func(ctx context.Context, claim *queue.Claim) queue.Outcome {
			p := claim.Value.(past)
			if p.left && p.outcome.Error == "" {
				left <- struct{}{}
				<-ctx.Done()
				return queue.Outcome{Error: ctx.Err().Error()}
			}
			if p.first != nil && claim.Attempt == 1 {
				c.advance(3400 * time.Millisecond)
				return *p.first
			}
			c.advance(p.took)
			if p.left {
				left <- struct{}{}
			}
			return p.outcome
		}}
	}
	if err := q.Start(served); err != nil {
		return nil, err
	}
	ids = map[string]string{}
	for i, p := range all {
		sample, err := p.payload()
		if err != nil {
			return nil, err
		}
		c.set(config.end.Add(-p.before))
		receipt, err := q.Accept(ctx, queue.Arrival{
			Endpoint: p.endpoint, Body: sample.Raw(), Value: p, Synthetic: p.sample, WebhookID: webhookID(i),
			Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {userAgent}, "X-Webhook-Secret": {"[secret]"}, "Webhook-Id": {webhookID(i)}},
			Scope:  string(sample.Event.Scope), Action: string(sample.Event.Action), RepoType: string(sample.Repo.Type), RepoName: sample.Repo.Name,
		})
		if err != nil {
			return nil, err
		}
		if p.name != "" {
			ids[p.name] = receipt.ID
		}
		if p.left {
			select {
			case <-left:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			continue
		}
		if p.first != nil {
			<-receipt.Done() // the first attempt has ended
			c.advance(80 * time.Second)
		}
		if _, err := q.Outcome(ctx, receipt.ID); err != nil {
			return nil, fmt.Errorf("wait for delivery %d of the history: %w", i, err)
		}
	}
	return ids, nil
}

// webhookID returns a Webhook-Id that looks like the Hub's.
func webhookID(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	r := rand.New(rand.NewPCG(uint64(n), 1))
	id := make([]byte, 26)
	for i := range id {
		id[i] = letters[r.IntN(len(letters))]
	}
	return string(id)
}

func (p past) payload() (*payload.Payload, error) {
	var kind, name string
	if _, err := fmt.Sscanf(p.repo, "%s %s", &kind, &name); err != nil {
		return nil, fmt.Errorf("read the repo %q: %w", p.repo, err)
	}
	set := map[string]any{"repo.type": kind, "repo.name": name}
	for path, value := range p.set {
		set[path] = value
	}
	return payload.Sample(p.scope, p.action, set)
}

// older returns the deliveries before the newest ones, oldest first: a few, or as many as in a busy hour.
func older(busy bool) []past {
	r := rand.New(rand.NewPCG(6, 1))
	repos := []string{"dataset acme/reviews-2026", "model acme/sentiment-base", "model acme/reranker", "dataset acme/support-tickets", "space acme/demo"}
	step, span := 100*time.Second, 55*time.Minute
	if busy {
		step = 12 * time.Second
	}
	var all []past
	for before := span; before > 15*time.Minute || busy && before > 20*time.Second; before -= time.Duration((0.4 + 1.2*r.Float64()) * float64(step)) {
		p := past{before: before, repo: repos[r.IntN(len(repos))], scope: payload.ScopeRepoContent, took: time.Duration(40+r.ExpFloat64()*900) * time.Millisecond}
		p.endpoint = endpoints[r.IntN(len(endpoints))]
		switch p.endpoint {
		case "triage_discussions":
			p.scope, p.action = payload.ScopeDiscussionComment, payload.Create
		case "mirror_bucket":
			p.repo = "bucket acme/checkpoints"
		}
		switch n := r.IntN(20); {
		case n < 2:
			p.outcome = queue.Outcome{Error: "the Hub answered 504 Gateway Timeout", Final: true}
		case n < 4:
			p.outcome = queue.Outcome{Skip: `branch("main") is false`}
		default:
			p.outcome = queue.Outcome{Result: []byte(`{"ok":true}`)}
		}
		all = append(all, p)
	}
	return all
}
