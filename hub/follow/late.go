package follow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

// errRead ends the feed of a bucket once it has told everything up to now.
var errRead = errors.New("all was read")

// readFiles reads from a bucket's feed what changed between from and now. from is nil for a bucket that was not seen before; then nothing has changed.
// at are the bucket's statistics, which the caller has read before.
func readFiles(ctx context.Context, h Hub, name string, from *fed, at stats) (now fed, changes fileChanges, err error) {
	if from != nil {
		now = *from
	}
	err = h.FollowBucket(ctx, name, now.Resume, func(e hub.BucketEvent) error {
		if e.Kind == hub.BucketLost {
			return e.Err
		}
		next, some, err := now.next(ctx, h, name, from == nil, e)
		if err != nil {
			return err
		}
		now = next
		changes.list, changes.cut = append(changes.list, some.list...), changes.cut || some.cut
		if e.Kind == hub.BucketReady {
			return errRead
		}
		return nil
	})
	if !errors.Is(err, errRead) {
		return fed{}, fileChanges{}, err
	}
	now.Stats = &at
	return now, changes, nil
}

// filesMissing returns the changes that no delivery of the Hub has told. Of several changes of one file only the last one counts. before says how often
// the deliveries told changes that an earlier look saw.
func filesMissing(changes fileChanges, brought []*payload.Payload, before map[fileDigest]int) fileChanges {
	last, times := map[string]int{}, map[fileDigest]int{}
	for i, c := range changes.list {
		last[c.Path] = i
		times[digestOfChange(c)]++
	}
	told := timesTold(brought)
	left := fileChanges{cut: changes.cut}
	for i, c := range changes.list {
		if d := digestOfChange(c); last[c.Path] == i && told[d]-before[d] < times[d] {
			left.list = append(left.list, c)
		}
	}
	return left
}

// timesTold returns how often deliveries tell each change of a file. Several webhooks may tell the same change.
func timesTold(brought []*payload.Payload) map[fileDigest]int {
	by, most := map[string]map[fileDigest]int{}, map[fileDigest]int{}
	for _, p := range brought {
		told := by[p.Webhook.ID]
		if told == nil {
			told = map[fileDigest]int{}
			by[p.Webhook.ID] = told
		}
		for _, f := range p.UpdatedFiles {
			digests := []fileDigest{digestOfFile(f.Path, f.Action, f.XetHash)}
			if f.XetHash != "" {
				digests = append(digests, digestOfFile(f.Path, f.Action, "")) // the feed leaves the hash out if the content stayed the same
			}
			for _, d := range digests {
				told[d]++
				most[d] = max(most[d], told[d])
			}
		}
	}
	return most
}

// toldAlready returns how often deliveries that came after the look told changes that the look saw.
func toldAlready(changes fileChanges, later []*payload.Payload) map[fileDigest]int {
	told := timesTold(later)
	seen := map[fileDigest]int{}
	for _, c := range changes.list {
		if d := digestOfChange(c); seen[d] < told[d] {
			seen[d]++
		}
	}
	return seen
}

// fileDigest stands for a change of a file, as a payload tells it: its first half for the file's path.
type fileDigest string

func (d fileDigest) path() fileDigest { return d[:len(d)/2] }

func digestOfFile(path string, action payload.FileAction, xetHash string) fileDigest {
	half := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:8])
	}
	return fileDigest(half(path) + half(string(action)+" "+xetHash))
}

func digestOfChange(c hub.BucketChange) fileDigest {
	if c.Op == "delete" {
		return digestOfFile(c.Path, payload.FileDelete, "")
	}
	return digestOfFile(c.Path, payload.FileAdd, c.XetHash)
}

// overtookFiles are the files in a delivery that catching up made before the Hub did.
type overtookFiles struct {
	Files     []fileDigest `json:"files"`
	WebhookID string       `json:"webhook_id"`
	At        time.Time    `json:"at"`
}

// addFiles adds a delivery of catching up to the known ones. It drops the oldest while all together have more than maxFiles files.
func addFiles(known []overtookFiles, e *event, webhookID string) []overtookFiles {
	o := overtookFiles{WebhookID: webhookID, At: time.Now()}
	for _, f := range *e.UpdatedFiles {
		o.Files = append(o.Files, digestOfFile(f.Path, f.Action, f.XetHash))
	}
	known = append(known, o)
	for total := len(o.Files); len(known) > 1; {
		for _, k := range known[:len(known)-1] {
			total += len(k.Files)
		}
		if total <= maxFiles {
			break
		}
		known, total = known[1:], len(o.Files)
	}
	return known
}

// caughtFiles returns the Webhook-Id under which catching up has delivered all files of a payload, "" if it has not. If a delivery since then told
// another state of a file, the file has changed back, which is something new.
func caughtFiles(p *payload.Payload, known []overtookFiles, brought func(since time.Time) ([]*payload.Payload, error)) (webhookID string, err error) {
	if p.UpdatedFilesTruncated || len(p.UpdatedFiles) == 0 {
		return "", nil
	}
	type telling struct {
		digest    fileDigest
		webhookID string
		at        time.Time
	}
	newest := map[fileDigest]telling{} // by path
	for _, o := range known {
		for _, d := range o.Files {
			if time.Since(o.At) <= LateFor {
				newest[d.path()] = telling{d, o.WebhookID, o.At}
			}
		}
	}
	oldest, want := time.Now(), map[fileDigest]fileDigest{}
	for _, f := range p.UpdatedFiles {
		d := digestOfFile(f.Path, f.Action, f.XetHash)
		t := newest[d.path()]
		if t.digest != d {
			return "", nil
		}
		want[d.path()] = d
		if t.at.Before(oldest) {
			oldest = t.at
		}
		if webhookID == "" {
			webhookID = t.webhookID
		}
	}
	later, err := brought(oldest)
	if err != nil {
		return "", err
	}
	for _, other := range later {
		for _, f := range other.UpdatedFiles {
			d := digestOfFile(f.Path, f.Action, f.XetHash)
			if is, told := want[d.path()]; told && is != d {
				return "", nil
			}
		}
	}
	return webhookID, nil
}
