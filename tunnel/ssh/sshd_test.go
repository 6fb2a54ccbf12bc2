package ssh_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/ssh"
)

// sshd is OpenSSH's own server on loopback, with a configuration of its own.
type sshd struct {
	t    *testing.T
	path string
	dir  string
	addr string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// newSSHD starts one that lets the user's key in and has these lines in its configuration.
func newSSHD(t *testing.T, u *testUser, lines ...string) *sshd {
	t.Helper()
	path, err := exec.LookPath("sshd")
	if err != nil {
		path = "/usr/sbin/sshd" // which Debian keeps off the PATH of most users
		if _, err := os.Stat(path); err != nil {
			needs.Missing(t, "sshd", "sshd is neither on PATH nor in /usr/sbin; install OpenSSH's server to run this test")
		}
	}
	if os.Geteuid() == 0 {
		// A system service would have made it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			needs.Missing(t, "sshd", "sshd cannot start here: "+err.Error())
		}
	}
	_, hostKey, _ := newKey(t)
	_, userKey, public := newKey(t)
	u.write(".ssh/id_ed25519", userKey)
	addr, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshd{t: t, path: path, dir: u.home, addr: addr}
	config := []string{
		"ListenAddress " + s.addr, "HostKey " + u.write("host_key", hostKey), "AuthorizedKeysFile " + u.write("authorized_keys", public),
		"AddressFamily inet", // sshd also takes a port for a forward that is free on ::1 alone
		"PidFile none", "StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin yes", "PrintMotd no",
	}
	u.write("sshd_config", strings.Join(append(config, lines...), "\n")+"\n")
	s.start()
	t.Cleanup(s.stop)
	return s
}

// start returns once the server takes connections.
func (s *sshd) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	// A file and no pipe: the processes for connections keep it open.
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.path, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Since(began) > patience {
			s.cmd.Process.Kill()
			s.cmd.Wait()
			s.t.Fatalf("sshd takes no connections: %v\n%s", err, read(s.t, log.Name()))
		}
	}
}

// stop ends the server that listens. The processes that it has started for its connections go on.
func (s *sshd) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait() // it was killed
	s.cmd = nil
}

// configFor logs in as whoever runs the test, which is the only one whom a server of theirs lets in.
func (s *sshd) configFor(u *testUser) ssh.Config {
	s.t.Helper()
	me, err := user.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	return u.config(me.Username + "@" + s.addr)
}

func TestSSHD(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	server := newSSHD(t, u)
	o := open(t, &http.Client{Transport: &http.Transport{}}, hurried(server.configFor(u)), echo)
	o.Wait(tunnel.Online)
	before := o.URL()
	if !strings.HasPrefix(before, "http://127.0.0.1:") {
		t.Fatalf("URL %s", before)
	}
	o.flows()
	if said := u.heard(); !strings.Contains(said, "GatewayPorts") || !strings.Contains(said, "is not known yet") {
		t.Errorf("said:\n%s", said)
	}
	// The server is gone, with the connection, and comes back.
	server.stop()
	if err := tellLoss(o.Tunnel); err != nil {
		t.Fatal(err)
	}
	o.Wait(tunnel.Reconnecting)
	server.start()
	if s := o.Wait(tunnel.Online); s.URL != before {
		t.Errorf("state %v; the URL was %s", s, before)
	}
	o.Client.CloseIdleConnections()
	o.flows()
}

// tellLoss has the tunnel give up its connection, as after a sleep.
func tellLoss(t tunnel.Tunnel) error {
	renew := tunnel.Renewer(t)
	if renew == nil {
		return errors.New("the tunnel cannot be renewed")
	}
	renew(errors.New("the test wants it"))
	return nil
}

// TestSSHDBehindADomain has a port of one's own choice, to which a web server there leads.
func TestSSHDBehindADomain(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	server := newSSHD(t, u)
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	config := server.configFor(u)
	config.URL, config.Forward = "hooks.example.com", port
	o := open(t, &http.Client{Transport: &http.Transport{}}, hurried(config), echo)
	if o.URL() != "https://hooks.example.com" {
		t.Errorf("URL %s", o.URL())
	}
	resp, err := o.Client.Post("http://"+address, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	o.Retire(within(t, patience))
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the server still listens after Retire")
	}
}

// TestSSHDRefuses has what an owner of an sshd forbids.
func TestSSHDRefuses(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	server := newSSHD(t, u, "AllowTcpForwarding local")
	says := server.addr + " does not forward"
	if err := failure(t, server.configFor(u), says); !strings.Contains(err.Error(), says) {
		t.Error(err)
	}
	stranger := newUser(t)
	_, key, _ := newKey(t)
	stranger.write(".ssh/id_ed25519", key)
	if err := failure(t, server.configFor(stranger), "does not let"); !strings.Contains(err.Error(), "does not let") || !strings.Contains(err.Error(), "id_ed25519") {
		t.Error(err)
	}
}
