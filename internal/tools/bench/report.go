package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// A reporter prints progress on standard error. On a terminal it overwrites the last line.
type reporter struct {
	out      io.Writer
	terminal bool
	state    *reported
}

type reported struct {
	mu      sync.Mutex
	pending bool // the last line can be overwritten
}

func newReporter(f *os.File) reporter {
	return reporter{out: f, terminal: term.IsTerminal(int(f.Fd())), state: new(reported)}
}

const clearLine = "\r\x1b[K"

// say writes a line that is not overwritten.
func (r reporter) say(format string, args ...any) {
	r.wipe()
	fmt.Fprintf(r.out, "bench: "+format+"\n", args...)
}

// progress overwrites the last line, on a terminal only. It may be called from several goroutines.
func (r reporter) progress(format string, args ...any) {
	if !r.terminal {
		return
	}
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	r.state.pending = true
	fmt.Fprintf(r.out, clearLine+"bench: "+format, args...)
}

// wipe removes the last line.
func (r reporter) wipe() {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	if r.state.pending {
		fmt.Fprint(r.out, clearLine)
	}
	r.state.pending = false
}
