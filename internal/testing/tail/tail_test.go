package tail

import (
	"fmt"
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	var tail Tail
	if got := tail.String(); got != "" {
		t.Errorf("of nothing %q is kept", got)
	}
	fmt.Fprint(&tail, strings.Repeat("x", Kept))
	fmt.Fprint(&tail, "the end\n")
	if got := tail.String(); len(got) != Kept-1 || !strings.HasSuffix(got, "xthe end") {
		t.Errorf("%d bytes are kept, ending in %q", len(got), got[max(0, len(got)-10):])
	}
}
