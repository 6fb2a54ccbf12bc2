package action

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/payload"
)

func TestProbeCases(t *testing.T) {
	t.Parallel()
	cases, err := ProbeCases()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	ids := make(map[string]int)
	for _, c := range cases {
		if seen[c.Name] {
			t.Errorf("there are two cases %q", c.Name)
		}
		seen[c.Name] = true
		for _, d := range c.Deliveries {
			ids[d.ID]++
			if _, err := payload.Parse(d.Body); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		}
	}
	for _, event := range payload.Samples() {
		if !seen[event.String()] {
			t.Errorf("no case has the sample event %s", event)
		}
	}
	twice := 0
	for _, n := range ids {
		if n == 2 {
			twice++
		} else if n != 1 {
			t.Errorf("%d deliveries have one Webhook-Id", n)
		}
	}
	if twice != 1 {
		t.Errorf("%d Webhook-Ids are sent twice", twice)
	}

	get := func(name string) *payload.Payload {
		i := slices.IndexFunc(cases, func(c ProbeCase) bool { return c.Name == name })
		if i < 0 {
			t.Fatalf("there is no case %q", name)
		}
		p, err := payload.Parse(cases[i].Deliveries[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := get("a bucket with 10,000 files"); len(p.UpdatedFiles) != bucketFiles || !p.UpdatedFilesTruncated {
		t.Errorf("%d files", len(p.UpdatedFiles))
	}
	if p := get("a hidden comment: it has no content"); !p.Comment.Hidden || strings.Contains(string(p.Raw()), `"content"`) {
		t.Errorf("hidden: %s", p.Raw())
	}
	for path, name := range map[string]string{"updatedRefs": "a push without updatedRefs", "repo.headSha": "a repo without headSha", "repo.url.api": "a repo without url.api", "comment": "a discussion update without comment"} {
		if _, ok := get(name).Lookup(path); ok {
			t.Errorf("%s has %s", name, path)
		}
	}
	for name, want := range map[string][2]string{
		"a new branch: oldSha is null":     {"updatedRefs.0.oldSha", "null"},
		"a deleted branch: newSha is null": {"updatedRefs.0.newSha", "null"},
		"an empty updatedConfig":           {"updatedConfig", "{}"},
		"an unknown scope":                 {"event.scope", `"repo.unheard"`},
		"an unknown action":                {"event.action", `"unheard"`},
		"an unknown repo type":             {"repo.type", `"unheard"`},
		"a kernel":                         {"repo.type", `"kernel"`},
		"unknown fields":                   {"repo.unheard", "true"},
	} {
		if v, ok := get(name).Lookup(want[0]); !ok || string(v) != want[1] {
			t.Errorf("%s has %s in %s", name, v, want[0])
		}
	}
}

func TestSelectCases(t *testing.T) {
	cases := []ProbeCase{{Name: "repo/create"}, {Name: "repo.content/update of a bucket"}, {Name: "A bucket with 10,000 files"}}
	for pattern, want := range map[string]int{"bucket": 2, "BUCKET": 2, "repo*": 2, "repo/*": 1, "*": 3, "a bucket*": 1, "re[a-q]o/create": 1} {
		if got, err := SelectCases(cases, pattern); err != nil || len(got) != want {
			t.Errorf("%s selects %d cases: %v", pattern, len(got), err)
		}
	}
	for _, pattern := range []string{"zebra", "zebra*", "repo["} {
		if got, err := SelectCases(cases, pattern); err == nil || !strings.HasPrefix(err.Error(), "--only "+pattern+": ") {
			t.Errorf("%s selects %d cases: %v", pattern, len(got), err)
		}
	}
}

func TestEventCases(t *testing.T) {
	dir := t.TempDir()
	if _, err := EventCases(dir); err == nil || !strings.Contains(err.Error(), "no files that end in .json") {
		t.Error(err)
	}
	sample, err := payload.Sample(payload.ScopeRepo, payload.Create, nil)
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{"b.json": string(sample.Raw()), "a.json": `{"event": {"action": "update"}}`, "c.txt": "no"})
	cases, err := EventCases(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 2 || cases[0].Name != "a.json" || string(cases[1].Deliveries[0].Body) != string(sample.Raw()) {
		t.Errorf("cases %v", cases)
	}
	if err := os.WriteFile(filepath.Join(dir, "d.json"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := EventCases(dir); err == nil || !strings.Contains(err.Error(), "d.json is no payload") {
		t.Error(err)
	}
}
