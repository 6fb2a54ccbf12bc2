package hub_test

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// A forest is a Hub with one model, me/m, and its commits: from path to content.
type forest struct {
	*stub
	commits map[string]map[string]string
	history map[string][]string // commits from a commit on, newest first

	mu     sync.Mutex
	listed map[string][]any // by request
}

func newForest(t *testing.T) *forest {
	f := &forest{commits: make(map[string]map[string]string), history: make(map[string][]string), listed: make(map[string][]any)}
	f.stub = newStub(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/api/models/me/m/"), "/", 3)
		folder := ""
		if len(parts) == 3 {
			folder = parts[2] + "/"
		}
		var list []any
		switch files, ok := f.commits[parts[1]]; {
		case !ok:
			w.Header().Set("X-Error-Code", "RevisionNotFound")
			w.WriteHeader(http.StatusNotFound)
			return
		case parts[0] == "commits":
			for _, id := range f.history[parts[1]] {
				list = append(list, map[string]any{"id": id, "title": "t", "date": "2026-11-27T10:00:00.000Z", "authors": []any{map[string]any{"user": "u" + id}}})
			}
		default:
			recursive := r.URL.Query().Get("recursive") == "true"
			key := fmt.Sprint(r.URL.Path, recursive)
			f.mu.Lock()
			defer f.mu.Unlock()
			if list, ok = f.listed[key]; !ok {
				list = entries(files, folder, recursive)
				f.listed[key] = list
			}
		}
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		to := min(from+1000, len(list))
		if to < len(list) {
			query := r.URL.Query()
			query.Set("cursor", strconv.Itoa(to))
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, f.URL, r.URL.EscapedPath(), query.Encode()))
		}
		json.NewEncoder(w).Encode(list[from:to])
	})
	return f
}

// entries lists a folder as the Hub does.
func entries(files map[string]string, folder string, recursive bool) []any {
	inside := make(map[string][]string) // the lines of each folder's content
	list := make([]any, 0)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		rest, ok := strings.CutPrefix(path, folder)
		if !ok {
			continue
		}
		for i, c := range rest {
			if c == '/' && (recursive || !strings.Contains(rest[:i], "/")) {
				inside[folder+rest[:i]] = append(inside[folder+rest[:i]], rest[i:]+files[path])
			}
		}
		if recursive || !strings.Contains(rest, "/") {
			list = append(list, map[string]any{"type": "file", "path": path, "size": 1, "oid": oid(files[path]), "lfs": map[string]any{"oid": "x"}})
		}
	}
	for path, lines := range inside {
		list = append(list, map[string]any{"type": "directory", "path": path, "size": 0, "oid": oid(strings.Join(lines, "\n"))})
	}
	return list
}

func oid(content string) string {
	sum := sha1.Sum([]byte(content))
	return hex.EncodeToString(sum[:])
}

// push is a payload of a push that moved a ref of me/m; "" stands for null.
func push(t testing.TB, ref, old, new, head string) *payload.Payload {
	t.Helper()
	null := func(sha string) any {
		if sha == "" {
			return nil
		}
		return sha
	}
	body, err := json.Marshal(map[string]any{
		"event":       map[string]any{"action": "update", "scope": "repo.content"},
		"repo":        map[string]any{"type": "model", "name": "me/m", "headSha": head},
		"updatedRefs": []any{map[string]any{"ref": ref, "oldSha": null(old), "newSha": null(new)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(body))
}

func parse(t testing.TB, body string) *payload.Payload {
	t.Helper()
	p, err := payload.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// changed writes changes for comparison, sorted.
func changed(c hub.Changes) []string {
	list := []string{}
	for _, f := range c.Files {
		list = append(list, string(f.Action)+" "+f.Path)
	}
	slices.Sort(list)
	return list
}

// expected is what differs between two commits.
func expected(old, new map[string]string) []string {
	list := []string{}
	for path, content := range new {
		switch was, ok := old[path]; {
		case !ok:
			list = append(list, "add "+path)
		case was != content:
			list = append(list, "update "+path)
		}
	}
	for path := range old {
		if _, ok := new[path]; !ok {
			list = append(list, "delete "+path)
		}
	}
	slices.Sort(list)
	return list
}

// randomFiles changes some files of a commit.
func randomFiles(r *rand.Rand, old map[string]string) map[string]string {
	files := maps.Clone(old)
	for range r.IntN(30) {
		depth := 1 + r.IntN(3)
		var path []string
		for range depth {
			path = append(path, string(rune('a'+r.IntN(8))))
		}
		name := strings.Join(path, "/")
		if r.IntN(3) == 0 {
			delete(files, name)
			continue
		}
		// A path is a file or a folder, never both: whichever is written last stays.
		for other := range files {
			if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
				delete(files, other)
			}
		}
		files[name] = strconv.Itoa(r.IntN(5))
	}
	return files
}

func TestChangedFilesAsComparedInFull(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	c := f.client(t, nil)
	r := rand.New(rand.NewPCG(1, 2))
	files := randomFiles(r, map[string]string{})
	for n := range 60 {
		old, new := strconv.Itoa(n), strconv.Itoa(n+1)
		f.commits[old] = files
		files = randomFiles(r, files)
		f.commits[new] = files
		got, err := c.ChangedFiles(t.Context(), push(t, "refs/heads/main", old, new, new))
		if err != nil {
			t.Fatal(err)
		}
		if want := expected(f.commits[old], files); got.Truncated || !reflect.DeepEqual(changed(got), want) {
			t.Fatalf("commit %d: got %q, want %q", n, changed(got), want)
		}
	}
}

func TestChangedFilesByRequests(t *testing.T) {
	t.Parallel()
	wide := make(map[string]string) // 20,000 files in 200 folders of 100
	for i := range 200 {
		for j := range 100 {
			wide[fmt.Sprintf("data/%03d/%02d.txt", i, j)] = "1"
		}
	}
	one := maps.Clone(wide)
	one["data/007/07.txt"] = "2"
	all := make(map[string]string)
	for path := range wide {
		all[path] = "3"
	}
	some := maps.Clone(wide) // six folders: fewer than pages
	for i := range 6 {
		some[fmt.Sprintf("data/%03d/00.txt", i)] = "4"
	}
	for _, test := range []struct {
		name     string
		new      map[string]string
		requests int
	}{
		{"one file: root, data and its folder, in both commits", one, 6},
		{"all files: root and data, then 20 pages of each commit with all below", all, 4 + 2*21},
		{"six folders: a listing with all below is given up after six pages", some, 4 + 6 + 12},
		{"nothing", wide, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newForest(t)
			f.commits["old"], f.commits["new"] = wide, test.new
			c := f.client(t, nil)
			got, err := c.ChangedFiles(t.Context(), push(t, "refs/heads/main", "old", "new", "new"))
			if err != nil {
				t.Fatal(err)
			}
			if want := expected(wide, test.new); !reflect.DeepEqual(changed(got), want) {
				t.Errorf("got %d files, want %d", len(got.Files), len(want))
			}
			if n := len(f.seen()); n != test.requests {
				t.Errorf("it took %d requests, want %d", n, test.requests)
			}
			// The next push starts from the commit that is known.
			f.commits["next"] = maps.Clone(test.new)
			f.commits["next"]["README.md"] = "5"
			before := len(f.seen())
			if got, err = c.ChangedFiles(t.Context(), push(t, "refs/heads/main", "new", "next", "next")); err != nil || !slices.Equal(changed(got), []string{"add README.md"}) {
				t.Errorf("the next push: %q, %v", changed(got), err)
			}
			if n := len(f.seen()) - before; n != 1 {
				t.Errorf("the next push took %d requests, want 1", n)
			}
		})
	}
}

func TestChangedFilesOfRefs(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	f.commits["main"] = map[string]string{"a": "1", "d/b": "1"}
	f.commits["side"] = map[string]string{"a": "1", "d/b": "1", "d/new": "1"}
	c := f.client(t, nil)
	for _, test := range []struct {
		name      string
		p         *payload.Payload
		want      []string
		truncated bool
	}{
		{"a new branch is compared with main", push(t, "refs/heads/side", "", "side", "main"), []string{"add d/new"}, false},
		{"a new tag of main", push(t, "refs/tags/v1", "", "main", "main"), nil, false},
		{"a new main", push(t, "refs/heads/main", "", "main", "main"), []string{"add a", "add d/b"}, false},
		{"a new branch of a repo whose main is not told", push(t, "refs/heads/side", "", "main", ""), []string{"add a", "add d/b"}, false},
		{"a deleted branch", push(t, "refs/heads/side", "side", "", "main"), nil, false},
		{"an old commit that is gone", push(t, "refs/heads/main", "gone", "main", "main"), nil, true},
		{"a commit that was left out", parse(t, `{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "model", "name": "me/m"},
			"updatedRefs": [{"ref": "refs/heads/main", "newSha": "main"}]}`), nil, true},
		{"refs that were left out", parse(t, `{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "model", "name": "me/m"}}`), nil, true},
		{"a discussion", parse(t, `{"event": {"action": "create", "scope": "discussion"}, "repo": {"type": "model", "name": "me/m"}}`), nil, false},
		{"a bucket", parse(t, `{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "bucket", "name": "me/b"},
			"updatedFiles": [{"path": "x", "action": "add"}, {"path": "y", "action": "delete"}]}`), []string{"add x", "delete y"}, false},
		{"a bucket's cut list", parse(t, `{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "bucket", "name": "me/b"},
			"updatedFiles": [{"path": "x", "action": "add"}], "updatedFilesTruncated": true}`), []string{"add x"}, true},
	} {
		got, err := c.ChangedFiles(t.Context(), test.p)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if list := changed(got); !slices.Equal(list, test.want) || got.Truncated != test.truncated {
			t.Errorf("%s: got %q, truncated %t", test.name, list, got.Truncated)
		}
	}
}

// An error that asking again may fix is an error, not a list that was cut.
func TestChangedFilesUnreachable(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if got, err := s.client(t, nil).ChangedFiles(t.Context(), push(t, "refs/heads/main", "1", "2", "2")); err == nil {
		t.Errorf("got %+v", got)
	}
	// A folder that has itself, or one elsewhere, in it.
	s = newStub(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `[{"type": "directory", "path": "d", "oid": "%d"}, {"type": "directory", "path": "e/f", "oid": "%d"}]`, n, n)
	})
	if _, err := s.client(t, nil).ChangedFiles(t.Context(), push(t, "refs/heads/main", "1", "2", "2")); err != nil || len(s.seen()) > 20 {
		t.Errorf("a folder in itself: %v after %d requests", err, len(s.seen()))
	}
}

func TestChangedFilesBounds(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	f.commits["new"] = make(map[string]string)
	for i := range 100_001 {
		f.commits["new"][fmt.Sprintf("%06d", i)] = "1"
	}
	got, err := f.client(t, nil).ChangedFiles(t.Context(), push(t, "refs/heads/main", "", "new", "new"))
	if err != nil || len(got.Files) != 100_000 || !got.Truncated {
		t.Errorf("of 100,001 files there are %d, truncated %t, %v", len(got.Files), got.Truncated, err)
	}
}

func TestNewCommits(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	for id, history := range map[string][]string{
		"4": {"4", "3", "2", "1"}, "3": {"3", "2", "1"}, "2": {"2", "1"}, "1": {"1"},
		"forced": {"forced", "x", "2", "1"}, "main": {"main", "3", "2", "1"},
	} {
		f.history[id], f.commits[id] = history, map[string]string{}
	}
	c := f.client(t, nil)
	for _, test := range []struct {
		name          string
		ref, old, new string
		head          string
		want          []string
		truncated     bool
	}{
		{"a push", "refs/heads/main", "2", "4", "4", []string{"4", "3"}, false},
		{"a force push", "refs/heads/main", "4", "forced", "forced", []string{"forced", "x"}, false},
		{"a branch set back", "refs/heads/main", "4", "2", "2", nil, false},
		{"a new branch", "refs/heads/side", "", "forced", "main", []string{"forced", "x"}, false},
		{"a new main", "refs/heads/main", "", "2", "2", []string{"2", "1"}, false},
		{"a deleted branch", "refs/heads/side", "4", "", "main", nil, false},
		{"a commit that is gone", "refs/heads/main", "gone", "4", "4", nil, true},
	} {
		commits, truncated, err := c.NewCommits(t.Context(), push(t, test.ref, test.old, test.new, test.head))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		var got []string
		for _, commit := range commits {
			if want := []string{"u" + commit.ID}; !slices.Equal(commit.Authors, want) || commit.Date.IsZero() {
				t.Errorf("%s: got %+v", test.name, commit)
			}
			got = append(got, commit.ID)
		}
		if !slices.Equal(got, test.want) || truncated != test.truncated {
			t.Errorf("%s: got %q, truncated %t", test.name, got, truncated)
		}
	}
}

// A push to a repo of 100,000 files: one file of it, or all. Allocations and requests are those of a client that has seen nothing before.
func BenchmarkChangedFiles(b *testing.B) {
	server := hubtest.NewServer(hubtest.Options{})
	b.Cleanup(server.Close)
	repo, err := server.CreateRepo(payload.Model, "me/m", hubtest.RepoOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var files []hubtest.File
	for i := range 100_000 {
		files = append(files, hubtest.File{Path: fmt.Sprintf("data/%03d/%03d.txt", i/200, i%200), Content: []byte("1")})
	}
	commit := func(files ...hubtest.File) string {
		id, err := repo.Push(hubtest.Commit{Files: files})
		if err != nil {
			b.Fatal(err)
		}
		return id
	}
	first := commit(files...)
	second := commit(hubtest.File{Path: "data/007/007.txt", Content: []byte("2")})
	for i := range files {
		files[i].Content = []byte("3")
	}
	third := commit(files...)
	for _, test := range []struct {
		name     string
		old, new string
		changed  int
	}{{"one file", first, second, 1}, {"all files", second, third, 100_000}} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			requests := server.Requests.Count("", "")
			for b.Loop() {
				c, err := hub.New(hub.Config{Endpoint: server.URL, LookupEnv: lookup(nil)})
				if err != nil {
					b.Fatal(err)
				}
				p := push(b, "refs/heads/main", test.old, test.new, test.new)
				if got, err := c.ChangedFiles(b.Context(), p); err != nil || len(got.Files) != test.changed {
					b.Fatalf("%d files changed, %v", len(got.Files), err)
				}
			}
			b.ReportMetric(float64(server.Requests.Count("", "")-requests)/float64(b.N), "requests/op")
		})
	}
}
