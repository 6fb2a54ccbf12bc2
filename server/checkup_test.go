package server

import (
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/api"
)

func TestStrengthOfSecrets(t *testing.T) {
	t.Parallel()
	const strong = "9f1c2e5ab07d4836"
	for want, secrets := range map[string][][]string{
		secretNone:   {nil},
		secretWeak:   {{"changeme"}, {"9f1c2e5ab07d483"}, {"abababababababababababab"}, {strong, "old"}},
		secretStrong: {{strong}, {strong, "another-long-secret"}},
	} {
		for _, list := range secrets {
			if got := strength(list); got != want {
				t.Errorf("%q are %s; want %s", list, got, want)
			}
		}
	}
}

func TestRoomOnADisk(t *testing.T) {
	t.Parallel()
	for free, want := range map[int64]string{
		-1: "skip ", 0: "fail 0 bytes are free", 64<<20 - 1: "fail 64.0 MiB", 64 << 20: "warn 64.0 MiB are free", 1 << 30: "ok 1.0 GiB are free", 5 << 40: "ok 5.0 TiB are free", 2000: "fail 2.0 KiB",
	} {
		f := roomOf(free)
		if got := string(f.Result) + " " + f.Text; !strings.HasPrefix(got, want) || (f.Result == api.Fail || f.Result == api.Warn) != (f.Fix != "") {
			t.Errorf("%d bytes: %s, fix %q; want %s", free, got, f.Fix, want)
		}
	}
}

func TestTunnelStates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tunnel api.Tunnel
		online bool
		want   api.Result
		text   string
	}{
		{api.Tunnel{Provider: "ngrok", Phase: "online", URL: "https://a.example"}, true, api.OK, "ngrok is online as https://a.example"},
		{api.Tunnel{Provider: "ngrok"}, false, api.Warn, "connecting"},
		{api.Tunnel{Provider: "ngrok", Phase: "connecting", Error: "try 2: refused"}, false, api.Fail, "try 2: refused"},
		{api.Tunnel{Provider: "ngrok", Phase: "reconnecting", Error: "lost"}, false, api.Fail, "reconnecting: lost"},
		{api.Tunnel{Provider: "ngrok", Phase: "failed", Error: "ERR_NGROK_107"}, false, api.Fail, "ERR_NGROK_107"},
	} {
		if f := tunnelState(&test.tunnel, test.online); f.Result != test.want || !strings.Contains(f.Text, test.text) {
			t.Errorf("%+v: %+v; want %s, %q", test.tunnel, f, test.want, test.text)
		}
	}
}
