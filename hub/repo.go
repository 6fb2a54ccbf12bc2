package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// RepoID names a repo or bucket.
type RepoID struct {
	Type payload.RepoType
	// Name is owner/name. A few old repos have a name without owner and slash.
	Name string
}

// String returns TYPE:NAME.
func (id RepoID) String() string { return string(id.Type) + ":" + id.Name }

// ParseRepoID reads TYPE:NAME with the type model, dataset, space, kernel or bucket.
func ParseRepoID(s string) (RepoID, error) {
	kind, name, ok := strings.Cut(s, ":")
	id := RepoID{payload.RepoType(kind), name}
	if !ok || name == "" {
		return id, fmt.Errorf("read %q: want TYPE:NAME, dataset:me/data for example", s)
	}
	if _, err := id.path(); err != nil {
		return id, fmt.Errorf("read %q: %w", s, err)
	}
	return id, nil
}

// repoKinds are the names of the repo types in the API's paths.
var repoKinds = map[payload.RepoType]string{
	payload.Model: "models", payload.Dataset: "datasets", payload.Space: "spaces", payload.Kernel: "kernels", payload.Bucket: "buckets",
}

// path returns the repo's path in the API.
func (id RepoID) path() (string, error) {
	kind, ok := repoKinds[id.Type]
	if !ok {
		return "", fmt.Errorf("unknown type %q; want model, dataset, space, kernel or bucket", string(id.Type))
	}
	if err := checkName(id.Name); err != nil {
		return "", err
	}
	if id.Type == payload.Bucket && !strings.Contains(id.Name, "/") {
		return "", fmt.Errorf("%q is no owner/name", id.Name)
	}
	return "/api/" + kind + "/" + escape(id.Name), nil
}

// checkName refuses what can't be owner/name or a name alone, so that no name leads to another path of the API.
func checkName(name string) error {
	parts := strings.Split(name, "/")
	for _, part := range parts {
		if strings.Trim(part, ".") == "" || len(parts) > 2 || strings.ContainsFunc(part, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			return fmt.Errorf("%q is no owner/name", name)
		}
	}
	return nil
}

// checkOwner refuses what can't be the name of a user or an organization.
func checkOwner(name string) error {
	if strings.Contains(name, "/") || checkName(name) != nil {
		return fmt.Errorf("%q is no name of a user or an organization", name)
	}
	return nil
}

// escape escapes the parts of a name, and leaves the slash between them.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

// Repo is a model, dataset, Space or kernel.
type Repo struct {
	// ID stays the same when the repo is renamed.
	ID string
	// Name is owner/name as it is today. It differs from the name that was asked for where the repo was renamed.
	Name   string
	Author string
	// SHA is the commit at the head of main, "" for an empty repo.
	SHA          string
	Private      bool
	LastModified time.Time
	// Subdomain is a Space's first label under hf.space.
	Subdomain string
}

// UnmarshalJSON reads a repo as the Hub sends it. Fields of another type than expected are left out.
func (r *Repo) UnmarshalJSON(b []byte) error {
	*r = Repo{}
	return readFields(b, map[string]func(json.RawMessage){
		"_id": into(&r.ID), "id": into(&r.Name), "author": into(&r.Author), "sha": into(&r.SHA), "private": into(&r.Private),
		"lastModified": into(&r.LastModified), "subdomain": into(&r.Subdomain),
	})
}

// repoFields are the fields that Repo asks for, beside _id and id, which the Hub always sends. Without a choice it sends the name of each
// file in the repo too. huggingface_hub knows these choices, and has none for kernels.
var repoFields = map[payload.RepoType][]string{
	payload.Model:   {"author", "lastModified", "private", "sha"},
	payload.Dataset: {"author", "lastModified", "private", "sha"},
	payload.Space:   {"author", "lastModified", "private", "sha", "subdomain"},
}

// Repo reads a repo. A repo that is gone, or that the token may not see, is an ErrNotFound.
func (c *Client) Repo(ctx context.Context, id RepoID) (Repo, error) {
	op := "read " + line(id.String())
	path, err := id.path()
	if err != nil {
		return Repo{}, &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	var r Repo
	return r, c.get(ctx, op, path, url.Values{"expand": repoFields[id.Type]}, &r)
}

// Ref is a branch, a tag or another ref of a repo.
type Ref struct {
	// Name is short: main.
	Name string `json:"name"`
	// Ref is the full name: refs/heads/main, refs/tags/v1, refs/pr/5 or refs/convert/parquet.
	Ref string `json:"ref"`
	// Commit is what it points to.
	Commit string `json:"targetCommit"`
}

// Refs returns a repo's branches, tags and converted copies, and the refs of pull requests where pullRequests is true. The order is the
// Hub's within each kind.
func (c *Client) Refs(ctx context.Context, id RepoID, pullRequests bool) ([]Ref, error) {
	op := "list the refs of " + line(id.String())
	path, err := id.path()
	if err != nil {
		return nil, &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	query := url.Values{}
	if pullRequests {
		query.Set("include_prs", "1")
	}
	var kinds map[string]json.RawMessage
	if err := c.get(ctx, op, path+"/refs", query, &kinds); err != nil {
		return nil, err
	}
	return readRefs(kinds), nil
}

// readRefs gathers the refs of all kinds. Kinds that this package does not know come last.
func readRefs(kinds map[string]json.RawMessage) []Ref {
	order := []string{"branches", "tags", "converts", "pullRequests"}
	var others []string
	for kind := range kinds {
		if !slices.Contains(order, kind) {
			others = append(others, kind)
		}
	}
	slices.Sort(others)
	var refs []Ref
	for _, kind := range append(order, others...) {
		var list []json.RawMessage
		tolerant(kinds[kind], &list)
		for _, raw := range list {
			var ref Ref
			if tolerant(raw, &ref); ref.Ref != "" && ref.Commit != "" {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// Commit is a commit of a repo.
type Commit struct {
	ID    string
	Title string
	// Message is what follows the title, and can be empty.
	Message string
	Date    time.Time
	// Authors are names of users of the Hub.
	Authors []string
}

// UnmarshalJSON reads a commit as the Hub sends it. It refuses only one without an id.
func (t *Commit) UnmarshalJSON(b []byte) error {
	*t = Commit{}
	var authors []struct {
		User string `json:"user"`
	}
	err := readFields(b, map[string]func(json.RawMessage){
		"id": into(&t.ID), "title": into(&t.Title), "message": into(&t.Message), "date": into(&t.Date), "authors": into(&authors),
	})
	if err == nil && t.ID == "" {
		err = errors.New("a commit has no id")
	}
	for _, author := range authors {
		if author.User != "" {
			t.Authors = append(t.Authors, author.User)
		}
	}
	return err
}

// Commits yields the commits of a revision (a branch, a tag, another ref or a commit), newest first, page by page. The last value has an
// error where a page could not be read.
func (c *Client) Commits(ctx context.Context, id RepoID, revision string) iter.Seq2[Commit, error] {
	op := fmt.Sprintf("list the commits of %s at %s", line(id.String()), line(revision))
	path, err := id.path()
	if err != nil {
		return failing[Commit](&Error{Op: op, Err: err, endpoint: c.Endpoint()})
	}
	return pages[Commit](ctx, c, op, path+"/commits/"+url.PathEscape(revision), nil, nil)
}

// Entry is a file or folder of a repo at a commit.
type Entry struct {
	// Type is file or directory. The Hub may have others.
	Type string `json:"type"`
	// Path is relative to the repo's root, without a slash at either end.
	Path string `json:"path"`
	// Size is that of the file's content in bytes, 0 for a folder.
	Size int64 `json:"size"`
	// OID is git's id of the content: two entries with the same OID have the same content. For a file in LFS or Xet it is that of the
	// pointer, which changes with the file.
	OID string `json:"oid"`
}

// IsFolder reports whether the entry is a folder.
func (e Entry) IsFolder() bool { return e.Type == "directory" }

// Tree yields the files and folders in a folder of a repo ("" for its root) at a revision, and with recursive those in all folders below
// it too. They come page by page and in no guaranteed order. The last value has an error where a page could not be read.
func (c *Client) Tree(ctx context.Context, id RepoID, revision, folder string, recursive bool) iter.Seq2[Entry, error] {
	return c.tree(ctx, id, revision, folder, recursive, nil)
}

// tree is Tree, with a function that is called before each request.
func (c *Client) tree(ctx context.Context, id RepoID, revision, folder string, recursive bool, count func() error) iter.Seq2[Entry, error] {
	op := fmt.Sprintf("list the files of %s at %s", line(id.String()), line(revision))
	path, err := id.path()
	if err != nil {
		return failing[Entry](&Error{Op: op, Err: err, endpoint: c.Endpoint()})
	}
	path += "/tree/" + url.PathEscape(revision)
	if folder != "" {
		path += "/" + url.PathEscape(folder) // slashes too, as huggingface_hub does
	}
	query := url.Values{}
	if recursive {
		query.Set("recursive", "true")
	}
	return pages[Entry](ctx, c, op, path, query, count)
}

// failing yields one error and no value.
func failing[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}

// ReposOf yields the repos of a type that a user or an organization owns, and that the token may see, page by page. The last value has an error
// where a page could not be read. The request is that of huggingface_hub's list_models, list_datasets and list_spaces; for buckets there is
// [Client.BucketsOf].
func (c *Client) ReposOf(ctx context.Context, owner string, kind payload.RepoType) iter.Seq2[Repo, error] {
	op := fmt.Sprintf("list the %ss of %s", kind, line(owner))
	fields, ok := repoFields[kind]
	if !ok {
		return failing[Repo](&Error{Op: op, Err: fmt.Errorf("unknown type %q; want model, dataset or space", string(kind)), endpoint: c.Endpoint()})
	}
	return pages[Repo](ctx, c, op, "/api/"+repoKinds[kind], url.Values{"author": {owner}, "expand": fields}, nil)
}
