package hubtest

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/payload"
)

func bucketRoutes(handle func(pattern string, answer answerer)) {
	const one = "/api/buckets/{owner}/{name}"
	handle("GET /api/buckets/{owner}", locked(listBuckets))
	handle("GET "+one, locked(withBucket(func(_ *call, b *Bucket) (any, error) { return b.fields(), nil })))
	handle("POST "+one, locked(createBucket))
	handle("DELETE "+one, changeBucket(func(_ *call, b *Bucket) error { return b.Delete() }))
	handle("PUT "+one+"/settings", changeBucket(func(c *call, b *Bucket) error {
		var body struct {
			Private *bool `json:"private"`
		}
		if err := c.read(&body); err != nil {
			return err
		}
		if body.Private == nil {
			return errors.New(`"private" is required`)
		}
		return b.SetPrivate(*body.Private)
	}))
	handle("GET "+one+"/tree", locked(withBucket(bucketTree)))
	handle("GET "+one+"/tree/{prefix...}", locked(withBucket(bucketTree)))
	handle("POST "+one+"/paths-info", locked(withBucket(bucketPaths)))
	handle("GET "+one+"/events", func(c *call) (any, error) {
		b, err := locked(withBucket(func(_ *call, b *Bucket) (any, error) { return b, nil }))(c)
		if err != nil {
			return nil, err
		}
		return nil, b.(*Bucket).Feed.serve(c)
	})
	handle("POST /api/repos/move", moveRepo)
}

// owner returns the owner that the path names. In listings and creations, huggingface_hub sends me for the token's user.
func (c *call) owner() (string, error) {
	owner := c.r.PathValue("owner")
	if owner != "me" {
		return owner, nil
	}
	t, err := c.needsToken()
	if err != nil {
		return "", err
	}
	return t.User, nil
}

// withBucket finds the bucket that the path names.
func withBucket(answer func(*call, *Bucket) (any, error)) answerer {
	return func(c *call) (any, error) {
		name := c.r.PathValue("owner") + "/" + c.r.PathValue("name")
		b := c.hub.shelf.buckets[name]
		now, moved := c.hub.shelf.moved[place{payload.Bucket, name}]
		if moved {
			b = c.hub.shelf.buckets[now.name]
		}
		if b == nil || !c.sees(b.private, b.name) {
			return nil, c.hidden()
		}
		if moved {
			// What is after the name stays as it was written.
			elements := strings.SplitN(c.r.URL.EscapedPath(), "/", 6)
			after := ""
			if len(elements) == 6 {
				after = "/" + elements[5]
			}
			return nil, &redirect{"/api/buckets/" + now.name + after}
		}
		return answer(c, b)
	}
}

// changeBucket answers a change of a bucket of the caller.
func changeBucket(change func(*call, *Bucket) error) answerer {
	return func(c *call) (any, error) {
		b, err := locked(withBucket(func(c *call, b *Bucket) (any, error) { return b, c.owns(b.name) }))(c)
		if err != nil {
			return nil, err
		}
		if err := change(c, b.(*Bucket)); err != nil {
			return nil, asRefusal(err)
		}
		return struct{}{}, nil
	}
}

// owns checks that the caller may change what has a name.
func (c *call) owns(name string) error {
	t, err := c.needsToken(WriteRepos)
	if err != nil {
		return err
	}
	if !c.hub.Accounts.reads(t.User, ownerOf(name)) {
		return &apiError{status: http.StatusForbidden, messages: []string{"You don't have the rights to change " + name}}
	}
	return nil
}

// asRefusal answers an error of a method as a bad request, unless it has an answer already.
func asRefusal(err error) error {
	if e := (*apiError)(nil); errors.As(err, &e) {
		return err
	}
	return badRequest(err)
}

func (b *Bucket) fields() map[string]any {
	return map[string]any{
		"_id": b.id, "id": b.name, "author": ownerOf(b.name), "private": b.private, "createdAt": stamp(b.created), "updatedAt": stamp(b.updated),
		"size": b.size, "totalFiles": len(b.files),
	}
}

func listBuckets(c *call) (any, error) {
	owner, err := c.owner()
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, name := range slices.Sorted(maps.Keys(c.hub.shelf.buckets)) {
		b := c.hub.shelf.buckets[name]
		if ownerOf(name) == owner && c.sees(b.private, name) && strings.Contains(name, c.r.URL.Query().Get("search")) {
			all = append(all, b.fields())
		}
	}
	return all, nil
}

func createBucket(c *call) (any, error) {
	owner, err := c.owner()
	if err != nil {
		return nil, err
	}
	name := owner + "/" + c.r.PathValue("name")
	if err := c.owns(name); err != nil {
		return nil, err
	}
	var body struct {
		Visibility string `json:"visibility"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if c.hub.shelf.buckets[name] != nil {
		return nil, &apiError{status: http.StatusConflict, messages: []string{"You already created this bucket"}}
	}
	b, err := c.hub.createBucket(name, RepoOptions{Private: body.Visibility == "private"})
	if err != nil {
		return nil, badRequest(err)
	}
	return map[string]string{"url": "http://" + c.r.Host + "/buckets/" + name, "name": name, "id": b.id}, nil
}

// bucketItem is a file or a directory of a listing.
type bucketItem struct {
	Type       string `json:"type"`
	Path       string `json:"path"`
	Size       *int64 `json:"size,omitzero"`
	XetHash    string `json:"xetHash,omitzero"`
	UploadedAt string `json:"uploadedAt"`
}

func (f BucketFile) item() bucketItem {
	return bucketItem{"file", f.Path, &f.Size, f.XetHash, stamp(f.UploadedAt)}
}

// bucketTree lists files whose paths begin with the prefix. The cursor is the last path of a page, so that a change between two pages does
// not move files from one to the other. Without recursive, a directory stands for all that is in it.
func bucketTree(c *call, b *Bucket) (any, error) {
	prefix, recursive := c.r.PathValue("prefix"), isTrue(c.r.URL.Query().Get("recursive"))
	base := prefix[:strings.LastIndex(prefix, "/")+1]
	p, err := c.page(1000)
	if err != nil {
		return nil, err
	}
	items, last := []bucketItem{}, p.after
	for _, f := range b.list(prefix) {
		i, key := f.item(), f.Path
		if name, _, deeper := strings.Cut(f.Path[len(base):], "/"); deeper && !recursive {
			i = bucketItem{Type: "directory", Path: base + name, UploadedAt: stamp(f.UploadedAt)}
			key = i.Path + "/"
		}
		if key <= last {
			continue
		}
		if len(items) == p.size {
			p.linkNext(last)
			break
		}
		items, last = append(items, i), key
	}
	return items, nil
}

func bucketPaths(c *call, b *Bucket) (any, error) {
	var body struct {
		Paths []string `json:"paths"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	items := []bucketItem{}
	for _, path := range body.Paths {
		if f, there := b.files[path]; there {
			items = append(items, f.item())
		}
	}
	return items, nil
}

// moveRepo answers POST /api/repos/move.
func moveRepo(c *call) (any, error) {
	var body struct {
		From string           `json:"fromRepo"`
		To   string           `json:"toRepo"`
		Type payload.RepoType `json:"type"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	c.hub.mu.Lock()
	r, b := c.hub.shelf.repos[place{body.Type, body.From}], c.hub.shelf.buckets[body.From]
	err := c.owns(body.From)
	c.hub.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case r != nil:
		err = r.Move(body.To)
	case b != nil && body.Type == payload.Bucket:
		err = b.Move(body.To)
	default:
		return nil, c.hidden()
	}
	if err != nil {
		return nil, badRequest(err)
	}
	return struct{}{}, nil
}
