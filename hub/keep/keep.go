// Package keep keeps webhooks on the Hub right while hubhook runs: it makes one for each watched endpoint, or borrows one that is there, points
// it at the current public URL, enables it again after a suspension, and disables it or gives it back at the end.
//
// Before the Hub is asked for a change, a [Record] of it is stored. After a crash at any moment the next start, or [Cleanup], finishes or undoes
// what was begun. Only webhooks of the record, and those that are borrowed by name, are ever touched.
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
	Left      = "left"      // by an earlier run, and not wanted any more; it is disabled or given back
	Waiting   = "waiting"   // nothing is asked of the Hub yet: the public URL is not there, or not proven
	Active    = "active"    // it posts here
	Suspended = "suspended" // by the Hub, for its failures; enabled again once the way is proven
	Disabled  = "disabled"  // by hand, or by hubhook at its end
	Taken     = "taken"     // someone else has changed its URL; hubhook leaves it alone
	Returned  = "returned"  // a borrowed one has its own URL and state again
	Elsewhere = "elsewhere" // another process that shares the database keeps it
	Failed    = "failed"    // the Hub refuses or can't be asked; most failures are tried again
)

// Proof is what is known of the way from the public URL to this process.
type Proof int

// The proofs.
const (
	Pending     Proof = iota // not checked yet, or the tunnel is down
	Reachable                // a request came through
	Unreachable              // something else answers there
	Unchecked                // it can't be checked from here
)

// open reports whether the Hub may be told to post there.
func (p Proof) open() bool { return p == Reachable || p == Unchecked }

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
	Endpoint string // "" for the only one that there will be
	ID       string
}

// Config is what a Keeper works with.
type Config struct {
	API API
	Hub string // base URL of the Hub; entries of the record for another one are left alone
	// User returns the name of the user whose token is used. Nil: it is not known.
	User func(context.Context) (string, error)
	// Unusable is why the Hub can't be asked at all, nil if it can: then API is not used, and each webhook has this error.
	Unusable error
	Records  Records
	Watch    []Item
	Borrow   []Loan
	Secrets  []string // that are configured; the first one is given to webhooks. Without any, one is generated for webhooks that are made.
	// Show is told of each change, one after the other. It must not block.
	Show func(api.WebhookChange)
	// Another returns whether another hubhook that answers at a webhook's URL keeps the webhook. Nil: nobody is asked.
	Another func(ctx context.Context, url, id string) bool
}

// On returns a Config for the Hub that client asks.
func On(client *hub.Client) Config {
	return Config{API: client.Webhooks, Hub: client.Endpoint(), User: func(ctx context.Context) (string, error) {
		user, err := client.WhoAmI(ctx)
		return user.Name, err
	}}
}

const (
	lookEvery    = 30 * time.Second // at a webhook that is right
	syncLimit    = time.Minute      // for all that is asked for one webhook in a row
	firstBackoff = 2 * time.Second
	lastBackoff  = 5 * time.Minute
	// A webhook that was enabled again and is suspended soon after is left suspended for a while: first so long, then doubled.
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
	renewed   bool // there is a new way or endpoint since the last pass
	views     []*view
	days      map[source]*day
	lastCause string                         // of an error that was told
	accepted  map[string][][sha256.Size]byte // digests of generated secrets by endpoint

	// Of the goroutine that runs Run, then of the one that calls Close.
	record Record
	loaded bool
	asked  bool // the Hub has answered with this token
	kept   []*kept
}

// kept is a webhook that the Keeper attends to.
type kept struct {
	endpoint string
	watched  []hub.Watched // of one that is made
	borrow   string        // ID of one that is borrowed
	left     bool          // by an earlier run or an endpoint that is gone: it is released
	entry    *Entry        // of the record; nil before there is one
	view     *view

	written   bool      // this process has written URL, items and secret
	enabled   bool      // this process has seen it enabled
	over      bool      // nothing more is done
	failures  int       // in a row
	next      time.Time // when to look at it
	limited   bool      // the Hub said when
	resumed   time.Time // when it was last enabled after a suspension
	resumeGap time.Duration
	notes     []string // what was changed since the last turn
	cause     string   // of the error that its view has
}

// New returns a Keeper. Call SetEndpoints and SetWay when they are known.
func New(c Config) *Keeper {
	return &Keeper{c: c, days: map[source]*day{}, hide: text.NewRedactor("[secret]", c.Secrets...), wake: make(chan struct{}, 1), accepted: map[string][][sha256.Size]byte{}}
}

// SetWay says where the Hub can reach this process, and what is proven of that. Without a URL, Pending means that one may come.
func (k *Keeper) SetWay(url string, p Proof) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.url == url && k.proof == p {
		return
	}
	k.url, k.proof, k.renewed = url, p, true
	k.wakeUp()
}

// SetEndpoints says which endpoints there are by now. complete means that these are all, so that the webhooks of others, which an earlier run
// has left or which are gone, are released.
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

// Accepts reports whether secret is one that was generated for the endpoint's webhook. The time that it takes does not depend on secret.
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

// Prepare reads the record, so that Webhooks has all that will be kept, and what keeps them from being kept.
func (k *Keeper) Prepare() {
	err := k.load()
	k.expect()
	if err != nil {
		k.failAll(err)
	}
	k.mu.Lock()
	k.renewed = true
	k.mu.Unlock()
}

// Run keeps the webhooks until ctx ends. Call Close then. It may be called again, when another process may have kept them meanwhile.
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

// begin forgets what this process knows of the webhooks, as another one may have changed them.
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

// LeaveTo says that another process, which shares the database, keeps the webhooks until Run is called. Run must have returned.
func (k *Keeper) LeaveTo() {
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

// failAll tells why no webhook can be kept right now.
func (k *Keeper) failAll(err error) {
	for _, w := range k.kept {
		k.fail(w, err)
	}
}

// dropReleased forgets what an earlier run has left, or what endpoints had that are gone, once it is released.
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

// attend brings one webhook into order, and decides when to look at it again.
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

// backoff is the wait after so many failures, with jitter.
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
			e.URLs[i] = hideSecrets(address) // an earlier version stored them
		}
	}
	k.record, k.loaded = r, true
	k.mu.Lock()
	clear(k.accepted)
	k.mu.Unlock()
	for _, w := range k.kept { // it could not be read before
		w.entry = k.entryOf(w)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
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

// expect begins to attend to what the endpoints want and what an earlier run has left. It reports whether the way or the endpoints are new.
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

// unfinished reports whether something has to be done on the Hub once hubhook has ended.
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

// Close disables what was made and gives back what was borrowed, until ctx ends. Run must have returned. What fails is said; the next start,
// or `hubhook hub cleanup`, does it then.
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
