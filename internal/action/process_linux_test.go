package action

import (
	"syscall"
	"testing"
	"time"
)

// Where hubhook itself is killed, what it has started is asked to end.
func TestProcessEndsWithHubhook(t *testing.T) {
	p, out := startChild(t, t.Context(), "hubhook starts -- a")
	pids := out.pids(t, 2)
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "the end of the first process", func() { <-p.Done() })
	within(t, "the end of what it has started", func() {
		for lives(t, pids["a"]) { // nobody tells
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func TestStat(t *testing.T) {
	const rest = " 10 20 20 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
	for text, want := range map[string]row{
		"7 (sh) S" + rest:          {pid: 7, parent: 10, group: 20, started: "12345"},
		"7 (a) b) (c) Z" + rest:    {pid: 7, parent: 10, group: 20, started: "12345", zombie: true},
		"7 (\n1 2 3) R" + rest:     {pid: 7, parent: 10, group: 20, started: "12345"},
		"7 (sh) S":                 {},
		"":                         {},
		"7 (sh) S x y" + rest[6:]:  {},
		"7 (sh) S 10 y" + rest[6:]: {},
	} {
		if r, ok := parseStat(7, []byte(text)); r != want || ok != (want != row{}) {
			t.Errorf("%q: have %+v, %t", text, r, ok)
		}
	}
}
