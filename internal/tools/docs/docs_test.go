package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFresh checks that no page is behind the code.
func TestFresh(t *testing.T) {
	t.Parallel()
	pages, err := generate("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if !bytes.Equal(p.is, p.wants) {
			t.Errorf("%s is not what the code says; run make docs:\n%s", p.path, cmp.Diff(strings.Split(string(p.is), "\n"), strings.Split(string(p.wants), "\n")))
		}
	}
	if len(pages) < 5 {
		t.Errorf("%d pages have a generated part, want those of the reference", len(pages))
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	c, err := readCode("../../..")
	if err != nil {
		t.Fatal(err)
	}
	const before = "# Page\n\n<!-- make docs: exit-statuses -->\nold\n<!-- end -->\nby hand\n"
	after, err := fill([]byte(before), c)
	if err != nil || strings.Contains(string(after), "old") || !strings.HasSuffix(string(after), "\n<!-- end -->\nby hand\n") || !strings.Contains(string(after), "| 2 | wrong usage") {
		t.Errorf("%v\n%s", err, after)
	}
	if again, err := fill(after, c); err != nil || !bytes.Equal(after, again) {
		t.Errorf("filled again: %v\n%s", err, again)
	}
	if filled, err := fill([]byte("# Page\n"), c); err != nil || filled != nil {
		t.Errorf("a page by hand: %v, %q", err, filled)
	}
	for request, want := range map[string]string{
		"recipes":              "no such part",
		"flags hubhook servve": `no command "hubhook servve"`,
		"flags hubhook hub":    "no flags",
		"object Absent":        "no struct Absent",
		"routes internal/cli":  "no router",
	} {
		if _, err := c.part(request); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", request, err, want)
		}
	}
}

// TestVariablesAreNamed checks that the program looks no variable up by a text: only the constants of internal/env are documented.
func TestVariablesAreNamed(t *testing.T) {
	t.Parallel()
	asks := regexp.MustCompile(`(?:[Gg]etenv|LookupEnv|\blookup)\("([A-Z]\w+)"\)`)
	const root = "../../.."
	checked := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "docs", "hub/hubtest", "internal/e2e", "internal/testing", "internal/tools", "tunnel/tunneltest"}, filepath.ToSlash(below)) {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		checked++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range asks.FindAllSubmatch(text, -1) {
			t.Errorf("%s looks %s up by its name: make it a constant of internal/env with a comment, and run make docs", below, m[1])
		}
		return nil
	})
	if err != nil || checked < 100 {
		t.Errorf("%d files were checked: %v", checked, err)
	}
}
