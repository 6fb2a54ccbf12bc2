package follow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/hubhook/hubhook/hub"
)

// fed is what was last seen of a bucket's files.
type fed struct {
	Resume hub.Resume `json:"resume"`
	// Recent are digests of the changes told since Resume.Since. A feed that resumes at that instant may tell them once more.
	Recent []string `json:"recent,omitempty"`
	// Stats are those of the bucket while its feed was quiet. If they are the same after the feed was lost, nothing has changed.
	Stats *stats `json:"stats,omitempty"`
	Count int64  `json:"count"` // of deliveries so far
	// First says that the feed has not been ready since the first look, at the instant Resume.Since. The feed may still tell what was there by then.
	First bool `json:"first,omitempty"`

	fresh bool // the first look was a moment ago, in this session of the feed
}

// stats are what the Hub says of all files of a bucket.
type stats struct {
	Updated string `json:"updated"`
	Size    int64  `json:"size"`
	Files   int64  `json:"files"`
}

func statsOf(b hub.Bucket) stats { return stats{b.UpdatedAt, b.Size, b.Files} }

// fileChanges are changes of a bucket's files. cut says that there may be more.
type fileChanges struct {
	list []hub.BucketChange
	cut  bool
}

// next returns the changes that an event of the feed tells, and what has been seen once they are delivered. first says that nothing was seen before.
func (s fed) next(ctx context.Context, h Hub, name string, first bool, e hub.BucketEvent) (now fed, changes fileChanges, err error) {
	now = s
	switch e.Kind {
	case hub.BucketChanges:
		changes.list = e.Changes
		if e.Overlap {
			changes.list = s.unseen(changes.list)
		}
		if e.Resume.Since != now.Resume.Since {
			now.Recent = nil
		}
		now.Recent = slices.Clip(now.Recent)
		for _, c := range changes.list {
			now.Recent = append(now.Recent, digest(c))
		}
		now.Recent = now.Recent[max(0, len(now.Recent)-maxFiles):]
	case hub.BucketReset:
		// Without a reason it is the first look, of which nothing is delivered.
		if e.Reason == "" || first {
			now.First, now.fresh = true, true
		} else if changes, now.Recent, err = s.gap(ctx, h, name); err != nil {
			return s, fileChanges{}, err
		}
	case hub.BucketReady:
		now.First, now.fresh = false, false
	}
	now.Resume = e.Resume
	return now, changes, nil
}

// unseen drops the changes that were seen already, for a feed that may tell changes twice.
func (s fed) unseen(changes []hub.BucketChange) (left []hub.BucketChange) {
	recent := map[string]bool{}
	for _, d := range s.Recent {
		recent[d] = true
	}
	since, err := time.Parse(time.RFC3339, s.Resume.Since)
	for _, c := range changes {
		old := recent[digest(c)]
		switch {
		case !s.First:
		case c.UploadedAt.IsZero(): // a deletion: only this session knows that it came before the first look
			old = old || s.fresh
		case err == nil:
			old = old || !c.UploadedAt.After(since)
		}
		if !old {
			left = append(left, c)
		}
	}
	return left
}

// gap returns what changed since the last point when the feed can't tell that, and digests of those changes, which the feed may tell once more. It
// reads a listing, which shows uploads but no deletions, so the list counts as cut. If the bucket has not changed, there are no changes.
func (s fed) gap(ctx context.Context, h Hub, name string) (changes fileChanges, recent []string, err error) {
	b, err := h.Bucket(ctx, name)
	if err != nil {
		return changes, nil, err
	}
	if s.Stats != nil && *s.Stats == statsOf(b) {
		return changes, s.Recent, nil
	}
	changes.cut = true
	since, unknown := time.Parse(time.RFC3339, s.Resume.Since)
	if unknown != nil {
		return changes, nil, nil
	}
	for file, err := range h.BucketFiles(ctx, name, "") {
		if err != nil {
			return changes, nil, fmt.Errorf("find out what changed while the feed was lost: %w", err)
		}
		if file.UploadedAt.After(since) {
			c := hub.BucketChange{Path: file.Path, Op: "add", Size: file.Size, XetHash: file.XetHash, UploadedAt: file.UploadedAt}
			changes.list, recent = append(changes.list, c), append(recent, digest(c))
		}
		if len(changes.list) == maxFiles {
			break
		}
	}
	return changes, recent, nil
}

// digest returns the same text for the same change. The time and the path tell uploads apart; a deletion has no time, as a file is deleted only once
// between two uploads.
func digest(c hub.BucketChange) string {
	op := "add"
	if c.Op == "delete" {
		op = "delete"
	}
	at := ""
	if op == "add" {
		at = c.UploadedAt.UTC().Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", op, at, c.Path))
	return hex.EncodeToString(sum[:8])
}
