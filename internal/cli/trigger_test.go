package cli

import (
	"maps"
	"strings"
	"testing"
)

func TestParseSet(t *testing.T) {
	set, err := parseSet([]string{"repo.name=me/data", "discussion.title=a=b", "comment.content="})
	want := map[string]any{"repo.name": "me/data", "discussion.title": "a=b", "comment.content": ""}
	if err != nil || !maps.Equal(want, set) {
		t.Errorf("parseSet = %v, %v, want %v", set, err, want)
	}
	for args, want := range map[string]string{
		"repo.name": `"repo.name": want path=value, such as repo.name=me/data`,
		"=x":        `"=x": want path=value, such as repo.name=me/data`,
		"a=1,a=2":   "a: set twice",
	} {
		if _, err := parseSet(strings.Split(args, ",")); err == nil || err.Error() != want {
			t.Errorf("parseSet(%s): error %v, want %s", args, err, want)
		}
	}
}
