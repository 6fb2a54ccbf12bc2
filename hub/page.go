package hub

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// pages yields the entries of a list that the Hub answers in pages. The next page is requested once the entries before it were taken. count
// is called before each request; an error of it ends the list. It may be nil.
func pages[T any](ctx context.Context, c *Client, op, path string, query url.Values, count func() error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		first := call{op: op, method: http.MethodGet, url: c.address(path, query), safe: true}
		for at := first; ; {
			if count != nil {
				if err := count(); err != nil {
					yield(none, err)
					return
				}
			}
			answer, err := c.send(ctx, at)
			if err != nil {
				yield(none, err)
				return
			}
			var entries []T
			if err := c.decode(at, answer, &entries); err != nil {
				yield(none, err)
				return
			}
			for _, entry := range entries {
				if !yield(entry, nil) {
					return
				}
			}
			next, err := c.next(at.url, answer.header)
			if err != nil {
				e := c.failed(at, Token{})
				e.Err = err
				yield(none, e)
				return
			}
			if next == nil {
				return
			}
			at.url = next
		}
	}
}

// next returns the URL of the page after the one at current, nil for none. A page elsewhere than on the Hub is refused: the token must not
// go there. So is the same page again, which would never end.
func (c *Client) next(current *url.URL, header http.Header) (*url.URL, error) {
	target := nextLink(header.Values("Link"))
	if target == "" {
		return nil, nil
	}
	next, err := current.Parse(target)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the link to the next page is no URL")
	case !c.ours(next):
		return nil, fmt.Errorf("the next page is on another host, %s, which hubhook does not follow", next.Host)
	case next.String() == current.String():
		return nil, fmt.Errorf("the link to the next page leads to the same page")
	}
	return next, nil
}

// nextLink returns the target of the link with rel="next" in the values of a Link header (RFC 8288), "" for none.
func nextLink(values []string) string {
	for _, value := range values {
		for value != "" {
			start := strings.IndexByte(value, '<')
			if start < 0 {
				break
			}
			end := strings.IndexByte(value[start:], '>')
			if end < 0 {
				break
			}
			target := value[start+1 : start+end]
			var parameters string
			parameters, value = cutLink(value[start+end+1:])
			if isNext(parameters) {
				return target
			}
		}
	}
	return ""
}

// cutLink returns the parameters of a link and what follows its comma. A comma in quotes belongs to the parameter.
func cutLink(s string) (parameters, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func isNext(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "rel") {
			continue
		}
		for rel := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
			if strings.EqualFold(rel, "next") {
				return true
			}
		}
	}
	return false
}
