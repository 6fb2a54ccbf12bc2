package cli

import (
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/action"
)

// The line about a program that has ended says why before it says what comes next.
func TestDevSaysWhyAProgramEnded(t *testing.T) {
	for want, event := range map[string]action.ProgramEvent{
		"ended by itself (exit status 1): the program ended: KeyError: 'x'; it is started again after an edit, or in 2s": {
			Exit: &action.Exit{How: "exit status 1", Started: true}, Advice: &action.Advice{Cause: "the program ended: KeyError: 'x'"},
		},
		"ended by itself (exit status 0); it is started again after an edit, or in 2s": {Exit: &action.Exit{How: "exit status 0", Started: true}},
	} {
		event.Phase, event.Wait = action.ProgramExited, 2*time.Second
		if have := words(event); have != want {
			t.Errorf("have %q\nwant %q", have, want)
		}
	}
}
