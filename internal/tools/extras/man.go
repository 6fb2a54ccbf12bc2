package main

import (
	"bytes"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/hubhook/hubhook/internal/cli"
	"github.com/hubhook/hubhook/internal/env"
)

// manPages returns the man page of each command, by its file name.
func manPages(version string, date time.Time) (map[string][]byte, error) {
	pages := make(map[string][]byte)
	for _, path := range commandPaths(cli.Commands()) {
		// Commands share flags, and asMarkdown may rewrite a flag only once, so each page has commands of its own.
		cmd, _, err := cli.Commands().Find(path[1:])
		if err != nil {
			return nil, err
		}
		asMarkdown(cmd)
		var page bytes.Buffer
		if err := doc.GenMan(cmd, &doc.GenManHeader{Date: &date, Source: "hubhook " + version, Manual: "hubhook"}, &page); err != nil {
			return nil, err
		}
		pages[strings.Join(path, "-")+".1"] = page.Bytes()
	}
	return pages, nil
}

// commandPaths returns the words that call cmd and each command below it.
func commandPaths(cmd *cobra.Command) [][]string {
	paths := [][]string{strings.Fields(cmd.CommandPath())}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			paths = append(paths, commandPaths(c)...)
		}
	}
	return paths
}

// asMarkdown rewrites the texts of cmd, which are written for a terminal. The generator takes them for Markdown.
func asMarkdown(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	cmd.Long = description(cmd.Long)
	cmd.InitDefaultHelpFlag()
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		f.Usage = escape(usage)
		if f.Name != "help" {
			f.Usage += " " + escape("["+env.Variable(f.Name)+"]")
		}
		// The generator shows DefValue behind the flag: --port=N, or --json[=true|false] where the flag may stand alone.
		if f.DefValue = escape(value); f.NoOptDefVal != "" {
			f.DefValue = "true|false"
		}
		f.Value = unquoted{f.Value}
	})
}

// unquoted is a flag whose value the generator shows without quotes.
type unquoted struct{ pflag.Value }

func (unquoted) Type() string { return "unquoted" }

// description makes code blocks of indented lines, and paragraphs of the others.
func description(text string) string {
	var b strings.Builder
	inBlock := false
	for line := range strings.Lines(text) {
		if indented := strings.HasPrefix(line, "  "); indented != inBlock {
			b.WriteString("\n```\n")
			inBlock = indented
		}
		if inBlock {
			b.WriteString(line)
		} else {
			b.WriteString(escape(line))
		}
	}
	if inBlock {
		b.WriteString("\n```\n")
	}
	return b.String()
}

var special = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~]")

// escape makes Markdown of text that means what it shows.
func escape(text string) string { return special.ReplaceAllString(text, `\$0`) }
