package payload

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Lookup returns a field as it was sent. It finds fields that this package does not
// know, and fields of another type than documented. It also tells whether a field
// is missing. The path is made of names, and of indexes from 0, with dots between
// them:
//
//	p.Lookup("repo.gated")
//	p.Lookup("updatedRefs.0.ref")
//	p.Lookup(`updatedConfig.a\.b`) // the name a.b; \\ is a backslash
//
// ok is false when there is no such field. For a field that is null, ok is true. The
// value is a part of Raw: do not change it. Lookup reads Raw again each time, which
// takes a few microseconds for a payload of usual size.
func (p *Payload) Lookup(path string) (value json.RawMessage, ok bool) {
	value = p.Raw()
	if value == nil {
		return nil, false
	}
	for _, name := range splitPath(path) {
		if value, ok = child(value, name); !ok {
			return nil, false
		}
	}
	return value, true
}

// child returns a member of an object by its name, or an element of an array by its
// index. Of several members with that name it returns the last.
func child(value []byte, name string) (found []byte, ok bool) {
	s := scanner{b: value}
	switch s.value() {
	case isObject:
		for more := s.object(); more; more = s.member() {
			if string(s.key) == name {
				found, ok = s.raw(), true
			} else {
				s.skip()
			}
		}
	case isArray:
		index, err := strconv.ParseUint(name, 10, 63)
		if err != nil {
			return nil, false
		}
		for more := s.array(); more; more = s.element() {
			if index == 0 {
				return s.raw(), true
			}
			index--
			s.skip()
		}
	}
	return found, ok
}

// splitPath cuts a path at its dots. The path "" is that of the whole payload.
func splitPath(path string) []string {
	if path == "" {
		return nil
	}
	if !strings.Contains(path, `\`) {
		return strings.Split(path, ".")
	}
	var names []string
	var name strings.Builder
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path):
			i++
			name.WriteByte(path[i])
		case path[i] == '.':
			names = append(names, name.String())
			name.Reset()
		default:
			name.WriteByte(path[i])
		}
	}
	return append(names, name.String())
}
