package text

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable returns words from outside as they can be shown on one line. It quotes, as Go does in a string, what a terminal could obey and
// what could fool a reader: control characters, escape sequences, marks that turn the direction of writing, bytes that are not UTF-8. It
// cuts the words after limit characters, with "…" in the place of the rest. A limit of 0 cuts nothing.
func Printable(words string, limit int) string {
	if limit <= 0 {
		limit = len(words)
	}
	if len(words) <= limit && isPlain(words) {
		return words
	}
	var b []byte
	for n := 0; words != ""; n++ {
		if n == limit {
			b = append(b, "…"...)
			break
		}
		var size int
		b, size = appendPrintable(b, words)
		words = words[size:]
	}
	return string(b)
}

// PrintableLines is Printable for text of several lines, which stay lines. A tab becomes four spaces.
func PrintableLines(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\t", "    "), "\n")
	for i, line := range lines {
		lines[i] = Printable(strings.TrimSuffix(line, "\r"), 0)
	}
	return strings.Join(lines, "\n")
}

// OneLine is Printable for text of any number of lines: each run of white space becomes one space, and none is left at the ends.
func OneLine(text string, limit int) string {
	var b []byte
	n, space := 0, false
	for text != "" {
		if r, size := utf8.DecodeRuneInString(text); unicode.IsSpace(r) {
			space, text = n > 0, text[size:]
			continue
		}
		if space {
			b = append(b, ' ')
			n++
			space = false
		}
		if n >= limit {
			b = append(b, "…"...)
			break
		}
		var size int
		b, size = appendPrintable(b, text)
		text = text[size:]
		n++
	}
	return string(b)
}

// PrintableJSON returns compact or indented JSON in which everything that a terminal could obey is escaped. It stands for the same value,
// and its lines stay lines. Where nothing has to be escaped it returns text itself.
func PrintableJSON(text []byte) []byte {
	if isPlainJSON(text) {
		return text
	}
	safe := make([]byte, 0, len(text)+len(text)/8)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case unicode.IsPrint(r) || r == '\n':
			safe = append(safe, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			// Such characters stand in strings only, where an escape is right.
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
		text = text[size:]
	}
	return safe
}

// appendPrintable appends the first character of words, quoted if need be, and returns how many bytes it has in words.
func appendPrintable(dst []byte, words string) ([]byte, int) {
	r, size := utf8.DecodeRuneInString(words)
	switch {
	case r == utf8.RuneError && size == 1:
		return fmt.Appendf(dst, `\x%02x`, words[0]), size
	case unicode.IsPrint(r):
		return append(dst, words[:size]...), size
	}
	quoted := strconv.QuoteRune(r)
	return append(dst, quoted[1:len(quoted)-1]...), size
}

// isPlain reports whether words are printable ASCII.
func isPlain(words string) bool {
	for i := range len(words) {
		if words[i] < ' ' || words[i] > '~' {
			return false
		}
	}
	return true
}

// isPlainJSON reports whether text, which is JSON, is printable ASCII in lines.
func isPlainJSON(text []byte) bool {
	for _, c := range text {
		if c > '~' || c < ' ' && c != '\n' {
			return false
		}
	}
	return true
}
