// Package keep keeps webhooks on the Hub right while hubhook runs. It makes a webhook for each watched endpoint, or borrows an existing one, points
// the webhook at the current public URL, enables it again after a suspension, and disables it or gives it back at the end.
//
// A [Record] of each change is stored before the Hub is asked for it. So after a crash at any moment the next start, or [Cleanup], can finish or
// undo the change. The package changes only webhooks in the record and webhooks that are borrowed by their ID.
package keep

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
)

// The states of a kept webhook.
const (
	Left      = "left"      // an earlier run left the webhook behind, and nothing wants it now; it is being disabled or given back
	Waiting   = "waiting"   // hubhook waits for a public URL that is proven, before it asks the Hub for anything
	Active    = "active"    // the webhook posts here
	Suspended = "suspended" // the Hub has suspended it, because its deliveries failed; hubhook enables it once the public URL is proven
	Disabled  = "disabled"  // somebody has disabled it, or hubhook at its end
	Taken     = "taken"     // someone else has changed its URL; hubhook leaves it alone
	Returned  = "returned"  // a borrowed webhook has its own URL and state again
	Elsewhere = "elsewhere" // another process that shares the database keeps it
	Failed    = "failed"    // the Hub refuses, or can't be asked; most failures are tried again
)

// Proof says whether the public URL leads to this process.
type Proof int

// The proofs.
const (
	Pending     Proof = iota // it is not checked yet, or the tunnel is down
	Reachable                // a request to the URL arrived here
	Unreachable              // something else answers there
	Unchecked                // it can't be checked from here
)

// Open reports whether the Hub may be told to post to the public URL.
func (p Proof) Open() bool { return p == Reachable || p == Unchecked }

// API is what a Keeper asks of the Hub. *[hub.Webhooks] is one.
type API interface {
	List(ctx context.Context) ([]hub.Webhook, error)
	Get(ctx context.Context, id string) (hub.Webhook, error)
	Create(ctx context.Context, w hub.NewWebhook) (hub.Webhook, error)
	Update(ctx context.Context, w hub.Webhook) (hub.Webhook, error)
	Enable(ctx context.Context, id string) (hub.Webhook, error)
	Disable(ctx context.Context, id string) (hub.Webhook, error)
	Delete(ctx context.Context, id string) error
}

// Records stores a Record. [File] is one.
type Records interface {
	Load() (Record, error)
	Save(Record) error // returns once it is on the disk
}

// Item is something on the Hub that an endpoint watches.
type Item struct {
	Endpoint string // "" for every endpoint
	hub.Watched
}

// Loan is a webhook to borrow for an endpoint.
type Loan struct {
	Endpoint string // "" for the only endpoint that there will be
	ID       string
}

// Config is what a Keeper works with.
type Config struct {
	API API
	Hub string // base URL of the Hub; entries of the record for another one are left alone
	// User returns the name of the user whose token is used. Nil: it is not known.
	User func(context.Context) (string, error)
	// Ready returns why the Hub can't be asked now, nil if it can. Prepare calls it, so that the first look at Webhooks shows the error; later
	// each pass finds out by itself. Nil: nothing is known before the first pass.
	Ready func() error
	// Unusable is why the Hub can't be asked at all. If it is not nil, API is not used, and each webhook has this error.
	Unusable error
	Records  Records
	Watch    []Item
	Borrow   []Loan
	// Secrets are the configured ones. New webhooks get the first. If there is none, each new webhook gets a generated secret.
	Secrets []string
	// Show is told of each change, one after the other. It must not block.
	Show func(api.WebhookChange)
	// Another reports whether another hubhook answers at a webhook's URL and keeps the webhook with that ID. Nil: nobody is asked.
	Another func(ctx context.Context, url, id string) bool
}

// On returns a Config for the Hub that client asks.
func On(client *hub.Client) Config {
	return Config{API: client.Webhooks, Hub: client.Endpoint(), Ready: client.NeedToken, User: func(ctx context.Context) (string, error) {
		user, err := client.WhoAmI(ctx)
		return user.Name, err
	}}
}

const (
	lookEvery    = 30 * time.Second // between two looks at a webhook that is right
	syncLimit    = time.Minute      // for all requests of one look
	firstBackoff = 2 * time.Second
	lastBackoff  = 5 * time.Minute
	// A webhook that is suspended again soon after hubhook enabled it stays suspended for firstResume, then twice as long each time.
	firstResume = time.Minute
	lastResume  = time.Hour
)

// Keeper keeps webhooks. Run does the work; the other methods may be called from any goroutine.
type Keeper struct {
	c    Config
	hide *text.Redactor // of secrets, in what the Hub says
	wake chan struct{}

	mu        sync.Mutex // guards what follows
	url       string     // public base URL, "" for none
	proof     Proof
	endpoints []string
	complete  bool // endpoints has all that there will be
	renewed   bool // the public URL, its proof or the endpoints have changed since the last pass
	views     []*view
	days      map[source]*day
	lastCause string                         // of the error that Show was told last
	accepted  map[string][][sha256.Size]byte // digests of generated secrets by endpoint

	// These belong to the goroutine that runs Run, then to the goroutine that calls Close.
	record Record
	loaded bool
	asked  bool // the Hub has answered with this token
	kept   []*kept
}

// kept is a webhook that the Keeper attends to.
type kept struct {
	endpoint string
	watched  []hub.Watched // what a webhook of hubhook's own is to watch
	borrow   string        // the ID of a borrowed webhook, else ""
	left     bool          // an earlier run, or an endpoint that is gone, left it behind: it is to be released
	entry    *Entry        // in the record; nil before there is one
	view     *view

	written   bool      // this process has written URL, items and secret
	enabled   bool      // this process has seen it enabled
	over      bool      // nothing more is to be done
	failures  int       // in a row
	next      time.Time // of the next look
	limited   bool      // the Hub has said how long to wait for next, so nothing brings it forward
	resumed   time.Time // when it was last enabled after a suspension
	resumeGap time.Duration
	notes     []string // what was changed since the last turn
	cause     string   // of the error in its view
}

// New returns a Keeper. Call SetEndpoints and SetWay when they are known.
func New(c Config) *Keeper {
	return &Keeper{c: c, days: map[source]*day{}, hide: text.NewRedactor("[secret]", c.Secrets...), wake: make(chan struct{}, 1), accepted: map[string][][sha256.Size]byte{}}
}

// SetWay sets the public URL, and whether it is proven to lead here. With an empty url, Pending means that a URL may come.
func (k *Keeper) SetWay(url string, p Proof) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.url == url && k.proof == p {
		return
	}
	k.url, k.proof, k.renewed = url, p, true
	k.wakeUp()
}

// SetEndpoints says which endpoints there are by now. complete means that there will be no more. Then the webhooks of other endpoints are
// released: those that an earlier run has left, and those of endpoints that are gone.
func (k *Keeper) SetEndpoints(names []string, complete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endpoints = slices.Clone(names)
	k.complete, k.renewed = complete, true
	k.wakeUp()
}

// wakeUp has Run look at everything now.
func (k *Keeper) wakeUp() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Accepts reports whether hubhook has generated secret for the endpoint's webhook. The call takes the same time for each secret.
func (k *Keeper) Accepts(endpoint, secret string) bool {
	k.mu.Lock()
	digests := k.accepted[endpoint]
	k.mu.Unlock()
	digest, found := sha256.Sum256([]byte(secret)), 0
	for i := range digests {
		found |= subtle.ConstantTimeCompare(digest[:], digests[i][:])
	}
	return found == 1
}

// Keeps reports whether the Keeper holds the webhook with that ID right now.
func (k *Keeper) Keeps(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.views, func(v *view) bool {
		return v.ID == id && v.State != Taken && v.State != Returned && v.State != Failed && v.State != Waiting && v.State != Elsewhere
	})
}

// Prepare reads the record before Run, so that Webhooks returns all webhooks that will be kept, with the error if the record can't be read.
func (k *Keeper) Prepare() {
	err := k.load()
	k.expect()
	if err == nil && k.c.Ready != nil {
		err = k.c.Ready()
	}
	if err != nil {
		k.failAll(err)
	}
	k.mu.Lock()
	k.renewed = true
	k.mu.Unlock()
}

// Run keeps the webhooks until ctx ends. Call Close then. Run may be called again later, after another process has kept the webhooks.
func (k *Keeper) Run(ctx context.Context) {
	k.begin()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		timer.Reset(k.pass(ctx))
	}
}

// begin forgets what this process knows of the webhooks, because another process may have changed them.
func (k *Keeper) begin() {
	k.loaded, k.asked = false, false
	k.kept = slices.DeleteFunc(k.kept, func(w *kept) bool { return w.left })
	for _, w := range k.kept {
		w.entry, w.written, w.enabled, w.over, w.next = nil, false, false, false, time.Time{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.views = slices.DeleteFunc(k.views, func(v *view) bool { return v.State == Left })
}

// LeaveToAnother shows that another process, which shares the database, keeps the webhooks. Run must not be running.
func (k *Keeper) LeaveToAnother() {
	for _, w := range k.kept {
		k.turn(w, hub.Webhook{}, Elsewhere, "", nil)
	}
}

// pass looks at each webhook that is due, and returns how long to wait for the next one.
func (k *Keeper) pass(ctx context.Context) time.Duration {
	if err := k.load(); err != nil {
		k.expect()
		k.failAll(err)
		return lookEvery
	}
	renewed := k.expect()
	wait := lookEvery
	for _, w := range k.kept {
		if w.over {
			continue
		}
		if renewed && !w.limited {
			w.next = time.Time{}
		}
		if !time.Now().Before(w.next) {
			k.attend(ctx, w)
		}
		if ctx.Err() != nil {
			return lookEvery
		}
		if !w.over {
			wait = min(wait, time.Until(w.next))
		}
	}
	k.dropReleased()
	return max(wait, 0)
}

// failAll shows why no webhook can be kept right now.
func (k *Keeper) failAll(err error) {
	for _, w := range k.kept {
		k.fail(w, err)
	}
}

// dropReleased forgets the released webhooks of an earlier run and of endpoints that are gone.
func (k *Keeper) dropReleased() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = slices.DeleteFunc(k.kept, func(w *kept) bool {
		released := w.over && w.left
		if released {
			k.views = slices.DeleteFunc(k.views, func(v *view) bool { return v == w.view })
		}
		return released
	})
}

// attend makes one webhook right, and decides when to look at it again.
func (k *Keeper) attend(ctx context.Context, w *kept) {
	err := k.sync(ctx, w)
	w.limited = false
	switch {
	case ctx.Err() != nil:
	case err == nil:
		w.failures, w.next = 0, time.Now().Add(lookEvery)
	default:
		w.failures++
		wait := backoff(w.failures)
		if told := toldToWait(err); told > 0 {
			wait, w.limited = max(wait, told), true
		}
		w.next = time.Now().Add(wait)
		k.fail(w, err)
	}
}

// backoff returns the wait after a number of failures, with jitter.
func backoff(failures int) time.Duration {
	wait := lastBackoff
	if failures < 16 {
		wait = min(firstBackoff<<(failures-1), lastBackoff)
	}
	return wait/2 + rand.N(wait/2)
}

func (k *Keeper) load() error {
	if k.loaded {
		return nil
	}
	if k.c.Unusable != nil {
		return k.c.Unusable
	}
	r, err := k.c.Records.Load()
	if err != nil {
		return err
	}
	for _, e := range r.Entries {
		for i, address := range e.URLs {
			e.URLs[i] = hideSecrets(address) // an earlier version stored the secrets
		}
	}
	k.record, k.loaded = r, true
	for _, w := range k.kept { // they were added before the record could be read
		w.entry = k.entryOf(w)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.accepted)
	for _, e := range r.Entries {
		k.accept(e)
	}
	return nil
}

// accept has the endpoint take the secret that was generated for its webhook. The caller holds the mutex.
func (k *Keeper) accept(e *Entry) {
	if e.Hub == k.c.Hub && e.Secret != "" {
		k.accepted[e.Endpoint] = append(k.accepted[e.Endpoint], sha256.Sum256([]byte(e.Secret)))
	}
}

// expect adds the webhooks that the endpoints want and those that an earlier run has left. It reports whether the public URL, its proof or the
// endpoints have changed.
func (k *Keeper) expect() (renewed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	renewed, k.renewed = k.renewed, false
	for _, name := range k.endpoints {
		if slices.ContainsFunc(k.kept, func(w *kept) bool { return w.endpoint == name && !w.left }) {
			continue
		}
		var watched []hub.Watched
		for _, item := range k.c.Watch {
			if (item.Endpoint == "" || item.Endpoint == name) && !slices.Contains(watched, item.Watched) {
				watched = append(watched, item.Watched)
			}
		}
		if watched != nil {
			k.add(&kept{endpoint: name, watched: watched})
		}
		for _, loan := range k.c.Borrow {
			if loan.Endpoint == name || loan.Endpoint == "" && k.complete && len(k.endpoints) == 1 {
				k.add(&kept{endpoint: name, borrow: loan.ID})
			}
		}
	}
	if !k.complete || !k.loaded {
		return renewed
	}
	for _, w := range k.kept {
		if !w.left && !slices.Contains(k.endpoints, w.endpoint) {
			w.left, w.over, w.next = true, w.entry == nil, time.Time{}
		}
	}
	for _, e := range k.record.Entries {
		wanted := func(w *kept) bool { return w.entry == e }
		if e.Hub == k.c.Hub && e.unfinished() && !slices.ContainsFunc(k.kept, wanted) {
			k.add(&kept{endpoint: e.Endpoint, left: true, entry: e})
		}
	}
	return renewed
}

// unfinished reports whether the webhook has to be disabled or given back when hubhook ends.
func (e *Entry) unfinished() bool { return e.Enabled || e.Borrowed != nil }

// add begins to attend to w. The caller holds the mutex.
func (k *Keeper) add(w *kept) {
	if w.entry == nil {
		w.entry = k.entryOf(w)
	}
	w.view = newView(w)
	k.views = append(k.views, w.view)
	k.kept = append(k.kept, w)
}

// entryOf returns the entry of the record for w, nil for none.
func (k *Keeper) entryOf(w *kept) *Entry {
	for _, e := range k.record.Entries {
		same := e.Borrowed == nil && w.borrow == "" && e.Endpoint == w.endpoint || e.Borrowed != nil && e.ID == w.borrow
		if e.Hub == k.c.Hub && same {
			return e
		}
	}
	return nil
}

// Close disables the webhooks that hubhook made and gives back those that it borrowed, until ctx ends. Run must have returned. Show is told of
// failures; the next start, or `hubhook hub cleanup`, finishes the work.
func (k *Keeper) Close(ctx context.Context) {
	if !k.loaded {
		return
	}
	for _, w := range k.kept {
		if w.over || w.entry == nil || !w.entry.unfinished() {
			continue
		}
		if err := k.release(ctx, w); err != nil {
			k.fail(w, unreleased(w.entry, err))
		}
	}
}

// drop takes the entry of w out of the record.
func (k *Keeper) drop(w *kept) error {
	r := k.record
	r.Entries = slices.DeleteFunc(slices.Clone(r.Entries), func(e *Entry) bool { return e == w.entry })
	if err := k.c.Records.Save(r); err != nil {
		return err
	}
	k.record, w.entry = r, nil
	return nil
}

func (k *Keeper) save() error { return k.c.Records.Save(k.record) }
