package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// A reporter says on standard error what is going on. On a terminal a last line is written over again and again.
type reporter struct {
	out      io.Writer
	terminal bool
	state    *reported
}

type reported struct {
	mu      sync.Mutex
	pending bool // there is a last line
}

func newReporter(f *os.File) reporter {
	return reporter{out: f, terminal: term.IsTerminal(int(f.Fd())), state: new(reported)}
}

const clearLine = "\r\x1b[K"

// say writes a line that stays.
func (r reporter) say(format string, args ...any) {
	r.wipe()
	fmt.Fprintf(r.out, "bench: "+format+"\n", args...)
}

// progress writes over the last line, on a terminal only. It may be called from several goroutines.
func (r reporter) progress(format string, args ...any) {
	if !r.terminal {
		return
	}
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	r.state.pending = true
	fmt.Fprintf(r.out, clearLine+"bench: "+format, args...)
}

// wipe takes the last line away.
func (r reporter) wipe() {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	if r.state.pending {
		fmt.Fprint(r.out, clearLine)
	}
	r.state.pending = false
}
