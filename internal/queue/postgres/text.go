package postgres

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// escapeText returns s in a form that PostgreSQL can store. PostgreSQL refuses NUL and invalid UTF-8. Such bytes become \xHH, and a
// backslash becomes two.
func escapeText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsAny(s, "\\\x00") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == 0, r == utf8.RuneError && size == 1:
			const digits = "0123456789abcdef"
			b.WriteString(`\x`)
			b.WriteByte(digits[s[i]>>4])
			b.WriteByte(digits[s[i]&15])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// unescapeText is the inverse of escapeText.
func unescapeText(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		s = after
		switch {
		case strings.HasPrefix(s, `\`):
			b.WriteByte('\\')
			s = s[1:]
		case len(s) >= 3 && s[0] == 'x':
			if n, err := strconv.ParseUint(s[1:3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[3:]
				continue
			}
			b.WriteByte('\\')
		default:
			b.WriteByte('\\')
		}
	}
}
