package hub

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// Bucket is a bucket of the Hub.
type Bucket struct {
	// Name is owner/name.
	Name      string
	Private   bool
	CreatedAt time.Time
	// UpdatedAt is when a file last changed. It is kept as the Hub writes it, since it is sent back to it. It can be empty.
	UpdatedAt string
	// Size is that of all files, in bytes.
	Size int64
	// Files is how many files it has.
	Files int64
}

// UnmarshalJSON reads a bucket as the Hub sends it. Fields of another type than expected are left out.
func (b *Bucket) UnmarshalJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	*b = Bucket{}
	tolerant(fields["id"], &b.Name)
	tolerant(fields["private"], &b.Private)
	tolerant(fields["createdAt"], &b.CreatedAt)
	tolerant(fields["updatedAt"], &b.UpdatedAt)
	tolerant(fields["size"], &b.Size)
	tolerant(fields["totalFiles"], &b.Files)
	return nil
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
	if err := checkName(owner); err != nil || strings.Contains(owner, "/") {
		return failing[Bucket](&Error{Op: op, Err: errors.New("it names no user and no organization"), endpoint: c.Endpoint()})
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
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	*f = BucketFile{}
	var kind string
	tolerant(fields["type"], &kind)
	f.folder = kind == "directory"
	tolerant(fields["path"], &f.Path)
	if f.Path == "" {
		return errors.New("an entry has no path")
	}
	tolerant(fields["size"], &f.Size)
	tolerant(fields["xetHash"], &f.XetHash)
	tolerant(fields["uploadedAt"], &f.UploadedAt)
	tolerant(fields["mtime"], &f.Modified)
	return nil
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
