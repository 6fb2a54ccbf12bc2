package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// fixtures returns the payloads under testdata by file name. Those named real_ were
// captured from the Hub or stand in its documentation. The others were written after
// the documentation.
func fixtures(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatal("no files match testdata/*.json")
	}
	files := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(name), ".json")] = b
	}
	return files
}

// describe tells in a line what a handler would ask of a payload.
func describe(p *Payload) string {
	s := fmt.Sprintf("%s %s %s", p.Event, p.Repo.Type, p.Repo.Name)
	if e, ok := p.Event.Documented(); !ok {
		s += " undocumented"
	} else if e != p.Event {
		s += " as " + e.String()
	}
	for _, r := range p.UpdatedRefs {
		if name, ok := r.Branch(); ok {
			s += " branch=" + name
		}
		if name, ok := r.Tag(); ok {
			s += " tag=" + name
		}
		if num, ok := r.PullRequest(); ok {
			s += fmt.Sprint(" pr=", num)
		}
		if r.Created() {
			s += " created"
		}
		if r.Deleted() {
			s += " deleted"
		}
	}
	if p.TouchesBranch("main") {
		s += " touches-main"
	}
	if p.IsConvert() {
		s += " convert"
	}
	for _, f := range p.UpdatedFiles {
		s += fmt.Sprintf(" %s:%s", f.Action, f.Path)
	}
	if p.UpdatedFilesTruncated {
		s += " truncated"
	}
	if d := p.Discussion; d != nil {
		s += fmt.Sprintf(" #%d=%s", d.Num, d.Status)
		if d.IsPullRequest {
			s += " into=" + d.Changes.Base
		}
	}
	if p.Comment != nil {
		s += " comment"
	}
	if p.MovedTo != nil {
		s += " to=" + p.MovedTo.Name
	}
	if p.UpdatedConfig != nil {
		s += fmt.Sprint(" config=", len(p.UpdatedConfig))
	}
	return s
}

var described = map[string]string{
	"real_discussion_create_pr_model":                            "discussion/create model openai-community/gpt2 #19=open into=refs/heads/main comment",
	"real_discussion_update_closed_pr_space":                     "discussion/update space Wauplin/leaderboard #4=closed into=refs/heads/main",
	"real_repo_content_update_bucket":                            "repo.content/update bucket some-user/some-bucket add:data/train.txt delete:data/old.txt truncated",
	"real_repo_content_update_pr_ref_space":                      "repo.content/update space Wauplin/gradio-user-history pr=5 created",
	"real_v2_discussion_comment_add_dataset":                     "discussion.comment/add dataset allenai/c4 #7=open comment",
	"real_v2_repo_content_update_dataset":                        "repo.content/update dataset AresEkb/prof_standards_sbert_large_mt_nlu_ru",
	"synthetic_discussion_comment_create_dataset":                "discussion.comment/create dataset allenai/c4 #7=open comment",
	"synthetic_discussion_comment_create_model":                  "discussion.comment/create model some-user/some-repo #4=open into=refs/heads/main comment",
	"synthetic_discussion_comment_update_edit_model":             "discussion.comment/update model some-user/some-repo #4=open into=refs/heads/main comment",
	"synthetic_discussion_create_draft_pr_model":                 "discussion/create model some-user/some-repo #8=draft into=refs/heads/main comment",
	"synthetic_discussion_create_issue_dataset":                  "discussion/create dataset some-user/some-dataset #7=open comment",
	"synthetic_discussion_delete_model":                          "discussion/delete model some-user/some-repo #3=open",
	"synthetic_discussion_update_closed_issue_model":             "discussion/update model some-user/some-repo #5=closed",
	"synthetic_discussion_update_pinned_space":                   "discussion/update space some-user/some-space #1=open",
	"synthetic_discussion_update_title_model":                    "discussion/update model some-user/some-repo #3=open into=refs/heads/main",
	"synthetic_repo_config_dois_update_future_scope":             "repo.config.dois/update model some-user/some-repo as repo.config/update",
	"synthetic_repo_config_update_empty_space":                   "repo.config/update space some-user/some-space config=0",
	"synthetic_repo_config_update_private_dataset":               "repo.config/update dataset some-user/some-dataset config=1",
	"synthetic_repo_config_update_public_model":                  "repo.config/update model some-user/some-repo config=1",
	"synthetic_repo_content_update_bucket_small":                 "repo.content/update bucket some-user/some-bucket add:data/train.txt",
	"synthetic_repo_content_update_convert_parquet_dataset":      "repo.content/update dataset some-user/some-dataset convert",
	"synthetic_repo_content_update_main_model":                   "repo.content/update model some-user/some-repo branch=main touches-main",
	"synthetic_repo_content_update_tag_create_and_branch_delete": "repo.content/update dataset some-user/some-dataset branch=main tag=test created branch=old-branch deleted touches-main",
	"synthetic_repo_create_bucket":                               "repo/create bucket some-user/some-bucket",
	"synthetic_repo_create_dataset_private":                      "repo/create dataset some-user/some-dataset",
	"synthetic_repo_create_model":                                "repo/create model some-user/some-repo",
	"synthetic_repo_delete_dataset":                              "repo/delete dataset some-user/some-dataset",
	"synthetic_repo_move_model":                                  "repo/move model some-user/old-name to=some-org/new-name",
	"synthetic_repo_update_model":                                "repo/update model some-user/some-repo",
}

func TestFixtures(t *testing.T) {
	got := map[string]string{}
	for name, b := range fixtures(t) {
		before := bytes.Clone(b)
		p, err := Parse(b)
		if p == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got[name] = describe(p)
		if !bytes.Equal(p.Raw(), before) {
			t.Errorf("%s: Raw is not what was given to Parse", name)
		}
		if strings.HasPrefix(name, "real_v2_") {
			var version *VersionError
			if !errors.As(err, &version) || version.Version != 2 || !errors.Is(err, ErrUnusable) {
				t.Errorf("%s: error %v, want a VersionError of version 2", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The fields, written under the Hub's names, say all that it sent.
		fields := *p
		fields.raw = nil
		b, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decoded(t, before), decoded(t, b)); diff != "" {
			t.Errorf("%s: sent (-) and kept in fields (+) differ:\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(described, got); diff != "" {
		t.Errorf("want (-), have (+):\n%s", diff)
	}
}

func decoded(t *testing.T, b []byte) any {
	t.Helper()
	v, err := decodeValue(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// usable returns a body that has the required fields, and more.
func usable(more string) string {
	b := `{"event":{"action":"update","scope":"repo"},"repo":{"type":"model","name":"me/m"}`
	if more != "" {
		b += "," + more
	}
	return b + "}"
}

func TestParseSyntaxError(t *testing.T) {
	for _, test := range []struct{ body, want string }{
		{"", "line 1, column 1 (byte 0): want an object, have an empty body"},
		{" \n ", "line 2, column 2 (byte 3): want an object, have the end"},
		{"hello", "line 1, column 1 (byte 0): want an object, have 'h'"},
		{"[1,2]", "line 1, column 1 (byte 0): want an object, have an array"},
		{"\n\n null", "line 3, column 2 (byte 3): want an object, have null"},
		{`"x"`, "line 1, column 1 (byte 0): want an object, have a string"},
		{"-1", "line 1, column 1 (byte 0): want an object, have a number"},
		{"\x00", `line 1, column 1 (byte 0): want an object, have '\x00'`},
		{"\uFEFF{}", "line 1, column 1 (byte 0): want an object, have a byte order mark: send UTF-8 without one"},
		{"\xff\xfe{\x00}\x00", "line 1, column 1 (byte 0): want UTF-8, have the byte 0xff"},
		{"{\"a\":\"é\xe9\"}", "line 1, column 8 (byte 8): want UTF-8, have the byte 0xe9"},
		{"{\"a\":\"\xed\xa0\x80\"}", "line 1, column 7 (byte 6): want UTF-8, have the byte 0xed"},
		{"{", "line 1, column 2 (byte 1): want a name in quotes or }, have the end"},
		{"{a:1}", "line 1, column 2 (byte 1): want a name in quotes or }, have 'a'"},
		{"{\n  \"é\": 1,\n}", "line 3, column 1 (byte 13): want a name in quotes, have '}'"},
		{`{"a" 1}`, "line 1, column 6 (byte 5): want :, have '1'"},
		{`{"é":}`, "line 1, column 6 (byte 6): want a value, have '}'"},
		{`{"a":1 "b"}`, `line 1, column 8 (byte 7): want , or }, have '"'`},
		{`{"a":[1 2]}`, `line 1, column 9 (byte 8): want , or ], have '2'`},
		{`{"a":[1,]}`, `line 1, column 9 (byte 8): want a value, have ']'`},
		{`{"a":[{"b":[}]}`, `line 1, column 13 (byte 12): want a value, have '}'`},
		{`{"a":{"b":1,}}`, `line 1, column 13 (byte 12): want a name in quotes, have '}'`},
		{`{"a":{1:2}}`, `line 1, column 7 (byte 6): want a name in quotes or }, have '1'`},
		{`{"a":{"b":1]}`, `line 1, column 12 (byte 11): want , or }, have ']'`},
		{`{"tags":[`, "line 1, column 10 (byte 9): want a value, have the end"},
		{`{"a":tru}`, "line 1, column 6 (byte 5): want true, have another word"},
		{`{"a":nul`, "line 1, column 6 (byte 5): want null, have another word"},
		{`{"a":NaN}`, "line 1, column 6 (byte 5): want a value, have 'N'"},
		{`{"a":01}`, "line 1, column 7 (byte 6): want , or }, have '1'"},
		{`{"a":-}`, "line 1, column 7 (byte 6): want a digit, have '}'"},
		{`{"a":1.}`, "line 1, column 8 (byte 7): want a digit, have '}'"},
		{`{"a":.5}`, "line 1, column 6 (byte 5): want a value, have '.'"},
		{`{"a":1e+}`, "line 1, column 9 (byte 8): want a digit, have '}'"},
		{`{"a":+1}`, "line 1, column 6 (byte 5): want a value, have '+'"},
		{`{"a":"x`, "line 1, column 6 (byte 5): the string that begins here has no end"},
		{`{"a":"x\"}`, "line 1, column 6 (byte 5): the string that begins here has no end"},
		{`{"a":"x\`, `line 1, column 8 (byte 7): no such escape: want one of \" \\ \/ \b \f \n \r \t or \u and four hexadecimal digits`},
		{`{"a":"\x41"}`, `line 1, column 7 (byte 6): no such escape: want one of \" \\ \/ \b \f \n \r \t or \u and four hexadecimal digits`},
		{`{"a":"\u12g4"}`, `line 1, column 7 (byte 6): no such escape: want one of \" \\ \/ \b \f \n \r \t or \u and four hexadecimal digits`},
		{"{\"a\":\"x\ny\"}", `line 1, column 8 (byte 7): control character in a string: want it escaped, as \u000a`},
		{"{\"a\":\"12345678\x1f\"}", `line 1, column 15 (byte 14): control character in a string: want it escaped, as \u001f`},
		{"{}{}", "line 1, column 3 (byte 2): want nothing after the object, have '{'"},
		{"{}\x00", `line 1, column 3 (byte 2): want nothing after the object, have '\x00'`},
		{"{\"event\":{\"action\":\"update\"\n", "line 2, column 1 (byte 28): want , or }, have the end"},
	} {
		p, err := Parse([]byte(test.body))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || errors.Is(err, ErrUnusable) || p != nil {
			t.Errorf("Parse(%q) = %v, %v, want nil and a SyntaxError", test.body, p, err)
			continue
		}
		if want := "not a JSON object: " + test.want; err.Error() != want {
			t.Errorf("Parse(%q)\nerror %s\n want %s", test.body, err, want)
		}
	}
}

func TestParseUnusable(t *testing.T) {
	for _, test := range []struct{ body, want, readable string }{
		{`{}`, "event: want an object, have nothing; repo: want an object, have nothing", "/  "},
		{`{"event":{"action":"create","scope":"repo"},"repo":{"type":"model","name":5}}`,
			"repo.name: want a string, have a number", "repo/create model "},
		{`{"event":{"action":"create"},"repo":{"type":null,"name":""}}`,
			"event.scope: want a string, have nothing; repo.type: want a string, have null; repo.name: want a string, have an empty one", "/create  "},
		{`{"event":{"action":["x"],"scope":{}},"repo":true}`,
			"event.action: want a string, have an array; event.scope: want a string, have an object; repo: want an object, have a boolean", "/  "},
		{`{"event":"update","repo":{"type":"model","name":"me/m"}}`, "event: want an object, have a string", "/ model me/m"},
		{`{"event":"update","scope":"repo","webhook":{"version":4},"repo":{"type":"model","name":"me/m"}}`,
			"event: want an object, have a string", "/ model me/m"},
		// The last of two counts, even if it is worse.
		{usable(`"repo":{"type":"model"}`), "repo.name: want a string, have nothing", "repo/update model "},
		{usable(`"repo":null`), "repo: want an object, have null", "repo/update  "},
		{usable(`"event":"x"`), "event: want an object, have a string", "/ model me/m"},
		{usable(`"Repo":{"name":"no"},"event":{"Action":"no","scope":"repo"}`), "event.action: want a string, have nothing", "repo/ model me/m"},
	} {
		p, err := Parse([]byte(test.body))
		var unusable *UnusableError
		var field *FieldError
		if !errors.Is(err, ErrUnusable) || !errors.As(err, &unusable) || !errors.As(err, &field) || p == nil {
			t.Errorf("Parse(%s) = %v, %v, want a payload and an UnusableError", test.body, p, err)
			continue
		}
		if err.Error() != test.want {
			t.Errorf("Parse(%s)\nerror %s\n want %s", test.body, err, test.want)
		}
		if got := fmt.Sprintf("%s %s %s", p.Event, p.Repo.Type, p.Repo.Name); got != test.readable {
			t.Errorf("Parse(%s): read %q, want %q", test.body, got, test.readable)
		}
		if string(p.Raw()) != test.body {
			t.Errorf("Parse(%s): Raw is %s", test.body, p.Raw())
		}
	}
}

func TestParseOldVersion(t *testing.T) {
	for body, want := range map[string]int64{
		`{"event":"add","scope":"repo","repo":{"type":"model","name":"me/m"}}`:                         2,
		`{"event":"add","scope":"repo","webhook":{"version":"2"}}`:                                     2,
		`{"webhook":{"version":1}}`:                                                                    1,
		usable(`"webhook":{"version":2}`):                                                              2,
		`{"webhook":{"version":2},"event":"add","scope":"repo","repo":{"type":"model","name":"me/m"}}`: 2,
	} {
		p, err := Parse([]byte(body))
		var version *VersionError
		if p == nil || !errors.As(err, &version) || version.Version != want || !errors.Is(err, ErrUnusable) {
			t.Errorf("Parse(%s) = %v, %v, want a VersionError of version %d", body, p, err, want)
			continue
		}
		if !strings.Contains(err.Error(), "want 3 or later, have ") {
			t.Errorf("Parse(%s): error %q doesn't say which version it wants", body, err)
		}
	}
}

// Parse refuses neither fields that it does not know nor fields of another type.
func TestParseTolerates(t *testing.T) {
	for _, more := range []string{
		"", `"webhook":{"version":4}`, `"webhook":{"version":1e400}`, `"webhook":{"version":-0}`,
		`"webhook":{"version":99999999999999999999}`, `"event":{"action":"explode","scope":"billing"}`,
		`"updatedRefs":{}`, `"updatedRefs":[1,null,[],{},{"ref":5},{"ref":"refs/heads/x","oldSha":7,"newSha":{}}]`,
		`"updatedFiles":"all"`, `"updatedFiles":[[],{"path":null},{"path":"a","size":1.5,"action":[]}]`,
		`"updatedFilesTruncated":"yes"`, `"updatedConfig":[]`, `"movedTo":"me/new"`, `"movedTo":{"owner":"me"}`,
		`"discussion":7`, `"discussion":{"num":"7","changes":[],"url":"x","author":null,"pinned":0}`,
		`"discussion":{"changes":{"base":1,"mergeCommitId":[]}}`, `"comment":[]`, `"comment":{"url":5,"hidden":1}`,
		`"webhook":null`, `"webhook":[]`, `"scope":{"a":["b"]}`, `"":0`, `"é\u0000\ud83d\ude00":[]`,
		`"repo":{"type":"collection","name":"me/c","url":"x","owner":[],"private":"no","tags":[1,"a",null],"headSha":null,"id":1}`,
	} {
		body := usable(more)
		p, err := Parse([]byte(body))
		if err != nil {
			t.Errorf("Parse(%s): %v", body, err)
			continue
		}
		if string(p.Raw()) != body {
			t.Errorf("Raw is %s, want %s", p.Raw(), body)
		}
	}
}

func TestParseValues(t *testing.T) {
	parse := func(more string) *Payload {
		t.Helper()
		p, err := Parse([]byte(usable(more)))
		if err != nil {
			t.Fatalf("%s: %v", more, err)
		}
		return p
	}
	equal := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %#v, want %#v", what, got, want)
		}
	}

	p := parse(`"updatedRefs":[7,{"ref":"a","oldSha":null,"newSha":"12"},{"ref":"b"},{"oldSha":"1"}]`)
	equal("UpdatedRefs", p.UpdatedRefs, []Ref{{Ref: "a", OldSHA: SHA{Null: true}, NewSHA: SHA{Hex: "12"}}, {Ref: "b"}})
	equal("UpdatedRefs when absent", parse("").UpdatedRefs, []Ref(nil))
	equal("UpdatedRefs when empty", parse(`"updatedRefs":[]`).UpdatedRefs, []Ref{})
	equal("UpdatedConfig when absent", parse("").UpdatedConfig == nil, true)
	equal("UpdatedConfig when null", parse(`"updatedConfig":null`).UpdatedConfig == nil, true)
	p = parse(`"updatedConfig": {"private" : true, "\u0061": {"b": [1, 2]} , "n":null,"n":1e999}`)
	equal("UpdatedConfig", fmt.Sprintf("%s", p.UpdatedConfig), `map[a:{"b": [1, 2]} n:1e999 private:true]`)
	p = parse(`"updatedFiles":[{"path":"a","action":"add","size":9223372036854775807},{"path":"b","size":-1},{"path":"c","size":9223372036854775808}]`)
	equal("UpdatedFiles", p.UpdatedFiles, []File{{Path: "a", Action: FileAdd, Size: 1<<63 - 1}, {Path: "b", Size: -1}, {Path: "c"}})

	p = parse(`"comment":{"content":"\ud83d\ude00 \ud800 \udc00\ud83d \ud83dx\u0041 \"\\\/\b\f\n\r\t é\u00e9\u0000."}`)
	equal("Content", p.Comment.Content, "😀 \ufffd \ufffd\ufffd \ufffdxA \"\\/\b\f\n\r\t éé\x00.")
	equal("escaped name", parse(`"comm\u0065nt":{"\u0069d":"x"}`).Comment.ID, "x")
	// Nothing of the first comment is left when there are two.
	p = parse(`"comment":{"id":"1","content":"x"},"comment":{"id":"2"}`)
	equal("second Comment", *p.Comment, Comment{ID: "2"})
	equal("Comment then null", parse(`"comment":{"id":"1"},"comment":null`).Comment, (*Comment)(nil))
	p = parse(`"repo":{"type":"model","name":"a","name":"b","tags":["x",5,"y"]}`)
	equal("Repo", p.Repo, Repo{Type: Model, Name: "b", Tags: []string{"x", "y"}})

	// Strings of every length around the eight bytes that are looked at together.
	for n := range 40 {
		for _, c := range []string{"", `\n`, "é", `\u00e9`} {
			content := strings.Repeat("x", n) + c
			p := parse(`"comment":{"content":"` + content + `"},"x":"` + content + `"`)
			var want string
			if err := json.Unmarshal([]byte(`"`+content+`"`), &want); err != nil {
				t.Fatal(err)
			}
			equal("Content", p.Comment.Content, want)
		}
	}
}

// The fields of a payload stay as they are when a careless caller reuses the bytes
// that were given to Parse.
func TestParseStringsAreOwn(t *testing.T) {
	b := []byte(usable(`"updatedRefs":[{"ref":"refs/heads/main"}]`))
	p, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = 'x'
	}
	if p.Repo.Name != "me/m" || p.UpdatedRefs[0].Ref != "refs/heads/main" {
		t.Errorf("fields changed with the bytes: %+v", p)
	}
}

func TestParseDeep(t *testing.T) {
	const depth = 1 << 17
	for _, pair := range [][2]string{{"[", "]"}, {`{"a":`, "}"}, {`[{"repo":`, "}]"}} {
		inner := strings.Repeat(pair[0], depth) + "1" + strings.Repeat(pair[1], depth)
		for _, name := range []string{"x", "repo", "updatedConfig", "updatedRefs", "updatedFiles", "comment"} {
			p, err := Parse([]byte(`{"` + name + `":` + inner + `}`))
			if p == nil || !errors.Is(err, ErrUnusable) {
				t.Errorf("%s of %q in %q: %v", name, pair[0], name, err)
			}
		}
		if p, err := Parse([]byte(`{"x":` + inner[:len(inner)-1] + `}`)); p != nil {
			t.Errorf("unbalanced %q: %v, want a SyntaxError", pair[0], err)
		}
	}
}

// A small body can't make Parse hold a much larger payload.
func TestParseMemory(t *testing.T) {
	for _, element := range []string{`{}`, `0`, `{"path":""}`, `{"path":"a"}`, `{"ref":"a"}`, `"a"`} {
		for _, name := range []string{"updatedFiles", "updatedRefs", "x"} {
			body := []byte(usable(`"` + name + `":[` + strings.Repeat(element+",", 100_000) + element + `],"repo":{"tags":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Parse(body); !errors.Is(err, ErrUnusable) {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			// A list that grows is allocated more than once.
			if per := (after.TotalAlloc - before.TotalAlloc) / uint64(len(body)); per > 32 {
				t.Errorf("%s of %s: %d bytes allocated for each byte of the body", name, element, per)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	body := usable(`"x": {"a" : [ 1, {"b": null} ], "a.b": "dot", "\\": "slash", "\u0063": 5, "": 6, "d": 1, "d": {"e": 2}}, "event2": "é"`)
	p, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":              body,
		"repo.name":     `"me/m"`,
		"repo.missing":  "-",
		"repo.name.x":   "-",
		"x.a":           `[ 1, {"b": null} ]`,
		"x.a.0":         "1",
		"x.a.1.b":       "null",
		"x.a.1.b.c":     "-",
		"x.a.2":         "-",
		"x.a.-1":        "-",
		"x.a.+1":        "-",
		"x.a.b":         "-",
		`x.a\.b`:        `"dot"`,
		`x.\\`:          `"slash"`,
		`x.\`:           `"slash"`,
		"x.c":           "5",
		"x.":            "6",
		"x.d":           `{"e": 2}`,
		"x.d.e":         "2",
		"event2":        `"é"`,
		"Event2":        "-",
		"updatedConfig": "-",
	} {
		got, ok := p.Lookup(path)
		if !ok {
			got = json.RawMessage("-")
		}
		if string(got) != want {
			t.Errorf("Lookup(%q) = %s, want %s", path, got, want)
		}
	}
	if v, ok := new(Payload).Lookup("repo"); ok {
		t.Errorf("Lookup in an empty Payload = %s, want none", v)
	}
}

func TestJSON(t *testing.T) {
	body := "{ \"event\":{\"action\":\"update\",\"scope\":\"repo\"},\n \"future\":[1, 2], \"repo\":{\"type\":\"model\",\"name\":\"me/m\"}}"
	var p Payload
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Repo.Name != "me/m" || string(p.Raw()) != body {
		t.Errorf("unmarshalled %+v from %s", p, p.Raw())
	}
	b, err := p.MarshalJSON()
	if err != nil || string(b) != body {
		t.Errorf("MarshalJSON = %s, %v, want %s", b, err, body)
	}
	b, err = json.Marshal(map[string]any{"p": p, "q": &p})
	compact := strings.NewReplacer(" ", "", "\n", "").Replace(body)
	if want := `{"p":` + compact + `,"q":` + compact + `}`; err != nil || string(b) != want {
		t.Errorf("Marshal = %s, %v, want %s", b, err, want)
	}
	made := Payload{Event: Event{Action: Update, Scope: ScopeRepoContent}, UpdatedRefs: []Ref{{Ref: "a", OldSHA: SHA{Null: true}, NewSHA: SHA{Hex: "1"}}, {Ref: "b"}}}
	b, err = json.Marshal(made)
	if want := `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"","name":"","private":false},` +
		`"updatedRefs":[{"ref":"a","oldSha":null,"newSha":"1"},{"ref":"b"}],"webhook":{}}`; err != nil || string(b) != want {
		t.Errorf("Marshal = %s, %v, want %s", b, err, want)
	}
	var refs []Ref
	if err := json.Unmarshal([]byte(`[{"ref":"a","oldSha":null,"newSha":"1"},{"ref":"b"}]`), &refs); err != nil || !reflect.DeepEqual(refs, made.UpdatedRefs) {
		t.Errorf("refs unmarshalled as %+v, %v, want %+v", refs, err, made.UpdatedRefs)
	}
	if err := json.Unmarshal([]byte(`{"repo":1}`), &p); !errors.Is(err, ErrUnusable) {
		t.Errorf("Unmarshal of an unusable payload: %v, want ErrUnusable", err)
	}
}

// FuzzParse compares Parse with encoding/json, which takes the same JSON with two
// exceptions: it replaces bytes that are not UTF-8, and it has a limit of depth.
func FuzzParse(f *testing.F) {
	for _, b := range fixtures(f) {
		f.Add(b)
	}
	for _, e := range Samples() {
		p, err := Sample(e.Scope, e.Action, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Raw())
	}
	for _, s := range []string{`{"a":"\ud800\u0000"}`, `{"a":[{},[],-0.5e+9,1e400,null,true,false]}`, "\uFEFF{}", "{\"\xff\":1}", `{"event":{},"event":"x"}`, usable(`"repo":1`)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		p, err := Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("Parse changed its argument")
		}
		decoded, jsonErr := decodeValue(b)
		want, isObject := decoded.(map[string]any)
		isObject = isObject && utf8.Valid(b)
		if depth := bytes.Count(b, []byte("[")) + bytes.Count(b, []byte("{")); !isObject && depth > 10_000 {
			return
		}
		if syntax := new(SyntaxError); errors.As(err, &syntax) {
			if isObject || p != nil {
				t.Fatalf("%v, but it is an object", err)
			}
			if syntax.Offset < 0 || syntax.Offset > len(b) || syntax.Line < 1 || syntax.Column < 1 {
				t.Fatalf("no such place: %+v", syntax)
			}
			return
		}
		if !isObject {
			t.Fatalf("took what is no object: %v", jsonErr)
		}
		if err != nil && !errors.Is(err, ErrUnusable) {
			t.Fatalf("error of no known kind: %v", err)
		}
		if !bytes.Equal(p.Raw(), before) {
			t.Fatal("Raw is not what was given to Parse")
		}
		for path, have := range map[string]string{
			"repo.type": string(p.Repo.Type), "repo.name": p.Repo.Name, "repo.id": p.Repo.ID, "repo.url.web": p.Repo.URL.Web,
			"repo.headSha": p.Repo.HeadSHA, "repo.subdomain": p.Repo.Subdomain, "repo.owner.id": p.Repo.Owner.ID, "webhook.id": p.Webhook.ID,
		} {
			raw, ok := p.Lookup(path)
			var s string
			if ok && len(raw) > 0 && raw[0] == '"' {
				if err := json.Unmarshal(raw, &s); err != nil {
					t.Fatalf("Lookup(%q) = %q: %v", path, raw, err)
				}
			}
			if s != have {
				t.Fatalf("%s is %q, want %q", path, have, s)
			}
			wanted := any(want)
			for name := range strings.SplitSeq(path, ".") {
				m, _ := wanted.(map[string]any)
				wanted = m[name]
			}
			if w, _ := wanted.(string); w != have {
				t.Fatalf("%s is %q, for encoding/json %q", path, have, w)
			}
		}
		if config, ok := want["updatedConfig"].(map[string]any); ok != (p.UpdatedConfig != nil) || len(config) != len(p.UpdatedConfig) {
			t.Fatalf("updatedConfig is %s, for encoding/json %v", p.UpdatedConfig, config)
		}
		for name, raw := range p.UpdatedConfig {
			if !json.Valid(raw) {
				t.Fatalf("updatedConfig %q is %q", name, raw)
			}
		}
		if refs, _ := want["updatedRefs"].([]any); len(p.UpdatedRefs) > len(refs) {
			t.Fatalf("%d refs, for encoding/json %d", len(p.UpdatedRefs), len(refs))
		}
		usable := p.Event.Action != "" && p.Event.Scope != "" && p.Repo.Type != "" && p.Repo.Name != ""
		if err == nil && !usable || err != nil && usable && !errors.As(err, new(*VersionError)) {
			t.Fatalf("error %v, payload %s", err, p.Raw())
		}
		p.TouchesBranch("main")
		p.Event.Documented()
		if out, err := json.Marshal(p); err != nil || !json.Valid(out) {
			t.Fatalf("Marshal: %v", err)
		}
	})
}

func FuzzLookup(f *testing.F) {
	for _, b := range fixtures(f) {
		f.Add(b, "repo.url.web")
	}
	f.Add([]byte(`{"a.b":[{"\\":1}]}`), `a\.b.0.\\`)
	f.Fuzz(func(t *testing.T, b []byte, path string) {
		p, _ := Parse(b)
		if p == nil {
			return
		}
		if v, ok := p.Lookup(path); ok && !bytes.Contains(b, v) {
			t.Fatalf("Lookup(%q) = %q, which is not in the payload", path, v)
		}
	})
}

// A list of millions of elements takes no more memory than one of maxElements. Raw has all of it.
func TestParseBoundsLists(t *testing.T) {
	const many = maxElements + 10
	refs := strings.TrimSuffix(strings.Repeat(`{"ref":"x"},`, many), ",")
	var config strings.Builder
	for i := range many {
		fmt.Fprintf(&config, `"%d":0,`, i)
	}
	config.WriteString(`"0":1`) // once more, which counts
	body := usable(`"updatedRefs":[` + refs + `],"updatedConfig":{` + config.String() + `}`)
	p, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.UpdatedRefs) != maxElements || len(p.UpdatedConfig) != maxElements || string(p.UpdatedConfig["0"]) != "1" {
		t.Errorf("%d refs and %d settings of %d were read, the first one as %s", len(p.UpdatedRefs), len(p.UpdatedConfig), many, p.UpdatedConfig["0"])
	}
	if last, ok := p.Lookup(fmt.Sprintf("updatedRefs.%d.ref", many-1)); !ok || string(last) != `"x"` || len(p.Raw()) != len(body) {
		t.Errorf("the last ref is %s, and Raw has %d bytes", last, len(p.Raw()))
	}
}
