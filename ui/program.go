package ui

import "github.com/hubhook/hubhook/internal/api"

// Program prints what the program of `hubhook dev` does. Trouble is a warning, with its hint.
func (s *Screen) Program(e api.ProgramEvent) {
	if s.json && s.out != nil {
		s.putJSON(&api.ProgramLine{Line: s.line(api.LineProgram), ProgramEvent: e}, notable)
	}
	if e.Trouble {
		s.Warn(Notice{Text: e.Program + ": " + e.Text, Hint: e.Hint})
		e.Text = ""
	}
	if s.json || s.out == nil || e.Text == "" && len(e.Endpoints) == 0 {
		return
	}
	for _, endpoint := range e.Endpoints {
		s.fitName(endpoint.Name)
	}
	t := newLines(s.outPalette)
	defer t.free()
	if e.Text != "" {
		t.add(arrow, "--- ")
		t.foreign(strong, e.Program, maxName)
		t.add(plain, " ")
		t.foreign(plain, e.Text, maxError)
		t.end()
		t.hint(e.Hint)
	}
	if len(e.Endpoints) > 0 {
		t.end()
		t.ready(Ready{Ready: api.Ready{Endpoints: e.Endpoints, Webhooks: e.Kept}})
		t.end()
	}
	s.out.put(t.buf, t.count, notable)
}

// ProgramOutput prints a line of that program's output, with its name before it.
func (s *Screen) ProgramOutput(o api.ProgramOutput) {
	if s.out == nil || s.out.full() {
		return
	}
	if s.json {
		s.putJSON(&api.OutputLine{Line: s.line(api.LineOutput), ProgramOutput: o}, laneLimit)
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	t.foreign(faint, o.Program, maxName)
	t.add(faint, " | ")
	t.foreign(plain, o.Output, maxURL)
	t.end()
	s.out.put(t.buf, t.count, laneLimit)
}
