package keep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
)

// world is a Hub and a disk, as one hubhook after the other meets them. Each request and each write to the disk is a step: before it takes
// effect, and after that, before the answer arrives. At the step crashAt the process dies: nothing has any effect from then on.
type world struct {
	mu       sync.Mutex
	hooks    []*hub.Webhook
	secrets  map[string]string // by ID
	owners   map[string]string // by ID
	user     string            // whose token is used; the Hub shows only this user's webhooks
	hides    bool              // the secrets are not shown
	made     int
	stored   []byte
	ever     []byte // all that was stored
	log      []string
	steps    int
	crashAt  int // 0: never
	crashed  chan struct{}
	fail     func(call string) error // what goes wrong instead
	failLate func(call string) error // what goes wrong after the Hub has done it
	shown    []api.WebhookChange
}

var errCrashed = errors.New("the process is dead")

func newWorld() *world {
	return &world{secrets: map[string]string{}, owners: map[string]string{}, user: "me", crashed: make(chan struct{})}
}

// step is called with the lock held.
func (w *world) step() error {
	if w.dead() {
		return errCrashed
	}
	w.steps++
	if w.steps == w.crashAt {
		close(w.crashed)
		return errCrashed
	}
	return nil
}

func (w *world) dead() bool {
	select {
	case <-w.crashed:
		return true
	default:
		return false
	}
}

// restart gives the world a process that does not crash.
func (w *world) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashAt, w.crashed = 0, make(chan struct{})
}

// do makes one request.
func (w *world) do(ctx context.Context, call, id string, effect func() (hub.Webhook, error)) (hook hub.Webhook, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return hook, err
	}
	if err := w.step(); err != nil {
		return hook, err
	}
	w.log = append(w.log, call)
	if w.fail != nil {
		if err := w.fail(call); err != nil {
			return hook, err
		}
	}
	if hook, err = effect(); err != nil {
		return hook, err
	}
	if w.failLate != nil {
		if err := w.failLate(call); err != nil {
			return hub.Webhook{}, err
		}
	}
	if err := w.step(); err != nil {
		return hub.Webhook{}, err
	}
	return hook, nil
}

// view is a webhook as the Hub shows it. The lock is held.
func (w *world) view(hook *hub.Webhook) hub.Webhook {
	v := *hook
	v.Watched, v.Domains = slices.Clone(v.Watched), slices.Clone(v.Domains)
	v.HasSecret = w.secrets[v.ID] != ""
	v.Secret = ""
	if !w.hides {
		v.Secret = hub.Secret(w.secrets[v.ID])
	}
	return v
}

func (w *world) one(id string, change func(*hub.Webhook)) (hub.Webhook, error) {
	for _, hook := range w.hooks {
		if hook.ID == id && w.owners[id] == w.user {
			change(hook)
			return w.view(hook), nil
		}
	}
	return hub.Webhook{}, &hub.Error{Op: "find webhook", Status: http.StatusNotFound}
}

func (w *world) List(ctx context.Context) (all []hub.Webhook, err error) {
	_, err = w.do(ctx, "list", "", func() (hub.Webhook, error) {
		for _, hook := range w.hooks {
			if w.owners[hook.ID] == w.user {
				all = append(all, w.view(hook))
			}
		}
		return hub.Webhook{}, nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (w *world) Get(ctx context.Context, id string) (hub.Webhook, error) {
	return w.do(ctx, "get", id, func() (hub.Webhook, error) { return w.one(id, func(*hub.Webhook) {}) })
}

func (w *world) Create(ctx context.Context, n hub.NewWebhook) (hub.Webhook, error) {
	return w.do(ctx, "create", "", func() (hub.Webhook, error) {
		return w.view(w.add(hub.Webhook{URL: n.URL, Watched: n.Watched, Domains: n.Domains, State: hub.Enabled}, string(n.Secret))), nil
	})
}

// add puts a webhook onto the Hub.
func (w *world) add(hook hub.Webhook, secret string) *hub.Webhook {
	w.made++
	if hook.ID == "" {
		hook.ID = fmt.Sprintf("%024x", w.made)
	}
	w.hooks = append(w.hooks, &hook)
	w.secrets[hook.ID], w.owners[hook.ID] = secret, w.user
	return &hook
}

func (w *world) Update(ctx context.Context, u hub.Webhook) (hub.Webhook, error) {
	return w.do(ctx, "update", u.ID, func() (hub.Webhook, error) {
		if u.HasSecret && u.Secret == "" {
			return hub.Webhook{}, &hub.Error{Op: "update", Err: hub.ErrSecretHidden}
		}
		return w.one(u.ID, func(hook *hub.Webhook) {
			hook.URL, hook.Watched, hook.Domains = u.URL, u.Watched, u.Domains
			w.secrets[u.ID] = string(u.Secret)
		})
	})
}

func (w *world) Enable(ctx context.Context, id string) (hub.Webhook, error) {
	return w.do(ctx, "enable", id, func() (hub.Webhook, error) {
		return w.one(id, func(hook *hub.Webhook) { hook.State = hub.Enabled })
	})
}

func (w *world) Disable(ctx context.Context, id string) (hub.Webhook, error) {
	return w.do(ctx, "disable", id, func() (hub.Webhook, error) {
		return w.one(id, func(hook *hub.Webhook) { hook.State = hub.Disabled })
	})
}

func (w *world) Delete(ctx context.Context, id string) error {
	_, err := w.do(ctx, "delete", id, func() (hub.Webhook, error) {
		hook, err := w.one(id, func(*hub.Webhook) {})
		w.hooks = slices.DeleteFunc(w.hooks, func(h *hub.Webhook) bool { return h.ID == id })
		return hook, err
	})
	return err
}

// Load implements Records. Reading is no step: it changes nothing.
func (w *world) Load() (Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var r Record
	if w.stored == nil {
		return r, nil
	}
	return r, json.Unmarshal(w.stored, &r)
}

// Save implements Records.
func (w *world) Save(r Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step(); err != nil {
		return err
	}
	if w.fail != nil {
		if err := w.fail("save"); err != nil {
			return err
		}
	}
	var err error
	if w.stored, err = json.Marshal(r); err != nil {
		return err
	}
	w.ever = append(w.ever, w.stored...)
	return w.step()
}

// look returns the webhooks as they are on the Hub.
func (w *world) look() []hub.Webhook {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []hub.Webhook
	for _, hook := range w.hooks {
		v := w.view(hook)
		v.Secret = hub.Secret(w.secrets[v.ID])
		all = append(all, v)
	}
	return all
}

// change changes a webhook behind hubhook's back.
func (w *world) change(id string, change func(*hub.Webhook)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.one(id, change)
}

// calls returns how often each request was made, and forgets them.
func (w *world) calls() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[string]int{}
	for _, call := range w.log {
		counts[call]++
	}
	w.log = nil
	return counts
}

const (
	testHub   = "https://hub.example.com"
	firstURL  = "https://first.example.com"
	secondURL = "https://second.example.com"
)

var data = hub.Watched{Type: "dataset", Name: "me/data"}

// watching is the configuration of a hubhook that watches one dataset.
func (w *world) watching() Config {
	return Config{API: w, Hub: testHub, Records: w, Watch: []Item{{Watched: data}}, Show: w.show}
}

// borrowing is the configuration of a hubhook that borrows a webhook.
func (w *world) borrowing(id string, secrets ...string) Config {
	return Config{API: w, Hub: testHub, Records: w, Borrow: []Loan{{"train", id}}, Secrets: secrets, Show: w.show}
}

func (w *world) show(c api.WebhookChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown = append(w.shown, c)
}

// said returns all texts and errors that were shown, and forgets them.
func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := ""
	for _, c := range w.shown {
		all += fmt.Sprintf("%s: %s; %s; %s\n", c.State, c.Text, c.Error, c.Hint)
	}
	w.shown = nil
	return all
}

// running is a Keeper that runs in a bubble of synctest.
type running struct {
	*Keeper
	stop func() // ends Run
}

// begin starts a Keeper with the endpoint train, reachable at address.
func begin(t *testing.T, c Config, address string) *running {
	t.Helper()
	k := New(c)
	k.SetEndpoints([]string{"train"}, true)
	if address != "" {
		k.SetWay(address, Reachable)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { k.Run(ctx) })
	r := &running{k, func() { cancel(); run.Wait() }}
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

// end ends it as hubhook's own end does.
func (r *running) end() {
	r.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r.Close(ctx)
}

// after lets time pass until what is due then is done.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// stands checks that one webhook is kept, and in which state.
func (r *running) stands(t *testing.T, state string) api.Webhook {
	t.Helper()
	all := r.Webhooks()
	if len(all) != 1 || all[0].State != state {
		t.Fatalf("have %+v; want one webhook that is %s", all, state)
	}
	return all[0]
}
