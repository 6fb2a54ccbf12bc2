package ui

import (
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fatih/color"
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

// text is lines under construction.
type text struct {
	buf     []byte
	scratch []byte
	column  int // characters since the line began
	lines   int
	palette palette // nil without colour
}

var texts = sync.Pool{New: func() any { return new(text) }}

func newText(p palette) *text {
	t := texts.Get().(*text)
	t.buf, t.column, t.lines, t.palette = t.buf[:0], 0, 0, p
	return t
}

func (t *text) free() {
	if cap(t.buf) <= 4096 {
		texts.Put(t)
	}
}

// add writes our own words.
func (t *text) add(s style, words string) {
	t.column += utf8.RuneCountInString(words)
	if t.palette == nil || t.palette[s] == nil || words == "" {
		t.buf = append(t.buf, words...)
		return
	}
	t.buf = append(t.buf, t.palette[s].Sprint(words)...)
}

// foreign writes words from outside: made harmless, and cut after limit characters.
func (t *text) foreign(s style, words string, limit int) {
	if tame(words, limit) {
		t.add(s, words)
		return
	}
	t.scratch = appendTamed(t.scratch[:0], words, limit)
	t.add(s, string(t.scratch))
}

// linked is foreign for words that are a hyperlink to target, "" for none. The sequence takes no room on the line.
func (t *text) linked(s style, words string, limit int, target string) {
	if target == "" || !tame(target, maxURL) {
		t.foreign(s, words, limit)
		return
	}
	const begin, end = "\x1b]8;;", "\x1b\\"
	t.buf = append(append(append(t.buf, begin...), target...), end...)
	t.foreign(s, words, limit)
	t.buf = append(append(t.buf, begin...), end...)
}

func (t *text) number(s style, n int) {
	t.scratch = strconv.AppendInt(t.scratch[:0], int64(n), 10)
	if t.palette == nil {
		t.buf = append(t.buf, t.scratch...)
		t.column += len(t.scratch)
		return
	}
	t.add(s, string(t.scratch))
}

// pad moves on to a column, if the line has not reached it.
func (t *text) pad(column int) {
	for t.column < column {
		t.buf = append(t.buf, ' ')
		t.column++
	}
}

func (t *text) end() {
	t.buf = append(t.buf, '\n')
	t.column = 0
	t.lines++
}

// tame reports whether words can be shown as they are.
func tame(words string, limit int) bool {
	if len(words) > limit {
		return false
	}
	for i := 0; i < len(words); i++ {
		if c := words[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// appendTamed quotes, as Go does in a string, whatever a terminal could obey or a reader be fooled by: control characters, escape
// sequences, marks that turn the direction of writing, bytes that are not UTF-8.
func appendTamed(dst []byte, words string, limit int) []byte {
	for n := 0; words != ""; n++ {
		if n == limit {
			return append(dst, "…"...)
		}
		r, size := utf8.DecodeRuneInString(words)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, words[0])
		case unicode.IsPrint(r):
			dst = append(dst, words[:size]...)
		default:
			quoted := strconv.QuoteRune(r)
			dst = append(dst, quoted[1:len(quoted)-1]...)
		}
		words = words[size:]
	}
	return dst
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

func (t *text) duration(s style, d time.Duration) {
	t.scratch = appendDuration(t.scratch[:0], d)
	if t.palette == nil {
		t.buf = append(t.buf, t.scratch...)
		t.column += len(t.scratch)
		return
	}
	t.add(s, string(t.scratch))
}
