package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/cli"
)

// Each command has a page that names it and its flags, and no Markdown is left in it.
func TestManPages(t *testing.T) {
	t.Parallel()
	pages, err := manPages("v1.2.3", time.Unix(1700000000, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	if want := len(commandPaths(cli.Commands())); len(pages) != want || want < 20 {
		t.Errorf("there are %d pages, and %d commands", len(pages), want)
	}
	for name, page := range pages {
		command := strings.TrimSuffix(name, ".1")
		if text := string(page); !strings.Contains(text, command) || !strings.Contains(text, "hubhook v1.2.3") || !strings.Contains(text, "Nov 2023") || strings.Contains(text, "```") {
			t.Errorf("%s does not name %s and its version, or has Markdown in it:\n%s", name, command, text)
		}
	}
	serve := string(pages["hubhook-serve.1"])
	for _, want := range []string{`\fB--port\fP=PORT`, "[HUBHOOK_PORT]", `\fB--json\fP[=true|false]`, "WEBHOOK_SECRET=... hubhook serve"} {
		if !strings.Contains(serve, want) {
			t.Errorf("the page of serve has no %q:\n%s", want, serve)
		}
	}
}
