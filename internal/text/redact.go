package text

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Redactor replaces secrets in texts. It finds a secret as it is, and as it stands in a URL, in JSON and in a quoted Go string. The zero
// Redactor knows no secret and changes nothing. It may be used by several goroutines at a time.
type Redactor struct {
	mask   string
	forms  []string // longest first, as one may begin with another
	starts [256]bool
}

// shortest is the fewest bytes of a secret that is replaced. A shorter one is a part of many words. With all those words changed, nobody
// could read a text, and everybody could tell what the secret is.
const shortest = 4

// NewRedactor returns a redactor that puts mask in the place of each of secrets. Secrets of fewer than 4 bytes are left out.
func NewRedactor(mask string, secrets ...string) *Redactor {
	r := &Redactor{mask: mask}
	for _, secret := range secrets {
		if len(secret) < shortest {
			continue
		}
		inGo := strconv.Quote(secret)
		inJSON, err := json.Marshal(secret)
		if err != nil { // a string always has a JSON form
			inJSON = []byte(inGo)
		}
		r.forms = append(r.forms, secret, url.QueryEscape(secret), url.PathEscape(secret), inGo[1:len(inGo)-1], string(inJSON[1:len(inJSON)-1]))
	}
	slices.SortFunc(r.forms, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	r.forms = slices.Compact(r.forms)
	for _, form := range r.forms {
		r.starts[form[0]] = true
	}
	return r
}

// Mask returns what stands in the place of a secret.
func (r *Redactor) Mask() string { return r.mask }

// Redact returns s with every secret in it replaced.
func (r *Redactor) Redact(s string) string {
	if !slices.ContainsFunc(r.forms, func(form string) bool { return strings.Contains(s, form) }) {
		return s
	}
	var b strings.Builder
	from := 0
	for i := 0; i < len(s); {
		size := 0
		if r.starts[s[i]] {
			size = r.length(s[i:])
		}
		if size == 0 {
			i++
			continue
		}
		b.WriteString(s[from:i])
		b.WriteString(r.mask)
		i += size
		from = i
	}
	b.WriteString(s[from:])
	return b.String()
}

// Starts reports whether a secret may begin with c. It is a cheap question to ask before Match.
func (r *Redactor) Starts(c byte) bool { return r.starts[c] }

// Match returns the length of the secret that text begins with, 0 for none. more reports whether text may be the beginning of a longer
// one, so that a reader of a stream should wait for what follows.
func (r *Redactor) Match(text []byte) (size int, more bool) {
	for _, form := range r.forms {
		switch {
		case len(form) > len(text):
			more = more || strings.HasPrefix(form, string(text))
		case size == 0 && string(text[:len(form)]) == form:
			size = len(form)
		}
	}
	return size, more
}

// length returns the length of the longest secret that s begins with, 0 for none.
func (r *Redactor) length(s string) int {
	for _, form := range r.forms {
		if strings.HasPrefix(s, form) {
			return len(form)
		}
	}
	return 0
}
