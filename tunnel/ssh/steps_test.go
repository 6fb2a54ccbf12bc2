package ssh_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// TestSteps takes the way to a server as doctor does: it names the step that fails, and leaves nothing behind.
func TestSteps(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(u *testUser, s *tunneltest.SSH)
		server string // "" for the address
		fails  string // a step, "" for none
		says   string // its error, or what the last step found
	}{
		"all is well":   {says: "lets tester in (SSH-2.0-Go)"},
		"no server":     {server: "-", fails: "server", says: "-"},
		"nothing there": {server: "127.0.0.1:1", fails: "tcp", says: "cannot be reached"},
		"another host key": {fails: "host key", says: "HAS CHANGED", change: func(u *testUser, s *tunneltest.SSH) {
			u.write(".ssh/known_hosts", s.KnownHost()+"\n")
			s.ChangeHostKey()
		}},
		"silent connection": {fails: "host key", says: "does not complete the SSH handshake", change: func(_ *testUser, s *tunneltest.SSH) { s.Hang(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
			u := newUser(t)
			if test.change != nil {
				test.change(u, server)
			}
			to := test.server
			if to == "" {
				to = server.Addr()
			}
			r, ok := tunnel.Lookup("ssh")
			if !ok {
				t.Fatal("not registered")
			}
			said := ""
			for _, step := range r.Steps(tunnel.Settings{
				Value:  func(flag string) (string, string) { return map[string]string{"ssh": to}[flag], "--" + flag },
				Getenv: u.config("").Getenv,
			}) {
				found, err := step.Run(t.Context())
				if said = found; err == nil {
					continue
				}
				if e, is := errors.AsType[*tunnel.Error](err); !is || e.Fix == "" || step.Name != test.fails {
					t.Errorf("step %s: %#v", step.Name, err)
				}
				said = err.Error()
				break
			}
			if !strings.Contains(said, test.says) {
				t.Errorf("found %q, want %q", said, test.says)
			}
			if u.heard() != "" {
				t.Errorf("said %q", u.heard())
			}
		})
	}
}
