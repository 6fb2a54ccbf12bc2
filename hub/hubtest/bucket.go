package hubtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// maxUpdatedFiles is the number of files that a payload lists at most (the Hub's documentation).
const maxUpdatedFiles = 10_000

// Bucket is a bucket of a [Hub]: files without commits, refs and discussions.
type Bucket struct {
	// Feed is its live feed of changes.
	Feed *Feed

	hub *Hub
	id  string

	// Under the Hub's lock.
	name    string // "" after Delete
	private bool
	created time.Time
	updated time.Time
	files   map[string]BucketFile
	size    int64
}

// BucketFile is a file in a [Bucket].
type BucketFile struct {
	Path string
	// Size is in bytes.
	Size int64
	// XetHash has 64 hexadecimal digits. It is made from the content, but not as Xet makes it.
	XetHash string
	// UploadedAt is the time of the last upload, by [Options].Now, in milliseconds.
	UploadedAt time.Time
}

// CreateBucket makes an empty bucket. The name is owner/name.
func (h *Hub) CreateBucket(name string, options RepoOptions) (*Bucket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.createBucket(name, options)
}

func (h *Hub) createBucket(name string, options RepoOptions) (*Bucket, error) {
	if err := h.shelf.isFree(payload.Bucket, name); err != nil {
		return nil, fmt.Errorf("create the bucket %s: %w", name, err)
	}
	now := h.options.Now().Truncate(time.Millisecond)
	b := &Bucket{
		hub: h, id: cmp.Or(options.ID, objectID()), name: name, private: options.Private, created: now, updated: now,
		files: make(map[string]BucketFile),
	}
	b.Feed = &Feed{bucket: b, streams: make(map[*stream]struct{}), changed: make(chan struct{})}
	h.shelf.buckets[name] = b
	delete(h.shelf.moved, place{payload.Bucket, name})
	h.emit(b.event(payload.Create, payload.ScopeRepo))
	return b, nil
}

// Bucket returns a bucket by its present name, nil if there is none.
func (h *Hub) Bucket(name string) *Bucket {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shelf.buckets[name]
}

// Buckets returns all buckets in the order of their names.
func (h *Hub) Buckets() []*Bucket {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Bucket
	for _, name := range slices.Sorted(maps.Keys(h.shelf.buckets)) {
		all = append(all, h.shelf.buckets[name])
	}
	return all
}

// ID returns the bucket's ID, which a move does not change.
func (b *Bucket) ID() string { return b.id }

// Name returns the bucket's present name, "" for a deleted one.
func (b *Bucket) Name() string {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	return b.name
}

// Private reports whether the bucket is private.
func (b *Bucket) Private() bool {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	return b.private
}

// Files returns the files in the order of their paths.
func (b *Bucket) Files() []BucketFile {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	return b.list("")
}

// list is called with the lock held.
func (b *Bucket) list(prefix string) []BucketFile {
	var files []BucketFile
	for path, f := range b.files {
		if strings.HasPrefix(path, prefix) {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(x, y BucketFile) int { return strings.Compare(x.Path, y.Path) })
	return files
}

func (b *Bucket) event(action payload.Action, scope payload.Scope) *event {
	return &event{Event: eventName{action, scope}, Repo: newEventRepo(b.hub, payload.Bucket, b.name, b.id, b.private)}
}

// change runs a change of the bucket with the Hub's lock held.
func (b *Bucket) change(what string, do func() error) error {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if b.name == "" {
		return fmt.Errorf("%s a bucket: it was deleted", what)
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s the bucket %s: %w", what, b.name, err)
	}
	return nil
}

// Upload adds files or replaces those of the same path, in one event. Content that is the same is uploaded too.
func (b *Bucket) Upload(files ...File) error { return b.Change(files, nil) }

// Remove deletes files, in one event. It fails if one of them is not there.
func (b *Bucket) Remove(paths ...string) error { return b.Change(nil, paths) }

// Change deletes and uploads files, in one event: one delivery for each webhook, one batch in the feed. A payload lists 10,000 files at most.
func (b *Bucket) Change(upload []File, remove []string) error {
	return b.change("change", func() error {
		if len(upload)+len(remove) == 0 {
			return errors.New("there is nothing to upload or to remove")
		}
		for _, path := range remove {
			if _, there := b.files[path]; !there {
				return fmt.Errorf("remove %q: it is not there", path)
			}
		}
		for _, f := range upload {
			if !isPath(f.Path) {
				return fmt.Errorf("%q is not a path of a file", f.Path)
			}
		}
		b.updated = b.hub.options.Now().Truncate(time.Millisecond)
		e := b.event(payload.Update, payload.ScopeRepoContent)
		changes := make([]fileChange, 0, len(upload)+len(remove))
		for _, path := range remove {
			b.size -= b.files[path].Size
			delete(b.files, path)
			changes = append(changes, fileChange{Path: path, Op: "delete"})
			e.UpdatedFiles = append(e.UpdatedFiles, updatedFile{Path: path, Action: payload.FileDelete})
		}
		for _, f := range upload {
			sum := sha256.Sum256(f.Content)
			is := BucketFile{f.Path, int64(len(f.Content)), hex.EncodeToString(sum[:]), b.updated}
			was, there := b.files[f.Path]
			b.files[f.Path] = is
			b.size += is.Size - was.Size
			changes = append(changes, changeOf(was, is, there))
			e.UpdatedFiles = append(e.UpdatedFiles, updatedFile{f.Path, payload.FileAdd, is.XetHash, &is.Size})
		}
		cut := len(e.UpdatedFiles) > maxUpdatedFiles
		if cut {
			e.UpdatedFiles = e.UpdatedFiles[:maxUpdatedFiles]
		}
		if cut || b.hub.options.Payloads.Truncated {
			e.UpdatedFilesTruncated = &cut
		}
		b.Feed.add(changes)
		b.hub.emit(e)
		return nil
	})
}

// SetPrivate changes who may see the bucket. Without a change there is no event.
func (b *Bucket) SetPrivate(private bool) error {
	return b.change("configure", func() error {
		if b.private != private {
			b.private = private
			e := b.event(payload.Update, payload.ScopeRepoConfig)
			e.UpdatedConfig = map[string]any{"private": private}
			b.hub.emit(e)
		}
		return nil
	})
}

// Move renames the bucket or gives it to another owner. Requests for the old name are redirected, as for a repo.
func (b *Bucket) Move(name string) error {
	return b.change("move", func() error {
		if err := b.hub.shelf.isFree(payload.Bucket, name); err != nil {
			return fmt.Errorf("to %s: %w", name, err)
		}
		e := b.event(payload.Move, payload.ScopeRepo)
		e.MovedTo = &movedTo{name, idObject{b.hub.Accounts.ensure(ownerOf(name)).id}}
		b.hub.shelf.move(place{payload.Bucket, b.name}, place{payload.Bucket, name})
		delete(b.hub.shelf.buckets, b.name)
		b.hub.shelf.buckets[name] = b
		b.name = name
		b.hub.emit(e, name)
		return nil
	})
}

// Delete deletes the bucket and ends the streams of its feed.
func (b *Bucket) Delete() error {
	return b.change("delete", func() error {
		e := b.event(payload.Delete, payload.ScopeRepo)
		delete(b.hub.shelf.buckets, b.name)
		b.name = ""
		b.Feed.each(func(s *stream) { s.ended = true })
		b.hub.emit(e)
		return nil
	})
}
