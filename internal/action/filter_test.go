package action

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

var update = flag.Bool("update", false, "write testdata/filters.txt anew; read the difference before it is committed")

// filters are asked of each payload that the Hub is known to send. What they answer stands in testdata/filters.txt.
var filters = []string{
	`true`,
	`scope("repo")`,
	`scope("repo.content") && action("update")`,
	`scope("repo.config")`,
	`scope("discussion.comment")`,
	`action("create")`,
	`action("update")`,
	`branch("main")`,
	`branch("main") || tag("v*")`,
	`tag("v*")`,
	`tag("**")`,
	`pr()`,
	`convert()`,
	`!convert() && !pr()`,
	`not (scope("discussion") || scope("repo.content"))`,
	`files("**/*.parquet")`,
	`repo.type == "bucket" && files("checkpoints/**", "*.json")`,
	`files("data/**") || files("README.md")`,
	`by("me", "someone")`,
	`!by("bot")`,
	`repo.type == "dataset"`,
	`repo.type in ["dataset", "space"]`,
	`repo.name startsWith "huggingface/"`,
	`repo.private`,
	`discussion.isPullRequest and discussion.status == "open"`,
	`discussion.num > 5`,
	`comment.content contains "@bot"`,
	`any(updatedRefs, .newSha == nil)`,
	`any(updatedFiles, .size > 1000)`,
	`len(updatedRefs) > 1`,
	`updatedConfig.private == false`,
	`movedTo != nil`,
	`webhook.version == 3 ? scope("repo") : false`,
	`nothing.like.that == 1`,
	`event.scope + "/" + event.action matches "^repo.*/(create|delete)$"`,
}

// oneFileHub is a Hub on which each commit is the only one of its history, by me, and has a README.md of its own beside a file that
// is always the same.
func oneFileHub(t *testing.T) func() (Hub, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, rest, isTree := strings.Cut(r.URL.Path, "/tree/")
		commit, folder, _ := strings.Cut(rest, "/")
		switch _, sha, isLog := strings.Cut(r.URL.Path, "/commits/"); {
		case isTree && folder == "":
			fmt.Fprintf(w, `[{"type":"file","path":"README.md","oid":"%s"},{"type":"file","path":"x.bin","oid":"same"}]`, commit)
		case isLog:
			fmt.Fprintf(w, `[{"id":"%s","title":"Edit","date":"2026-11-27T08:00:00.000Z","authors":[{"user":"me"}]}]`, sha)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return hubAt(server.URL)
}

// hubAt returns what filters ask of the Hub at url.
func hubAt(url string) func() (Hub, error) {
	none := func(string) (string, bool) { return "", false }
	client, err := hub.New(hub.Config{Endpoint: url, LookupEnv: none, Attempts: 1})
	return func() (Hub, error) { return client, err }
}

func TestFiltersOverKnownPayloads(t *testing.T) {
	asked := oneFileHub(t)
	files, err := filepath.Glob("../../payload/testdata/*.json")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d payloads: %v", len(files), err)
	}
	var got bytes.Buffer
	for _, source := range filters {
		f, err := ParseFilter(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		fmt.Fprintf(&got, "%s\n", source)
		var answers []string // in order of their first payload
		payloads := map[string][]string{}
		for _, path := range files {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(filepath.Base(path), ".json")
			p, err := payload.Parse(body)
			if err != nil {
				if !strings.HasPrefix(name, "real_v2_") {
					t.Fatalf("%s: %v", name, err)
				}
				continue // never handled
			}
			keep, why, err := f.Keep(t.Context(), p, asked)
			answer := why
			switch {
			case err != nil && (keep || why != ""):
				t.Errorf("%s of %s: an error, %t and %q", source, name, keep, why)
			case err != nil:
				answer = "ERROR " + err.Error()
			case keep && why != "":
				t.Errorf("%s of %s: true, and a reason %q", source, name, why)
			case keep:
				answer = "true"
			case why == "":
				t.Errorf("%s of %s: false without a reason", source, name)
			}
			if payloads[answer] == nil {
				answers = append(answers, answer)
			}
			payloads[answer] = append(payloads[answer], name)
		}
		for _, answer := range answers {
			fmt.Fprintf(&got, "  %s\n    %s\n", answer, strings.Join(payloads[answer], "\n    "))
		}
	}
	const golden = "testdata/filters.txt"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestFilterReasons(t *testing.T) {
	asked := oneFileHub(t)
	const (
		prPush  = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"me/data"},"updatedRefs":[{"ref":"refs/pr/5","oldSha":null,"newSha":"aa"}]}`
		many    = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"model","name":"me/m"},"updatedRefs":[{"ref":"refs/heads/a"},{"ref":"refs/heads/b"},{"ref":"refs/heads/c"},{"ref":"refs/heads/d"},{"ref":"refs/tags/v1.2"}]}`
		bucket  = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"bucket","name":"me/b"},"updatedFiles":[{"path":"data/a/1.parquet","action":"add","size":5},{"path":"x.txt","action":"delete"}]}`
		cut     = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"bucket","name":"me/b"},"updatedFiles":[{"path":"x.txt","action":"delete"}],"updatedFilesTruncated":true}`
		future  = `{"event":{"action":"create","scope":"repo.config.dois"},"repo":{"type":"model","name":"me/m","gated":{"by":["a","b"]}},"new-field":{"deep":[1,2.5,12345678901234567890]},"total":7}`
		hostile = `{"event":{"action":"update","scope":"repo"},"repo":{"type":"model","name":"a\n\u001b[2Jb"}}`
	)
	for _, test := range []struct{ filter, body, want string }{
		{`branch("main")`, prPush, `branch("main") was false: refs/pr/5`},
		{`repo.type == "dataset" && branch("main")`, prPush, `branch("main") was false: refs/pr/5`},
		{`repo.type == "model" && branch("main")`, prPush, `repo.type == "model" was false: "dataset"`},
		{`repo.type == "model" || branch("main")`, prPush, `repo.type == "model" was false: "dataset"; branch("main") was false: refs/pr/5`},
		{`!pr()`, prPush, `pr() was true: refs/pr/5`},
		{`not (pr() && repo.type == "dataset")`, prPush, `pr() was true: refs/pr/5; repo.type == "dataset" was true: "dataset"`},
		{`!(repo.type == "model" || pr())`, prPush, `pr() was true: refs/pr/5`},
		{`!!branch("main")`, prPush, `branch("main") was false: refs/pr/5`},
		{`branch("main")`, many, `branch("main") was false: refs/heads/a, refs/heads/b, refs/heads/c and 2 more`},
		{`tag("v2*")`, many, `tag("v2*") was false: refs/heads/a, refs/heads/b, refs/heads/c and 2 more`},
		{`tag("v1*")`, many, ``},
		{`convert()`, many, `convert() was false: refs/heads/a, refs/heads/b, refs/heads/c and 2 more`},
		{`files("data/**")`, bucket, ``},
		{`files("data/*")`, bucket, `files("data/*") was false: data/a/1.parquet, x.txt`},
		{`files("**/*.csv", "x.*")`, bucket, ``},
		{`files("**")`, bucket, ``},
		{`files("nothing")`, cut, ``},
		{`!files("nothing")`, cut, `files("nothing") was true: the first 1 files, the rest was left out by the Hub`},
		{`branch("main")`, bucket, `branch("main") was false: no ref in repo.content/update`},
		{`any(updatedFiles, .size > 4)`, bucket, ``},
		{`any(updatedFiles, .size > 5)`, bucket, `any(updatedFiles, .size > 5) was false: [{"action":"add","path":"data/a/1.parquet","size":5},{"action":"delete","path":"x.txt"}]`},
		{`scope("repo.config") && action("update") && action("create")`, future, ``},
		{`scope("repo.con")`, future, `scope("repo.con") was false: repo.config.dois`},
		{`action("delete")`, future, `action("delete") was false: create`},
		{`"a" in repo.gated.by && $env["new-field"].deep[1] == 2.5 && total == 7 && total / 7 == 1`, future, ``},
		{`$env["new-field"].deep[0] == 2`, future, `$env["new-field"].deep[0] == 2 was false: 1`},
		{`total > 7`, future, `total > 7 was false: 7`},
		{`total >= total`, future, ``},
		{`missing > 7 or 7 > missing or missing contains "x" or missing matches "x"`, future,
			`missing > 7 was false: nil; 7 > missing was false: nil; missing contains "x" was false: nil; missing matches "x" was false: nil`},
		{`missing`, future, `missing was false: nil`},
		{`!missing && !(missing.deeper && true) && (missing ? false : true)`, future, ``},
		{`missing == nil and missing.field == nil and missing?.field == nil and (missing ?? "x") == "x"`, future, ``},
		{`missing != nil`, future, `missing != nil was false: nil`},
		{`repo.private`, `{"event":{"action":"update","scope":"repo"},"repo":{"type":"model","name":"me/m","private":false}}`, `repo.private was false`},
		{`len(missing) == 0 and none(missing, .x) and count(missing, .x) == 0 and len(filter(missing, .x)) == 0 and len(map(missing, .x)) == 0`, future, ``},
		{`any(repo.gated.by, # == "c")`, future, `any(repo.gated.by, # == "c") was false: ["a","b"]`},
		{`let who = repo.gated.by; "c" in who`, future, `let who = repo.gated.by; "c" in who was false`},
		{`"c" in repo.gated.by`, future, `"c" in repo.gated.by was false: ["a","b"]`},
		{`repo.name == "x"`, hostile, `repo.name == "x" was false: "a\n\u001b[2Jb"`},
		{"scope(\"repo.content\")\n  &&\n  branch(\"main\")\n", prPush, `branch("main") was false: refs/pr/5`},
		{`repo.name == "` + strings.Repeat("x", 400) + `"`, prPush, `repo.name == "` + strings.Repeat("x", maxPart-len(`repo.name == "`)) + `... was false: "me/data"`},
	} {
		f, err := ParseFilter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		keep, why, err := f.Keep(t.Context(), parse(t, test.body), asked)
		if err != nil || why != test.want || keep != (test.want == "") {
			t.Errorf("%s: have %t, %v\n     %q\nwant %q", test.filter, keep, err, why, test.want)
		}
	}
}

// What the payload does not say is asked of the Hub, once.
func TestFiltersThatAskTheHub(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- string(body)
	}))
	defer receiver.Close()
	standIn := hubtest.NewServer(hubtest.Options{})
	defer standIn.Close()
	repo, err := standIn.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := standIn.Create(hubtest.Webhook{URL: receiver.URL, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}}}); err != nil {
		t.Fatal(err)
	}
	asked := hubAt(standIn.URL)
	file := func(path string) []hubtest.File { return []hubtest.File{{Path: path, Content: []byte(path)}} }
	pushed := func(c hubtest.Commit) *payload.Payload {
		if _, err := repo.Push(c); err != nil {
			t.Fatal(err)
		}
		return parse(t, <-bodies)
	}
	both := pushed(hubtest.Commit{Authors: []string{"me", "ada"}, Files: append(file("data/2026/a.parquet"), file("README.md")...)})
	bot := pushed(hubtest.Commit{Authors: []string{"bot"}, Files: file("card.md"), Delete: []string{"README.md"}})
	branch := pushed(hubtest.Commit{Ref: "refs/pr/3", Authors: []string{"eve"}, Files: file("data/b.csv")})
	if err := repo.SetRefs(hubtest.Ref{Name: "refs/pr/3"}); err != nil {
		t.Fatal(err)
	}
	deleted := parse(t, <-bodies)
	for _, test := range []struct {
		filter string
		p      *payload.Payload
		want   string
	}{
		{`branch("main") && files("data/**")`, both, ``},
		{`files("data/*.parquet")`, both, `files("data/*.parquet") was false: README.md, data/2026/a.parquet`},
		{`files("data/*.parquet", "README.*")`, both, ``},
		{`by("ada")`, both, ``},
		{`by("bot", "eve")`, both, `by("bot", "eve") was false: me and ada`},
		{`files("data/**")`, bot, `files("data/**") was false: README.md, card.md`},
		{`files("README.md")`, bot, ``}, // it was deleted
		{`!by("bot")`, bot, `by("bot") was true: bot`},
		{`by("eve") && files("data/b.csv")`, branch, ``}, // a new ref is compared with main
		{`files("card.md")`, branch, `files("card.md") was false: data/b.csv`},
		{`files("**")`, deleted, `files("**") was false: no changed file in repo.content/update`},
		{`by("me", "bot", "eve")`, deleted, `by("me", "bot", "eve") was false: no new commit in repo.content/update`},
		{`files("a") || files("b") || by("a") || by("b") || files("data/2026/*")`, both, ``},
	} {
		f, err := ParseFilter(test.filter)
		if err != nil {
			t.Fatal(err)
		}
		standIn.Requests.Reset()
		keep, why, err := f.Keep(t.Context(), test.p, asked)
		if err != nil || why != test.want || keep != (test.want == "") {
			t.Errorf("%s: have %t, %v\n     %q\nwant %q", test.filter, keep, err, why, test.want)
		}
		if n := standIn.Requests.Count("", "/api/datasets/me/data/commits/"+test.p.UpdatedRefs[0].NewSHA.Hex); n > 1 {
			t.Errorf("%s asks %d times for the commits", test.filter, n)
		}
	}

	remove := standIn.Faults.Inject(hubtest.Fault{Answer: hubtest.Status(http.StatusBadGateway)})
	for _, filter := range []string{`files("never-seen/**")`, `by("me")`, `!by("me")`} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if keep, why, err := f.Keep(t.Context(), both, hubAt(standIn.URL)); err == nil || keep || why != "" || !strings.Contains(err.Error(), "502") {
			t.Errorf("%s of a Hub that fails: %t, %q, %v", filter, keep, why, err)
		}
	}
	if n := remove(); n < 3 {
		t.Errorf("the Hub was asked %d times; want 3 or more", n)
	}
}

func TestFilterThatFails(t *testing.T) {
	for filter, want := range map[string]string{
		`repo.type + 1 == 2`:              `repo.type + 1 == 2: invalid operation: string + int`,
		`repo.name`:                       `repo.name: want true or false, have "me/model"`,
		`!repo.name`:                      `repo.name: want true or false, have "me/model"`,
		`repo.name && true`:               `repo.name: want true or false, have "me/model"`,
		`any(updatedRefs, .ref)`:          `any(updatedRefs, .ref): want true or false, have "refs/heads/main"`,
		`repo.name > 1`:                   `repo.name > 1: invalid operation: string > int`,
		`updatedRefs[3].ref == "x"`:       `updatedRefs[3].ref == "x": index out of range: 3 (array length is 1)`,
		`tag(repo.name + "[") || true`:    ``, // there is no tag that could be compared
		`branch(repo)`:                    `branch(repo): `,
		`files("data/**")`:                `files("data/**"): there is no Hub to ask here`,
		`branch("other") || by("me")`:     `by("me"): there is no Hub to ask here`,
		`branch("other") && files("**")`:  ``,
		`scope("repo.config") && repo[0]`: ``,
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		keep, why, err := f.Keep(t.Context(), parse(t, push), nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: have %v", filter, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want) || keep || why != ""):
			t.Errorf("%s: have %t, %q, %v\nwant %s", filter, keep, why, err, want)
		}
	}
}

// A filter decodes no more of a payload than memory has room for: values take many times the bytes of their JSON.
func TestFilterOverALargePayload(t *testing.T) {
	large := strings.TrimSuffix(push, "}") + `,"more":[` + strings.Repeat(`{"a":0},`, maxFiltered/8) + `0]}`
	for filter, want := range map[string]string{
		`repo.name == "me/model"`: "",
		`len(more) > 1`:           "more of the payload has 4194307 bytes: a filter looks at 4194304 in all",
		`$env["more"] == 1`:       "all of the payload has",
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if _, _, err := f.Keep(t.Context(), parse(t, large), nil); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: have %v, want %q", filter, err, want)
		}
	}
}

func TestFilterThatIsWrong(t *testing.T) {
	for filter, want := range map[string]string{
		``:                                  `the expression is empty (1:1)`,
		`branch("main"`:                     `unexpected token EOF (1:13)`,
		`branch("main") &&`:                 `unexpected token EOF (1:17)`,
		"scope(\"repo\") &&\n  branch(1)":   `cannot use int as argument (type string) to call branch (2:10)`,
		`branch()`:                          `not enough arguments to call branch (1:1)`,
		`files()`:                           `not enough arguments to call files (1:1)`,
		`pr(1)`:                             `too many arguments to call pr (1:1)`,
		`pr`:                                `pr is a function: write pr(...) (1:1)`,
		`scope("repo") && pr`:               `pr is a function: write pr(...) (1:18)`,
		`brnach("main")`:                    `there is no function brnach: did you mean branch? (1:1)`,
		`whatever("main")`:                  `there is no function whatever (1:1)`,
		`startswith(repo.name, "x")`:        `there is no function startswith (1:1)`,
		`repos.type == "x"`:                 `payloads have no repos: did you mean repo? (1:1)`,
		`true && updatedrefs[0].ref == "x"`: `payloads have no updatedrefs: did you mean updatedRefs? (1:9)`,
		`repo.name.first()`:                 `values of a payload can't be called (1:11)`,
		`by()`:                              `not enough arguments to call by (1:1)`,
		`by`:                                `by is a function: write by(...) (1:1)`,
		`pr() || files("a", "data/[")`:      `the pattern "data/[" is broken (1:20)`,
		`tag("{a")`:                         `the pattern "{a" is broken (1:5)`,
		`repo.type matches "("`:             "error parsing regexp: missing closing ): `(` (1:11)",
		`1`:                                 `expected bool, but got int (1:1)`,
		`1 && scope("repo")`:                `invalid operation: && (mismatched types int and bool) (1:3)`,
		`repo.type = "x"`:                   `unexpected token Operator("=") (1:11)`,
		`"x" > 1`:                           `invalid operation: > (mismatched types string and int) (1:5)`,
		"true\n&& repo.name == ж\n&& #":     `unexpected token Operator("#") (3:4)`,
	} {
		_, err := ParseFilter(filter)
		if err == nil || err.Error() != want {
			t.Errorf("%s:\nhave %v\nwant %s", filter, err, want)
		}
	}
}

func TestFilterOfManyFiles(t *testing.T) {
	f, err := ParseFilter(`files("*.csv") || any(updatedFiles, .path endsWith "09999.parquet")`)
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, strings.Replace(manyFiles(), `"updatedFilesTruncated":true`, `"updatedFilesTruncated":false`, 1))
	asked := oneFileHub(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if keep, why, err := f.Keep(t.Context(), p, asked); !keep || why != "" || err != nil {
				t.Errorf("have %t, %q, %v", keep, why, err)
			}
		})
	}
	all.Wait()
}

// FuzzFilter asks expressions that pass the check, which must not panic, of a payload.
func FuzzFilter(f *testing.F) {
	for _, source := range filters {
		f.Add(source)
	}
	f.Add(`any(updatedRefs, .ref == "x" && #.a.b) ?? map(repo, #) | len() > 1`)
	f.Add("let a = repo?.name; a[1:2] in 1..3")
	p, err := payload.Parse([]byte(push))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if strings.Contains(source, "repeat") || strings.Contains(source, "..") {
			t.Skip() // they may take all memory that the language grants
		}
		filter, err := ParseFilter(source)
		if err != nil {
			return
		}
		keep, why, err := filter.Keep(t.Context(), p, nil)
		if (why != "") != (!keep && err == nil) {
			t.Errorf("%q: %t, %q, %v", source, keep, why, err)
		}
	})
}
