package ssh

import (
	"strings"
	"testing"
	"unicode"
)

// FuzzAnnounced reads anything as what a service says. A URL that is found is an origin in plain characters, and what is told of the rest is
// one line that no terminal obeys.
func FuzzAnnounced(f *testing.F) {
	for _, said := range []string{
		"\x1b[44mHTTPS\x1b[0m: https://Mine.sish.test\r\n", "Forwarding HTTP traffic from https://a.serveousercontent.com", "- https://a-1-2-3-4.run.pinggy-free.link:443/",
		"a.lhr.life tunneled with tls termination, https://a.lhr.life", `{"event":"tcpip-forward","authz_code":"OK","address":"a.lhr.life"}`,
		`{"event":"tcpip-forward","authz_code":"DENIED","address":"a.lhr.life","message":"not yours\nqr"}`,
		`{"type":"v1.tcpip_forward.register.accepted","data":"https://a.lhr.life tunneled with tls termination\r\nqr"}`,
		`{"type":"v1.tcpip_forward.register.rejected","data":{"no":"text"}}`, `{"event":["tcpip-forward"]}`, "https://[::1]", "https://[fe80::1%25eth0]", "https://a.example:99999",
		"https://me:word@a.example", "http://\u202ea.example\nHTTPS: https://%61.example", "see https://a.sish.test/_sish/console?x-authorization=abc", "\x1b]0;https://a\x07 \x1b[https://b", "password: hunter2",
	} {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said string) {
		var last lastWords
		readLines(strings.NewReader(said), func(line string) {
			if len(line) > longestLine {
				t.Errorf("a line has %d bytes", len(line))
			}
			last.add(line)
			a, refusal, found := announced(line)
			origin, ok := originOf(a.url)
			if found && (!ok || origin != a.url || hostOf(origin) == "") || !found && a.url != "" {
				t.Errorf("%q announces %q, %v", line, a.url, found)
			}
			if found && refusal != "" || strings.Contains(refusal, "\n") {
				t.Errorf("%q announces %q and refuses with %q", line, a.url, refusal)
			}
		})
		if words := last.String(); strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(words, "hunter2") && !strings.Contains(strings.ReplaceAll(said, "password: hunter2", ""), "hunter2") {
			t.Errorf("%q is told as %q", said, words)
		}
	})
}
