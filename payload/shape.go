package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// shape is what version 3 documents about a value: what kind it is, and what is
// in it, in the order in which samples show it.
type shape struct {
	want     string // with its article
	kind     kind
	nullable bool
	fields   []field // of an object
	element  *shape  // of an array
	open     bool    // any field, of any shape
}

type field struct {
	name string
	*shape
}

var (
	text    = &shape{want: "a string", kind: isString}
	sha     = &shape{want: "a string or null", kind: isString, nullable: true}
	integer = &shape{want: "an integer", kind: isNumber}
	boolean = &shape{want: "a boolean", kind: isTrue}
	anyKind = &shape{want: "a value", open: true}
	account = object(field{"id", text})
	webURL  = object(field{"web", text})
	urls    = object(field{"web", text}, field{"api", text})
)

func object(fields ...field) *shape {
	return &shape{want: "an object", kind: isObject, fields: fields}
}

func array(element *shape) *shape {
	return &shape{want: "an array", kind: isArray, element: element}
}

var payloadShape = object(
	field{"event", object(
		field{"action", text},
		field{"scope", text},
	)},
	field{"repo", object(
		field{"type", text},
		field{"name", text},
		field{"id", text},
		field{"private", boolean},
		field{"subdomain", text},
		field{"url", urls},
		field{"headSha", text},
		field{"owner", account},
		field{"tags", array(text)},
	)},
	field{"updatedRefs", array(object(
		field{"ref", text},
		field{"oldSha", sha},
		field{"newSha", sha},
	))},
	field{"updatedFiles", array(object(
		field{"path", text},
		field{"action", text},
		field{"xetHash", text},
		field{"size", integer},
	))},
	field{"updatedFilesTruncated", boolean},
	field{"updatedConfig", &shape{want: "an object", kind: isObject, open: true}},
	field{"movedTo", object(
		field{"name", text},
		field{"owner", account},
	)},
	field{"discussion", object(
		field{"id", text},
		field{"title", text},
		field{"url", urls},
		field{"status", text},
		field{"author", account},
		field{"num", integer},
		field{"isPullRequest", boolean},
		field{"changes", object(
			field{"base", text},
			field{"mergeCommitId", sha},
		)},
		field{"pinned", boolean},
	)},
	field{"comment", object(
		field{"id", text},
		field{"author", account},
		field{"content", text},
		field{"hidden", boolean},
		field{"url", webURL},
	)},
	field{"webhook", object(
		field{"id", text},
		field{"version", integer},
	)},
)

// child returns the shape of what is directly under s.
func (s *shape) child(name string) (*shape, bool) {
	if s.open {
		return anyKind, true
	}
	for _, f := range s.fields {
		if f.name == name {
			return f.shape, true
		}
	}
	return nil, false
}

// fromText reads a value that is given as text, as on a command line. A string is
// the text itself; where a string or null may be, the text null is null; the rest
// is JSON, and where anything may be, what isn't JSON is a string.
func (s *shape) fromText(text string) any {
	if s.kind == isString {
		if s.nullable && text == "null" {
			return nil
		}
		return text
	}
	if v, err := decodeValue([]byte(text)); err == nil {
		return v
	}
	return text
}

// check returns the first thing about v, at the given path, that is not of the
// shape s, and nil if v is as it should be.
func (s *shape) check(path string, v any) error {
	have := missing
	switch v := v.(type) {
	case nil:
		if s.nullable {
			return nil
		}
		have = isNull
	case string:
		have = isString
	case bool:
		have = isTrue
	case json.Number:
		have = isNumber
		if s.kind == isNumber {
			if _, err := strconv.ParseInt(v.String(), 10, 64); err != nil {
				return &FieldError{Path: path, Want: s.want, Have: v.String()}
			}
		}
	case []any:
		have = isArray
		if s.kind == isArray {
			for i, e := range v {
				if err := s.element.check(path+"."+strconv.Itoa(i), e); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		have = isObject
		if s.kind == isObject {
			for _, name := range slices.Sorted(maps.Keys(v)) {
				inner, ok := s.child(name)
				if !ok {
					return s.unknown(path, name)
				}
				if err := inner.check(path+"."+name, v[name]); err != nil {
					return err
				}
			}
		}
	}
	if have != s.kind && s != anyKind {
		return &FieldError{Path: path, Want: s.want, Have: have.String()}
	}
	return nil
}

// unknown says that s, at the given path, has no field of that name, and which
// it has.
func (s *shape) unknown(path, name string) error {
	if s.kind != isObject && s.kind != isArray {
		return fmt.Errorf("%s: is %s and has nothing under it", path, s.want)
	}
	if path != "" {
		path += "."
	}
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return fmt.Errorf("%s%s: no such field; %s", path, name, suggest(path, name, names))
}

// suggest names the one of the known words that was probably meant, or all of
// them, each with the prefix.
func suggest(prefix, word string, known []string) string {
	best, distance := "", math.MaxInt
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if distance <= min(2, (len(word)+1)/2) {
		return "did you mean " + prefix + best + "?"
	}
	return "known are " + prefix + strings.Join(known, ", "+prefix)
}

// editDistance counts the bytes to insert, delete or replace to get from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// decodeValue reads one JSON value with its numbers as they are written.
func decodeValue(b []byte) (any, error) {
	if !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// appendValue appends v, of the shape s, as JSON with members in the shape's order.
func appendValue(dst []byte, v any, s *shape) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for _, f := range s.fields {
			if _, ok := v[f.name]; ok {
				names = append(names, f.name)
			}
		}
		if s.open {
			names = slices.Sorted(maps.Keys(v))
		}
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendValue(dst, name, text); err != nil {
				return nil, err
			}
			inner, _ := s.child(name)
			if dst, err = appendValue(append(dst, ':'), v[name], inner); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case []any:
		element := s.element
		if element == nil {
			element = anyKind
		}
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendValue(dst, e, element); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...), nil
}
