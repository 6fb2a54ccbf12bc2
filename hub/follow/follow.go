// Package follow reads the Hub where no webhook posts: it looks at repos again and again and reads the live feeds of buckets, and makes
// the deliveries that a webhook would have brought.
//
// What was last seen is stored in the same commit as the delivery that it led to. So nothing is left out or delivered twice, whenever the process
// dies.
package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

const (
	// DefaultEvery is how often repos are looked at, and LeastEvery how often at most.
	DefaultEvery = time.Minute
	LeastEvery   = 10 * time.Second

	firstStagger = 100 * time.Millisecond // between the first looks at two items, where the Hub's rate limit allows it
	limitWindow  = 5 * time.Minute        // of the Hub's rate limit
	limitedAgain = time.Hour
	looksAtOnce  = 4
	lookLimit    = time.Minute     // for one look, with the waits that the Hub asks for; a longer wait is one between two looks
	longestWait  = 5 * time.Minute // well below the 15 minutes that the feed of a bucket can replay
	retryMoved   = time.Second
	retryStore   = time.Second // before a change of a bucket is stored again, doubled up to a minute
)

// The states of a followed item.
const (
	Starting  = "starting"  // no look has ended yet
	Standby   = "standby"   // another process follows it
	Following = "following" // the last look, or the feed, is all right
	Failing   = "failing"   // the Hub can't be asked, or refuses; hubhook tries again
	Gone      = "gone"      // the item was deleted, or can't be seen any more
	Off       = "off"       // with these settings the Hub can't be asked at all; hubhook does not try again
)

// Hub is what a Follower asks of the Hub. *[hub.Client] is one.
type Hub interface {
	Endpoint() string
	Pause() time.Duration
	RateLimit() (hub.RateLimit, bool)
	Repo(ctx context.Context, id hub.RepoID) (hub.Repo, error)
	Refs(ctx context.Context, id hub.RepoID, pullRequests bool) ([]hub.Ref, error)
	Commits(ctx context.Context, id hub.RepoID, revision string) iter.Seq2[hub.Commit, error]
	Bucket(ctx context.Context, name string) (hub.Bucket, error)
	BucketFiles(ctx context.Context, name, prefix string) iter.Seq2[hub.BucketFile, error]
	FollowBucket(ctx context.Context, name string, from hub.Resume, each func(hub.BucketEvent) error) error
	WhoAmI(ctx context.Context) (hub.User, error)
	ReposOf(ctx context.Context, owner string, kind payload.RepoType) iter.Seq2[hub.Repo, error]
	BucketsOf(ctx context.Context, owner string) iter.Seq2[hub.Bucket, error]
}

// Item is something to follow.
type Item struct {
	Endpoint string // "" for every endpoint
	Repo     hub.RepoID
}

// Config is what a Follower works with.
type Config struct {
	Hub   Hub
	Store Store
	Items []Item
	// Every is how often a repo is looked at. 0: DefaultEvery. It is longer where the Hub's rate limit would not allow it.
	Every time.Duration
	// Budget is how many requests in 5 minutes the Hub is taken to allow until its answers say so. At most four fifths of them are made. 0: no
	// limit.
	Budget int
	// Paced is called when the time between two looks at a repo changes, because the Hub says how many requests in 5 minutes it allows (budget). It
	// must not block. Nil: nobody is told.
	Paced func(budget int, every time.Duration)
	// Endpoints returns the names of the endpoints that are served now.
	Endpoints func() []string
	// Show is told of each change of an item's state or error, one after the other. It must not block.
	Show func(api.Followed)
	// Limited is called with how long looks wait, when the Hub's rate limit is used up; other programs may have used it up. It is called again only
	// if no look has waited for an hour. It must not block. Nil: nobody is told.
	Limited func(time.Duration)
}

// Follower follows items on the Hub.
type Follower struct {
	c      Config
	prefix string // of Webhook-Ids
	looks  chan struct{}
	// The first round of looks takes as little time as possible. The second round begins at first, so that the requests of the first one stay
	// within the budget.
	first   time.Duration
	stagger time.Duration // between the first looks at two items

	mu      sync.Mutex // guards what follows; of the items only their views
	items   []*item
	limited time.Time // when a look last waited for the rate limit
	budget  int       // as in Config, or as the Hub has said
	every   time.Duration
}

// item is an Item with what is known of it.
type item struct {
	Item
	view   api.Followed
	notes  map[string]*note[seen] // by endpoint; of the goroutine that looks
	stats  stats                  // of a bucket, at the last look
	misses int                    // how many looks in a row found nothing
}

// New returns a Follower that does nothing before Run.
func New(c Config) *Follower {
	f := &Follower{c: c, prefix: Task + "-", looks: make(chan struct{}, looksAtOnce), stagger: firstStagger, budget: c.Budget}
	var first time.Duration
	f.every, first = f.pace(c.Budget)
	if f.first = first; first > limitWindow {
		f.stagger = first / time.Duration(len(c.Items))
	}
	for _, it := range c.Items {
		f.items = append(f.items, &item{Item: it, view: api.Followed{
			Endpoint: it.Endpoint, Item: it.Repo.String(), State: Standby, Since: api.Time{Time: time.Now()}, EverySeconds: everySeconds(it.Repo, f.every),
		}})
	}
	return f
}

// pace returns the time between two looks at a repo within a budget, and the time over which the budget spreads the first round of looks.
func (f *Follower) pace(budget int) (every, first time.Duration) {
	every = max(cmp.Or(f.c.Every, DefaultEvery), LeastEvery)
	if budget == 0 {
		return every, 0
	}
	opening, later := 0, 0 // requests of the first round, and of each later one
	for _, it := range f.c.Items {
		if it.Repo.Type == payload.Bucket {
			opening, later = opening+3, later+1 // two open the feed
		} else {
			opening, later = opening+2, later+2
		}
	}
	take := func(requests int) time.Duration {
		return time.Duration(requests) * limitWindow * 5 / 4 / time.Duration(budget)
	}
	return max(every, take(later)).Round(time.Second), take(opening)
}

// repace takes the budget from the Hub's last answer.
func (f *Follower) repace() {
	limit, _ := f.c.Hub.RateLimit()
	budget := int(int64(limit.Quota) * int64(limitWindow/time.Second) / int64(cmp.Or(limit.Window, limitWindow)/time.Second))
	f.mu.Lock()
	defer f.mu.Unlock()
	if budget == 0 || budget == f.budget {
		return
	}
	was := f.every
	f.budget = budget
	if f.every, _ = f.pace(budget); f.every == was {
		return
	}
	for _, it := range f.items {
		it.view.EverySeconds = everySeconds(it.Repo, f.every)
	}
	if f.c.Paced != nil && f.looksAtRepos() {
		f.c.Paced(budget, f.every)
	}
}

// looksAtRepos reports whether there is an item that is not a bucket, which has a feed.
func (f *Follower) looksAtRepos() bool {
	return slices.ContainsFunc(f.c.Items, func(it Item) bool { return it.Repo.Type != payload.Bucket })
}

// everySeconds returns the seconds between two looks for an item's view, 0 for a bucket, which has a feed.
func everySeconds(id hub.RepoID, every time.Duration) int64 {
	if id.Type == payload.Bucket {
		return 0
	}
	return int64(every / time.Second)
}

// Every returns the time between two looks at a repo.
func (f *Follower) Every() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.every
}

// Followed returns the items with their states.
func (f *Follower) Followed() []api.Followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]api.Followed, 0, len(f.items))
	for _, it := range f.items {
		all = append(all, it.view)
	}
	return all
}

// Run follows all items until ctx ends. It may be called again later.
func (f *Follower) Run(ctx context.Context) {
	var all sync.WaitGroup
	for i, it := range f.items {
		it.notes, it.misses = map[string]*note[seen]{}, 0
		f.show(it, func(v *api.Followed) { v.State, v.Error, v.Hint = Starting, "", "" })
		all.Go(func() { f.watch(ctx, it, i) })
	}
	all.Wait()
	for _, it := range f.items {
		f.show(it, func(v *api.Followed) { v.State, v.Error, v.Hint = Standby, "", "" })
	}
}

// watch looks at an item again and again. The items' turns are spread over the time between two looks.
func (f *Follower) watch(ctx context.Context, it *item, place int) {
	var feeds feeds
	defer feeds.end()
	started := time.Now()
	sleep(ctx, time.Duration(place)*f.stagger)
	failures := 0
	for ctx.Err() == nil {
		err := f.lookOnce(ctx, it)
		if ctx.Err() != nil {
			return
		}
		f.repace()
		every := f.Every()
		wait := f.first + every*time.Duration(place)/time.Duration(len(f.items)) - time.Since(started)
		if wait <= 0 { // the item's turn in this round has passed, so wait for its next one
			wait = every - (-wait)%every
		}
		var refused *hub.Error
		switch {
		case err == nil:
			failures = 0
			if it.Repo.Type == payload.Bucket {
				feeds.begin(ctx, f, it, it.stats)
			}
		case errors.As(err, &refused):
			wait += max(min(every<<min(failures, 8), longestWait)-every, 0)
			wait = max(wait, min(refused.RetryAfter, longestWait))
			failures++
		}
		sleep(ctx, wait)
	}
}

// lookOnce looks at an item and delivers what changed, to all its endpoints.
func (f *Follower) lookOnce(ctx context.Context, it *item) error {
	select {
	case f.looks <- struct{}{}:
		defer func() { <-f.looks }()
	case <-ctx.Done():
		return ctx.Err()
	}
	id := it.Repo
	endpoints := f.endpoints(it)
	known, delivered, private := false, true, false // delivered: no endpoint would have to be told if the repo is gone
	for _, endpoint := range endpoints {
		n := it.notes[endpoint]
		if n == nil {
			n = &note[seen]{key: f.key(it, endpoint), endpoint: endpoint}
			it.notes[endpoint] = n
		}
		if err := n.load(ctx, f.c.Store); err != nil {
			return f.fail(ctx, it, err)
		}
		if n.version == 0 {
			continue
		}
		known = true
		if !n.seen.Gone {
			delivered, private = false, private || n.seen.Private
			id.Name = n.seen.Name // after a move the repo is followed, not its old name
		}
	}
	now, err := f.lookWithin(ctx, it, id)
	var is *seen
	switch {
	case err == nil:
		is, it.misses = &now, 0
	case !errors.Is(err, hub.ErrNotFound):
		return f.fail(ctx, it, err)
	default:
		if it.misses++; it.misses < missesForGone {
			return f.fail(ctx, it, err)
		}
		if !delivered {
			if unsure := surelyDeleted(ctx, f.c.Hub, id, private, err); unsure != nil {
				return f.fail(ctx, it, unsure)
			}
		}
	}
	for _, endpoint := range endpoints {
		n := it.notes[endpoint]
		if err := f.take(ctx, it, n, is); err != nil {
			return f.fail(ctx, it, err)
		}
	}
	if is == nil {
		f.show(it, func(v *api.Followed) {
			failed(v, Gone, err)
			if !known {
				v.State = Failing
			}
		})
		return err
	}
	f.show(it, func(v *api.Followed) {
		v.Looked = api.Time{Time: time.Now()}
		if it.Repo.Type != payload.Bucket { // the state of a bucket is that of its feed
			v.State, v.Error, v.Hint = Following, "", ""
		}
	})
	return nil
}

// lookWithin looks at an item when the Hub's rate limit allows it. A limit that is used up is no failure of the item: all
// items wait for its end. If the Hub refuses once more after the wait, the item fails.
func (f *Follower) lookWithin(ctx context.Context, it *item, id hub.RepoID) (seen, error) {
	for waited := false; ; waited = true {
		if d := f.c.Hub.Pause(); d > 0 {
			f.tellLimited(d)
			sleep(ctx, d)
		}
		bounded, cancel := context.WithTimeout(ctx, lookLimit)
		now, files, err := lookAt(bounded, f.c.Hub, id)
		it.stats = files
		cancel()
		if err == nil || ctx.Err() != nil || waited || f.c.Hub.Pause() == 0 {
			return now, err
		}
	}
}

// tellLimited tells that looks wait, unless it was told not long ago.
func (f *Follower) tellLimited(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.limited.IsZero() || time.Since(f.limited) > limitedAgain
	f.limited = time.Now()
	if first && f.c.Limited != nil {
		f.c.Limited(d)
	}
}

// endpoints returns the endpoints that an item's deliveries go to, by name.
func (f *Follower) endpoints(it *item) []string {
	if it.Endpoint != "" {
		return []string{it.Endpoint}
	}
	names := slices.Clone(f.c.Endpoints())
	slices.Sort(names)
	return names
}

func (f *Follower) key(it *item, endpoint string) string {
	return fmt.Sprintf("%s/%s %s", Task, it.Repo, endpoint)
}

// fail notes why an item can't be followed now.
func (f *Follower) fail(ctx context.Context, it *item, err error) error {
	if ctx.Err() != nil { // the end of the context is no failure
		return err
	}
	f.show(it, func(v *api.Followed) { failed(v, Failing, err) })
	return err
}

func failed(v *api.Followed, state string, err error) {
	v.State, v.Error, v.Hint = state, err.Error(), text.Hint(err)
}

// causeOf returns the text of an error without the id of the request and the time to wait.
func causeOf(v *api.Followed) string { return withoutRequest(v.Error) }

func withoutRequest(message string) string {
	cause, _, _ := strings.Cut(message, " (GET ")
	return cause
}

// told counts a delivery.
func (f *Follower) told(it *item, e *event) {
	if e == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	it.view.Deliveries++
	it.view.Delivered = api.Time{Time: time.Now()}
}

// show changes an item's view. It tells of it if its state or its error is another one.
func (f *Follower) show(it *item, change func(*api.Followed)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := it.view
	change(&it.view)
	if v := &it.view; v.State != before.State || causeOf(v) != causeOf(&before) {
		if v.State != before.State {
			v.Since = api.Time{Time: time.Now()}
		}
		if f.c.Show != nil {
			f.c.Show(*v)
		}
	}
}
