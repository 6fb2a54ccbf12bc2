package ssh

import (
	"strings"
	"testing"
)

func TestAnnounced(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, url, refusal string }{
		{"\x1b[44mHTTPS\x1b[0m: https://Mine.sish.test\r\n", "https://mine.sish.test", ""},
		{"Forwarding HTTP traffic from https://a.serveousercontent.com", "https://a.serveousercontent.com", ""},
		{"- https://a-1-2-3-4.run.pinggy-free.link", "https://a-1-2-3-4.run.pinggy-free.link", ""},
		{"a.lhr.life tunneled with tls termination, https://a.lhr.life", "https://a.lhr.life", ""},
		{"https://a.lhr.life tunneled with tls termination", "https://a.lhr.life", ""},
		{`{"event":"tcpip-forward","authz_code":"OK","address":"a.lhr.life"}`, "https://a.lhr.life", ""},
		{`{"event":"tcpip-forward","status":"success","address":"a.lhr.life"}`, "https://a.lhr.life", ""},
		{`{"event":"tcpip-forward","authz_code":"DENIED","address":"a.lhr.life","message":"not yours\nqr"}`, "", "not yours"},
		{`{"type":"v1.tcpip_forward.register.accepted","data":"a.lhr.life tunneled with tls termination, https://a.lhr.life\r\nqr"}`, "https://a.lhr.life", ""},
		{`{"type":"v1.tcpip_forward.register.rejected","data":"no capacity\r\nmore"}`, "", "no capacity"},
		// What is no URL of the tunnel's.
		{"Upgrade to get unrestricted tunnels. https://dashboard.pinggy.io", "", ""},
		{"https://localhost.run/docs/", "", ""},
		{"https://a.example/?x=1", "", ""},
		{"https://me:secret@a.example", "", ""},
		{"https://\u202ea.example", "", ""},
		{"Service console can be accessed here: https://a.sish.test/_sish/console?x-authorization=abc", "", ""},
		{`{"event":"authn","message":"see https://admin.localhost.run"}`, "", ""},
		{`{broken`, "", ""},
	} {
		a, refusal, found := announced(test.line)
		if a.url != test.url || refusal != test.refusal || found != (test.url != "") {
			t.Errorf("%q: %+v, refusal %q, found %v; want %q, refusal %q", test.line, a, refusal, found, test.url, test.refusal)
		}
	}
}

// TestLongLines has a service that says more than a line may hold.
func TestLongLines(t *testing.T) {
	t.Parallel()
	var lines []string
	readLines(strings.NewReader("one\n"+strings.Repeat("x", 3*longestLine)+"\ntwo\nthe end"), func(line string) { lines = append(lines, strings.TrimSpace(line)) })
	if got := strings.Join(lines, ","); got != "one,two,the end" {
		t.Errorf("%.80q", got)
	}
}
