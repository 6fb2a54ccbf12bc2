package hub

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// Bucket is a bucket of the Hub.
type Bucket struct {
	// Name is owner/name.
	Name      string
	Private   bool
	CreatedAt time.Time
	// UpdatedAt is when a file last changed, in the Hub's own spelling, because the live feed takes it back as a point to resume at. It can be empty.
	UpdatedAt string
	// Size is that of all files, in bytes.
	Size int64
	// Files is how many files it has.
	Files int64
}

// UnmarshalJSON reads a bucket as the Hub sends it. Fields of another type than expected are left out.
func (b *Bucket) UnmarshalJSON(body []byte) error {
	*b = Bucket{}
	return readFields(body, map[string]func(json.RawMessage){
		"id": into(&b.Name), "private": into(&b.Private), "createdAt": into(&b.CreatedAt), "updatedAt": into(&b.UpdatedAt),
		"size": into(&b.Size), "totalFiles": into(&b.Files),
	})
}

// Bucket reads a bucket, named by owner/name. One that is gone, or that the token may not see, is an ErrNotFound.
func (c *Client) Bucket(ctx context.Context, name string) (Bucket, error) {
	op := "read bucket:" + line(name)
	path, err := bucketPath(name)
	if err != nil {
		return Bucket{}, &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	var b Bucket
	return b, c.get(ctx, op, path, nil, &b)
}

// BucketsOf yields the buckets that a user or an organization owns, and that the token may see, page by page. The last value has an error where a
// page could not be read. The request is that of huggingface_hub's list_buckets.
func (c *Client) BucketsOf(ctx context.Context, owner string) iter.Seq2[Bucket, error] {
	op := "list the buckets of " + line(owner)
	if err := checkOwner(owner); err != nil {
		return failing[Bucket](&Error{Op: op, Err: err, endpoint: c.Endpoint()})
	}
	return pages[Bucket](ctx, c, op, "/api/buckets/"+escape(owner), nil, nil)
}

func bucketPath(name string) (string, error) { return RepoID{payload.Bucket, name}.path() }

// BucketFile is a file of a bucket.
type BucketFile struct {
	// Path is relative to the bucket's root.
	Path string
	// Size is in bytes.
	Size int64
	// XetHash names the content. It is empty where the token may not read the files.
	XetHash string
	// UploadedAt is when the file was last uploaded. It can be zero.
	UploadedAt time.Time
	// Modified is when its uploader says that it was last changed. It can be zero.
	Modified time.Time

	folder bool
}

// UnmarshalJSON reads an entry of a bucket's listing. It refuses only one without a path.
func (f *BucketFile) UnmarshalJSON(body []byte) error {
	*f = BucketFile{}
	var kind string
	err := readFields(body, map[string]func(json.RawMessage){
		"type": into(&kind), "path": into(&f.Path), "size": into(&f.Size), "xetHash": into(&f.XetHash),
		"uploadedAt": into(&f.UploadedAt), "mtime": into(&f.Modified),
	})
	if err == nil && f.Path == "" {
		err = errors.New("an entry has no path")
	}
	f.folder = kind == "directory"
	return err
}

// BucketFiles yields all files of a bucket whose paths begin with prefix, page by page and in no guaranteed order. The last value has an
// error where a page could not be read. The request is that of huggingface_hub's list_bucket_tree.
func (c *Client) BucketFiles(ctx context.Context, name, prefix string) iter.Seq2[BucketFile, error] {
	op := "list the files of bucket:" + line(name)
	path, err := bucketPath(name)
	if err != nil {
		return failing[BucketFile](&Error{Op: op, Err: err, endpoint: c.Endpoint()})
	}
	path += "/tree"
	if prefix != "" {
		path += "/" + url.PathEscape(prefix)
	}
	entries := pages[BucketFile](ctx, c, op, path, url.Values{"recursive": {"true"}}, nil)
	return func(yield func(BucketFile, error) bool) {
		for f, err := range entries {
			if f.folder {
				continue
			}
			if !yield(f, err) {
				return
			}
		}
	}
}
