package ui

import (
	"io"
	"time"
)

// Ink writes words for a stream on which a command prints once: coloured where the stream is a terminal that wants colours, plain
// anywhere else. The zero Ink is plain.
type Ink struct {
	palette palette
	width   int
}

// NewInk returns the ink for w. Colours are off where NO_COLOR is not empty or TERM is dumb.
func NewInk(w io.Writer) Ink {
	ink := Ink{}
	if colourful(Config{}, w) {
		ink.palette = newPalette()
	}
	if width := terminalWidth(w); width != nil {
		ink.width = width()
	}
	return ink
}

// Width tells how many characters a line holds; 0 is any number, which is so for all but terminals.
func (i Ink) Width() int { return i.width }

// Strong, Faint and Bad colour words of any kind.
func (i Ink) Strong(words string) string { return i.paint(strong, words) }

// Faint is for what matters less; see Strong.
func (i Ink) Faint(words string) string { return i.paint(faint, words) }

// Bad is for failures; see Strong.
func (i Ink) Bad(words string) string { return i.paint(bad, words) }

// State colours words, which name or begin with a delivery's state, as event lines do for that state.
func (i Ink) State(state, words string) string { return i.paint(moodOf(state), words) }

func (i Ink) paint(s style, words string) string {
	if i.palette == nil || i.palette[s] == nil || words == "" {
		return words
	}
	return i.palette[s].Sprint(words)
}

// Duration writes d as people say it: 0.4 ms, 14 ms, 2.3 s, 1 min 20 s, 2 h 5 min.
func Duration(d time.Duration) string { return string(appendDuration(nil, d)) }
