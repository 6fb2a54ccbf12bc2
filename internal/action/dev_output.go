package action

import (
	"bytes"
	"slices"
	"sync"
)

const (
	lineLimit = 8 << 10 // a longer line is told in parts
	keptLines = 40      // for a crash
	keptWidth = 500     // bytes of each of them
)

// programLines cuts what a program prints into lines. Of a line that was written over (a progress bar), only what it was in the end counts.
type programLines struct {
	mu    sync.Mutex
	line  []byte
	wiped bool // a carriage return came: what follows it, if anything but a line's end does, replaces the line
	last  []string
	ended int               // lines in all
	each  func(line string) // may be nil; called in order
}

// Write implements io.Writer. It never fails.
func (l *programLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := b; len(rest) > 0; {
		i := bytes.IndexAny(rest, "\r\n")
		text := rest
		if i >= 0 {
			text = rest[:i]
		}
		if len(text) > 0 && l.wiped {
			l.line, l.wiped = l.line[:0], false
		}
		for len(l.line)+len(text) > lineLimit {
			n := lineLimit - len(l.line)
			l.line = append(l.line, text[:n]...)
			text = text[n:]
			l.end()
		}
		l.line = append(l.line, text...)
		if i < 0 {
			break
		}
		if rest[i] == '\r' {
			l.wiped = true
		} else {
			l.end()
		}
		rest = rest[i+1:]
	}
	return len(b), nil
}

// flush ends a line that the program left open.
func (l *programLines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.end()
	}
}

// kept returns the last lines.
func (l *programLines) kept() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.last)
}

// since returns the last lines of those printed after the first n.
func (l *programLines) since(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.last[len(l.last)-min(len(l.last), l.ended-n):])
}

// count returns how many lines were printed in all.
func (l *programLines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *programLines) end() {
	l.ended++
	line := string(l.line)
	l.line, l.wiped = l.line[:0], false
	if len(l.last) == keptLines {
		l.last = slices.Delete(l.last, 0, 1)
	}
	l.last = append(l.last, line[:min(len(line), keptWidth)])
	if l.each != nil {
		l.each(line)
	}
}
