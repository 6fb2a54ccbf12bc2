package ssh_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/ssh"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// passphrase is that of testdata/locked, which has fewer rounds than ssh-keygen gives by itself: -a 1.
const passphrase = "open sesame, it is me"

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// newKey returns a private key, as a file has it, and the public one, as authorized_keys has it.
func newKey(t *testing.T) (private ed25519.PrivateKey, file, public string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := xssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	key, err := xssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return private, string(pem.EncodeToMemory(block)), string(xssh.MarshalAuthorizedKey(key))
}

// TestLogin has the keys that a user may have, and what is said where none of them helps.
func TestLogin(t *testing.T) {
	t.Parallel()
	held, _, heldPublic := newKey(t)
	_, open, openPublic := newKey(t)
	locked, lockedPublic := read(t, "testdata/locked"), read(t, "testdata/locked.pub")
	_, _, nobodys := newKey(t)
	answers := func(answers ...string) func(context.Context, string) (string, error) {
		return func(_ context.Context, question string) (string, error) {
			if !strings.Contains(question, "id_ed25519") || len(answers) == 0 {
				return "", fmt.Errorf("asked %q", question)
			}
			answer := answers[0]
			answers = answers[1:]
			return answer, nil
		}
	}
	for _, test := range []struct {
		name    string
		allowed string
		files   map[string]string // below ~/.ssh
		agent   bool
		change  func(u *testUser, c *ssh.Config)
		fails   string // "" for a tunnel that opens
		fix     string
	}{
		{name: "agent", allowed: heldPublic, agent: true, files: map[string]string{"id_rsa": open}},
		{name: "file", allowed: openPublic, files: map[string]string{"id_ecdsa": open}},
		{name: "file after the agent", allowed: openPublic, agent: true, files: map[string]string{"id_rsa": open}},
		{name: "locked file that is not needed", allowed: openPublic, files: map[string]string{"id_ed25519": locked, "id_rsa": open}},
		{name: "file named", allowed: openPublic, change: func(u *testUser, c *ssh.Config) {
			u.write("other", open)
			c.KeyFile = "~/other"
		}},
		{name: "passphrase", allowed: lockedPublic, files: map[string]string{"id_ed25519": locked},
			change: func(_ *testUser, c *ssh.Config) { c.Ask = answers("wrong", passphrase) }},
		{name: "passphrase without a terminal", allowed: lockedPublic, files: map[string]string{"id_ed25519": locked},
			fails: "id_ed25519 needs its passphrase, and there is no terminal to ask for it", fix: "ssh-add"},
		{name: "wrong passphrases", allowed: lockedPublic, files: map[string]string{"id_ed25519": locked}, fails: "that is not the passphrase of", fix: "ssh-add",
			change: func(_ *testUser, c *ssh.Config) { c.Ask = answers("a", "b", "c", passphrase) }},
		{name: "nobody typed", allowed: lockedPublic, files: map[string]string{"id_ed25519": locked}, fails: "needs its passphrase: asked", fix: "ssh-add",
			change: func(_ *testUser, c *ssh.Config) { c.Ask = answers() }},
		{name: "keys of somebody else", allowed: nobodys, agent: true, files: map[string]string{"id_ed25519": open},
			fails: "does not let tester in; it was shown the agent's ssh-ed25519, ", fix: "ssh-copy-id tester@127.0.0.1"},
		{name: "no key", allowed: nobodys, fails: "it was shown nothing, for there is no key", fix: "--ssh-key"},
		{name: "service that wants an account", allowed: nobodys, fails: "localhost.run does not let anyone in who has no account there", fix: "--ssh YOU@localhost.run",
			change: func(u *testUser, c *ssh.Config) { *c = ssh.At(u.config("localhost.run"), c.Server) }},
		{name: "file that is no key", allowed: nobodys, fails: "is no private key", fix: "ssh-keygen",
			change: func(u *testUser, c *ssh.Config) { c.KeyFile = u.write("other.pub", nobodys) }},
		{name: "file that is not there", allowed: nobodys, fails: "/gone: no such file", fix: "ssh-keygen",
			change: func(_ *testUser, c *ssh.Config) { c.KeyFile = "/gone" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := tunneltest.NewSSH(t, tunneltest.SSHOptions{Keys: []string{test.allowed}})
			u := newUser(t)
			for name, content := range test.files {
				u.write(filepath.Join(".ssh", name), content)
			}
			config := u.config(server.Addr())
			if test.agent {
				socket := newAgent(t, held)
				getenv := config.Getenv
				config.Getenv = func(name string) string {
					if name == "SSH_AUTH_SOCK" {
						return socket
					}
					return getenv(name)
				}
			}
			if test.change != nil {
				test.change(u, &config)
			}
			tun, err := hurried(config).Open(within(t, patience))
			if err == nil {
				tun.Close()
				if err := tun.Close(); err != nil {
					t.Error(err)
				}
			}
			all := fmt.Sprintf("%v %#v %s", err, err, u.heard())
			if strings.Contains(all, passphrase) || strings.Contains(all, "PRIVATE KEY") || strings.Contains(all, tunneltest.ConsoleToken) {
				t.Errorf("a secret is shown in:\n%s", all)
			}
			if test.fails == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e, ok := errors.AsType[*tunnel.Error](err); !ok || !strings.Contains(e.Error(), test.fails) || !strings.Contains(e.Fix, test.fix) || e.Temporary {
				t.Errorf("%#v\nwant %q, fix %q", err, test.fails, test.fix)
			}
		})
	}
}

// newAgent serves an agent that holds the key, on a socket.
func newAgent(t *testing.T, key ed25519.PrivateKey) (socket string) {
	t.Helper()
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				agent.ServeAgent(ring, conn) // it ends with the client
			}()
		}
	}()
	return socket
}

// TestHostKeys has a server that is met for the first time, that is known, and that has another key.
func TestHostKeys(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	u := newUser(t)
	once := func() error {
		tun, err := hurried(u.config(server.Addr())).Open(within(t, patience))
		if err == nil {
			tun.Close()
			err = tun.Close()
		}
		return err
	}
	refused := func(where string) {
		t.Helper()
		e, ok := errors.AsType[*tunnel.Error](once())
		if !ok || !strings.Contains(e.Cause, "HAS CHANGED") || !strings.Contains(e.Cause, server.Fingerprint()) || !strings.Contains(e.Fix, where) || e.Temporary || !e.Final {
			t.Errorf("%#v", e)
		}
	}
	for range 2 {
		if err := once(); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(u.home, ".local", "state", "hubhook", "known_hosts")
	if said := u.heard(); strings.Count(said, server.Fingerprint()) != 1 || !strings.Contains(said, own) {
		t.Errorf("said in two starts:\n%s", said)
	}
	if err := server.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	refused("line 1 of " + own)
	// A tunnel that is open meets the change when it reconnects.
	changing := newUser(t)
	o := open(t, server.Client(), hurried(changing.config(server.Addr())), echo)
	o.Wait(tunnel.Online)
	if err := server.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	server.Drop()
	if s := o.Wait(tunnel.Stopped); !strings.Contains(s.String(), "HAS CHANGED") {
		t.Errorf("state: %v", s)
	}
	// The user's own file counts, whatever hubhook has kept, and is never written.
	u = newUser(t)
	path := u.write(".ssh/known_hosts", "# mine\n"+server.KnownHost()+"\n")
	if err := once(); err != nil || u.heard() != "" {
		t.Errorf("a known server: %v, said %q", err, u.heard())
	}
	if err := server.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	refused("line 2 of " + path)
	_, _, revoked := newKey(t)
	u = newUser(t)
	u.write(".ssh/known_hosts", "@revoked * "+strings.TrimSpace(strings.SplitN(server.KnownHost(), " ", 2)[1])+"\n@cert-authority *.example.com "+revoked)
	if err := once(); err == nil || !strings.Contains(err.Error(), "is revoked by line 1") {
		t.Errorf("a revoked key: %v", err)
	}
}

// TestRefusals has servers that let in and do not serve.
func TestRefusals(t *testing.T) {
	t.Parallel()
	_, key, public := newKey(t)
	nobody, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		options   tunneltest.SSHOptions
		change    func(s *tunneltest.SSH, c *ssh.Config)
		says, fix string
	}{
		{"no forward", tunneltest.SSHOptions{}, func(s *tunneltest.SSH, _ *ssh.Config) { s.FailForward(-1) }, "does not forward its port 80", "AllowTcpForwarding"},
		{"no forward, plain", tunneltest.SSHOptions{Kind: tunneltest.Plain, Keys: []string{public}}, func(s *tunneltest.SSH, _ *ssh.Config) { s.FailForward(-1) }, "does not forward", "AllowTcpForwarding"},
		{"nobody says what leads to the URL", tunneltest.SSHOptions{Kind: tunneltest.Plain, Keys: []string{public}}, func(_ *tunneltest.SSH, c *ssh.Config) { c.URL = "https://hooks.example.com" }, "which of its ports https://hooks.example.com leads to", "--ssh-forward"},
		{"nothing there", tunneltest.SSHOptions{}, func(_ *tunneltest.SSH, c *ssh.Config) { c.Server = nobody }, "cannot be reached", "network"},
		{"bad port", tunneltest.SSHOptions{}, func(_ *tunneltest.SSH, c *ssh.Config) { c.Server = "there:99999" }, `"99999" is no port`, "host[:port]"},
		{"password", tunneltest.SSHOptions{}, func(_ *tunneltest.SSH, c *ssh.Config) { c.Server = "me:sesame@there" }, "there is a password in it", "host[:port]"},
		{"bad forward", tunneltest.SSHOptions{}, func(_ *tunneltest.SSH, c *ssh.Config) { c.Forward = "there" }, `"there" is not [HOST:]PORT`, "8080"},
		{"bad URL", tunneltest.SSHOptions{}, func(_ *tunneltest.SSH, c *ssh.Config) { c.URL = "https://a/b" }, "is not a domain", "https://"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := tunneltest.NewSSH(t, test.options)
			u := newUser(t)
			u.write(".ssh/id_ed25519", key)
			config := u.config(server.Addr())
			test.change(server, &config)
			err := failure(t, config, test.says)
			e, ok := errors.AsType[*tunnel.Error](err)
			if !ok || !strings.Contains(e.Cause, test.says) || !strings.Contains(e.Fix, test.fix) || strings.Contains(e.Error(), "sesame") {
				t.Errorf("%#v", err)
			}
		})
	}
}

// TestSilentService has one that takes the forward and says no URL, and one that hangs.
func TestSilentService(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*tunneltest.SSH){
		"it takes the forward and says no public URL": func(s *tunneltest.SSH) { s.Silence(true) },
		"does not complete the SSH handshake":         func(s *tunneltest.SSH) { s.Hang(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
			change(server)
			if err := failure(t, newUser(t).config(server.Addr()), name); !strings.Contains(err.Error(), name) {
				t.Error(err)
			}
		})
	}
}
