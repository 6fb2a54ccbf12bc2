package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hubhook/hubhook/internal/text"
)

// webhooksPath is where the API has the webhooks of the token's user.
const webhooksPath = "/api/settings/webhooks"

// Webhooks are the webhooks of one user of the Hub. They belong to the user of the token, never to an organization.
type Webhooks struct{ client *Client }

// Webhook is a registration on the Hub. Either URL or Job is set.
type Webhook struct {
	// ID has 24 hexadecimal digits in all examples.
	ID string
	// URL is where the Hub posts to. It can have the secret in its query: see [Webhook.PlainURL].
	URL string
	// Job is what the Hub starts instead of posting to a URL.
	Job *Job
	// Watched are the repos, users and organizations whose events are delivered.
	Watched []Watched
	// Domains are the kinds of events.
	Domains []Domain
	// State says whether events are delivered. An update does not change it.
	State WebhookState
	// HasSecret says that deliveries carry a secret.
	HasSecret bool
	// Secret is the secret, where the Hub shows it. Late in 2025 the Hub did; late in 2026 it says only whether there is one. In an update,
	// Secret is what the webhook gets.
	Secret Secret

	unknown map[string]json.RawMessage // fields that this package does not know; an update sends them back
}

// Job is the Hub Job that a webhook starts.
type Job struct {
	// SourceID is the id of the Job to copy. The Hub does not send it. An update with it replaces the webhook's Job.
	SourceID string
	// SecretValues are secret variables of the Job, sent with SourceID. The Hub does not copy those of the source Job.
	SecretValues map[string]Secret
	// DockerImage or SpaceID is what the Job runs in.
	DockerImage, SpaceID string
	// Command is what it runs.
	Command []string

	raw json.RawMessage
}

// Raw returns the Job as the Hub sent it, nil for one that the Hub did not send.
func (j *Job) Raw() json.RawMessage { return j.raw }

// Watched is something that a webhook watches.
type Watched struct {
	// Type is model, dataset, space, bucket, user or org. The Hub may add types.
	Type string `json:"type"`
	// Name is owner/name for a repo or a bucket, one name for a user or an organization.
	Name string `json:"name"`
}

// String returns TYPE:NAME.
func (w Watched) String() string { return w.Type + ":" + w.Name }

// WatchedTypes are the types that the Hub is known to watch, in the order of its API's description.
func WatchedTypes() []string { return []string{"model", "dataset", "space", "bucket", "user", "org"} }

// ParseWatched reads TYPE:NAME.
func ParseWatched(s string) (Watched, error) {
	kind, name, ok := strings.Cut(s, ":")
	w := Watched{kind, name}
	if !ok || name == "" {
		return w, fmt.Errorf("read %q: want TYPE:NAME, dataset:me/data for example", s)
	}
	switch kind {
	case "model", "dataset", "space", "bucket":
		if err := checkName(name); err != nil {
			return w, fmt.Errorf("read %q: %w", s, err)
		}
		if kind == "bucket" && !strings.Contains(name, "/") { // of the other types some old ones have no owner
			return w, fmt.Errorf("read %q: %q is no owner/name", s, name)
		}
	case "user", "org":
		if strings.Contains(name, "/") || checkName(name) != nil {
			return w, fmt.Errorf("read %q: want the name of one user or organization, as in %s:julien-c", s, kind)
		}
	default:
		return w, fmt.Errorf("read %q: unknown type %q; want one of %s", s, kind, strings.Join(WatchedTypes(), ", "))
	}
	return w, nil
}

// Domain is a kind of events.
type Domain string

// The domains that the Hub knows. RepoDomain is what happens to a repo and its files, DiscussionDomain discussions, pull requests and
// comments. Buckets have no discussions.
const (
	RepoDomain       Domain = "repo"
	DiscussionDomain Domain = "discussion"
)

// Domains returns both domains.
func Domains() []Domain { return []Domain{RepoDomain, DiscussionDomain} }

// WebhookState says whether a webhook delivers.
type WebhookState string

// The states. A suspended webhook was disabled by the Hub, because its deliveries failed.
const (
	Enabled   WebhookState = "enabled"
	Disabled  WebhookState = "disabled"
	Suspended WebhookState = "suspended"
)

// UnmarshalJSON reads what the API calls "disabled": true, false, or a string that says why, "suspended-after-failure" for example.
func (s *WebhookState) UnmarshalJSON(b []byte) error {
	*s = Disabled
	var reason string
	switch {
	case string(b) == "false", string(b) == "null":
		*s = Enabled
	case json.Unmarshal(b, &reason) != nil: // true, or a value of another type that says more than false
	case reason == "" || reason == "false":
		*s = Enabled
	case strings.HasPrefix(reason, "suspended"):
		*s = Suspended
	}
	return nil
}

// disabled is the state in the API's form.
func (s WebhookState) disabled() any {
	switch s {
	case Suspended:
		return "suspended-after-failure"
	case Enabled, "":
		return false
	}
	return true
}

// known are the fields of a webhook that have a place in Webhook. "secrets" and "jobSourceId" are in requests alone.
var known = []string{"id", "url", "job", "watched", "domains", "disabled", "secret", "hasSecret", "secrets", "jobSourceId"}

// UnmarshalJSON reads a webhook as the Hub sends it. It refuses only one without an id.
func (w *Webhook) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	read := Webhook{State: Enabled}
	tolerant(fields["id"], &read.ID)
	if read.ID == "" {
		return errors.New("a webhook has no id")
	}
	tolerant(fields["url"], &read.URL)
	if job := fields["job"]; len(job) > 0 && job[0] == '{' {
		read.Job = readJob(job)
	}
	var watched []json.RawMessage
	tolerant(fields["watched"], &watched)
	for _, raw := range watched {
		var item Watched
		if tolerant(raw, &item); item.Name != "" {
			read.Watched = append(read.Watched, item)
		}
	}
	tolerant(fields["domains"], &read.Domains)
	tolerant(fields["disabled"], &read.State)
	var secret string // a Secret prints as "(hidden)", so the value is read as a plain string
	tolerant(fields["secret"], &secret)
	read.Secret = Secret(secret)
	tolerant(fields["hasSecret"], &read.HasSecret)
	read.HasSecret = read.HasSecret || secret != ""
	for _, name := range known {
		delete(fields, name)
	}
	read.unknown = fields
	*w = read
	return nil
}

// tolerant reads a value, and leaves into alone where there is none or it has another type.
func tolerant[T any](value json.RawMessage, into *T) {
	var read T
	if len(value) > 0 && string(value) != "null" && json.Unmarshal(value, &read) == nil {
		*into = read
	}
}

// readFields reads fields of a JSON object by name, each with a function that [into] makes. It refuses only what is no object.
func readFields(body []byte, fields map[string]func(json.RawMessage)) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return err
	}
	for name, read := range fields {
		read(raw[name])
	}
	return nil
}

// into returns a function that reads a value, unless it has another type than expected.
func into[T any](to *T) func(json.RawMessage) {
	return func(value json.RawMessage) { tolerant(value, to) }
}

// within returns a function that reads a field of an object with read.
func within(name string, read func(json.RawMessage)) func(json.RawMessage) {
	return func(value json.RawMessage) { read(field(value, name)) }
}

func readJob(raw json.RawMessage) *Job {
	job := &Job{raw: bytes.Clone(raw)}
	_ = readFields(raw, map[string]func(json.RawMessage){ // it fails only if raw is no object, and then the fields stay empty
		"dockerImage": into(&job.DockerImage), "spaceId": into(&job.SpaceID), "command": into(&job.Command),
	})
	return job
}

// MarshalJSON returns the webhook in the API's form with hasSecret, never with the secret itself: neither as a field nor in the URL.
func (w Webhook) MarshalJSON() ([]byte, error) {
	fields := make(map[string]any)
	for name, value := range w.unknown {
		fields[name] = value
	}
	fields["id"] = w.ID
	if w.URL != "" {
		fields["url"] = w.PlainURL()
	}
	if w.Job != nil && w.Job.raw != nil {
		fields["job"] = w.Job.raw
	}
	fields["watched"], fields["domains"] = notNil(w.Watched), notNil(w.Domains)
	fields["disabled"], fields["hasSecret"] = w.State.disabled(), w.HasSecret
	return json.Marshal(fields)
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// PlainURL returns the URL for people to read: a secret in its query, and a password, are hidden.
func (w Webhook) PlainURL() string { return plainURL(w.URL) }

func plainURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return hidden // a URL that can't be parsed may have a secret anywhere
	}
	if _, ok := u.User.Password(); ok {
		u.User = url.UserPassword(u.User.Username(), "hidden")
	}
	if secrets := querySecrets(address); len(secrets) > 0 {
		query := u.Query()
		query["secret"] = []string{"hidden"}
		u.RawQuery = query.Encode()
	}
	return u.String()
}

// querySecrets returns the secrets in a webhook's URL.
func querySecrets(address string) []string {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	secrets := u.Query()["secret"]
	if password, ok := u.User.Password(); ok {
		secrets = append(secrets, password)
	}
	return secrets
}

// NewWebhook is a webhook to create. Either URL or Job.SourceID is set.
type NewWebhook struct {
	URL string
	Job *Job
	// Watched must not be empty.
	Watched []Watched
	// Domains empty: both.
	Domains []Domain
	// Secret is ASCII text. Empty: deliveries carry none.
	Secret Secret
}

// List returns all webhooks.
func (h *Webhooks) List(ctx context.Context) ([]Webhook, error) {
	call := h.call("list the webhooks", http.MethodGet, "")
	var all []Webhook
	for {
		answer, err := h.client.send(ctx, call)
		if err != nil {
			return nil, err
		}
		if wrapped := field(answer.body, "webhooks"); wrapped != nil { // not seen so far; all other answers are wrapped
			answer.body = wrapped
		}
		var page []Webhook
		if err := h.client.decode(call, answer, &page); err != nil {
			return nil, err
		}
		all = append(all, page...)
		next, err := h.client.next(call.url, answer.header) // not seen so far either
		if err != nil {
			e := h.client.failed(call, Token{})
			e.Err = err
			return nil, e
		}
		if next == nil {
			return all, nil
		}
		call.url = next
	}
}

// Get returns one webhook. Without such a webhook the error is an ErrNotFound.
func (h *Webhooks) Get(ctx context.Context, id string) (Webhook, error) {
	return h.act(ctx, "read", http.MethodGet, id)
}

// Create makes a webhook. It repeats the call only while the Hub can't have made the webhook yet. After a lost answer the webhook may exist.
func (h *Webhooks) Create(ctx context.Context, w NewWebhook) (Webhook, error) {
	call := h.call("create a webhook", http.MethodPost, "")
	call.safe = false
	if len(w.Domains) == 0 {
		w.Domains = Domains() // the API's description requires them
	}
	err := h.fill(&call, Webhook{URL: w.URL, Job: w.Job, Watched: w.Watched, Domains: w.Domains, Secret: w.Secret})
	if err != nil {
		return Webhook{}, err
	}
	return h.one(ctx, call)
}

// Update sends a webhook that Get or List returned back whole, with what the caller changed in it. It leaves the state as it is. Where the
// webhook has a secret that the Hub hides, the caller has to set Secret again: what the Hub does with an update that has none is unknown,
// so Update refuses it with ErrSecretHidden.
func (h *Webhooks) Update(ctx context.Context, w Webhook) (Webhook, error) {
	call, err := h.withID("update webhook "+line(w.ID), http.MethodPost, w.ID)
	if err != nil {
		return Webhook{}, err
	}
	if w.HasSecret && w.Secret == "" {
		return Webhook{}, &Error{Op: call.op, Err: ErrSecretHidden, endpoint: h.client.Endpoint()}
	}
	if err := h.fill(&call, w); err != nil {
		return Webhook{}, err
	}
	return h.one(ctx, call)
}

// fill makes the body of a request of w.
func (h *Webhooks) fill(call *call, w Webhook) error {
	refuse := func(format string, args ...any) error {
		return &Error{Op: call.op, Err: fmt.Errorf(format, args...), endpoint: h.client.Endpoint()}
	}
	sourced := w.Job != nil && w.Job.SourceID != ""
	switch {
	case w.URL != "" && w.Job != nil:
		return refuse("a webhook has a URL or a Job, not both")
	case w.URL == "" && w.Job == nil:
		return refuse("a webhook needs a URL or a Job")
	case w.Job != nil && !sourced && w.Job.raw == nil:
		return refuse("a Job needs the id of the Job to copy")
	case len(w.Watched) == 0:
		return refuse("a webhook that watches nothing delivers nothing")
	case strings.ContainsFunc(string(w.Secret), func(c rune) bool { return c < ' ' || c > '~' }):
		return refuse("a secret has to be printable ASCII text, as it is sent in a header")
	}
	body := make(map[string]any)
	for name, value := range w.unknown {
		body[name] = value
	}
	switch {
	case w.URL != "":
		body["url"] = w.URL
	case sourced:
		body["jobSourceId"] = w.Job.SourceID
		if len(w.Job.SecretValues) > 0 {
			values := make(map[string]string)
			for name, value := range w.Job.SecretValues {
				values[name] = string(value)
				call.secrets = append(call.secrets, string(value))
			}
			body["secrets"] = values
		}
	default:
		body["job"] = w.Job.raw
	}
	body["watched"], body["domains"] = w.Watched, notNil(w.Domains)
	if w.Secret != "" {
		body["secret"] = string(w.Secret)
	}
	call.secrets = append(call.secrets, append(querySecrets(w.URL), string(w.Secret))...)
	var err error
	call.body, err = json.Marshal(body)
	if err != nil {
		return refuse("write the request: %w", err)
	}
	return nil
}

// Enable makes a webhook deliver again, also after the Hub has suspended it.
func (h *Webhooks) Enable(ctx context.Context, id string) (Webhook, error) {
	return h.act(ctx, "enable", http.MethodPost, id, "enable")
}

// Disable stops a webhook's deliveries.
func (h *Webhooks) Disable(ctx context.Context, id string) (Webhook, error) {
	return h.act(ctx, "disable", http.MethodPost, id, "disable")
}

// Delete deletes a webhook. If a repeated call finds no webhook, the first one has deleted it, and Delete succeeds.
func (h *Webhooks) Delete(ctx context.Context, id string) error {
	call, err := h.withID("delete webhook "+line(id), http.MethodDelete, id)
	if err != nil {
		return err
	}
	answer, err := h.client.send(ctx, call)
	if answer.repeated && errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Replay sends a delivery of the webhook's log again: to its current URL, with its current secret and the same Webhook-Id. It returns the
// HTTP status of that delivery, 0 where the Hub does not say.
func (h *Webhooks) Replay(ctx context.Context, id, delivery string) (status int, err error) {
	call, err := h.withID("replay delivery "+line(delivery)+" of webhook "+line(id), http.MethodPost, id, "replay", delivery)
	if err != nil {
		return 0, err
	}
	call.safe = false
	answer, err := h.client.send(ctx, call)
	if err != nil {
		return 0, err
	}
	tolerant(field(answer.body, "status"), &status)
	return status, nil
}

// withID returns the call for one webhook, and what follows its id in the path. It refuses an id that leads to another path.
func (h *Webhooks) withID(op, method, id string, rest ...string) (call, error) {
	path := ""
	for _, part := range append([]string{id}, rest...) {
		if strings.Trim(part, ".") == "" {
			return call{}, &Error{Op: op, Err: fmt.Errorf("%q is no id", part), endpoint: h.client.Endpoint()}
		}
		path += "/" + url.PathEscape(part)
	}
	return h.call(op, method, path), nil
}

// call returns a call that needs a token and is safe to repeat.
func (h *Webhooks) call(op, method, path string) call {
	return call{op: op, method: method, url: h.client.address(webhooksPath+path, nil), safe: true, signed: true}
}

// act sends a call for one webhook, that is answered with the webhook.
func (h *Webhooks) act(ctx context.Context, verb, method, id string, rest ...string) (Webhook, error) {
	call, err := h.withID(verb+" webhook "+line(id), method, id, rest...)
	if err != nil {
		return Webhook{}, err
	}
	return h.one(ctx, call)
}

// one sends a call that is answered with a webhook.
func (h *Webhooks) one(ctx context.Context, call call) (Webhook, error) {
	answer, err := h.client.send(ctx, call)
	if err != nil {
		return Webhook{}, err
	}
	if wrapped := field(answer.body, "webhook"); wrapped != nil {
		answer.body = wrapped
	}
	var w Webhook
	return w, h.client.decode(call, answer, &w)
}

// field returns a field of an object, nil where body is no object or has none.
func field(body []byte, name string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	return fields[name]
}

// line makes a text from outside printable, in one line of 200 bytes at most.
func line(s string) string { return text.OneLine(s, 200) }
