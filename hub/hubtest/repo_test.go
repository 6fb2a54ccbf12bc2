package hubtest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

type treeItem struct {
	Type, OID, Path, XetHash string
	Size                     int64
	LFS                      *struct {
		OID         string
		Size        int64
		PointerSize int
	}
}

// pages returns the items of all pages, and the number of pages.
func pages[T any](c client, path string) (all []T, count int) {
	c.t.Helper()
	for path != "" {
		resp, text, err := c.send("GET", path, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			c.t.Fatalf("%s: %v, %v: %s", path, resp, err, text)
		}
		all = append(all, decoded[[]T](c.t, text)...)
		count++
		path = ""
		if next, is := strings.CutSuffix(resp.Header.Get("Link"), `>; rel="next"`); is {
			path, is = strings.CutPrefix(next, "<"+c.url)
			if !is {
				c.t.Fatalf("the next page is at %s", next)
			}
		}
	}
	return all, count
}

// The names are those that git itself gives the same files.
func TestTree(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	r := must(s.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{}))
	first := must(r.Push(hubtest.Commit{Files: []hubtest.File{
		{Path: "a/z", Content: []byte("old")}, {Path: "a.txt", Content: []byte("x")}, {Path: "a-b", Content: []byte("y")},
		{Path: "gone/deep/er", Content: []byte("1")}, {Path: "a/gone", Content: []byte("2")},
	}}))
	must(r.Push(hubtest.Commit{Ref: "refs/pr/3", Delete: []string{"gone", "a/gone"}, Files: []hubtest.File{
		{Path: "a/z", Content: []byte("z")}, {Path: "a/b/c.txt", Content: []byte("hello")},
	}}))
	all, _ := pages[treeItem](c, "/api/datasets/me/data/tree/refs%2Fpr%2F3?recursive=True")
	want := []treeItem{
		{Type: "file", OID: "4edd5acb13dba6a9f44a206fa1b6a1789fbcc50a", Path: ".gitattributes", Size: 42},
		{Type: "file", OID: "e25f1814e51579d5f55c0f1fe0135ddb28a47f4a", Path: "a-b", Size: 1},
		{Type: "file", OID: "c1b0730e0133447badcfd47fd144e254807b06e1", Path: "a.txt", Size: 1},
		{Type: "directory", OID: "efbc136f2c82cc9dca5aedd424c47f6c0d4de808", Path: "a"},
		{Type: "directory", OID: "0004d4b9b2f0d667f93d3c99d72d264430db680e", Path: "a/b"},
		{Type: "file", OID: "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", Path: "a/b/c.txt", Size: 5},
		{Type: "file", OID: "fa7af8bf5fdd704f73beb3adc5612682a98e1af5", Path: "a/z", Size: 1},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if root, _ := pages[treeItem](c, "/api/datasets/me/data/tree/refs%2Fpr%2F3?recursive=false"); !cmp.Equal(root, want[:4]) {
		t.Errorf("not recursive: %+v", root)
	}
	if below, _ := pages[treeItem](c, "/api/datasets/me/data/tree/refs%2Fpr%2F3/a%2Fb"); !cmp.Equal(below, want[5:6]) {
		t.Errorf("below a/b: %+v", below)
	}
	if below, _ := pages[treeItem](c, "/api/datasets/me/data/tree/refs%2Fpr%2F3/a/b"); !cmp.Equal(below, want[5:6]) {
		t.Errorf("below a/b, without encoding: %+v", below)
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		got, count := pages[treeItem](c, fmt.Sprintf("/api/datasets/me/data/tree/refs%%2Fpr%%2F3?recursive=1&limit=%d", limit))
		if !cmp.Equal(got, want) || count != (len(want)+limit-1)/limit {
			t.Errorf("%d pages of %d: %+v", count, limit, got)
		}
	}
	// The older commit is as it was.
	if old, _ := pages[treeItem](c, "/api/datasets/me/data/tree/"+first+"/gone?recursive=1"); len(old) != 2 || old[1].Path != "gone/deep/er" {
		t.Errorf("the older commit has %+v", old)
	}
	for path, code := range map[string]string{
		"/tree/refs/pr/3": "RevisionNotFound", "/tree/none": "RevisionNotFound", "/commits/none": "RevisionNotFound",
		"/tree/main/none": "EntryNotFound", "/tree/main/a.txt": "EntryNotFound",
	} {
		if header, _ := c.refused(404, "GET", "/api/datasets/me/data"+path, nil); header.Get("X-Error-Code") != code {
			t.Errorf("%s: X-Error-Code %q; want %s", path, header.Get("X-Error-Code"), code)
		}
	}
	c.refused(400, "GET", "/api/datasets/me/data/tree/main?cursor=x", nil)
	for _, bad := range []hubtest.Commit{
		{Delete: []string{"none"}}, {Delete: []string{"a/none"}}, {Files: []hubtest.File{{Path: "/a"}}}, {Files: []hubtest.File{{Path: "a/../b"}}},
	} {
		if _, err := r.Push(bad); err == nil {
			t.Errorf("%+v was pushed", bad)
		}
	}
	if r.Head() != first {
		t.Error("a push that failed has moved main")
	}
}

func TestLFS(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	r := must(s.CreateRepo(payload.Model, "gpt2", hubtest.RepoOptions{}))
	must(r.Push(hubtest.Commit{Files: []hubtest.File{{Path: "model.bin", Content: []byte("hello"), LFS: true}}}))
	all, _ := pages[treeItem](c, "/api/models/gpt2/tree/main")
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	if got := all[1]; got.Size != 5 || got.LFS.OID != sum || got.LFS.Size != 5 || got.LFS.PointerSize != 126 || len(got.XetHash) != 64 ||
		got.OID == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0" {
		t.Errorf("%+v, %+v", got, got.LFS)
	}
}

func TestRefsAndCommits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 9, 0, 0, 123e6, time.UTC)
	s, c := newServer(t, hubtest.Options{Now: func() time.Time { return now }})
	r := must(s.CreateRepo(payload.Space, "me/app", hubtest.RepoOptions{}))
	first := r.Head()
	last := ""
	for n := range 5 {
		last = must(r.Push(hubtest.Commit{Title: fmt.Sprint("Push ", n), Message: "and why", Authors: []string{"jo", "me"}}))
	}
	check(t, r.CreateBranch("dev/x", first))
	check(t, r.CreateTag("v1", ""))
	check(t, r.SetRefs(hubtest.Ref{Name: "refs/convert/parquet", Commit: first}))
	must(r.Discuss(hubtest.DiscussionOptions{Title: "Pull", PullRequest: true}))
	type refs = map[string][]map[string]string
	want := refs{
		"branches": {{"name": "dev/x", "ref": "refs/heads/dev/x", "targetCommit": first}, {"name": "main", "ref": "refs/heads/main", "targetCommit": last}},
		"converts": {{"name": "parquet", "ref": "refs/convert/parquet", "targetCommit": first}},
		"tags":     {{"name": "v1", "ref": "refs/tags/v1", "targetCommit": last}},
	}
	if diff := cmp.Diff(want, ok[refs](c, "GET", "/api/spaces/me/app/refs", nil)); diff != "" {
		t.Error(diff)
	}
	want["pullRequests"] = []map[string]string{{"name": "1", "ref": "refs/pr/1", "targetCommit": last}}
	if diff := cmp.Diff(want, ok[refs](c, "GET", "/api/spaces/me/app/refs?include_prs=1", nil)); diff != "" {
		t.Error(diff)
	}
	for _, revision := range []string{"main", last, "v1", "refs%2Fpr%2F1", "refs%2Fheads%2Fmain"} {
		all, count := pages[object](c, "/api/spaces/me/app/commits/"+revision+"?limit=4")
		if len(all) != 6 || count != 2 || all[5]["id"] != first || all[5]["title"] != "initial commit" {
			t.Errorf("commits of %s: %d pages of %v", revision, count, all)
		}
		if diff := cmp.Diff(object{"id": last, "title": "Push 4", "message": "and why", "date": "2026-11-27T09:00:00.000Z",
			"authors": []any{object{"user": "jo"}, object{"user": "me"}}}, all[0]); diff != "" {
			t.Error(diff)
		}
	}
	check(t, r.DeleteBranch("dev/x"))
	check(t, r.DeleteTag("v1"))
	if names := r.Refs(); len(names) != 3 || names[0].Name != "refs/convert/parquet" || names[1].Name != "refs/heads/main" {
		t.Errorf("refs %v", names)
	}
	for what, err := range map[string]error{"main": r.DeleteBranch("main"), "none": r.DeleteTag("none"), "nowhere": r.CreateTag("v2", "nowhere")} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if got := ok[object](c, "GET", "/api/spaces/me/app?expand=sha&expand[]=private", nil); !cmp.Equal(got, object{
		"_id": r.ID(), "id": "me/app", "sha": last, "private": false}) {
		t.Errorf("chosen fields: %v", got)
	}
	if got := ok[object](c, "GET", "/api/spaces/me%2Fapp", nil); got["lastModified"] != "2026-11-27T09:00:00.123Z" || got["author"] != "me" ||
		!cmp.Equal(got["siblings"].([]any)[0], any(object{"rfilename": ".gitattributes"})) {
		t.Errorf("all fields: %v", got)
	}
}

func TestWhoSeesARepo(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	s.Accounts.AddOrg("acme", "me")
	r := must(s.CreateRepo(payload.Model, "acme/old", hubtest.RepoOptions{Private: true}))
	nobody := client{t, c.url, ""}
	stranger := client{t, c.url, s.Accounts.AddToken(hubtest.Token{User: "stranger"})}
	blind := client{t, c.url, s.Accounts.AddToken(hubtest.Token{Permissions: []string{hubtest.WriteWebhooks}})}
	ok[object](c, "GET", "/api/models/acme/old", nil)
	for _, other := range []client{nobody, stranger, blind} {
		other.refused(404, "GET", "/api/models/acme/old", nil)
	}
	check(t, r.SetPrivate(false))
	ok[object](nobody, "GET", "/api/models/acme/old", nil)

	check(t, r.Move("me/new"))
	if got := ok[object](nobody, "GET", "/api/models/acme/old", nil); got["id"] != "me/new" || got["_id"] != r.ID() {
		t.Errorf("after the move: %v", got)
	}
	check(t, r.Move("me/newer"))
	if got, _ := pages[treeItem](nobody, "/api/models/acme/old/tree/refs%2Fheads%2Fmain?limit=1"); len(got) != 1 {
		t.Errorf("after the second move: %v", got)
	}
	check(t, r.SetPrivate(true))
	nobody.refused(404, "GET", "/api/models/acme/old", nil)
	other := must(s.CreateRepo(payload.Model, "acme/old", hubtest.RepoOptions{}))
	if got := ok[object](nobody, "GET", "/api/models/acme/old", nil); got["_id"] != other.ID() {
		t.Errorf("a new repo of the old name: %v", got)
	}
	check(t, r.Delete())
	c.refused(404, "GET", "/api/models/me/newer", nil)
	c.refused(404, "GET", "/api/models/me/new", nil)
	if _, err := s.CreateRepo(payload.Model, "acme/old", hubtest.RepoOptions{}); err == nil {
		t.Error("a name was given twice")
	}

	strict, _ := newServer(t, hubtest.Options{API: hubtest.API{HiddenIs401: true}})
	client{t, strict.URL, ""}.refused(401, "GET", "/api/models/no/where", nil)
}

func TestCommentThroughTheAPI(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	r := must(s.CreateRepo(payload.Model, "me/model", hubtest.RepoOptions{}))
	d := must(r.Discuss(hubtest.DiscussionOptions{Title: "Why?", Comment: "So."}))
	if got := ok[object](c, "POST", "/api/models/me/model/discussions/1/comment", object{"comment": "Because."}); got["newMessage"] == nil {
		t.Errorf("the answer: %v", got)
	}
	comments := d.Comments()
	if len(comments) != 2 || comments[1].Text() != "Because." || comments[1].Author != "me" {
		t.Errorf("comments: %+v", comments)
	}
	check(t, comments[1].Hide())
	if err := comments[1].Edit("again"); err == nil {
		t.Error("a hidden comment was edited")
	}
	c.refused(404, "POST", "/api/models/me/model/discussions/2/comment", object{"comment": "?"})
	client{t, c.url, ""}.refused(401, "POST", "/api/models/me/model/discussions/1/comment", object{"comment": "?"})
}

// A commit to a repo of many files costs what it changes: directories that it leaves alone are shared, and have the same name.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	r := must(s.CreateRepo(payload.Dataset, "me/many", hubtest.RepoOptions{}))
	files := make([]hubtest.File, 0, 20_000)
	for n := range cap(files) {
		files = append(files, hubtest.File{Path: fmt.Sprintf("%02d/%02d/%05d.txt", n/2000, n/100%20, n), Content: fmt.Appendf(nil, "%d", n)})
	}
	before := must(r.Push(hubtest.Commit{Files: files}))
	for n := range 100 {
		must(r.Push(hubtest.Commit{Files: []hubtest.File{{Path: "03/05/06567.txt", Content: fmt.Appendf(nil, "new %d", n)}}}))
	}
	was, _ := pages[treeItem](c, "/api/datasets/me/many/tree/"+before)
	is, _ := pages[treeItem](c, "/api/datasets/me/many/tree/main")
	changed := slices.DeleteFunc(is, func(i treeItem) bool { return slices.Contains(was, i) })
	if len(was) != 11 || len(changed) != 1 || changed[0].Path != "03" {
		t.Errorf("changed: %+v of %d", changed, len(was))
	}
	if all, count := pages[treeItem](c, "/api/datasets/me/many/tree/main?recursive=true"); len(all) != 20_211 || count != 21 {
		t.Errorf("%d items on %d pages", len(all), count)
	}
}
