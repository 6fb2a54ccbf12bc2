package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// shape is what version 3 of the payload documents about a value. Sample makes
// and checks values by it.
//
// Each field is described once, in the structs of Payload. Shapes are made from
// them when the program starts. TestFields makes the code that reads a payload
// (fields.go) and the table in docs/payload.md from them. This is what they say:
//
//   - The json tag has a field's name.
//   - The order of a struct's fields is the order in a sample.
//   - hub:"required" marks a field without which the payload is unusable, or the
//     element of a list is left out.
//   - hub:"only=NAME" marks an object of which the Hub sends only that member.
type shape struct {
	want     string // with its article
	kind     kind   // isTrue for a boolean
	nullable bool
	fields   []field // of an object
	element  *shape  // of an array
	open     bool    // any field, of any shape
}

type field struct {
	name     string
	required bool
	*shape
}

var (
	aString      = &shape{want: "a string", kind: isString}
	anyKind      = &shape{want: "a value", open: true}
	payloadShape = shapeOf(reflect.TypeFor[Payload]())
)

// shapeOf returns the shape of the JSON that is read into a Go value of type t.
func shapeOf(t reflect.Type) *shape {
	switch t {
	case reflect.TypeFor[SHA]():
		return &shape{want: "a string or null", kind: isString, nullable: true}
	case reflect.TypeFor[map[string]json.RawMessage]():
		return &shape{want: "an object", kind: isObject, open: true}
	}
	switch t.Kind() {
	case reflect.String:
		return aString
	case reflect.Bool:
		return &shape{want: "a boolean", kind: isTrue}
	case reflect.Int64:
		return &shape{want: "an integer", kind: isNumber}
	case reflect.Slice:
		return &shape{want: "an array", kind: isArray, element: shapeOf(t.Elem())}
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Struct:
		object := &shape{want: "an object", kind: isObject}
		for _, f := range jsonFields(t) {
			inner, hub := shapeOf(f.Type), f.Tag.Get("hub")
			if only, ok := strings.CutPrefix(hub, "only="); ok {
				inner.fields = slices.DeleteFunc(inner.fields, func(f field) bool { return f.name != only })
			}
			object.fields = append(object.fields, field{name: jsonName(f), required: hub == "required", shape: inner})
		}
		return object
	}
	panic("payload: no JSON is read into the type " + t.String())
}

// jsonFields returns the fields of a struct that stand for members of an object.
func jsonFields(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return !f.IsExported() })
}

// jsonName returns the name of the member that f stands for.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// lacking lists which required fields are not usable in a JSON object. The path
// of the object, with a dot behind it, is put before theirs.
func (s *shape) lacking(path string, object []byte) []*FieldError {
	var bad []*FieldError
	for _, f := range s.fields {
		if !f.required {
			continue
		}
		have := missing
		value, ok := child(object, f.name)
		if ok {
			have = kindOf(value[0])
		}
		switch {
		case have != f.kind:
			bad = append(bad, &FieldError{Path: path + f.name, Want: f.want, Have: have.String()})
		case string(value) == `""`:
			bad = append(bad, &FieldError{Path: path + f.name, Want: f.want, Have: "an empty one"})
		case have == isObject:
			bad = append(bad, f.lacking(path+f.name+".", value)...)
		}
	}
	return bad
}

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

// fromText reads a value that is given as text, as on a command line. Where a
// string belongs, the value is the text itself; where null may stand too, the text
// null is null. Elsewhere the text is read as JSON. If it is not JSON it is taken
// as a string, and check refuses that where a string does not belong.
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

// check returns an error if v, or something in it, does not have the shape s. The
// error names the first such place; path is v's own.
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

// unknown returns the error for a field that s, at the given path, does not have.
// It names the fields that s has.
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

// suggest names the known word that is closest to word. If none is close it names
// them all. The prefix is put before each.
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

// decodeValue reads one JSON value. Its numbers are kept as they are written, as
// json.Number.
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

// appendValue appends v, which has the shape s, as JSON. Members stand in the
// order of the shape's fields; where any field may be, in the order of names.
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
			if dst, err = appendValue(dst, name, aString); err != nil {
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
