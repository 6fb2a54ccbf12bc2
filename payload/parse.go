package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Parse reads the body of a delivery. The Payload keeps b as its Raw, so b must not
// be changed afterwards.
//
// For a body that is not one JSON object in UTF-8, Parse returns nil and a
// [*SyntaxError]. Two more errors are [ErrUnusable]; with them comes a Payload that
// has what could be read:
//
//   - a [*UnusableError] when event.action, event.scope, repo.type or repo.name is
//     missing, empty or not a string;
//   - a [*VersionError] for a payload of version 1 or 2.
//
// Any other field may be missing, null or of another type than documented. Its Go
// field then has its zero value, as has one for an integer beyond 64 bits.
// [Payload.Lookup] returns the field as it was sent.
//
// Names are matched exactly. Of two members with the same name the last one counts,
// as in JavaScript and Python. A string may hold any character, NUL included. Half
// of a surrogate pair (\ud800 alone) is read as U+FFFD. Nesting and size have no
// limit of their own.
func Parse(b []byte) (*Payload, error) {
	if err := checkStart(b); err != nil {
		return nil, err
	}
	p := &Payload{raw: b}
	d := decoder{scanner: scanner{b: b}}
	whole := d.readPayload(p)
	if d.peek(); d.pos < len(b) {
		d.failHere("nothing after the object")
	}
	if d.err != nil {
		return nil, d.err
	}
	return p, p.check(whole)
}

// checkStart returns an error if b is not UTF-8 or does not begin like an object.
func checkStart(b []byte) error {
	if !utf8.Valid(b) {
		at := 0
		for {
			r, size := utf8.DecodeRune(b[at:])
			if r == utf8.RuneError && size == 1 {
				return syntaxError(b, at, fmt.Sprintf("want UTF-8, have the byte 0x%02x", b[at]))
			}
			at += size
		}
	}
	if bytes.HasPrefix(b, []byte("\uFEFF")) {
		return syntaxError(b, 0, "want an object, have a byte order mark: send UTF-8 without one")
	}
	s := scanner{b: b}
	c := s.peek()
	if c == '{' {
		return nil
	}
	switch k := kindOf(c); {
	case len(b) == 0:
		s.fail(0, "want an object, have an empty body")
	case k == notAKind:
		s.failHere("an object")
	default:
		s.fail(s.pos, "want an object, have "+k.String())
	}
	return s.err
}

// decoder reads the structs of Payload: see fields.go.
type decoder struct {
	scanner
}

// sha reads a string or null. It skips another value and returns an absent SHA.
func (d *decoder) sha() SHA {
	null := d.value() == isNull
	return SHA{Hex: d.string(), Null: null}
}

// isNext reports whether the next value is of kind k. It skips a value of another
// kind.
func (d *decoder) isNext(k kind) bool {
	if d.value() == k {
		return true
	}
	d.skip()
	return false
}

// maxFiles is how many updatedFiles the Hub sends at most.
const maxFiles = 10_000

// maxElements is how many elements of a list, and of updatedConfig, are read: ten times as many as the Hub sends. More of them would take
// many times the memory of the payload itself.
const maxElements = 100_000

// appendTo appends an element that d has just read, from start on, to a list.
func appendTo[T any](d *decoder, list []T, element T, start int) []T {
	if len(list) == maxElements {
		return list
	}
	if len(list) == 1 {
		// The others will be about as long as this one.
		more := (len(d.b) - d.pos) / (d.pos - start + 1)
		list = slices.Grow(list, 1+min(more, maxFiles-2))
	}
	return append(list, element)
}

// config reads an object whose members may have any name and value. It skips
// another value and returns nil.
func (d *decoder) config() map[string]json.RawMessage {
	if !d.isNext(isObject) {
		return nil
	}
	config := map[string]json.RawMessage{}
	for ok := d.object(); ok; ok = d.member() {
		if _, again := config[string(d.key)]; !again && len(config) == maxElements {
			d.skip()
			continue
		}
		name := string(d.key)
		config[name] = d.raw()
	}
	return config
}

// check returns an error if p can't be used. whole says whether p has all required
// fields. In a payload of an old version, check reads the event from where that
// version has it.
func (p *Payload) check(whole bool) error {
	version := p.Webhook.Version
	if whole && version != 1 && version != 2 {
		return nil
	}
	// In version 2, event was a string and had scope beside it.
	event, _ := child(p.raw, "event")
	scope, _ := child(p.raw, "scope")
	old := Event{Action: Action(stringIn(event)), Scope: Scope(stringIn(scope))}
	if version == 0 && old.Action != "" && old.Scope != "" {
		version = 2
	}
	if version == 1 || version == 2 {
		if len(event) > 0 && kindOf(event[0]) == isString {
			p.Event = old
		}
		return &VersionError{Version: version}
	}
	return &UnusableError{Fields: payloadShape.lacking("", p.raw)}
}

// stringIn returns the string that a JSON value is, "" for one of another kind or none.
func stringIn(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	s := scanner{b: value}
	return s.string()
}
