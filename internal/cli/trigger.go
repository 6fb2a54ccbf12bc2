package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

type trigger struct {
	*program
	where    *where
	endpoint string
	set      []string
	from     string
	to       string
	secret   string
	wait     bool
	print    bool
	json     bool
	triggers []string // of hubhook.yaml, sorted; filled by named
}

func newTrigger(p *program) *cobra.Command {
	t := &trigger{program: p}
	cmd := &cobra.Command{
		Use:     "trigger SCOPE|NAME [ACTION] [flags]",
		GroupID: groupLook,
		Short:   "send a sample event, as the Hub would",
		Long: `Send a sample event to the hubhook that runs in this directory, which treats it
like a delivery of the Hub: it is checked, stored, answered, handled and shown.

NAME is one of triggers in hubhook.yaml: an event with fields of yours.

The ID of the delivery is printed. These are the scopes with their actions, the
default first:
` + samplesText(),
		Example: `  hubhook trigger repo.content
  hubhook trigger repo.content --wait       until it is handled
  hubhook trigger discussion update --set repo.type=dataset --set repo.name=me/d
  hubhook trigger repo.content --to http://127.0.0.1:3000/hook
  hubhook trigger push                      one of triggers in hubhook.yaml
  hubhook trigger --from 01J9ZK...          with the body of a delivery`,
		Args:              t.arguments,
		ValidArgsFunction: p.completeTrigger,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.run(cmd, args); err != nil {
				return fmt.Errorf("trigger: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&t.endpoint, "endpoint", "", "`NAME` of the endpoint, if there are several")
	flags.StringArrayVar(&t.set, "set", nil, "`PATH=VALUE` to change in the sample, such as repo.name=me/data; repeatable")
	flags.StringVar(&t.from, "from", "", "send the body of the delivery `ID` instead of a sample")
	flags.StringVar(&t.to, "to", "", "post to this `URL` instead, whatever serves it")
	flags.StringVar(&t.secret, "secret", "", "with --to, the webhook `SECRET` to send (WEBHOOK_SECRET too)")
	flags.BoolVar(&t.wait, "wait", false, "wait until the delivery is finished, and say how it ended")
	flags.BoolVar(&t.print, "print", false, "print the payload and send nothing")
	flags.BoolVar(&t.json, "json", false, "print a JSON object")
	t.where = addWhere(cmd)
	completeFlag(cmd, "endpoint", p.completeEndpoint(t.where))
	completeFlag(cmd, "from", p.completeDelivery(t.where))
	return cmd
}

// samplesText lists what can be triggered, one scope a line.
func samplesText() string {
	var b strings.Builder
	var last payload.Scope
	for _, e := range payload.Samples() {
		if e.Scope != last {
			if last != "" {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "  %-20s", e.Scope)
			last = e.Scope
		}
		b.WriteString(" " + string(e.Action))
	}
	return b.String()
}

func completeEvent(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var words []string
	for _, e := range payload.Samples() {
		switch {
		case len(args) == 0 && (len(words) == 0 || words[len(words)-1] != string(e.Scope)):
			words = append(words, string(e.Scope))
		case len(args) == 1 && args[0] == string(e.Scope):
			words = append(words, string(e.Action))
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeTrigger completes the triggers of hubhook.yaml and the scopes, then actions.
func (p *program) completeTrigger(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	words, directive := completeEvent(cmd, args, word)
	if len(args) > 0 {
		return words, directive
	}
	file, err := p.fileHere()
	if err != nil {
		return words, directive
	}
	return append(slices.Sorted(maps.Keys(file.Triggers)), words...), directive
}

func (t *trigger) arguments(cmd *cobra.Command, args []string) error {
	if len(args) > 2 {
		return wrongUsage(cmd, "unexpected argument %q after SCOPE and ACTION", args[2])
	}
	return nil
}

func (t *trigger) run(cmd *cobra.Command, args []string) error {
	if err := t.check(cmd, args); err != nil {
		return err
	}
	request := api.Trigger{Endpoint: t.endpoint, From: t.from}
	var body []byte
	if t.from == "" {
		set, err := parseSet(t.set)
		if err != nil {
			return &usageError{text.WithHint(fmt.Errorf("--set %w", err), seeTrigger)}
		}
		named, err := t.named(args[0])
		if err != nil {
			return err
		}
		request.Scope, request.Set = args[0], set
		if len(args) == 2 {
			request.Action = args[1]
		}
		if named != nil {
			if len(args) == 2 {
				return &usageError{text.WithHint(fmt.Errorf("the trigger %s has its event in hubhook.yaml, so it goes without ACTION", args[0]), seeTrigger)}
			}
			request.Scope, request.Action, request.Set = named.Scope, named.Action, maps.Clone(named.Set)
			if request.Set == nil {
				request.Set = map[string]any{}
			}
			maps.Copy(request.Set, set) // --set has the last word
		}
		// Whatever is wrong with the arguments is found here, before anything that runs is asked.
		sample, err := payload.Sample(payload.Scope(request.Scope), payload.Action(request.Action), request.Set)
		if err != nil {
			return &usageError{text.WithHint(err, t.sampleHint(args[0], request.Scope))}
		}
		body = sample.Raw()
	}
	if t.from == "" && (t.print || t.to != "") {
		return t.leave(cmd, body)
	}
	client, err := t.client(cmd, t.where)
	if err != nil {
		return err
	}
	if t.print || t.to != "" {
		record, err := client.Get(cmd.Context(), t.from)
		if err != nil {
			return explainID(err)
		}
		return t.leave(cmd, []byte(record.Body))
	}
	return t.send(cmd.Context(), client, request)
}

// named returns the trigger of that name in hubhook.yaml, nil for a scope and for what is neither.
func (t *trigger) named(name string) (*action.Trigger, error) {
	if slices.Contains(scopes(), name) {
		return nil, nil
	}
	file, err := t.fileHere()
	if err != nil {
		return nil, err // the name may stand in it
	}
	t.triggers = slices.Sorted(maps.Keys(file.Triggers))
	if named, ok := file.Triggers[name]; ok {
		return &named, nil
	}
	return nil, nil
}

// sampleHint says where to read what name may be, where it made no sample of scope.
func (t *trigger) sampleHint(name, scope string) string {
	if name == scope && len(t.triggers) > 0 && !slices.Contains(scopes(), name) {
		return "triggers of hubhook.yaml: " + strings.Join(t.triggers, ", ") + "; the scopes with their actions: hubhook trigger --help"
	}
	return "the scopes with their actions: hubhook trigger --help"
}

// parseSet reads the values of --set, each of the form path=value, for payload.Sample. A value may be empty and may hold further equals signs.
func parseSet(args []string) (map[string]any, error) {
	set := make(map[string]any, len(args))
	for _, arg := range args {
		path, value, ok := strings.Cut(arg, "=")
		if !ok || path == "" {
			return nil, fmt.Errorf("%q: want path=value, such as repo.name=me/data", arg)
		}
		if _, twice := set[path]; twice {
			return nil, fmt.Errorf("%s: set twice", path)
		}
		set[path] = value
	}
	return set, nil
}

const seeTrigger = "see hubhook trigger --help"

// check refuses flags and arguments that contradict each other.
func (t *trigger) check(cmd *cobra.Command, args []string) error {
	problem, hint := "", seeTrigger
	switch {
	case t.from != "" && (len(args) > 0 || len(t.set) > 0):
		problem = "--from sends a delivery's body as it is, so it goes without SCOPE, ACTION and --set"
	case t.from == "" && len(args) == 0:
		problem, hint = "want a SCOPE, or the NAME of a trigger in hubhook.yaml", "one of "+strings.Join(scopes(), ", ")+"; "+seeTrigger
	case t.to != "" && (t.endpoint != "" || t.wait):
		problem = "--to posts past hubhook, so it goes without --endpoint and --wait"
	case t.to == "" && cmd.Flags().Changed("secret"):
		problem = "--secret goes with --to; to its own endpoints hubhook sends the right one"
	case t.print && (t.to != "" || t.endpoint != "" || t.wait):
		problem = "--print sends nothing, so it goes without --to, --endpoint and --wait"
	default:
		return nil
	}
	return &usageError{text.WithHint(errors.New(problem), hint)}
}

// leave prints the payload, or posts it to a URL that is not the running hubhook's.
func (t *trigger) leave(cmd *cobra.Command, body []byte) error {
	if t.print {
		t.out.Write(append(body, '\n')) // Main reports its error
		return nil
	}
	return t.post(cmd, body)
}

// send asks the running hubhook for the event.
func (t *trigger) send(ctx context.Context, client *inspector.Client, request api.Trigger) error {
	status, err := client.Status(ctx)
	if err != nil {
		return explain(err)
	}
	names := make([]string, 0, len(status.Endpoints))
	for _, e := range status.Endpoints {
		names = append(names, e.Name)
	}
	list := strings.Join(names, ", ")
	if request.Endpoint = strings.Trim(request.Endpoint, "/"); request.Endpoint != "" && !slices.Contains(names, request.Endpoint) {
		return &usageError{text.WithHint(fmt.Errorf("--endpoint: the running hubhook has no endpoint %q", request.Endpoint), "it has "+list)}
	}
	if request.Endpoint == "" && request.From == "" && len(names) > 1 {
		return &usageError{text.WithHint(fmt.Errorf("the running hubhook has several endpoints: %s", list), "name one with --endpoint NAME")}
	}
	id, err := client.Trigger(ctx, request)
	if err != nil {
		return explainID(err) // the ID of --from may be unknown
	}
	if t.wait {
		return t.await(ctx, client, id)
	}
	if t.json {
		return t.printJSON(api.Answer{Delivery: id})
	}
	fmt.Fprintln(t.out, id)
	t.note("Sent. See what became of it: hubhook deliveries show %s", id)
	return nil
}

// await waits until a delivery is finished and prints how it ended. An end other than done, skipped or merged is an error.
func (t *trigger) await(ctx context.Context, client *inspector.Client, id string) error {
	if !t.json {
		fmt.Fprintln(t.out, id)
	}
	d, err := finished(ctx, client, id)
	if err != nil {
		return fmt.Errorf("wait for delivery %s: %w", id, explain(err))
	}
	if t.json {
		err = t.printJSON(d)
	} else {
		fmt.Fprintln(t.out, t.ink.State(string(d.State), outcome(d)))
	}
	if d.State == string(queue.Dead) || d.State == string(queue.Discarded) {
		return text.WithHint(fmt.Errorf("delivery %s is %s: %s", id, d.State, d.Reason), "see all of it with: hubhook deliveries show "+id)
	}
	return err
}

// finished returns a delivery once nothing will move it any more.
func finished(ctx context.Context, client *inspector.Client, id string) (api.Delivery, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var d api.Delivery
	var failed error
	look := func() {
		var record api.Record
		if record, failed = client.Get(ctx, id); failed == nil {
			d = record.Delivery
		}
	}
	err := client.Stream(ctx, func(e inspector.StreamEvent) {
		switch e.Name {
		case "open", "missed": // it may have ended before, or meanwhile
			look()
		case "delivery":
			var changed api.Delivery
			if failed = json.Unmarshal(e.Data, &changed); failed == nil && changed.ID == id {
				d = changed
			}
		}
		if failed != nil || queue.State(d.State).Finished() {
			stop()
		}
	})
	switch {
	case failed != nil:
		return d, failed
	case queue.State(d.State).Finished():
		return d, nil
	case errors.Is(err, io.EOF):
		return d, errors.New("hubhook was stopped before it was finished")
	}
	return d, err
}

// outcome says how a finished delivery ended.
func outcome(d api.Delivery) string {
	how := string(d.State)
	if d.State == string(queue.Done) && d.Attempts > 0 { // an endpoint without a handler makes no attempt
		how += " in " + ui.Duration(time.Duration(d.DurationMS)*time.Millisecond)
	}
	if d.Attempts > 1 {
		how += fmt.Sprintf(" after %d attempts", d.Attempts)
	}
	if d.Reason != "" && d.State != string(queue.Done) {
		how += ": " + text.Printable(d.Reason, 0)
	}
	return how
}

const (
	postTimeout = 30 * time.Second // the Hub gives up then too
	maxReply    = 1 << 20          // of what is shown of an answer, in bytes
)

// post posts body to the URL of --to as the Hub would, and prints the answer.
func (t *trigger) post(cmd *cobra.Command, body []byte) error {
	target, err := url.Parse(t.to)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		// Without the text: it may hold a secret.
		return &usageError{text.WithHint(errors.New("--to: not an http URL"), "write it as http://127.0.0.1:3000/hook")}
	}
	secret, err := t.secretToSend(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), postTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return &usageError{text.WithHint(errors.New("--to: not an http URL"), "write it as http://127.0.0.1:3000/hook")}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "hubhook/"+version.String())
	request.Header.Set("Webhook-Id", rand.Text())
	if secret != "" {
		request.Header.Set("X-Webhook-Secret", secret)
	}
	name := (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path}).String()
	// A redirect is shown, not followed: a webhook's sender need not follow it either.
	sender := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	began := time.Now()
	response, err := sender.Do(request)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the URL and its secret
		}
		return fmt.Errorf("post to %s: %w", name, err)
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return fmt.Errorf("post to %s: read the answer: %w", name, err)
	}
	if err := t.printReply(response, reply, time.Since(began)); err != nil {
		return err
	}
	if response.StatusCode/100 == 2 {
		return nil
	}
	hint := "the Hub counts every answer but 2xx as a failure"
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		hint = "give the secret that is expected there with --secret or WEBHOOK_SECRET"
	}
	return text.WithHint(fmt.Errorf("%s answered %s", name, response.Status), hint)
}

// secretToSend returns the first secret of --secret, HUBHOOK_SECRET or WEBHOOK_SECRET, "" for none.
func (t *trigger) secretToSend(cmd *cobra.Command) (string, error) {
	if cmd.Flags().Changed("secret") {
		if t.secret == "" {
			return "", &usageError{text.WithHint(errors.New("--secret: the webhook secret is empty"), "leave the flag out to send none")}
		}
		return t.secret, nil
	}
	for _, name := range []string{env.Variable("secret"), env.WebhookSecret} {
		if text, _ := t.LookupEnv(name); text != "" {
			first, _, _ := strings.Cut(text, ",")
			return strings.TrimSpace(first), nil
		}
	}
	return "", nil
}

func (t *trigger) printReply(response *http.Response, reply []byte, took time.Duration) error {
	if t.json {
		return t.printJSON(struct {
			Status     int    `json:"status"`
			Body       string `json:"body"`
			DurationMS int64  `json:"duration_ms"`
		}{response.StatusCode, string(reply), took.Milliseconds()})
	}
	fmt.Fprintf(t.out, "%s in %s\n", response.Status, ui.Duration(took))
	if len(reply) > 0 {
		fmt.Fprintf(t.out, "%s\n", text.PrintableLines(strings.TrimRight(string(reply), "\n")))
	}
	return nil
}

func scopes() []string {
	words, _ := completeEvent(nil, nil, "")
	return words
}
