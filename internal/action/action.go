// Package action has the handlers that are not Go functions: commands, forwarding to a URL, filters, and the file hubhook.yaml that
// says which endpoint has which.
package action

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown bounds, in bytes, a piece of foreign text in an error or a reason.
const maxShown = 300

// oneLine makes text of a program or a sender fit to stand inside a message: one line, no control characters, at most max bytes and
// "..." where it is cut.
func oneLine(text string, max int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(text) <= max {
		return text
	}
	for max > 0 && !utf8.RuneStart(text[max]) {
		max--
	}
	return text[:max] + "..."
}
