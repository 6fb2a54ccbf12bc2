package hubtest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Webhook is a registration: what it watches, the URL that events are posted to, and the secret.
type Webhook struct {
	// ID has 24 hexadecimal digits, as in the Hub's examples. If it is empty, [Hub.Create] makes one.
	ID string
	// Owner is the name of the user that the webhook belongs to. Only the owner's tokens see the webhook. Empty: [Options].User.
	Owner string
	// URL is an http or https URL, used unchanged. Its query may hold the secret instead. It is empty for a webhook that starts a Job.
	URL string
	// Job is the Job that the webhook starts. The stand-in starts none: its deliveries are delivered without an attempt. Nil: the webhook
	// has a URL.
	Job *Job
	// Secret is sent in X-Webhook-Secret. It must be ASCII, as the Hub's documentation asks. Empty: the header is left out.
	Secret string
	// Watched are the repos, users and organizations whose events the Hub sends. A webhook that watches nothing gets what [Hub.Send] sends.
	Watched []Watched
	// Domains say which events of the watched items are sent: "repo", "discussion" or both. Nil: both.
	Domains []string
}

// Watched is an item that a webhook watches.
type Watched struct {
	// Type is dataset, model, space, user, org (OpenAPI description of the Hub, 2025), bucket (huggingface_hub, 2026) or kernel (clients
	// of others).
	Type string `json:"type"`
	// Name is owner/name of a repo, or the name of a user or organization.
	Name string `json:"name"`
}

// Job is what a webhook starts instead of posting to a URL. The fields are those of huggingface_hub 2.4.0.
type Job struct {
	DockerImage string            `json:"dockerImage,omitzero"`
	SpaceID     string            `json:"spaceId,omitzero"`
	Command     []string          `json:"command"`
	Arguments   []string          `json:"arguments"`
	Environment map[string]string `json:"environment"`
	Flavor      string            `json:"flavor"`
}

// The domains of a webhook.
const (
	DomainRepo       = "repo"
	DomainDiscussion = "discussion"
)

func (w Webhook) check() error {
	if w.Job == nil {
		u, err := url.Parse(w.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("its URL is none of http or https") // without the URL, which can have a secret in it
		}
	} else if w.URL != "" {
		return errors.New("it has a URL and a Job; only one of them is allowed")
	}
	for _, c := range []byte(w.Secret) {
		if c < ' ' || c > '~' {
			return errors.New("its secret has a character that is not printable ASCII")
		}
	}
	for _, item := range w.Watched {
		if err := item.check(); err != nil {
			return err
		}
	}
	for _, d := range w.Domains {
		if d != DomainRepo && d != DomainDiscussion {
			return fmt.Errorf("the domain %q is none of repo and discussion", d)
		}
	}
	return nil
}

func (item Watched) check() error {
	owner, name, isRepo := strings.Cut(item.Name, "/")
	switch item.Type {
	case "model", "dataset", "space", "bucket", "kernel":
	case "user", "org":
		if isRepo {
			return fmt.Errorf("the watched %s %q is not the name of an account", item.Type, item.Name)
		}
	default:
		return fmt.Errorf("the watched type %q is none of bucket, dataset, kernel, model, org, space and user", item.Type)
	}
	if owner == "" || isRepo && (name == "" || strings.Contains(name, "/")) {
		return fmt.Errorf("the watched %s has the name %q", item.Type, item.Name)
	}
	return nil
}

// clone returns a copy that shares no memory with w.
func (w Webhook) clone() Webhook {
	w.Watched, w.Domains = slices.Clone(w.Watched), slices.Clone(w.Domains)
	return w
}

// registration is a webhook with the Hub's record of it.
type registration struct {
	Webhook
	failures  int           // since the last success
	suspended bool          // after failures
	disabled  bool          // by its owner
	stopped   chan struct{} // closed when the webhook is suspended, disabled or deleted
	day       window        // its deliveries today
}

func (r *registration) isStopped() bool {
	select {
	case <-r.stopped:
		return true
	default:
		return false
	}
}

func (r *registration) enable() {
	r.failures, r.suspended, r.disabled = 0, false, false
	if r.isStopped() {
		r.stopped = make(chan struct{})
	}
}

func (r *registration) disable() {
	r.disabled, r.suspended = true, false
	r.stop()
}

func (r *registration) suspend() {
	r.suspended = true
	r.stop()
}

// stop makes the webhook's pending deliveries give up.
func (r *registration) stop() {
	if !r.isStopped() {
		close(r.stopped)
	}
}

// Create registers a webhook and returns its ID. It fails if a field is invalid, or the ID is taken.
func (h *Hub) Create(w Webhook) (id string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.create(w)
}

// create is called with the lock held.
func (h *Hub) create(w Webhook) (id string, err error) {
	w = w.clone()
	if w.ID == "" {
		w.ID = objectID()
	}
	if w.Owner == "" {
		w.Owner = h.options.User
	}
	if w.Domains == nil {
		w.Domains = []string{DomainRepo, DomainDiscussion}
	}
	if err := w.check(); err != nil {
		return "", fmt.Errorf("create webhook %s: %w", w.ID, err)
	}
	if h.webhooks.byID[w.ID] != nil {
		return "", fmt.Errorf("create webhook %s: there is one with this ID; use Update", w.ID)
	}
	h.Accounts.ensure(w.Owner)
	h.webhooks.byID[w.ID] = &registration{Webhook: w, stopped: make(chan struct{})}
	h.webhooks.order = append(h.webhooks.order, w.ID)
	return w.ID, nil
}

// Update replaces the URL, the Job and the secret of the webhook with w's ID. It replaces what the webhook watches and its domains unless
// they are nil in w. The owner and the state stay. Deliveries that wait for their next attempt use the new values.
func (h *Hub) Update(w Webhook) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.webhooks.lookUp(w.ID)
	if err != nil {
		return fmt.Errorf("update webhook: %w", err)
	}
	w = w.clone()
	w.Owner = r.Owner
	if w.Watched == nil {
		w.Watched = r.Watched
	}
	if w.Domains == nil {
		w.Domains = r.Domains
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("update webhook %s: %w", w.ID, err)
	}
	r.Webhook = w
	return nil
}

// Webhook returns a webhook as it is registered now.
func (h *Hub) Webhook(id string) (w Webhook, err error) {
	err = h.withWebhook("get", id, func(r *registration) { w = r.Webhook.clone() })
	return w, err
}

// Webhooks returns all webhooks, oldest first.
func (h *Hub) Webhooks() []Webhook {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Webhook
	for _, r := range h.webhooks.inOrder() {
		all = append(all, r.Webhook.clone())
	}
	return all
}

// Suspended reports whether a webhook is suspended for its failures. Until [Hub.Enable] the Hub then sends nothing to it but replays.
func (h *Hub) Suspended(id string) (suspended bool, err error) {
	err = h.withWebhook("get", id, func(r *registration) { suspended = r.suspended })
	return suspended, err
}

// Disabled reports whether a webhook is disabled or suspended.
func (h *Hub) Disabled(id string) (disabled bool, err error) {
	err = h.withWebhook("get", id, func(r *registration) { disabled = r.isStopped() })
	return disabled, err
}

// Enable ends a webhook's suspension and forgets its failures, as the button in the Hub's settings does. Deliveries that were given up
// stay so; only [Hub.Replay] sends them again. It enables a disabled webhook too.
func (h *Hub) Enable(id string) error {
	return h.withWebhook("enable", id, (*registration).enable)
}

// Disable makes the Hub send nothing to a webhook but replays, until [Hub.Enable]. Its pending deliveries are given up (an assumption).
func (h *Hub) Disable(id string) error {
	return h.withWebhook("disable", id, (*registration).disable)
}

// Suspend suspends a webhook as its failures would.
func (h *Hub) Suspend(id string) error {
	return h.withWebhook("suspend", id, (*registration).suspend)
}

// Delete removes a webhook. Its pending deliveries are given up. The log of its deliveries stays.
func (h *Hub) Delete(id string) error {
	return h.withWebhook("delete", id, h.webhooks.remove)
}

// withWebhook calls do with a webhook, with the lock held. what names the act in the error.
func (h *Hub) withWebhook(what, id string, do func(*registration)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.webhooks.lookUp(id)
	if err != nil {
		return fmt.Errorf("%s webhook: %w", what, err)
	}
	do(r)
	return nil
}

// registry has the webhooks. Its methods are called with the Hub's lock held.
type registry struct {
	byID  map[string]*registration
	order []string // IDs, oldest first
}

func (g *registry) lookUp(id string) (*registration, error) {
	if r := g.byID[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("there is none with the ID %q", id)
}

func (g *registry) inOrder() []*registration {
	all := make([]*registration, 0, len(g.order))
	for _, id := range g.order {
		all = append(all, g.byID[id])
	}
	return all
}

func (g *registry) remove(r *registration) {
	r.stop()
	delete(g.byID, r.ID)
	g.order = slices.DeleteFunc(g.order, func(id string) bool { return id == r.ID })
}
