package machine

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestThisMachine(t *testing.T) {
	t.Parallel()
	addrs, err := interfaceAddresses()
	if err != nil || !addrs[netip.MustParseAddr("127.0.0.1")] {
		t.Errorf("%v %v", addrs, err)
	}
	m := This()
	wall, running := m.Clocks()
	if later, ran := m.Clocks(); later.Before(wall) || ran < running || strings.Contains(later.String(), "m=") {
		t.Errorf("%v %v, then %v %v", wall, running, later, ran)
	}
}

func TestInWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		11400 * time.Millisecond:                   "11 s",
		time.Minute:                                "1 min",
		90 * time.Second:                           "1 min 30 s",
		3*time.Hour + 20*time.Second:               "3 h",
		26*time.Hour + 5*time.Minute + time.Second: "26 h 5 min",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
