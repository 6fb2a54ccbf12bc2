package machine_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel/internal/machine"
	"github.com/hubhook/hubhook/tunnel/internal/machine/machinetest"
)

func TestWatcher(t *testing.T) {
	t.Parallel()
	l := machinetest.New("192.0.2.7")
	w := machine.Watch(l.Machine())
	if c := w.Look(); c.Cause != "" {
		t.Errorf("nothing happened: %+v", c)
	}
	l.HideAddresses(errors.New("no permission"))
	l.MoveTo("192.0.2.8")
	if c := w.Look(); c.Cause != "" || c.Gone != nil {
		t.Errorf("addresses that cannot be read: %+v", c)
	}
	l.HideAddresses(nil)
	l.Sleep(time.Hour)
	if c := w.Look(); c.Cause != "the machine slept for 1 h" || !c.Slept || !c.Gone[netip.MustParseAddr("192.0.2.7")] {
		t.Errorf("asleep, and elsewhere afterwards: %+v", c)
	}
	if c := w.Look(); c.Cause != "" {
		t.Errorf("said twice: %+v", c)
	}
}
