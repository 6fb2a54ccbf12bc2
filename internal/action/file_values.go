package action

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// fail returns an error of what stands at n.
func (r *reader) fail(n *yaml.Node, advice, format string, args ...any) error {
	return &FileError{Path: r.path, Line: n.Line, Column: n.Column, Text: fmt.Sprintf(format, args...), Advice: advice}
}

// field is a key of a mapping with its value.
type field struct {
	name       string
	key, value *yaml.Node
}

// fields returns those of a mapping in their order. Where known is not nil, other keys are errors.
func (r *reader) fields(n *yaml.Node, what string, known []string) ([]field, error) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return nil, r.fail(n, "", "%s: want keys with values, have %s", what, kindOf(n))
	}
	var list []field
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f := field{key: n.Content[i], value: resolve(n.Content[i+1])}
		if f.key.Kind != yaml.ScalarNode {
			return nil, r.fail(f.key, "", "%s: want a word as the key, have %s", what, kindOf(f.key))
		}
		f.name = f.key.Value
		if known != nil && !slices.Contains(known, f.name) {
			if dashed := strings.ReplaceAll(f.name, "_", "-"); slices.Contains(known, dashed) {
				f.name = dashed
			} else {
				return nil, r.fail(f.key, r.nearKey(f.name, known), "%s: unknown key %q", what, oneLine(f.name, maxShown))
			}
		}
		if line := seen[f.name]; line != 0 {
			return nil, r.fail(f.key, "", "%s: the key %s stands on line %d already", what, oneLine(f.name, maxShown), line)
		}
		seen[f.name] = f.key.Line
		list = append(list, f)
	}
	return list, nil
}

func (r *reader) nearKey(name string, known []string) string {
	if near := suggest(name, known); near != "" {
		return strings.TrimPrefix(near, ": ")
	}
	return "known: " + strings.Join(known, ", ")
}

// words reads text that is not empty.
func (r *reader) words(key field, what string) (string, error) {
	n := key.value
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str":
		return "", r.fail(n, "", "%s: want text, have %s", what, kindOf(n))
	case strings.TrimSpace(n.Value) == "":
		return "", r.fail(n, "", "%s is empty", what)
	case strings.ContainsRune(n.Value, 0):
		return "", r.fail(n, "", "%s has a NUL in it", what)
	}
	return n.Value, nil
}

func (r *reader) duration(key field, what string) (time.Duration, error) {
	n := key.value
	d, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil:
		return 0, r.fail(n, "", "%s: want a duration such as 30s, 2m or 2h, have %s", what, kindOf(n))
	case d <= 0:
		return 0, r.fail(n, "", "%s: want a duration above 0, have %s", what, n.Value)
	}
	return d, nil
}

func (r *reader) count(key field, what string) (int, error) {
	n := key.value
	count, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || count < 1 {
		return 0, r.fail(n, "", "%s: want a number from 1 on, have %s", what, kindOf(n))
	}
	return count, nil
}

// resolve returns what an alias stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kindOf describes a node in messages.
func kindOf(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.ScalarNode:
		return strconv.Quote(oneLine(n.Value, maxShown))
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	}
	return "something else"
}
