// Command docs writes the parts of the documentation that the code decides: commands and flags, exit statuses, variables, HTTP routes, objects
// of the API, events and metrics. A part stands in a page between two comments, and the rest of the page is written by hand:
//
//	<!-- make docs: flags hubhook serve -->
//	...
//	<!-- end -->
//
// `make docs` runs it. A test fails where a page is not what it would write.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	root := flag.String("root", ".", "`DIR` of the repository")
	flag.Parse()
	pages, err := generate(*root)
	if err == nil {
		err = write(*root, pages)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "docs: %v\n", err)
		os.Exit(1)
	}
}

// page is a document, as it is and as the code wants it.
type page struct {
	path      string // below the root
	is, wants []byte
}

func write(root string, pages []page) error {
	for _, p := range pages {
		if bytes.Equal(p.is, p.wants) {
			continue
		}
		if err := os.WriteFile(filepath.Join(root, p.path), p.wants, 0o644); err != nil {
			return err
		}
		fmt.Println("wrote " + p.path)
	}
	return nil
}

// part is one generated part of a page: its two comments, with what to write between them.
var part = regexp.MustCompile(`(?ms)^<!-- make docs: ([^\n]*?) -->\n(.*?)^<!-- end -->$`)

// generate returns every page below root/docs that has a generated part.
func generate(root string) ([]page, error) {
	code, err := readCode(root)
	if err != nil {
		return nil, err
	}
	var pages []page
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		wants, err := fill(text, code)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if wants != nil {
			below, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			pages = append(pages, page{below, text, wants})
		}
		return nil
	})
	return pages, err
}

// fill returns a page with its generated parts as the code wants them, and nil if it has none.
func fill(text []byte, c *code) (filled []byte, err error) {
	found := false
	filled = part.ReplaceAllFunc(text, func(old []byte) []byte {
		found = true
		request := string(part.FindSubmatch(old)[1])
		lines, wrong := c.part(request)
		if wrong != nil && err == nil {
			err = fmt.Errorf("make docs: %s: %w", request, wrong)
		}
		return []byte("<!-- make docs: " + request + " -->\n" + strings.Join(lines, "\n") + "\n<!-- end -->")
	})
	if !found {
		return nil, nil
	}
	return filled, err
}

// part returns the lines of one part.
func (c *code) part(request string) ([]string, error) {
	kind, of, _ := strings.Cut(request, " ")
	switch kind {
	case "commands":
		return commandTable(), nil
	case "flags":
		command, without, _ := strings.Cut(of, " without ")
		return flagTable(command, without)
	case "exit-statuses":
		return c.exitStatuses()
	case "variables":
		return c.variables()
	case "routes":
		return c.routes(of)
	case "object":
		name, without, _ := strings.Cut(of, " without ")
		return c.object(name, without)
	case "lines":
		return c.lines()
	case "events":
		return c.events()
	case "metrics":
		return metricTable()
	}
	return nil, fmt.Errorf("no such part; want commands, flags, exit-statuses, variables, routes, object, lines, events or metrics")
}

// table returns a Markdown table.
func table(head []string, rows [][]string) []string {
	lines := []string{row(head), "|" + strings.Repeat("---|", len(head))}
	for _, r := range rows {
		lines = append(lines, row(r))
	}
	return lines
}

func row(cells []string) string {
	var b strings.Builder
	b.WriteString("|")
	for _, cell := range cells {
		if cell != "" {
			b.WriteString(" " + strings.ReplaceAll(cell, "|", `\|`))
		}
		b.WriteString(" |")
	}
	return b.String()
}
