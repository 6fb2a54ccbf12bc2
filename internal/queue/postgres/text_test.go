package postgres

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzEscapeText(f *testing.F) {
	for _, s := range []string{"", "plain", `back\slash`, `\x41`, "\x00", "\xff\xfe", "ünï\xc3", "\\\x00\\x", "�"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := escapeText(s)
		if !utf8.ValidString(e) || strings.Contains(e, "\x00") {
			t.Errorf("%q is stored as %q, which PostgreSQL refuses", s, e)
		}
		if back := unescapeText(e); back != s {
			t.Errorf("%q is stored as %q and comes back as %q", s, e, back)
		}
	})
}
