package ui

import (
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fatih/color"

	"github.com/hubhook/hubhook/internal/text"
)

// The most characters of a text from outside that one line shows.
const (
	maxName  = 160 // of an endpoint, a repo, a scope
	maxError = 400
	maxURL   = 2048
)

type style int

const (
	plain style = iota
	faint
	strong
	arrow
	good
	careful
	bad
	link
	styles // how many there are
)

// palette has a colour for each style, or none at all.
type palette *[styles]*color.Color

func newPalette() palette {
	p := &[styles]*color.Color{
		faint:   color.New(color.Faint),
		strong:  color.New(color.Bold),
		arrow:   color.New(color.FgCyan, color.Bold),
		good:    color.New(color.FgGreen),
		careful: color.New(color.FgYellow),
		bad:     color.New(color.FgRed),
		link:    color.New(color.FgCyan),
	}
	for _, c := range p {
		if c != nil {
			c.EnableColor() // the terminal is ours to judge, not the package's idea of os.Stdout
		}
	}
	return p
}

// lines is text for a person under construction.
type lines struct {
	buf     []byte
	scratch []byte
	column  int     // characters since the line began
	count   int     // of lines that have ended
	palette palette // nil without colour
}

var linesPool = sync.Pool{New: func() any { return new(lines) }}

func newLines(p palette) *lines {
	t := linesPool.Get().(*lines)
	t.buf, t.column, t.count, t.palette = t.buf[:0], 0, 0, p
	return t
}

func (t *lines) free() {
	if cap(t.buf) <= 4096 {
		linesPool.Put(t)
	}
}

// add writes our own words.
func (t *lines) add(s style, words string) {
	t.column += utf8.RuneCountInString(words)
	if t.palette == nil || t.palette[s] == nil || words == "" {
		t.buf = append(t.buf, words...)
		return
	}
	t.buf = append(t.buf, t.palette[s].Sprint(words)...)
}

// foreign writes words from outside as text.Printable has them.
func (t *lines) foreign(s style, words string, limit int) {
	t.add(s, text.Printable(words, limit))
}

// linked is foreign for words that are a hyperlink to target, "" for none. The sequence takes no room on the line.
func (t *lines) linked(s style, words string, limit int, target string) {
	if target == "" || text.Printable(target, maxURL) != target {
		t.foreign(s, words, limit)
		return
	}
	const begin, end = "\x1b]8;;", "\x1b\\"
	t.buf = append(append(append(t.buf, begin...), target...), end...)
	t.foreign(s, words, limit)
	t.buf = append(append(t.buf, begin...), end...)
}

func (t *lines) number(s style, n int) {
	t.scratch = strconv.AppendInt(t.scratch[:0], int64(n), 10)
	if t.palette == nil {
		t.buf = append(t.buf, t.scratch...)
		t.column += len(t.scratch)
		return
	}
	t.add(s, string(t.scratch))
}

// pad moves on to a column, if the line has not reached it.
func (t *lines) pad(column int) {
	for t.column < column {
		t.buf = append(t.buf, ' ')
		t.column++
	}
}

func (t *lines) end() {
	t.buf = append(t.buf, '\n')
	t.column = 0
	t.count++
}

// appendDuration writes d as people say it: 0.4 ms, 14 ms, 2.3 s, 1 min 20 s, 2 h 5 min.
func appendDuration(dst []byte, d time.Duration) []byte {
	tenths := func(n time.Duration, unit string) []byte { // n in tenths of the unit
		dst = strconv.AppendInt(dst, int64(n/10), 10)
		if n%10 != 0 {
			dst = append(dst, '.', byte('0'+n%10))
		}
		return append(dst, unit...)
	}
	pair := func(n, each time.Duration, large, small string) []byte {
		dst = append(strconv.AppendInt(dst, int64(n/each), 10), large...)
		if n%each == 0 {
			return dst
		}
		dst = append(dst, ' ')
		return append(strconv.AppendInt(dst, int64(n%each), 10), small...)
	}
	switch d = max(d, 0); {
	case d.Round(time.Millisecond/10) < 10*time.Millisecond:
		return tenths(d.Round(time.Millisecond/10)/(time.Millisecond/10), " ms")
	case d.Round(time.Millisecond) < time.Second:
		return tenths(10*(d.Round(time.Millisecond)/time.Millisecond), " ms")
	case d.Round(time.Second/10) < time.Minute:
		return tenths(d.Round(time.Second/10)/(time.Second/10), " s")
	case d.Round(time.Second) < time.Hour:
		return pair(d.Round(time.Second)/time.Second, 60, " min", " s")
	}
	return pair(d.Round(time.Minute)/time.Minute, 60, " h", " min")
}

func (t *lines) duration(s style, d time.Duration) {
	t.scratch = appendDuration(t.scratch[:0], d)
	if t.palette == nil {
		t.buf = append(t.buf, t.scratch...)
		t.column += len(t.scratch)
		return
	}
	t.add(s, string(t.scratch))
}
