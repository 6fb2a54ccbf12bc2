//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

// Each case is a symptom of a broken queue, and the comparison must find each.
func TestComparisonSeesWhatIsWrong(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	attempt := func(text string) api.Attempt {
		ms := int64(1)
		return api.Attempt{N: 1, Started: api.Time{Time: at}, DurationMS: &ms, Error: text}
	}
	// good returns an event that was accepted and handled once, and its stored delivery.
	good := func() (*event, []*found) {
		e := &event{n: 1, repo: "soak/e1", endpoint: "plain", webhookID: "w", plan: plan{Do: succeed}, tries: 2,
			answers: []answer{{id: "A"}, {id: "A", state: "duplicate"}}, replayed: map[string]bool{}, discards: map[string]bool{}}
		f := &found{Delivery: api.Delivery{ID: "A", Endpoint: "plain", State: string(queue.Done), WebhookID: "w", Attempts: 1, Duplicates: 1,
			Received: api.Time{Time: at}}, handling: handling{starts: 1, dones: 1}}
		return e, []*found{f}
	}
	for name, damage := range map[string]func(e *event, f *found) []*found{
		"lost":                      func(*event, *found) []*found { return nil },
		"another one's answer":      func(e *event, f *found) []*found { e.answers[0].id = "B"; return []*found{f} },
		"not handled":               func(_ *event, f *found) []*found { f.starts, f.dones = 0, 0; return []*found{f} },
		"handled twice":             func(_ *event, f *found) []*found { f.Attempts, f.starts, f.dones = 2, 2, 2; return []*found{f} },
		"unfinished":                func(_ *event, f *found) []*found { f.State = string(queue.Waiting); return []*found{f} },
		"dead without a cause":      func(_ *event, f *found) []*found { f.State = string(queue.Dead); return []*found{f} },
		"discarded by nobody":       func(_ *event, f *found) []*found { f.State = string(queue.Discarded); return []*found{f} },
		"discarded, and done":       func(e *event, f *found) []*found { e.discards["A"] = true; return []*found{f} },
		"merged without a burst":    func(_ *event, f *found) []*found { f.State, f.starts = string(queue.Merged), 0; return []*found{f} },
		"another endpoint":          func(_ *event, f *found) []*found { f.Endpoint = "narrow"; return []*found{f} },
		"duplicates not counted":    func(_ *event, f *found) []*found { f.Duplicates = 0; return []*found{f} },
		"duplicates made up":        func(_ *event, f *found) []*found { f.Duplicates = 2; return []*found{f} },
		"answered dead, but done":   func(e *event, f *found) []*found { e.answers[0].state = "dead"; return []*found{f} },
		"a replay nobody asked for": func(_ *event, f *found) []*found { g := *f; g.ID, g.ReplayOf = "B", "A"; return []*found{f, &g} },
		"a replay lost":             func(e *event, f *found) []*found { e.replays, e.replayed["B"] = 1, true; return []*found{f} },
		"accepted twice":            func(_ *event, f *found) []*found { g := *f; g.ID = "B"; return []*found{f, &g} },
		"fails too often": func(e *event, f *found) []*found {
			e.plan = plan{Do: fail, Times: 9}
			f.State, f.Attempts, f.starts, f.dones, f.failed = string(queue.Dead), 4, 4, 0, 4
			f.attempts = []api.Attempt{attempt("no"), attempt("no"), attempt("no"), attempt("no")}
			return []*found{f}
		},
		"given up too early by kills": func(_ *event, f *found) []*found {
			f.State, f.Reason, f.cut, f.dones = string(queue.Dead), diedReason, 4, 0
			return []*found{f}
		},
	} {
		s := &soak{cfg: config{out: writer{t}}}
		e, stored := good()
		if s.compareEvent(e, stored); len(s.violations) > 0 {
			t.Fatalf("what is right is wrong: %q", s.violations)
		}
		e, stored = good()
		if s.compareEvent(e, damage(e, stored[0])); len(s.violations) == 0 {
			t.Errorf("%s: not seen", name)
		}
	}
}

func TestNotesSeeWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		wrong string
	}{
		{"one after the other", []string{noteLine(noteStart, "A", 1, "k", nil), noteLine(noteDone, "A", 1, "k", nil), noteLine(noteEnd, "A", 1, "k", nil),
			noteLine(noteStart, "B", 2, "k", nil)}, ""},
		{"after the end of a process", []string{noteLine(noteStart, "A", 1, "k", nil), noteLine(noteGone, "", 1, "", nil),
			noteLine(noteStart, "B", 2, "k", nil), noteLine(noteStart, "A", 3, "j", nil)}, ""},
		{"one key at once", []string{noteLine(noteStart, "A", 1, "k", nil), noteLine(noteStart, "B", 1, "k", nil)}, "has the key k too"},
		{"one delivery at once", []string{noteLine(noteStart, "A", 1, "", nil), noteLine(noteStart, "A", 2, "", nil)}, "while 1 still does"},
		{"done by another process", []string{noteLine(noteStart, "A", 1, "", nil), noteLine(noteDone, "A", 2, "", nil)}, "which is handled by"},
		{"half a line", []string{"start A"}, "is none"},
	} {
		file := filepath.Join(t.TempDir(), "notes")
		if err := os.WriteFile(file, []byte(strings.Join(test.lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		_, wrong, err := readNotes(file)
		if err != nil || (test.wrong == "") != (len(wrong) == 0) || !strings.Contains(strings.Join(wrong, "\n"), test.wrong) {
			t.Errorf("%s: %q, %v; want %q", test.name, wrong, err, test.wrong)
		}
	}
}

func TestASurvivorIsToldOfItsBurst(t *testing.T) {
	merged := &found{Delivery: api.Delivery{ID: "A", State: string(queue.Merged), MergedInto: "B"}}
	survivor := &found{Delivery: api.Delivery{ID: "B", State: string(queue.Done)}, handling: handling{dones: 1, merged: []string{"A"}}}
	all := map[string]*found{"A": merged, "B": survivor}
	if err := wantSurvivor(merged, all); err != nil {
		t.Error(err)
	}
	survivor.merged = nil
	if wantSurvivor(merged, all) == nil {
		t.Error("one that was not told of what was merged into it passes")
	}
	if wantSurvivor(merged, map[string]*found{"A": merged}) == nil {
		t.Error("one that was merged into nothing passes")
	}
	if merged.MergedInto = ""; wantSurvivor(merged, all) == nil {
		t.Error("one that is merged without saying into what passes")
	}
}
