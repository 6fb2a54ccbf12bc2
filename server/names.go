package server

import (
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"unicode"
)

var segment = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// EndpointName returns the name under which [Handle] registers an endpoint: name without a leading or trailing '/'. It returns an error
// that says what is wrong with a bad name. Use it for names from outside of the program, because Handle panics.
func EndpointName(name string) (string, error) {
	trimmed := strings.Trim(name, "/")
	if trimmed == "" {
		return "", fmt.Errorf("endpoint name %q is empty", name)
	}
	for _, s := range strings.Split(trimmed, "/") {
		switch {
		case s == "":
			return "", fmt.Errorf("endpoint name %q has an empty segment", name)
		case s == "." || s == "..":
			// They would never arrive: HTTP clients resolve them before they send a path.
			return "", fmt.Errorf("endpoint name %q has the segment %q, which HTTP clients resolve away", name, s)
		case !segment.MatchString(s):
			return "", fmt.Errorf("endpoint name %q has the segment %q: want letters, digits, '_', '-' and '.' only", name, s)
		}
	}
	return trimmed, nil
}

// functionName derives an endpoint's name from the Go function h: TriggerTraining, triggerTraining and (*Bot).TriggerTraining are all
// trigger_training. It reports false for a closure, whose name the compiler made up.
func functionName(h Handler) (string, bool) {
	f := runtime.FuncForPC(reflect.ValueOf(h).Pointer())
	if f == nil {
		return "", false
	}
	name := strings.TrimSuffix(f.Name(), "-fm")
	if i := strings.Index(name, "["); i >= 0 { // the type parameters of a generic function
		name = name[:i]
	}
	// The last element of the import path may hold dots of its own, so cut at its slash first.
	name = name[strings.LastIndex(name, "/")+1:]
	parts := strings.Split(name, ".")
	for _, p := range parts[1:] {
		if madeUp.MatchString(p) {
			return "", false
		}
	}
	return snakeCase(parts[len(parts)-1]), true
}

// The compiler calls closures func1, func1.2, and their like in package variables init.func1 or glob..func1.
var madeUp = regexp.MustCompile(`^(func\d+|\d+|gowrap\d+|)$`)

func snakeCase(s string) string {
	runes := []rune(s)
	var b strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) {
			afterLower := i > 0 && (unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]))
			endsAcronym := i > 0 && unicode.IsUpper(runes[i-1]) && i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if afterLower || endsAcronym {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
