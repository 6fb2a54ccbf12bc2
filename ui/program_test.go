package ui

import (
	"testing"

	"github.com/hubhook/hubhook/internal/api"
)

// What is wrong with a program stands on standard error, and keeps nothing of its endpoints from being listed.
func TestProgramLines(t *testing.T) {
	endpoints := []api.Endpoint{{Name: "hook", URL: "https://example.com/webhooks/hook"}}
	const listed = `
Webhooks are correctly setup and ready to use:
  - POST https://example.com/webhooks/hook
Go to https://huggingface.co/settings/webhooks to setup your webhooks.

`
	out, errs := show(t, Config{}, func(s *Screen) {
		s.Program(api.ProgramEvent{Program: "app.py", Text: "is ready", Endpoints: endpoints})
		s.Program(api.ProgramEvent{Program: "app.py", Text: "it listens on port 5000", Hint: "use PORT", Trouble: true, Endpoints: endpoints})
		s.Program(api.ProgramEvent{Program: "app.py", Text: "restarts"})
		s.Program(api.ProgramEvent{Program: "app.py"})
	})
	equal(t, out, "--- app.py is ready\n"+listed+listed+"--- app.py restarts\n")
	equal(t, errs, "hubhook: app.py: it listens on port 5000\n  hint: use PORT\n")
}
