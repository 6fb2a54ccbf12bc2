package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui/inspector"
)

// What one answer holds at most, so that it leaves room in an agent's context.
const (
	maxAgentList     = 50  // deliveries
	maxAgentAttempts = 10  // of one delivery, the newest
	maxAgentItems    = 10  // endpoints, webhooks and the like, of the status
	maxAgentWait     = 300 // seconds
)

// agentCall is one call of a tool.
type agentCall struct {
	client *inspector.Client
	eyes   eyes
}

// pickArguments say which deliveries are meant.
type pickArguments struct {
	Endpoint string `json:"endpoint,omitempty" jsonschema:"only those of this endpoint"`
	State    string `json:"state,omitempty" jsonschema:"only those in this state; dead means that the attempts are used up"`
	Scope    string `json:"scope,omitempty" jsonschema:"only those of this scope and narrower ones, such as repo or repo.content"`
	Action   string `json:"action,omitempty" jsonschema:"only those with this action, such as update"`
	Repo     string `json:"repo,omitempty" jsonschema:"only those about this repo: me/data or dataset:me/data"`
	Search   string `json:"search,omitempty" jsonschema:"only those with this text in ID, Webhook-Id, repo or reason"`
}

func (a pickArguments) filter() queue.Filter {
	return queue.Filter{Endpoint: a.Endpoint, State: queue.State(a.State), Scope: a.Scope, Action: a.Action, Repo: a.Repo, Query: a.Search}
}

// describeStates lets an agent see which states there are.
func describeStates(properties map[string]*jsonschema.Schema) {
	for _, s := range queue.States() {
		properties["state"].Enum = append(properties["state"].Enum, string(s))
	}
}

// bound sets the smallest, the usual and the largest value of a number.
func bound(number *jsonschema.Schema, least, usual, most int) {
	number.Minimum, number.Maximum = new(float64(least)), new(float64(most))
	number.Default = json.RawMessage(strconv.Itoa(usual))
}

type listArguments struct {
	pickArguments
	Since  string `json:"since,omitempty" jsonschema:"only those that came since: 2h ago or 2026-01-31T08:00:00Z"`
	Limit  int    `json:"limit,omitempty" jsonschema:"at most so many"`
	Before string `json:"before,omitempty" jsonschema:"next of an earlier answer, for the deliveries after those"`
}

type idArguments struct {
	ID string `json:"id" jsonschema:"ID of a delivery"`
}

type readArguments struct {
	idArguments
	Part    string `json:"part" jsonschema:"the text to read; output is what the handler printed, result what it returned"`
	Attempt int    `json:"attempt,omitempty" jsonschema:"number of the attempt, from 1; without it the newest one"`
	Offset  int    `json:"offset,omitempty" jsonschema:"where to begin, in bytes"`
}

type waitArguments struct {
	ID string `json:"id,omitempty" jsonschema:"wait until this delivery is finished, or return at once if it is; without it, wait for the next delivery that comes to match the other arguments"`
	pickArguments
	Timeout int `json:"timeout_seconds,omitempty" jsonschema:"wait at most so long"`
}

type triggerArguments struct {
	Scope    string         `json:"scope,omitempty" jsonschema:"of the event, such as repo.content; the tool's description lists all"`
	Action   string         `json:"action,omitempty" jsonschema:"of the event, such as update; without it the first of the scope"`
	Set      map[string]any `json:"set,omitempty" jsonschema:"fields of the payload to change, each value by its path, such as repo.name"`
	From     string         `json:"from,omitempty" jsonschema:"ID of a delivery whose body is sent, in place of scope, action and set"`
	Endpoint string         `json:"endpoint,omitempty" jsonschema:"which endpoint, if there are several"`
}

// shownAttempt is an attempt as an agent sees it.
type shownAttempt struct {
	N          int      `json:"n"`
	Started    api.Time `json:"started"`
	DurationMS *int64   `json:"duration_ms" jsonschema:"null while it runs"`
	Error      string   `json:"error"`

	// Of the newest attempt alone.
	Output *piece `json:"output,omitempty" jsonschema:"the end of what the handler printed"`
	Stack  *piece `json:"stack,omitempty" jsonschema:"the beginning of the stack of a panic"`
	Result *piece `json:"result,omitempty" jsonschema:"the beginning of what the handler returned, as JSON"`
}

// shownDelivery is one delivery as an agent sees it.
type shownDelivery struct {
	api.Delivery
	Summary     string         `json:"summary"`
	Links       []payload.Link `json:"links"`
	Headers     http.Header    `json:"headers"`
	Body        piece          `json:"body" jsonschema:"the beginning of the payload"`
	AttemptList []shownAttempt `json:"attempt_list" jsonschema:"the newest attempts, oldest first; texts are there of the last one, read_delivery_text has those of the others"`
}

// waited is what became of waiting.
type waited struct {
	TimedOut bool           `json:"timed_out"`
	Delivery *shownDelivery `json:"delivery,omitempty" jsonschema:"the delivery as it is now; left out where none came"`
}

// created is a delivery that a tool has made.
type created struct {
	Delivery string `json:"delivery" jsonschema:"ID of the new delivery; wait_for_delivery waits for its outcome"`
}

// standing is how hubhook stands, with the newest requests that it refused.
type standing struct {
	api.Status
	Rejected []api.Rejected `json:"rejected" jsonschema:"the newest requests that were refused and not stored, with what to fix"`
}

// looking is for tools that change nothing. What they show comes from hubhook on this machine.
func looking(title string) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{Title: title, ReadOnlyHint: true, DestructiveHint: new(false), OpenWorldHint: new(false)}
}

// running is for tools that run a handler. What it does nobody here knows: it may start a training or delete a repo.
func running(title string) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{Title: title, DestructiveHint: new(true), OpenWorldHint: new(true)}
}

// addLooking offers the tools that change nothing.
func (d *agentDesk) addLooking() {
	addTool(d, &mcp.Tool{
		Name: "get_status", Annotations: looking("How hubhook stands"),
		Description: "Show how the running hubhook stands: endpoints with their URLs, tunnel, program, webhooks on the Hub, deliveries by state, and the newest requests that it refused. " + foreignText,
	}, nil, agentCall.status)
	addTool(d, &mcp.Tool{
		Name: "list_deliveries", Annotations: looking("List deliveries"),
		Description: "List deliveries, newest first, with state and reason. " + foreignText,
	}, func(properties map[string]*jsonschema.Schema) {
		describeStates(properties)
		bound(properties["limit"], 1, 20, maxAgentList)
	}, agentCall.list)
	addTool(d, &mcp.Tool{
		Name: "get_delivery", Annotations: looking("Show a delivery"),
		Description: "Show one delivery: headers, payload, and each attempt to handle it, with the error and what the handler printed. " + foreignText,
	}, nil, agentCall.get)
	addTool(d, &mcp.Tool{
		Name: "read_delivery_text", Annotations: looking("Read a long text of a delivery"),
		Description: fmt.Sprintf("Read the payload of a delivery, or what one attempt printed or returned, %d bytes at a time. %s", maxAgentPiece, foreignText),
	}, func(properties map[string]*jsonschema.Schema) {
		properties["part"].Enum = []any{"body", "output", "stack", "result"}
		properties["attempt"].Minimum, properties["offset"].Minimum = new(1.0), new(0.0)
	}, agentCall.read)
	addTool(d, &mcp.Tool{
		Name: "wait_for_delivery", Annotations: looking("Wait for a delivery"),
		Description: "Wait until a delivery is finished, or until the next one comes to match. With neither in time, timed_out is true: call again to go on waiting. " +
			"Deliveries that match already do not count as next. " + foreignText,
	}, func(properties map[string]*jsonschema.Schema) {
		describeStates(properties)
		bound(properties["timeout_seconds"], 1, 30, maxAgentWait)
	}, agentCall.wait)
}

// addRunning offers the tools that run a handler.
func (d *agentDesk) addRunning() {
	addTool(d, &mcp.Tool{
		Name: "replay_delivery", Annotations: running("Replay a delivery"),
		Description: "Handle a delivery once more, with the same bytes and headers, as a new delivery whose ID is returned. The user's handler runs, with whatever it does in the world.",
	}, nil, agentCall.replay)
	addTool(d, &mcp.Tool{
		Name: "trigger_event", Annotations: running("Send a sample event"),
		Description: "Send a sample event the way that the Hub's deliveries come, and return the new delivery's ID. The user's handler runs, with whatever it does in the world. " +
			"Scopes with their actions:\n" + samplesText(),
	}, nil, agentCall.trigger)
}

func (c agentCall) status(ctx context.Context, _ struct{}) (standing, error) {
	status, err := c.client.Status(ctx)
	if err != nil {
		return standing{}, err
	}
	rejected, err := c.client.Rejected(ctx)
	if err != nil {
		return standing{}, err
	}
	if len(status.Endpoints) > maxAgentItems {
		status.CountsByEndpoint = map[string]map[string]int64{} // as long as the endpoints that are left out
	}
	status.Endpoints, status.Webhooks, status.Followed = newest(status.Endpoints), newest(status.Webhooks), newest(status.Followed)
	status.Loops, status.Upstreams = newest(status.Loops), newest(status.Upstreams)
	for i := range status.Webhooks {
		w := &status.Webhooks[i]
		w.Watched, w.Changes = newest(w.Watched), w.Changes[:min(len(w.Changes), 2)]
	}
	return standing{status, rejected.Rejected[:min(len(rejected.Rejected), 10)]}, nil
}

// newest returns the first items of a list.
func newest[T any](list []T) []T { return list[:min(len(list), maxAgentItems)] }

func (c agentCall) list(ctx context.Context, in listArguments) (api.List, error) {
	f := in.filter()
	f.Limit, f.Before = in.Limit, in.Before
	if in.Since != "" {
		var err error
		if f.Since, err = inspector.ParseSince(in.Since, time.Now()); err != nil {
			return api.List{}, text.WithHint(fmt.Errorf("since: %w", err), "since 2h is what came in the last two hours")
		}
	}
	list, err := c.client.List(ctx, f)
	eyes{c.eyes.hide, maxAgentCell}.clean(reflect.ValueOf(&list).Elem())
	return list, err
}

func (c agentCall) replay(ctx context.Context, in idArguments) (created, error) {
	id, err := c.client.Replay(ctx, in.ID, nil)
	return created{id}, err
}

func (c agentCall) trigger(ctx context.Context, in triggerArguments) (created, error) {
	id, err := c.client.Trigger(ctx, api.Trigger{Endpoint: in.Endpoint, Scope: in.Scope, Action: in.Action, Set: in.Set, From: in.From})
	return created{id}, err
}

func (c agentCall) get(ctx context.Context, in idArguments) (shownDelivery, error) {
	r, err := c.client.Get(ctx, in.ID)
	if err != nil {
		return shownDelivery{}, err
	}
	shown := shownDelivery{Delivery: r.Delivery, Summary: r.Summary, Links: r.Links, Headers: http.Header{}, Body: c.eyes.from(r.Body, 0), AttemptList: []shownAttempt{}}
	for _, name := range []string{"Content-Type", "User-Agent", "Webhook-Id"} {
		if values := r.Headers.Values(name); len(values) > 0 {
			shown.Headers[name] = values[:1]
		}
	}
	for i, a := range r.AttemptList {
		if i < len(r.AttemptList)-maxAgentAttempts {
			continue
		}
		attempt := shownAttempt{N: a.N, Started: a.Started, DurationMS: a.DurationMS, Error: a.Error}
		if i == len(r.AttemptList)-1 {
			attempt.Output = new(c.eyes.end(a.Output))
			if a.Stack != "" {
				attempt.Stack = new(c.eyes.from(a.Stack, 0))
			}
			if result := resultOf(a); result != "" {
				attempt.Result = new(c.eyes.from(result, 0))
			}
		}
		shown.AttemptList = append(shown.AttemptList, attempt)
	}
	return shown, nil
}

// resultOf returns what an attempt returned, "" for nothing.
func resultOf(a api.Attempt) string {
	if string(a.Result) == "null" {
		return ""
	}
	return string(a.Result)
}

func (c agentCall) read(ctx context.Context, in readArguments) (piece, error) {
	r, err := c.client.Get(ctx, in.ID)
	switch {
	case err != nil:
		return piece{}, err
	case in.Part == "body":
		return c.eyes.from(r.Body, in.Offset), nil
	case len(r.AttemptList) == 0:
		return piece{}, text.WithHint(fmt.Errorf("delivery %s has had no attempt, so it has no %s", in.ID, in.Part), "wait_for_delivery waits until it is finished")
	}
	n := in.Attempt
	if n == 0 {
		n = r.AttemptList[len(r.AttemptList)-1].N
	}
	for _, a := range r.AttemptList {
		if a.N == n {
			whole := map[string]string{"output": a.Output, "stack": a.Stack, "result": resultOf(a)}[in.Part]
			return c.eyes.from(whole, in.Offset), nil
		}
	}
	return piece{}, text.WithHint(fmt.Errorf("delivery %s has no attempt %d", in.ID, n), "get_delivery lists the attempts")
}

func (c agentCall) wait(ctx context.Context, in waitArguments) (waited, error) {
	if in.ID != "" && in.pickArguments != (pickArguments{}) {
		return waited{}, text.WithHint(errors.New("id goes without the arguments that pick a delivery"), "give one or the other, with timeout_seconds if need be")
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(in.Timeout)*time.Second)
	defer cancel()
	id, err := in.ID, error(nil)
	if id != "" {
		_, err = finished(limited, c.client, id)
	} else {
		id, err = next(limited, c.client, in.filter())
	}
	timedOut := err != nil && limited.Err() != nil && ctx.Err() == nil
	if err != nil && !timedOut {
		return waited{}, err
	}
	if id == "" {
		return waited{TimedOut: true}, nil
	}
	shown, err := c.get(ctx, idArguments{id})
	return waited{timedOut, &shown}, err
}
