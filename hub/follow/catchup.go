package follow

import (
	"cmp"
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
	// LateFor is how long after a delivery of catching up a delivery of the Hub with the same changes is a duplicate. The Hub does not document
	// for how long it retries.
	LateFor = 24 * time.Hour

	// When a look finds something missing, the Hub has this long to deliver it before catching up does.
	settleTime = 3 * time.Second
	// Catching up compares what was seen with the deliveries since, so what was seen must not be older than the deliveries that are kept. An hourly
	// look also finds what the Hub gave up without suspending the webhook.
	catchUpEvery = time.Hour
	// The feed of a bucket replays about 15 minutes.
	bucketsEvery = 10 * time.Minute

	mostPast  = 4           // earlier commits of a ref that are kept
	catchUpID = "catch-up-" // begins Webhook-Ids
)

// Past is a Store that also has the deliveries of the Hub.
type Past interface {
	Store
	// Brought returns the payloads that the Hub has delivered to an endpoint about a repo since a time, newest first. Replays, and deliveries that
	// were made here, are left out.
	Brought(ctx context.Context, endpoint string, repo hub.RepoID, since time.Time) ([]*payload.Payload, error)
}

// CatchUpConfig is what a CatchUp works with.
type CatchUpConfig struct {
	Hub   Hub
	Store Past
	// Task and a slash begin the keys of marks. Only the process that leads the task of this name may run the CatchUp.
	Task string
	// Items returns what webhooks watch by now, each with its endpoint.
	Items func() []CatchUpItem
	// Warn is told which items are left out, once for each, and of errors, once for each cause.
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

	// These belong to the goroutine that runs Run.
	told       map[CatchUpItem]string   // what Warn was told of an item
	notes      map[string]*note[caught] // by key
	ownerNotes map[CatchUpItem]*note[ownerSeen]

	// These belong to the present round.
	looks  map[hub.RepoID]found
	reads  map[string]read           // by key of the note
	owners map[CatchUpItem]time.Time // when the listings of owners were read
}

// caught is what was last seen of a watched repo.
type caught struct {
	seen
	Since   time.Time  `json:"since"` // the time of the look, which saw everything that earlier deliveries tell
	Brought []overtook `json:"brought,omitempty"`
	// Past has the commits of refs at earlier looks, newest last. A change that starts at one of them is a late delivery.
	Past map[string][]string `json:"past,omitempty"`
	// Files are what was seen of a bucket's files. BroughtFiles are for them what Brought is for refs.
	Files        *fed            `json:"files,omitempty"`
	BroughtFiles []overtookFiles `json:"brought_files,omitempty"`
	// Told is how often deliveries since the look told changes of files that the look saw.
	Told    map[fileDigest]int `json:"told,omitempty"`
	Listing string             `json:"listing,omitempty"` // what the listing of a watched owner said
}

// overtook is a ref that catching up delivered before the Hub did.
type overtook struct {
	Ref       string    `json:"ref"`
	Old       string    `json:"old"` // "" for a new ref
	New       string    `json:"new"` // "" for a deletion
	WebhookID string    `json:"webhook_id"`
	At        time.Time `json:"at"`
}

// found is the result of a look. seen is nil for a repo that is not there.
type found struct {
	seen  *seen
	files stats // of a bucket
	at    time.Time
	err   error
}

// read is what the feed of a bucket told.
type read struct {
	now     *fed
	changes fileChanges
	err     error
}

// NewCatchUp returns a CatchUp that does nothing before Run.
func NewCatchUp(c CatchUpConfig) *CatchUp {
	return &CatchUp{c: c, wake: make(chan struct{}, 1), told: map[CatchUpItem]string{}}
}

// Wake has Run look at everything now, because deliveries may have been lost until now.
func (c *CatchUp) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run catches up now, after each Wake, with buckets every 10 minutes and with everything once an hour, until ctx ends. It tries again what fails.
// Run may be called again later, after another process has caught up.
func (c *CatchUp) Run(ctx context.Context) {
	c.notes, c.ownerNotes = map[string]*note[caught]{}, map[CatchUpItem]*note[ownerSeen]{}
	var due time.Time // for all
	for failures := 0; ctx.Err() == nil; {
		wait, now := bucketsEvery, time.Now()
		all := !now.Before(due)
		switch {
		case !c.round(ctx, all):
			wait = min(settleTime<<min(failures, 8), longestWait)
			failures++
		case all:
			due = now.Add(catchUpEvery)
			fallthrough
		default:
			failures = 0
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.wake:
			due = time.Time{}
		case <-again.C:
		}
		again.Stop()
	}
}

// round looks at all items once, or at the buckets alone. It gives the Hub time to deliver what is missing, and delivers the rest. It reports whether
// all went well.
func (c *CatchUp) round(ctx context.Context, all bool) (well bool) {
	c.looks, c.reads, c.owners = map[hub.RepoID]found{}, map[string]read{}, map[CatchUpItem]time.Time{}
	targets, well := c.targets(ctx, all)
	failed := map[CatchUpItem]bool{} // owners
	attend := func(t target, deliver bool) (missing bool) {
		missing, err := c.attend(ctx, t, deliver)
		if !c.say(ctx, t.CatchUpItem, err) {
			well, failed[t.owner] = false, true
		}
		return missing
	}
	var late []target
	for _, t := range targets {
		if attend(t, false) {
			late = append(late, t)
		}
	}
	if len(late) > 0 {
		sleep(ctx, settleTime)
		for id, f := range c.looks { // look once more for a repo that was not there, before its deletion is delivered
			if f.seen == nil {
				delete(c.looks, id)
			}
		}
		for _, t := range late {
			attend(t, true)
		}
	}
	for it, at := range c.owners {
		if !failed[it] {
			n := c.ownerNote(it)
			well = c.say(ctx, it, n.store(ctx, c.c.Store, ownerSeen{at}, nil, catchUpID, 0)) && well
		}
	}
	return well
}

// targets returns the repos to look at: all that are watched, or the buckets alone.
func (c *CatchUp) targets(ctx context.Context, all bool) (targets []target, well bool) {
	well = true
	for _, it := range c.c.Items() {
		switch {
		case it.Type == "user" || it.Type == "org":
			owned, err := c.owned(ctx, it, !all)
			targets, well = append(targets, owned...), c.say(ctx, it, err) && well
		case !slices.Contains([]payload.RepoType{payload.Model, payload.Dataset, payload.Space, payload.Bucket}, payload.RepoType(it.Type)):
			c.warn(it, fmt.Errorf("catching up leaves out %s: the Hub tells no history of it", it.Watched))
		case all || payload.RepoType(it.Type) == payload.Bucket:
			targets = append(targets, c.target(it))
		}
	}
	// A repo that is watched by its name and through its owner is looked at once.
	return slices.DeleteFunc(targets, func(t target) bool {
		return t.owner != CatchUpItem{} && slices.Contains(targets, c.target(t.CatchUpItem))
	}), well
}

// say warns of the error that keeps hubhook from catching up with an item. It returns false if another try soon may succeed.
func (c *CatchUp) say(ctx context.Context, it CatchUpItem, err error) bool {
	var hidden *unsure
	switch {
	case ctx.Err() != nil:
	case err == nil:
		delete(c.told, it)
	case !errors.Is(err, ErrMoved):
		c.warn(it, text.WithHint(fmt.Errorf("catch up with %s: %w; it is tried again", it.Watched, err), text.Hint(err)))
	}
	return err == nil || errors.As(err, &hidden)
}

func (c *CatchUp) warn(it CatchUpItem, err error) {
	cause := withoutRequest(err.Error())
	if c.told[it] != cause {
		c.told[it] = cause
		c.c.Warn(err)
	}
}

// prefix begins the keys of the marks of an endpoint.
func (c *CatchUp) prefix(endpoint string) string {
	return fmt.Sprintf("%s/catch-up %s ", c.c.Task, endpoint)
}

func (c *CatchUp) key(endpoint string, repo hub.RepoID) string {
	return c.prefix(endpoint) + repo.String()
}

// attend compares an item with what was last seen of it. If no delivery is missing, it stores what is there now. Otherwise it reports that one is
// missing, and with deliver makes it. All endpoints use the same look of a round.
func (c *CatchUp) attend(ctx context.Context, t target, deliver bool) (missing bool, err error) {
	it := t.CatchUpItem
	id := hub.RepoID{Type: payload.RepoType(it.Type), Name: it.Name}
	n := c.notes[t.key]
	if n == nil {
		n = &note[caught]{key: t.key, endpoint: it.Endpoint}
		c.notes[t.key] = n
	}
	if err := n.load(ctx, c.c.Store); err != nil {
		return false, err
	}
	if n.version != 0 && !n.seen.Gone {
		id.Name = n.seen.Name
	}
	id.Name = cmp.Or(t.now, id.Name)
	is := c.look(ctx, id)
	if is.err != nil && (!errors.Is(is.err, hub.ErrNotFound) || n.version == 0) {
		return false, is.err
	}
	old, first := n.seen, n.version == 0 && t.born.IsZero()
	if n.version == 0 && !first {
		if old, err = c.born(ctx, t, is); err != nil {
			return false, err
		}
	}
	var files read
	if id.Type == payload.Bucket && is.seen != nil {
		from := old.Files
		if !first && (from == nil || old.Made != is.seen.Made) { // another bucket: all of its files are new
			from = &fed{Resume: hub.Resume{Since: is.seen.Made}}
		}
		if files = c.readFiles(ctx, t.key, from, is); files.err != nil {
			return false, files.err
		}
	}
	if first {
		return false, n.store(ctx, c.c.Store, caught{seen: *is.seen, Since: is.at, Files: files.now, Listing: t.listing}, nil, catchUpID, 0)
	}
	steps, err := c.missing(ctx, it, old, is.seen, files.changes)
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
	now := old
	var told map[fileDigest]int
	if len(files.changes.list) > 0 {
		later, err := c.brought(ctx, it, is.at, is.seen.Name)
		if err != nil {
			return false, err
		}
		told = toldAlready(files.changes, later)
	}
	now.Brought = slices.DeleteFunc(slices.Clone(now.Brought), func(o overtook) bool { return time.Since(o.At) > LateFor })
	for i, s := range steps {
		if i < len(steps)-1 && s.event == nil {
			continue
		}
		now.seen = s.after
		if i == len(steps)-1 {
			now.Since, now.Past, now.Files, now.Told, now.Listing = is.at, pastOf(old, s.after.Refs), files.now, told, t.listing
		}
		if s.event != nil {
			webhook, _, err := s.event.id(catchUpID, s.after.Count)
			if err != nil {
				return true, err
			}
			for _, ref := range s.event.UpdatedRefs {
				now.Brought = append(now.Brought, overtook{ref.Ref, hexOf(ref.OldSHA), hexOf(ref.NewSHA), webhook, time.Now()})
			}
			if s.event.UpdatedFiles != nil {
				now.BroughtFiles = addFiles(now.BroughtFiles, s.event, webhook)
			}
		}
		if err := n.store(ctx, c.c.Store, now, s.event, catchUpID, s.after.Count); err != nil {
			return true, err
		}
	}
	return false, nil
}

// pastOf returns the earlier commits of refs that are now as given.
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

// look reads a repo, once in a round.
func (c *CatchUp) look(ctx context.Context, id hub.RepoID) found {
	if f, ok := c.looks[id]; ok {
		return f
	}
	bounded, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	f := found{at: time.Now()}
	now, files, err := lookAt(bounded, c.c.Hub, id)
	if f.err = err; err == nil {
		f.seen, f.files = &now, files
	}
	c.looks[id] = f
	return f
}

// readFiles reads what changed in a bucket, once in a round.
func (c *CatchUp) readFiles(ctx context.Context, key string, from *fed, is found) read {
	if r, ok := c.reads[key]; ok {
		return r
	}
	bounded, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	now, changes, err := readFiles(bounded, c.c.Hub, is.seen.Name, from, is.files)
	c.reads[key] = read{&now, changes, err}
	return c.reads[key]
}

// born returns what was seen of a repo that is new. If the Hub has delivered its creation, that is the state then; otherwise it is nothing.
func (c *CatchUp) born(ctx context.Context, t target, is found) (caught, error) {
	brought, err := c.brought(ctx, t.CatchUpItem, t.born, is.seen.Name)
	if err != nil {
		return caught{}, err
	}
	for _, p := range brought {
		if !p.Event.Is(payload.ScopeRepo, payload.Create) {
			continue
		}
		first := caught{seen: *is.seen, Since: t.born}
		first.Private, first.Refs = p.Repo.Private, map[string]string{}
		if p.Repo.HeadSHA != "" {
			first.Refs["refs/heads/main"] = p.Repo.HeadSHA
		}
		return first, nil
	}
	return caught{seen: seen{Name: is.seen.Name, Gone: true}, Since: t.born}, nil
}

// brought returns what the Hub has delivered of a repo since a time, under each of its names. The last of the names comes first, and for each name the
// newest delivery.
func (c *CatchUp) brought(ctx context.Context, it CatchUpItem, since time.Time, names ...string) (all []*payload.Payload, err error) {
	for _, name := range names {
		some, err := c.c.Store.Brought(ctx, it.Endpoint, hub.RepoID{Type: payload.RepoType(it.Type), Name: name}, since)
		if err != nil {
			return nil, fmt.Errorf("read what the Hub has delivered: %w", err)
		}
		all = append(some, all...)
	}
	return all, nil
}

// missing returns the steps from what was seen to what is now. There is at least one, and the last one always leads to what is now. A step that a
// delivery of the Hub has brought has no event.
func (c *CatchUp) missing(ctx context.Context, it CatchUpItem, old caught, now *seen, files fileChanges) ([]step, error) {
	kind := payload.RepoType(it.Type)
	names := []string{old.Name}
	if now != nil && now.Name != old.Name {
		names = append(names, now.Name)
	}
	brought, err := c.brought(ctx, it, old.Since, names...)
	if err != nil {
		return nil, err
	}
	from := old.seen
	if now != nil && from.ID == now.ID {
		from.Refs = refsBrought(old, now.Refs, brought, c.isNew(ctx, hub.RepoID{Type: kind, Name: now.Name}, old.Since))
	}
	steps := compare(c.c.Hub.Endpoint(), kind, from, now)
	for i, s := range steps {
		if s.event != nil && s.event.Event.Scope != payload.ScopeRepoContent && isBrought(s.event, brought) {
			steps[i].event = nil
		}
	}
	last := from
	switch {
	case len(steps) > 0:
		last = steps[len(steps)-1].after
	case now != nil:
		last = *now
		last.Count = from.Count
	}
	if left := filesMissing(files, brought, old.Told); len(left.list) > 0 || left.cut {
		e := filesEvent(c.c.Hub.Endpoint(), &last, left)
		last.Count++
		steps = append(steps, step{e, last})
	}
	if len(steps) == 0 {
		steps = append(steps, step{nil, last})
	}
	return steps, nil
}

// isNew returns a function that asks the Hub whether a commit was made after a time. If the Hub does not tell, the function returns false.
func (c *CatchUp) isNew(ctx context.Context, id hub.RepoID, since time.Time) func(commit string) bool {
	return func(sha string) bool {
		if sha == "" {
			return false
		}
		bounded, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		for commit, err := range c.c.Hub.Commits(bounded, id, sha) {
			return err == nil && commit.ID == sha && commit.Date.After(since)
		}
		return false
	}
}

// isBrought reports whether one of the payloads tells the same as an event that is not about refs.
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

// Caught returns the Webhook-Id under which catching up has already delivered everything that a payload of the Hub tells, "" if it has not. A ref
// that has left a commit and come back to it since then is something new. Any process may call Caught.
func (c *CatchUp) Caught(ctx context.Context, endpoint string, p *payload.Payload) (webhookID string, err error) {
	if p == nil || len(p.UpdatedRefs)+len(p.UpdatedFiles) == 0 {
		return "", nil
	}
	repo := hub.RepoID{Type: p.Repo.Type, Name: p.Repo.Name}
	n := note[caught]{key: c.key(endpoint, repo)}
	if err := n.load(ctx, c.c.Store); err != nil {
		return "", err
	}
	if repo.Type == payload.Bucket {
		return caughtFiles(p, n.seen.BroughtFiles, func(since time.Time) ([]*payload.Payload, error) {
			return c.c.Store.Brought(ctx, endpoint, repo, since)
		})
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
