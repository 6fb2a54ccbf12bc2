package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Resume is a point in a bucket's live feed to go on from. The zero Resume is no point: the feed begins with the present.
type Resume struct {
	// Cursor resumes strictly after the changes that came with it. The Hub keeps about 15 minutes.
	Cursor string `json:"cursor,omitempty"`
	// Since is an instant in ISO 8601 that lies before everything that came later. It is used where the Hub refuses the cursor.
	Since string `json:"since,omitempty"`
}

// BucketEventKind is what a [BucketEvent] tells.
type BucketEventKind string

// The kinds of events.
const (
	// BucketReset says that the feed can't tell what changed before this point: at the start without a point, and where the Hub can't
	// resume. A caller that has to know lists the bucket now. The feed tells all later changes; some may be in that listing already.
	BucketReset BucketEventKind = "reset"
	// BucketChanges has changed files.
	BucketChanges BucketEventKind = "changes"
	// BucketReady says that everything missed was told and the feed is live from here on.
	BucketReady BucketEventKind = "ready"
	// BucketLost says that the feed was lost and will be opened again after Wait.
	BucketLost BucketEventKind = "lost"
)

// BucketEvent is what the live feed of a bucket tells.
type BucketEvent struct {
	Kind BucketEventKind
	// Resume is the point after this event. A caller that stores it in one commit with the results of the event misses nothing and repeats nothing.
	Resume Resume
	// Changes are the files that changed, with BucketChanges.
	Changes []BucketChange
	// Overlap says that an earlier event or listing may have told the same changes.
	Overlap bool
	// Reason is why the feed can't resume, with BucketReset: the Hub's word, such as "cursor_too_old", or "refused" or "unreadable".
	// It is empty at the start.
	Reason string
	// Err is why the feed was lost, and Wait when it is opened again, with BucketLost.
	Err  error
	Wait time.Duration
}

// BucketChange is a file that changed. In an update, a field that is zero has not changed, or can't be read with this token.
type BucketChange struct {
	Path string
	// Op is add, update or delete. The Hub may have others.
	Op         string
	Size       int64
	XetHash    string
	UploadedAt time.Time
	// Modified is when the uploader says that the file was last changed.
	Modified time.Time
}

// How the feed is opened again, from huggingface_hub's _bucket_live_follow.py.
const (
	feedSilence   = 90 * time.Second // the Hub sends a comment every 30 s or so
	feedHealthy   = time.Second      // before the next session, after one that was ready
	feedFirstWait = 10 * time.Second
	feedMaxWait   = 80 * time.Second
)

// FollowBucket reads the live feed of a bucket, named by owner/name, from a point on until ctx ends, each fails, or the bucket can't be
// followed with this token (the Hub answers 401, 403, 404, 410 or 501, or refuses even a feed without a point). It returns the error that
// ended it. After anything else (an end by the Hub, 90 s of silence, a lost connection, 429, 503) it waits and opens the feed again.
//
// It calls each for one event at a time.
func (c *Client) FollowBucket(ctx context.Context, name string, from Resume, each func(BucketEvent) error) error {
	f := &follower{client: c, name: name, at: from, tell: each, waits: feedFirstWait}
	path, err := bucketPath(name)
	if err != nil {
		return &Error{Op: f.op(), Err: err, endpoint: c.Endpoint()}
	}
	f.path = path + "/events"
	f.lost = from == Resume{}
	for {
		if err := f.next(ctx); err != nil {
			return err
		}
	}
}

// follower is a feed that is followed.
type follower struct {
	client *Client
	name   string
	path   string
	tell   func(BucketEvent) error

	at Resume
	// lost says that a BucketReset has to be told, for reason.
	lost   bool
	reason string
	// probed says that at.Since is the bucket's own last change, read a moment ago.
	probed bool
	// live says that the Hub takes no point: the feed is opened without one.
	live bool
	// asked says that this session has asked for the feed, not for the bucket alone.
	asked bool
	waits time.Duration // before the next session, after one that was not ready
}

func (f *follower) op() string { return "follow bucket:" + line(f.name) }

// errTold marks an error of the caller's function.
type errTold struct{ error }

func (e errTold) Unwrap() error { return e.error }

// next runs one session of the feed and waits until the next one is due.
func (f *follower) next(ctx context.Context) error {
	healthy, err := f.session(ctx)
	var told errTold
	var refused *Error
	switch {
	case errors.As(err, &told):
		return told.error
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &refused) && refused.final():
		return err
	case errors.As(err, &refused) && refused.Status == http.StatusBadRequest && f.asked:
		if !f.stepBack() {
			return err
		}
		healthy = true
	}
	wait := feedHealthy
	if !healthy {
		wait = f.waits - rand.N(f.waits/4)
		f.waits = min(2*f.waits, feedMaxWait)
		if refused != nil && refused.RetryAfter > 0 {
			wait = min(refused.RetryAfter, f.client.config.LongestWait)
		}
		if err := f.tell(BucketEvent{Kind: BucketLost, Resume: f.at, Err: err, Wait: wait}); err != nil {
			return err
		}
	}
	return f.client.config.Wait(ctx, wait)
}

// final reports whether asking again is of no use.
func (e *Error) final() bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusNotImplemented:
		return true
	}
	return errors.Is(e.Err, errNotStream)
}

// stepBack drops a part of the point that the Hub refused: first the cursor, then the instant. It returns false where there is nothing left to
// drop.
func (f *follower) stepBack() bool {
	switch {
	case f.live:
		return false
	case f.at.Cursor != "" && f.at.Since != "":
		f.at.Cursor = ""
	case f.probed:
		f.lose("refused")
		f.live = true
	default:
		f.lose("refused")
	}
	return true
}

// lose drops the point, and has the next session tell a BucketReset.
func (f *follower) lose(reason string) {
	f.at, f.lost, f.reason, f.probed, f.live = Resume{}, true, reason, false, false
}

// errNotStream says that an answer is no feed.
var errNotStream = errors.New("the answer is no stream of events")

// session opens the feed and reads it to its end. It is healthy if the feed was ready, or the Hub ended it on purpose.
func (f *follower) session(ctx context.Context) (healthy bool, err error) {
	f.asked = false
	if f.lost && !f.live {
		// The point comes before the listing that the caller may make, so that no change falls between the two.
		bucket, err := f.client.Bucket(ctx, f.name)
		if err != nil {
			return false, err
		}
		if bucket.UpdatedAt != "" {
			f.at, f.probed = Resume{Since: bucket.UpdatedAt}, true
			if err := f.tellReset(); err != nil {
				return false, err
			}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(feedSilence, func() { cancel(fmt.Errorf("nothing came for %v", feedSilence)) })
	defer silence.Stop()

	query := url.Values{}
	switch {
	case f.at.Cursor != "":
		query.Set("cursor", f.at.Cursor)
	case f.at.Since != "":
		query.Set("since", f.at.Since)
	}
	c := f.client
	call := call{op: f.op(), method: http.MethodGet, url: c.address(f.path, query)}
	if d := c.quota.left(time.Now()); d > 0 {
		return false, c.usedUp(call, d, errUsedUp)
	}
	f.asked = true
	response, hide, err := c.open(ctx, call, "text/event-stream")
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		e := c.failed(call, Token{})
		e.Err = errNotStream
		return false, e
	}
	events := newEventReader(heard{response.Body, silence})
	overlap := f.at.Cursor == "" && f.at.Since != ""
	ready := false
	for {
		m, err := events.next()
		if err == io.EOF {
			return ready, nil
		}
		if err != nil {
			return ready, c.lost(ctx, call, err, hide)
		}
		end, err := f.take(m, overlap && !ready)
		ready = ready || m.name == "ready" || end
		if ready {
			f.waits = feedFirstWait
		}
		if err != nil || end {
			return ready, err
		}
	}
}

// heard restarts the timer that ends a silent stream whenever bytes arrive.
type heard struct {
	io.Reader
	silence *time.Timer
}

func (h heard) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if n > 0 {
		h.silence.Reset(feedSilence)
	}
	return n, err
}

// take tells what an event says. end is true where the Hub ends the feed. Unknown events are ignored, as the Hub may add some.
func (f *follower) take(m message, overlap bool) (end bool, err error) {
	switch m.name {
	case "ready", "changes", "reset", "reconnect":
	default:
		return false, nil
	}
	var fields map[string]json.RawMessage
	tolerant(m.data, &fields)
	var cursor string
	tolerant(fields["cursor"], &cursor)
	switch m.name {
	case "reset":
		reason := "reset"
		tolerant(fields["reason"], &reason)
		probed := f.probed
		f.lose(line(reason))
		f.live = probed // the Hub can't replay from the bucket's own last change either, so the next session asks without a point
		return true, nil
	case "reconnect":
		f.advance(cursor)
		return true, nil
	case "ready":
		f.advance(cursor)
		if err := f.tellReset(); err != nil {
			return false, err
		}
		return false, f.say(BucketEvent{Kind: BucketReady})
	}
	changes, ok := readChanges(fields["changes"])
	if !ok || cursor == "" {
		// huggingface_hub ignores such an event. That would lose its changes, so the point is dropped instead.
		f.lose("unreadable")
		return true, nil
	}
	if err := f.tellReset(); err != nil {
		return false, err
	}
	f.advance(cursor)
	for _, change := range changes {
		if since, err := time.Parse(time.RFC3339, f.at.Since); change.UploadedAt.After(since) || err != nil && !change.UploadedAt.IsZero() {
			f.at.Since = change.UploadedAt.UTC().Format(time.RFC3339Nano)
		}
	}
	return false, f.say(BucketEvent{Kind: BucketChanges, Changes: changes, Overlap: overlap})
}

// advance moves the point. Without a cursor nothing has changed since the point.
func (f *follower) advance(cursor string) {
	if cursor != "" {
		f.at.Cursor, f.live, f.probed = cursor, false, false
	}
}

// tellReset tells the caller once that the point was lost.
func (f *follower) tellReset() error {
	if !f.lost {
		return nil
	}
	err := f.say(BucketEvent{Kind: BucketReset, Reason: f.reason})
	if err == nil {
		f.lost, f.reason = false, ""
	}
	return err
}

// say calls the caller's function.
func (f *follower) say(e BucketEvent) error {
	e.Resume = f.at
	if err := f.tell(e); err != nil {
		return errTold{err}
	}
	return nil
}

// readChanges reads the changes of an event. ok is false if raw is no list, or an entry lacks its path or operation.
func readChanges(raw json.RawMessage) (changes []BucketChange, ok bool) {
	var entries []json.RawMessage
	if json.Unmarshal(raw, &entries) != nil {
		return nil, false
	}
	for _, entry := range entries {
		var fields map[string]json.RawMessage
		tolerant(entry, &fields)
		var change BucketChange
		tolerant(fields["path"], &change.Path)
		tolerant(fields["op"], &change.Op)
		if change.Path == "" || change.Op == "" {
			return nil, false
		}
		tolerant(fields["size"], &change.Size)
		tolerant(fields["xetHash"], &change.XetHash)
		tolerant(fields["uploadedAt"], &change.UploadedAt)
		tolerant(fields["mtime"], &change.Modified)
		changes = append(changes, change)
	}
	return changes, true
}
