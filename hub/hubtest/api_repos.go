package hubtest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/payload"
)

var kinds = map[string]payload.RepoType{"models": payload.Model, "datasets": payload.Dataset, "spaces": payload.Space}

func repoRoutes(handle func(pattern string, answer answerer)) {
	for segment, kind := range kinds {
		prefix := "/api/" + segment + "/"
		handle("GET /api/"+segment, locked(func(c *call) (any, error) { return c.listRepos(kind), nil }))
		handle("GET "+prefix, locked(func(c *call) (any, error) { return c.getRepo(prefix, kind) }))
		handle("POST "+prefix, func(c *call) (any, error) { return c.discuss(prefix, kind) })
	}
}

// repo finds the repo that the path names, and returns the unescaped elements of the path after it. It is called with the lock held.
func (c *call) repo(prefix string, kind payload.RepoType) (*Repo, []string, error) {
	elements := strings.Split(strings.TrimPrefix(c.r.URL.EscapedPath(), prefix), "/")
	for n, e := range elements {
		plain, err := url.PathUnescape(e)
		if err != nil {
			return nil, nil, badRequest(err)
		}
		elements[n] = plain
	}
	name, rest := elements[0], elements[1:]
	// Old repos have no owner in their name.
	if _, there := c.hub.shelf.repos[place{kind, name}]; !there && len(rest) > 0 {
		name, rest = name+"/"+rest[0], rest[1:]
	}
	at := place{kind, name}
	if now, moved := c.hub.shelf.moved[at]; moved {
		if r := c.hub.shelf.repos[now]; r == nil || !c.sees(r.private, now.name) {
			return nil, nil, c.hidden()
		}
		after := ""
		for _, e := range rest {
			after += "/" + url.PathEscape(e)
		}
		return nil, nil, &redirect{prefix + now.name + after}
	}
	r := c.hub.shelf.repos[at]
	if r == nil || !c.sees(r.private, name) {
		return nil, nil, c.hidden()
	}
	return r, rest, nil
}

// sees reports whether the caller may see a repo of that name.
func (c *call) sees(private bool, name string) bool {
	return !private || c.token.may(ReadContent) && c.hub.Accounts.reads(c.user(), ownerOf(name))
}

// hidden is the answer for a repo that is not there or not for the caller to see.
func (c *call) hidden() error {
	if c.token == nil && c.hub.options.API.HiddenIs401 {
		return &apiError{status: http.StatusUnauthorized, code: "RepoNotFound", messages: []string{"Invalid username or password."}}
	}
	return notFound("RepoNotFound", "Repository not found")
}

// redirect is an answer that leads to another path.
type redirect struct{ path string }

func (r *redirect) Error() string { return "it is at " + r.path + " now" }

func (c *call) getRepo(prefix string, kind payload.RepoType) (any, error) {
	r, rest, err := c.repo(prefix, kind)
	switch {
	case err != nil:
		return nil, err
	case len(rest) == 0:
		return c.repoFields(r, r.refs[mainRef], true), nil
	case len(rest) == 2 && rest[0] == "revision":
		at, err := c.revision(r, rest[1])
		if err != nil {
			return nil, err
		}
		return c.repoFields(r, at, true), nil
	case len(rest) == 1 && rest[0] == "refs":
		return refsOf(r, isTrue(c.r.URL.Query().Get("include_prs"))), nil
	case len(rest) >= 2 && rest[0] == "tree":
		return c.treePage(r, rest[1], strings.Join(rest[2:], "/"))
	case len(rest) == 2 && rest[0] == "commits":
		return c.commitPage(r, rest[1])
	case len(rest) == 2 && rest[0] == "discussions":
		d, err := r.numbered(rest[1])
		if err != nil {
			return nil, err
		}
		return d.fields(), nil
	}
	return nil, noPage
}

// isTrue reads a flag of a query: Python's clients send true, True or 1.
func isTrue(value string) bool {
	on, err := strconv.ParseBool(value)
	return err == nil && on
}

// listRepos answers the repos of a kind that the caller may see: those of an author, or those whose names contain a text. It answers all
// on one page.
func (c *call) listRepos(kind payload.RepoType) any {
	query, all := c.r.URL.Query(), []any{}
	for _, r := range c.hub.shelf.sorted() {
		if r.kind == kind && c.sees(r.private, r.name) && strings.Contains(r.name, query.Get("search")) &&
			(query.Get("author") == "" || query.Get("author") == ownerOf(r.name)) {
			all = append(all, c.repoFields(r, r.refs[mainRef], false))
		}
	}
	return all
}

// repoFields answers all fields of a repo at a commit, or those that expand names. files says whether they have the names of its files.
func (c *call) repoFields(r *Repo, at *commit, files bool) any {
	all := map[string]any{
		"_id": r.id, "id": r.name, "author": ownerOf(r.name), "sha": at.id, "private": r.private, "gated": false,
		"disabled": false, "createdAt": stamp(r.created), "lastModified": stamp(r.modified), "likes": 0, "tags": []string{},
	}
	switch r.kind {
	case payload.Model:
		all["modelId"] = r.name
		all["downloads"] = 0
	case payload.Dataset:
		all["downloads"] = 0
	case payload.Space:
		all["subdomain"] = subdomain(r.name)
	}
	query := c.r.URL.Query()
	wanted := append(query["expand"], query["expand[]"]...)
	if files && (len(wanted) == 0 || slices.Contains(wanted, "siblings")) {
		siblings := []map[string]string{}
		at.tree.list("", true, 0, at.tree.all, func(path string, e entry) {
			if e.dir == nil {
				siblings = append(siblings, map[string]string{"rfilename": path})
			}
		})
		all["siblings"] = siblings
	}
	if len(wanted) > 0 {
		maps.DeleteFunc(all, func(name string, _ any) bool {
			return name != "_id" && name != "id" && !slices.Contains(wanted, name)
		})
	}
	return all
}

func refsOf(r *Repo, withPulls bool) any {
	type refAnswer struct {
		Name   string `json:"name"`
		Ref    string `json:"ref"`
		Target string `json:"targetCommit"`
	}
	groups := map[string][]refAnswer{"branches": {}, "converts": {}, "tags": {}}
	under := map[string]string{"branches": "refs/heads/", "converts": "refs/convert/", "tags": "refs/tags/"}
	if withPulls {
		groups["pullRequests"], under["pullRequests"] = []refAnswer{}, "refs/pr/"
	}
	for _, ref := range sortedRefs(r.refs) {
		for group, prefix := range under {
			if name, in := strings.CutPrefix(ref.Name, prefix); in {
				groups[group] = append(groups[group], refAnswer{name, ref.Name, ref.Commit})
			}
		}
	}
	return groups
}

func (c *call) revision(r *Repo, revision string) (*commit, error) {
	if at := r.resolve(revision); at != nil {
		return at, nil
	}
	return nil, notFound("RevisionNotFound", "Invalid rev id: "+revision)
}

func (c *call) treePage(r *Repo, revision, path string) (any, error) {
	at, err := c.revision(r, revision)
	if err != nil {
		return nil, err
	}
	e, found := at.tree.at(path)
	if !found || e.dir == nil {
		return nil, notFound("EntryNotFound", fmt.Sprintf("%s does not exist on %q", path, revision))
	}
	type lfs struct {
		OID     string `json:"oid"`
		Size    int64  `json:"size"`
		Pointer int    `json:"pointerSize"`
	}
	type item struct {
		Type    string `json:"type"`
		OID     string `json:"oid"`
		Size    int64  `json:"size"`
		Path    string `json:"path"`
		LFS     *lfs   `json:"lfs,omitzero"`
		XetHash string `json:"xetHash,omitzero"`
	}
	p, first, err := c.numbered(1000)
	if err != nil {
		return nil, err
	}
	if path != "" {
		path += "/"
	}
	items := make([]item, 0, min(p.size, e.dir.all))
	more := false
	e.dir.list(path, isTrue(c.r.URL.Query().Get("recursive")), first, p.size+1, func(at string, e entry) {
		if len(items) == p.size {
			more = true
			return
		}
		i := item{Type: "directory", Path: at}
		if e.dir != nil {
			i.OID = e.dir.oid.String()
		} else {
			i.Type, i.OID, i.Size = "file", e.file.oid.String(), e.file.size
			if l := e.file.large; l != nil {
				i.LFS, i.XetHash = &lfs{l.sha256, i.Size, l.pointer}, l.sha256
			}
		}
		items = append(items, i)
	})
	if more {
		p.linkNext(strconv.Itoa(first + p.size))
	}
	return items, nil
}

func (c *call) commitPage(r *Repo, revision string) (any, error) {
	at, err := c.revision(r, revision)
	if err != nil {
		return nil, err
	}
	type author struct {
		User string `json:"user"`
	}
	type item struct {
		ID      string   `json:"id"`
		Title   string   `json:"title"`
		Message string   `json:"message"`
		Authors []author `json:"authors"`
		Date    string   `json:"date"`
	}
	p, first, err := c.numbered(50)
	if err != nil {
		return nil, err
	}
	for range first {
		if at != nil {
			at = at.parent
		}
	}
	items := []item{}
	for ; at != nil && len(items) < p.size; at = at.parent {
		i := item{ID: at.id, Title: at.title, Message: at.message, Date: stamp(at.date)}
		for _, name := range at.authors {
			i.Authors = append(i.Authors, author{name})
		}
		items = append(items, i)
	}
	if at != nil {
		p.linkNext(strconv.Itoa(first + p.size))
	}
	return items, nil
}

// page is the part of a list that a request asks for.
type page struct {
	call  *call
	after string // the cursor, empty on the first page
	size  int
}

// page reads limit and the cursor that linkNext has made.
func (c *call) page(size int) (page, error) {
	p := page{call: c, size: size}
	if c.hub.options.PageSize > 0 {
		p.size = c.hub.options.PageSize
	}
	query := c.r.URL.Query()
	if limit := query.Get("limit"); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 {
			return p, badRequest(fmt.Errorf("the limit %q is no number above 0", limit))
		}
		p.size = min(n, p.size)
	}
	if cursor := query.Get("cursor"); cursor != "" {
		b, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil {
			return p, badRequest(fmt.Errorf("the cursor %q is none of this list", cursor))
		}
		p.after = string(b)
	}
	return p, nil
}

// numbered is page for a list whose cursors are numbers of items.
func (c *call) numbered(size int) (p page, first int, err error) {
	if p, err = c.page(size); err == nil && p.after != "" {
		if first, err = strconv.Atoi(p.after); err != nil || first < 0 {
			err = badRequest(fmt.Errorf("the cursor %q is none of this list", p.after))
		}
	}
	return p, first, err
}

// linkNext leads to the page after a cursor by the header Link, with an absolute address as on the Hub.
func (p page) linkNext(after string) {
	next := *p.call.r.URL
	query := next.Query()
	query.Set("cursor", base64.RawURLEncoding.EncodeToString([]byte(after)))
	next.Scheme, next.Host, next.RawQuery = "http", p.call.r.Host, query.Encode()
	p.call.w.Header().Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", &next))
}
