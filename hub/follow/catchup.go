package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

const (
	// LateFor is how long after a delivery of catching up one of the Hub that brings the same counts as the same. How long the Hub tries again
	// is not documented.
	LateFor = 24 * time.Hour

	// The Hub's own delivery has so long after a look before what it would bring is delivered.
	settleTime = 3 * time.Second
	// So that what was seen is never older than the deliveries that are kept, and what the Hub gives up while all is well is not lost.
	catchUpEvery = time.Hour

	mostPast  = 4           // points at which a ref was that are known
	catchUpID = "catch-up-" // begins Webhook-Ids
)

// Past is a Store that has the deliveries of the past, too.
type Past interface {
	Store
	// Brought returns the payloads that the Hub itself has delivered to an endpoint about a repo since a time, newest first. Those that a delivery
	// repeats, or that were made here, are left out.
	Brought(ctx context.Context, endpoint string, repo hub.RepoID, since time.Time) ([]*payload.Payload, error)
}

// CatchUpConfig is what a CatchUp works with.
type CatchUpConfig struct {
	Hub   Hub
	Store Past
	// Task begins, with a slash, the keys of marks. One process at a time runs.
	Task string
	// Items returns what webhooks watch by now, each with its endpoint.
	Items func() []CatchUpItem
	// Warn is told of what is left out, once for each item, and of errors, once for each cause.
	Warn func(err error)
}

// CatchUpItem is something that a webhook watches for an endpoint.
type CatchUpItem struct {
	Endpoint string
	hub.Watched
}

// CatchUp compares watched repos with what was last seen of them, and delivers what no delivery of the Hub has brought.
type CatchUp struct {
	c    CatchUpConfig
	wake chan struct{}

	// Of the goroutine that runs Run.
	told  map[CatchUpItem]string // what Warn was told of an item
	notes map[CatchUpItem]*note[caught]
	looks map[hub.RepoID]found // of the round that is under way
}

// caught is what was last seen of a watched repo.
type caught struct {
	seen
	Since   time.Time  `json:"since"` // of the look: the deliveries before it tell nothing that was not seen
	Brought []overtook `json:"brought,omitempty"`
	// Past is where refs were at earlier looks, the newest last. What leads away from there is old news.
	Past map[string][]string `json:"past,omitempty"`
}

// overtook is a ref that catching up delivered before the Hub did.
type overtook struct {
	Ref       string    `json:"ref"`
	Old       string    `json:"old"` // "" for a new ref
	New       string    `json:"new"` // "" for a deletion
	WebhookID string    `json:"webhook_id"`
	At        time.Time `json:"at"`
}

// found is what a look found. seen is nil for a repo that is not there.
type found struct {
	seen *seen
	at   time.Time
	err  error
}

// NewCatchUp returns a CatchUp that does nothing before Run.
func NewCatchUp(c CatchUpConfig) *CatchUp {
	return &CatchUp{c: c, wake: make(chan struct{}, 1), told: map[CatchUpItem]string{}}
}

// Wake has Run look at everything now: deliveries may have been lost until this moment.
func (c *CatchUp) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run catches up now, after each Wake, and once an hour, until ctx ends. What fails is tried again. It may be called again later, when another
// process may have caught up meanwhile.
func (c *CatchUp) Run(ctx context.Context) {
	c.notes = map[CatchUpItem]*note[caught]{}
	for failures := 0; ctx.Err() == nil; {
		wait := catchUpEvery
		if c.round(ctx) {
			failures = 0
		} else {
			wait = min(settleTime<<min(failures, 8), longestWait)
			failures++
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-again.C:
		}
		again.Stop()
	}
}

// round looks at all items once, and delivers what is missing, after the Hub had time to. It reports whether all went well.
func (c *CatchUp) round(ctx context.Context) (well bool) {
	items, well := c.repos(), true
	c.looks = map[hub.RepoID]found{}
	var late []CatchUpItem
	for _, it := range items {
		missing, err := c.attend(ctx, it, false)
		if missing {
			late = append(late, it)
		}
		well = c.say(ctx, it, err) && well
	}
	if len(late) == 0 {
		return well
	}
	sleep(ctx, settleTime)
	for id, f := range c.looks { // what was not there is looked for once more
		if f.seen == nil {
			delete(c.looks, id)
		}
	}
	for _, it := range late {
		_, err := c.attend(ctx, it, true)
		well = c.say(ctx, it, err) && well
	}
	return well
}

// repos returns the watched repos, and tells what else is watched.
func (c *CatchUp) repos() (repos []CatchUpItem) {
	for _, it := range c.c.Items() {
		switch payload.RepoType(it.Type) {
		case payload.Model, payload.Dataset, payload.Space:
			repos = append(repos, it)
		case payload.Bucket:
			c.warn(it, text.WithHint(fmt.Errorf("catching up leaves out %s: it has no refs to compare", it.Watched),
				"follow a bucket that must not miss anything: --follow "+it.String()))
		default:
			c.warn(it, text.WithHint(fmt.Errorf("catching up leaves out %s: it would take a look at each of its repos", it.Watched),
				"watch each repo that must not miss anything by its name: --watch dataset:me/data"))
		}
	}
	return repos
}

// say tells what keeps an item from being caught up, and reports whether nothing does.
func (c *CatchUp) say(ctx context.Context, it CatchUpItem, err error) bool {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		delete(c.told, it)
	case !errors.Is(err, ErrMoved):
		c.warn(it, text.WithHint(fmt.Errorf("catch up with %s: %w; it is tried again", it.Watched, err), text.Hint(err)))
	}
	return err == nil
}

func (c *CatchUp) warn(it CatchUpItem, err error) {
	cause := withoutRequest(err.Error())
	if c.told[it] != cause {
		c.told[it] = cause
		c.c.Warn(err)
	}
}

func (c *CatchUp) key(endpoint string, repo hub.RepoID) string {
	return fmt.Sprintf("%s/catch-up %s %s", c.c.Task, endpoint, repo)
}

// attend compares an item with what was last seen. If nothing is missing, it stores what is there now. If something is, it reports that, and
// delivers it if it is time to. Endpoint by endpoint all is as seen at the same look.
func (c *CatchUp) attend(ctx context.Context, it CatchUpItem, deliver bool) (missing bool, err error) {
	id := hub.RepoID{Type: payload.RepoType(it.Type), Name: it.Name}
	n := c.notes[it]
	if n == nil {
		n = &note[caught]{key: c.key(it.Endpoint, id), endpoint: it.Endpoint}
		c.notes[it] = n
	}
	if err := n.load(ctx, c.c.Store); err != nil {
		return false, err
	}
	if n.version != 0 && !n.seen.Gone {
		id.Name = n.seen.Name
	}
	is := c.look(ctx, id)
	if is.err != nil && (!errors.Is(is.err, hub.ErrNotFound) || n.version == 0) {
		return false, is.err
	}
	if n.version == 0 {
		return false, n.store(ctx, c.c.Store, caught{seen: *is.seen, Since: is.at}, nil, catchUpID, 0)
	}
	steps, err := c.missing(ctx, it, n.seen, is.seen)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(steps, func(s step) bool { return s.event != nil }) {
		if is.seen == nil {
			if unsure := surelyDeleted(ctx, c.c.Hub, id, n.seen.Private, is.err); unsure != nil {
				return false, unsure
			}
		}
		if !deliver {
			return true, nil
		}
	}
	now := n.seen
	now.Brought = slices.DeleteFunc(slices.Clone(now.Brought), func(o overtook) bool { return time.Since(o.At) > LateFor })
	for i, s := range steps {
		if i < len(steps)-1 && s.event == nil {
			continue
		}
		now.seen = s.after
		if i == len(steps)-1 {
			now.Since, now.Past = is.at, pastOf(n.seen, s.after.Refs)
		}
		if s.event != nil {
			webhook, _, err := s.event.id(catchUpID, s.after.Count)
			if err != nil {
				return true, err
			}
			for _, ref := range s.event.UpdatedRefs {
				now.Brought = append(now.Brought, overtook{ref.Ref, hexOf(ref.OldSHA), hexOf(ref.NewSHA), webhook, time.Now()})
			}
		}
		if err := n.store(ctx, c.c.Store, now, s.event, catchUpID, s.after.Count); err != nil {
			return true, err
		}
	}
	return false, nil
}

// pastOf returns where refs were, once they are as given.
func pastOf(old caught, refs map[string]string) map[string][]string {
	past := map[string][]string{}
	for ref := range refs {
		list := old.Past[ref]
		if was := old.Refs[ref]; was != refs[ref] {
			list = append(slices.Clone(list), was)
		}
		if len(list) > 0 {
			past[ref] = list[max(0, len(list)-mostPast):]
		}
	}
	return past
}

// look looks at a repo, once in a round.
func (c *CatchUp) look(ctx context.Context, id hub.RepoID) found {
	if f, ok := c.looks[id]; ok {
		return f
	}
	bounded, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	f := found{at: time.Now()}
	now, err := lookAt(bounded, c.c.Hub, id)
	if f.err = err; err == nil {
		f.seen = &now
	}
	c.looks[id] = f
	return f
}

// missing returns the steps from what was seen to what is now, the last one always to what is now. Those that the Hub's deliveries have brought
// have no event.
func (c *CatchUp) missing(ctx context.Context, it CatchUpItem, old caught, now *seen) ([]step, error) {
	kind := payload.RepoType(it.Type)
	names := []string{old.Name}
	if now != nil && now.Name != old.Name {
		names = append(names, now.Name)
	}
	var brought []*payload.Payload
	for _, name := range names {
		some, err := c.c.Store.Brought(ctx, it.Endpoint, hub.RepoID{Type: kind, Name: name}, old.Since)
		if err != nil {
			return nil, fmt.Errorf("read what the Hub has delivered: %w", err)
		}
		brought = append(some, brought...)
	}
	from := old.seen
	if now != nil && from.ID == now.ID {
		from.Refs = refsBrought(old, now.Refs, brought)
	}
	steps := compare(c.c.Hub.Endpoint(), kind, from, now)
	for i, s := range steps {
		if s.event != nil && s.event.Event.Scope != payload.ScopeRepoContent && isBrought(s.event, brought) {
			steps[i].event = nil
		}
	}
	if len(steps) == 0 {
		last := from
		if now != nil {
			count := last.Count
			last = *now
			last.Count = count
		}
		steps = append(steps, step{nil, last})
	}
	return steps, nil
}

// isBrought reports whether one of the payloads tells what an event does, which is not about refs.
func isBrought(e *event, brought []*payload.Payload) bool {
	return slices.ContainsFunc(brought, func(p *payload.Payload) bool {
		if p.Event.Scope != e.Event.Scope || p.Event.Action != e.Event.Action {
			return false
		}
		switch {
		case e.MovedTo != nil:
			return p.MovedTo != nil && p.MovedTo.Name == e.MovedTo.Name
		case e.UpdatedConfig != nil:
			return p.Repo.Private == e.Repo.Private
		}
		return true
	})
}

// Caught returns the Webhook-Id under which catching up has already delivered what a payload of the Hub tells, "" if it has not delivered all of
// it. A ref that has come back to the same commit since then is something new. Any process may ask.
func (c *CatchUp) Caught(ctx context.Context, endpoint string, p *payload.Payload) (webhookID string, err error) {
	if p == nil || len(p.UpdatedRefs) == 0 {
		return "", nil
	}
	repo := hub.RepoID{Type: p.Repo.Type, Name: p.Repo.Name}
	n := note[caught]{key: c.key(endpoint, repo)}
	if err := n.load(ctx, c.c.Store); err != nil {
		return "", err
	}
	for _, ref := range p.UpdatedRefs {
		i := slices.IndexFunc(n.seen.Brought, func(o overtook) bool {
			return o.Ref == ref.Ref && o.New == ref.NewSHA.Hex && time.Since(o.At) <= LateFor
		})
		if i < 0 {
			return "", nil
		}
		first := n.seen.Brought[i]
		later, err := c.c.Store.Brought(ctx, endpoint, repo, first.At)
		if err != nil {
			return "", err
		}
		if comesBack(ref, n.seen.Brought[i+1:], later) {
			return "", nil
		}
		if webhookID == "" {
			webhookID = first.WebhookID
		}
	}
	return webhookID, nil
}

func hexOf(sha *string) string {
	if sha == nil {
		return ""
	}
	return *sha
}
