package action

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

const (
	answerWithin = 10 * time.Second // the shorter of the two times that the Hub is said to wait
	readyWithin  = 60 * time.Second
	// answerLimit bounds what is read of an answer, in bytes.
	answerLimit = 1 << 20
)

// ProbeConfig says which program is tested, and with what.
type ProbeConfig struct {
	// Program is started for the test, where URL is "". Its Changes are left alone, and a Secret of "" is replaced by one made for the test.
	Program SupervisorConfig
	URL     string // of a program that runs already, without a path
	Secret  string // that the running program has; "" leaves out the cases about secrets

	Endpoints []string // names; none tests all that the program has
	Cases     []ProbeCase
	// Result is told of each result as it comes. May be nil.
	Result func(ProbeResult)
	// Event is told of what happens to the program. May be nil.
	Event func(ProgramEvent)

	answerWithin, readyWithin time.Duration // in tests
}

// A ProbeVerdict says how a program stood a case.
type ProbeVerdict string

const (
	ProbePassed  ProbeVerdict = "passed"
	ProbeWarned  ProbeVerdict = "warned" // the Hub is content, and the handler misses something
	ProbeFailed  ProbeVerdict = "failed"
	ProbeSkipped ProbeVerdict = "skipped"
)

// A ProbeAnswer is what came back for one delivery.
type ProbeAnswer struct {
	Status int // 0 for no answer
	Took   time.Duration
	Error  string // why there was no answer
}

// A ProbeResult is how one endpoint stood one case.
type ProbeResult struct {
	Endpoint string
	Case     string
	Answers  []ProbeAnswer // one for each delivery, up to the one that failed
	Verdict  ProbeVerdict
	Advice   *Advice // what is wrong; with ProbeSkipped, why
}

// A ProbeReport is a whole test.
type ProbeReport struct {
	Results []ProbeResult
	Took    time.Duration
}

// Failed counts the cases that failed.
func (r *ProbeReport) Failed() int { return r.count(ProbeFailed) }

func (r *ProbeReport) count(v ProbeVerdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// AdvisedError is an error that comes with what to do about it.
type AdvisedError struct {
	Err    error // nil where the advice says it all
	Advice Advice
}

func (e *AdvisedError) Error() string {
	if e.Err == nil {
		return e.Advice.Cause
	}
	return e.Err.Error() + ": " + e.Advice.Cause
}

func (e *AdvisedError) Unwrap() error { return e.Err }

// Hint returns what to do about it.
func (e *AdvisedError) Hint() string { return e.Advice.Fix }

// errNotReady is why a program could not be tested at all.
var errNotReady = errors.New("the program takes no deliveries")

// Probe sends the cases to a program, one after the other, and reports the results. It returns an error if it could not test.
func Probe(ctx context.Context, cfg ProbeConfig) (*ProbeReport, error) {
	start := time.Now()
	if cfg.answerWithin == 0 {
		cfg.answerWithin = answerWithin
	}
	if cfg.readyWithin == 0 {
		cfg.readyWithin = readyWithin
	}
	p := &prober{cfg: cfg, secret: cfg.Secret, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1}, // no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer p.client.CloseIdleConnections()
	if cfg.URL == "" {
		end, err := p.start(ctx)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	report := &ProbeReport{}
	tell := func(r ProbeResult) {
		if r.Advice != nil {
			r.Advice = &Advice{p.withoutSecret(r.Advice.Cause), p.withoutSecret(r.Advice.Fix)}
		}
		report.Results = append(report.Results, r)
		if cfg.Result != nil {
			cfg.Result(r)
		}
	}
	for _, route := range p.routes {
		for _, r := range p.readModel(route) {
			tell(r)
		}
		for _, c := range cfg.Cases {
			if err := ctx.Err(); err != nil {
				return report, err
			}
			tell(p.run(ctx, route, c))
		}
	}
	report.Took = time.Since(start)
	return report, nil
}

// prober is a test that runs.
type prober struct {
	cfg     ProbeConfig
	secret  string
	client  *http.Client
	program *Supervisor // nil for one that runs already
	events  chan ProgramEvent
	routes  []Route
	found   Found
}

// withoutSecret returns words, which may be the program's own, without the secret: a program may print its environment.
func (p *prober) withoutSecret(words string) string {
	return text.NewRedactor("[secret]", p.secret).Redact(words)
}

// start starts the program. The returned function ends it.
func (p *prober) start(ctx context.Context) (func(), error) {
	if p.secret == "" {
		p.secret = "hubhook-test-" + rand.Text()
	}
	p.cfg.Program.Secret = p.secret
	p.cfg.Program.Changes = nil
	program, err := NewSupervisor(p.cfg.Program)
	if err != nil {
		return nil, err
	}
	p.program, p.events = program, make(chan ProgramEvent, eventBuffer)
	run, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		program.Run(run) // nil: it runs until it is cancelled
	}()
	told := make(chan struct{})
	go func() {
		defer close(told)
		defer close(p.events)
		for event := range program.Events() {
			if p.cfg.Event != nil {
				p.cfg.Event(event)
			}
			select {
			case p.events <- event:
			default: // nobody waits for one
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		<-told
	}, nil
}

// prepare waits until the program is ready, and learns its endpoints.
func (p *prober) prepare(ctx context.Context) error {
	at := p.cfg.URL
	if p.program != nil {
		run, err := p.awaitReady(ctx)
		if err != nil {
			return err
		}
		at = run.URL()
	}
	// A program that has printed its endpoints was not asked yet.
	found, err := newAsker().ask(ctx, at, p.cfg.Program.Routes, true)
	switch {
	case err != nil && p.program == nil:
		return &AdvisedError{errNotReady, Advice{err.Error(), "start it, or let hubhook do so: hubhook test -- COMMAND"}}
	case err == nil:
		p.found = found
	}
	p.routes = mergeRoutes(p.cfg.Program.Routes, p.found.Routes)
	if p.program != nil {
		p.routes = mergeRoutes(p.program.Routes(), p.routes)
	}
	switch {
	case len(p.cfg.Endpoints) > 0:
		p.routes = p.chosen(p.routes)
	case len(p.cfg.Program.Routes) > 0:
		p.routes = p.cfg.Program.Routes // what the program says of others is not asked for
	}
	if len(p.routes) > 0 {
		return nil
	}
	if advice, ok := explainRoutes(nil, p.found.Posts); ok {
		return &AdvisedError{errors.New("no endpoint is known"), advice}
	}
	return &AdvisedError{errors.New("no endpoint is known"), Advice{
		"the program prints none, and has neither /openapi.json nor a router that lists its paths", "say where it takes deliveries: --path /hook, or --endpoint NAME for /webhooks/NAME",
	}}
}

// chosen returns the routes of --endpoint. One that the program does not name may be there all the same.
func (p *prober) chosen(known []Route) (routes []Route) {
	for _, name := range p.cfg.Endpoints {
		i := slices.IndexFunc(known, func(r Route) bool { return r.Name == name })
		if i >= 0 {
			routes = append(routes, known[i])
		} else {
			routes = append(routes, Route{Name: name, Path: webhooksPrefix + name, By: ByFlag})
		}
	}
	return routes
}

// describesLater reports whether a program that listens has a description of itself in which the routes of flags are still missing. A
// WebhooksServer listens before it adds its routes.
func (p *prober) describesLater(ctx context.Context, run *ProgramRun) bool {
	found, err := newAsker().ask(ctx, run.URL(), nil, false)
	if err != nil || len(found.Schema) == 0 {
		return false
	}
	posts, _ := postsOfOpenAPI(found.Schema) // ask has read it
	wanted := mergeRoutes(p.cfg.Program.Routes, p.chosen(p.cfg.Program.Routes))
	return slices.ContainsFunc(wanted, func(r Route) bool { return !slices.Contains(posts, r.Path) })
}

// awaitReady waits for the program's first run to be ready. Where the endpoints are known from flags, listening is enough, unless the
// program's own description does not have them yet.
func (p *prober) awaitReady(ctx context.Context) (*ProgramRun, error) {
	flagged := len(p.cfg.Program.Routes)+len(p.cfg.Endpoints) > 0
	late := time.NewTimer(p.cfg.readyWithin)
	defer late.Stop()
	advice := Advice{"it has not listened on its port yet", "start an HTTP server on the port in the environment variable PORT"}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, &AdvisedError{fmt.Errorf("%w after %s", errNotReady, p.cfg.readyWithin), advice}
		case event := <-p.events:
			if event.Advice != nil {
				advice = *event.Advice
			}
			switch {
			case event.Phase == ProgramExited:
				if event.Advice == nil {
					advice = Advice{"it ended with " + event.Exit.How, "run the command by itself, and correct what it reports"}
				}
				if line := event.Exit.lastLine(); line != "" && !strings.Contains(advice.Cause, line) {
					advice.Cause += ", and printed last: " + line // nothing else shows what it prints
				}
				advice.Cause = p.withoutSecret(advice.Cause)
				return nil, &AdvisedError{errNotReady, advice}
			case event.Phase == ProgramReady || event.Phase == ProgramListening && flagged:
				if run := p.program.Current(); run != nil && (event.Phase == ProgramReady || !p.describesLater(ctx, run)) {
					p.found = run.Found()
					return run, nil
				}
			}
		}
	}
}

// readModel returns what the program's own description says of fields that the handler misses. No answer shows that.
func (p *prober) readModel(route Route) []ProbeResult {
	if len(p.found.Schema) == 0 {
		return nil
	}
	found, err := readSchema(p.found.Schema, route.Path)
	if err != nil {
		return nil // it was a description when it was asked for
	}
	var results []ProbeResult
	warn := func(name string, advice Advice) {
		results = append(results, ProbeResult{Endpoint: route.Name, Case: name, Verdict: ProbeWarned, Advice: &advice})
	}
	for _, field := range found.misnamed {
		warn("its model's "+field.reads, field.advice())
	}
	if len(found.missing) > 0 {
		warn("its model's fields", Advice{
			fmt.Sprintf("the program's payload model has no %s: the handler cannot see them", listed(found.missing)),
			"read them from the body, if the handler needs them: await request.json() in FastAPI",
		})
	}
	return results
}

// run sends one case.
func (p *prober) run(ctx context.Context, route Route, c ProbeCase) ProbeResult {
	result := ProbeResult{Endpoint: route.Name, Case: c.Name, Verdict: ProbePassed}
	if c.Refuse && p.secret == "" {
		result.Verdict, result.Advice = ProbeSkipped, &Advice{"hubhook knows no secret of the program", "say which it has: --secret"}
		return result
	}
	for _, d := range c.Deliveries {
		answer, advice, ok := p.send(ctx, route, c, d)
		result.Answers = append(result.Answers, answer)
		if !ok {
			result.Verdict, result.Advice = ProbeFailed, &advice
			return result
		}
		if advice != (Advice{}) {
			result.Verdict, result.Advice = ProbeWarned, &advice
		}
	}
	return result
}

// send makes one delivery, and judges the answer. Advice without a failure is a warning.
func (p *prober) send(ctx context.Context, route Route, c ProbeCase, d ProbeDelivery) (answer ProbeAnswer, advice Advice, ok bool) {
	var header http.Header
	var body []byte
	var run *ProgramRun
	for deadline := time.Now().Add(p.cfg.readyWithin); ; {
		base, err := p.base(ctx, &run)
		if err != nil {
			return ProbeAnswer{Error: err.Error()}, p.explainSilence(err, run), false
		}
		answer, header, body, err = p.post(ctx, base+route.Path, d)
		if run != nil && run.Judge(answer.Status, err) == NotYet && time.Now().Before(deadline) && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(askEvery):
			}
			continue
		}
		if err != nil {
			return answer, p.explainSilence(err, run), false
		}
		break
	}
	seen := Seen{Status: answer.Status, Header: header, Body: body, Path: route.Path, Posts: p.found.Posts, Secret: d.Secret == RightSecret && p.secret != ""}
	if parsed, err := payload.Parse(d.Body); err == nil || errors.Is(err, payload.ErrUnusable) {
		seen.RepoType, seen.Event = parsed.Repo.Type, parsed.Event
	}
	if run != nil {
		seen.Lines = run.LastLines()
	}
	if c.Refuse {
		advice, ok = judgeRefusal(answer.Status, d.Secret)
		return answer, advice, ok
	}
	advice, explained := Explain(seen)
	ok = answer.Status >= 200 && answer.Status < 300
	if !ok && !explained {
		advice = Advice{fmt.Sprintf("the program answers %d: %s", answer.Status, excerpt(body)), "answer 2xx to everything that the Hub sends, and ignore what you do not know"}
	}
	return answer, advice, ok
}

// base returns where the program listens, and its run. A program that has ended is waited for.
func (p *prober) base(ctx context.Context, run **ProgramRun) (string, error) {
	if p.program == nil {
		return strings.TrimRight(p.cfg.URL, "/"), nil
	}
	deadline := time.Now().Add(p.cfg.readyWithin)
	for {
		if *run = p.program.Current(); *run != nil {
			if url := (*run).URL(); url != "" {
				return url, nil
			}
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return "", errNotReady
		}
		p.program.Wake()
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

// post makes the request as the Hub does.
func (p *prober) post(ctx context.Context, at string, d ProbeDelivery) (answer ProbeAnswer, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.answerWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(d.Body))
	if err != nil {
		return ProbeAnswer{Error: err.Error()}, nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Webhook-Id", d.ID)
	switch {
	case d.Secret == WrongSecret:
		r.Header.Set("X-Webhook-Secret", "not-"+p.secret)
	case d.Secret == RightSecret && p.secret != "":
		r.Header.Set("X-Webhook-Secret", p.secret)
	}
	start := time.Now()
	response, err := p.client.Do(r)
	if err == nil {
		defer response.Body.Close()
		body, err = io.ReadAll(io.LimitReader(response.Body, answerLimit))
	}
	answer.Took = time.Since(start)
	if err != nil {
		answer.Error = err.Error()
		return answer, nil, nil, err
	}
	answer.Status = response.StatusCode
	return answer, response.Header, body, nil
}

// explainSilence says why there was no answer.
func (p *prober) explainSilence(err error, run *ProgramRun) Advice {
	if errors.Is(err, context.DeadlineExceeded) {
		return Advice{
			fmt.Sprintf("no answer within %s: the Hub may not wait longer, and counts it as a failure", p.cfg.answerWithin),
			"answer first and work afterwards, in a background task or a queue",
		}
	}
	if run != nil {
		if exit := run.Exit(); exit != nil {
			if advice, ok := exit.explain(0); ok {
				return Advice{"it ended while it handled the delivery: " + advice.Cause, advice.Fix}
			}
			return Advice{"it ended while it handled the delivery, with " + exit.How, "answer 2xx, whatever comes, and go on"}
		}
	}
	return Advice{"no answer: " + err.Error(), "answer 2xx to everything that the Hub sends"}
}

// judgeRefusal judges the answer to a delivery that is not the Hub's.
func judgeRefusal(status int, secret ProbeSecret) (Advice, bool) {
	what := "without a secret"
	if secret == WrongSecret {
		what = "with a wrong secret"
	}
	const fix = "compare the header X-Webhook-Secret with WEBHOOK_SECRET, in constant time, before anything else, and answer 401 or 403"
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Advice{}, true
	case status >= 200 && status < 300:
		return Advice{fmt.Sprintf("the program takes a delivery %s (%d): anyone can send it one", what, status), fix}, false
	default:
		return Advice{fmt.Sprintf("the program answers %d to a delivery %s: that says nothing about the secret", status, what), fix}, false
	}
}
