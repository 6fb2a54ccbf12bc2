package action

import (
	"maps"
	"slices"
	"strings"

	"github.com/expr-lang/expr/builtin"
)

// suggest returns ": did you mean X?" where one of known is near to name, and "" otherwise.
func suggest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		limit := min(2, len(k)/2) // short names are near to anything
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d <= limit && d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// distance counts the letters to be added, removed, replaced or swapped with their neighbour to make b of a.
func distance(a, b string) int {
	before, last, next := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			next[j] = min(replaced, last[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, last, next = last, next, make([]int, len(b)+1)
	}
	return last[len(b)]
}

func sorted(names map[string]bool) []string { return slices.Sorted(maps.Keys(names)) }

// builtins are the functions of the expression language itself.
func builtins() []string { return builtin.Names }
