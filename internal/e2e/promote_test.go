//go:build unix

package e2e_test

import (
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// The primary is killed under load while each commit waits for any one of two standbys. The standby that has received more is promoted.
// hubhook's URL has all three hosts, so it follows. No delivery that was answered 2xx is lost.
func TestAPrimaryIsKilledUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it starts three servers")
	}
	t.Parallel()
	ctx := t.Context()
	primary := startPostgres(t)
	must(t, primary.CreateDatabase(ctx, "hooks"))
	names := []string{"s1", "s2"}
	var standbys []*pgserver.Server
	for _, name := range names {
		s, err := primary.Standby(ctx, name)
		must(t, err)
		closeAfter(t, s)
		standbys = append(standbys, s)
	}
	must(t, primary.RequireStandbys(ctx, names...))

	t.Run("a standby alone", func(t *testing.T) {
		h := newHome(t)
		h.useDatabase(t, standbys[0].URL("hooks"))
		p := h.start(t, hubhook, "serve", "--port", "0", "--no-tunnel")
		if status := p.exit(); status != 1 {
			t.Errorf("exit status %d; want 1", status)
		}
		p.wantError("read only", "primary")
	})

	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW=20ms")
	h.useDatabase(t, primary.URL("hooks", standbys...)+"&target_session_attrs=read-write")
	a := h.serve(t, bot, sharing("--secret", secret)...)
	b := h.serve(t, bot, sharing("--secret", secret)...)
	hub := newSender(t, 16, a.base+"/webhooks/slow", b.base+"/webhooks/slow")
	hub.underLoad(t, 300)
	must(t, primary.Kill())
	killed := time.Now()
	chosen := standbys[0]
	var received [2]int64
	for i, s := range standbys {
		var err error
		received[i], err = s.Received(ctx)
		must(t, err)
	}
	if received[1] > received[0] {
		chosen = standbys[1]
	}
	must(t, chosen.Promote(ctx))
	promoted := time.Now()
	hub.underLoad(t, 300)
	t.Logf("the standbys had received %v; promoted after %v, 300 more accepted %v later", received, promoted.Sub(killed), time.Since(promoted))
	b.account(h, "slow", hub)
	for _, p := range []*program{a, b} {
		p.stop()
	}
}
