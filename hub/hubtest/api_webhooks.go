package hubtest

import (
	"errors"
	"fmt"

	"github.com/hubhook/hubhook/payload"
)

// webhookAnswer is a webhook as the API shows it.
type webhookAnswer struct {
	ID        string    `json:"id"`
	URL       string    `json:"url,omitzero"`
	Job       *Job      `json:"job,omitzero"`
	Watched   []Watched `json:"watched"`
	Domains   []string  `json:"domains"`
	Secret    *string   `json:"secret,omitzero"`
	HasSecret *bool     `json:"hasSecret,omitzero"`
	Disabled  any       `json:"disabled"` // false, true or "suspended-after-failure"
}

// webhookRequest is the body of create and update. A field that is nil was not sent.
type webhookRequest struct {
	URL         *string    `json:"url"`
	JobSourceID *string    `json:"jobSourceId"`
	Watched     *[]Watched `json:"watched"`
	Domains     *[]string  `json:"domains"`
	Secret      *string    `json:"secret"`
}

func webhookRoutes(handle func(pattern string, answer answerer)) {
	const all, one = "/api/settings/webhooks", "/api/settings/webhooks/{id}"
	handle("GET "+all, locked(listWebhooks))
	handle("POST "+all, locked(createWebhook))
	handle("GET "+one, locked(func(c *call) (any, error) { return c.webhook(ReadWebhooks, nil) }))
	handle("POST "+one, locked(func(c *call) (any, error) { return c.webhook(WriteWebhooks, updateWebhook) }))
	handle("POST "+one+"/enable", locked(func(c *call) (any, error) {
		return c.webhook(WriteWebhooks, func(_ *call, r *registration) error { r.enable(); return nil })
	}))
	handle("POST "+one+"/disable", locked(func(c *call) (any, error) {
		return c.webhook(WriteWebhooks, func(_ *call, r *registration) error { r.disable(); return nil })
	}))
	handle("DELETE "+one, locked(func(c *call) (any, error) {
		_, err := c.webhook(WriteWebhooks, func(c *call, r *registration) error { c.hub.webhooks.remove(r); return nil })
		if err != nil {
			return nil, err
		}
		return struct{}{}, nil
	}))
	handle("POST "+one+"/replay/{log}", replayDelivery)
}

func listWebhooks(c *call) (any, error) {
	t, err := c.needsToken(ReadWebhooks)
	if err != nil {
		return nil, err
	}
	all := []webhookAnswer{}
	for _, r := range c.hub.webhooks.inOrder() {
		if r.Owner == t.User {
			all = append(all, r.answer(c.hub.options.API.EchoSecret))
		}
	}
	return all, nil
}

func createWebhook(c *call) (any, error) {
	t, err := c.needsToken(WriteWebhooks)
	if err != nil {
		return nil, err
	}
	var body webhookRequest
	if err := c.read(&body); err != nil {
		return nil, err
	}
	w := Webhook{Owner: t.User}
	if body.Watched == nil {
		return nil, badRequest(errors.New(`"watched" is required`))
	}
	if (body.URL == nil) == (body.JobSourceID == nil) {
		return nil, badRequest(errors.New(`one of "url" and "jobSourceId" is required`))
	}
	if err := c.apply(body, &w); err != nil {
		return nil, err
	}
	id, err := c.hub.create(w)
	if err != nil {
		return nil, badRequest(err)
	}
	return map[string]any{"webhook": c.hub.webhooks.byID[id].answer(c.hub.options.API.EchoSecret)}, nil
}

func updateWebhook(c *call, r *registration) error {
	var body webhookRequest
	if err := c.read(&body); err != nil {
		return err
	}
	w := r.Webhook.clone()
	if !c.hub.options.API.KeepSecret {
		w.Secret = ""
	}
	if err := c.apply(body, &w); err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return badRequest(fmt.Errorf("update webhook %s: %w", w.ID, err))
	}
	r.Webhook = w
	return nil
}

// apply puts the fields that were sent into w.
func (c *call) apply(body webhookRequest, w *Webhook) error {
	if body.URL != nil && body.JobSourceID != nil {
		return badRequest(errors.New(`only one of "url" and "jobSourceId" is allowed`))
	}
	if body.URL != nil {
		w.URL, w.Job = *body.URL, nil
	}
	if body.JobSourceID != nil {
		w.URL, w.Job = "", sampleJob()
	}
	if body.Watched != nil {
		w.Watched = *body.Watched
		for _, item := range w.Watched {
			if err := c.watchable(item); err != nil {
				return err
			}
		}
	}
	if body.Domains != nil {
		w.Domains = *body.Domains
	} else if c.hub.options.API.NeedDomains {
		return badRequest(errors.New(`"domains" is required`))
	}
	if body.Secret != nil {
		w.Secret = *body.Secret
	}
	return nil
}

// watchable checks whether an item can be watched.
func (c *call) watchable(item Watched) error {
	if err := item.check(); err != nil {
		return badRequest(err)
	}
	if c.hub.options.API.KnownItems && !c.knows(item) {
		return badRequest(fmt.Errorf("there is no %s called %q", item.Type, item.Name))
	}
	return nil
}

// knows reports whether there is something to watch that the caller may see. It is called with the lock held.
func (c *call) knows(item Watched) bool {
	private := false
	switch item.Type {
	case "user", "org":
		a := c.hub.Accounts.byName[item.Name]
		return a != nil && a.org == (item.Type == "org")
	case "bucket":
		b := c.hub.shelf.buckets[item.Name]
		if b == nil {
			return false
		}
		private = b.private
	default:
		r := c.hub.shelf.repos[place{payload.RepoType(item.Type), item.Name}]
		if r == nil {
			return false
		}
		private = r.private
	}
	return !private || c.hub.Accounts.reads(c.user(), ownerOf(item.Name))
}

// webhook does something with the caller's webhook that the path names, and answers the webhook.
func (c *call) webhook(permission string, do func(*call, *registration) error) (any, error) {
	r, err := c.registration(permission)
	if err != nil {
		return nil, err
	}
	if do != nil {
		if err := do(c, r); err != nil {
			return nil, err
		}
	}
	return map[string]any{"webhook": r.answer(c.hub.options.API.EchoSecret)}, nil
}

func (c *call) registration(permission string) (*registration, error) {
	t, err := c.needsToken(permission)
	if err != nil {
		return nil, err
	}
	r := c.hub.webhooks.byID[c.r.PathValue("id")]
	if r == nil || r.Owner != t.User {
		return nil, notFound("", "Webhook not found")
	}
	return r, nil
}

// replayDelivery takes the delivery's Webhook-Id as the log's ID. What the real Hub takes is unknown. The status is 0 if the receiver did
// not answer.
func replayDelivery(c *call) (any, error) {
	c.hub.mu.Lock()
	r, err := c.registration(WriteWebhooks)
	var d *Delivery
	if err == nil {
		d = c.hub.byID[c.r.PathValue("log")]
		if d == nil || d.of != r {
			err = notFound("", "Delivery not found")
		}
	}
	c.hub.mu.Unlock()
	if err != nil {
		return nil, err
	}
	a, err := c.hub.Replay(c.r.Context(), d)
	if err != nil {
		return nil, err
	}
	return map[string]int{"status": a.Status}, nil
}

// answer is called with the lock held.
func (r *registration) answer(echoSecret bool) webhookAnswer {
	a := webhookAnswer{ID: r.ID, URL: r.URL, Job: r.Job, Watched: r.Watched, Domains: r.Domains, Disabled: r.disabled}
	if a.Watched == nil {
		a.Watched = []Watched{}
	}
	if r.suspended {
		a.Disabled = "suspended-after-failure"
	}
	hasSecret := r.Secret != ""
	switch {
	case !echoSecret:
		a.HasSecret = &hasSecret
	case hasSecret:
		a.Secret = &r.Secret
	}
	return a
}

// sampleJob is the Job of huggingface_hub's documentation. The Hub copies that of the Job whose ID it gets.
func sampleJob() *Job {
	return &Job{
		DockerImage: "ubuntu",
		Command:     []string{"bash", "-c", "echo An event occurred in $WEBHOOK_REPO_ID: $WEBHOOK_PAYLOAD"},
		Arguments:   []string{},
		Environment: map[string]string{},
		Flavor:      "cpu-basic",
	}
}
