package ssh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

func TestComesBackUnderItsName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		silence time.Duration
		broken  func(*tunneltest.SSH)
		noticed func(*tunneltest.SSH) // once the tunnel has noticed; nil for nothing
	}{
		{"dropped", patience, func(s *tunneltest.SSH) { s.Drop() }, nil},
		{"refused for 3 s", patience, func(s *tunneltest.SSH) { s.Refuse(3 * time.Second) }, nil},
		{"frozen", 5 * time.Second, func(s *tunneltest.SSH) { s.FreezeHeartbeats(true) }, func(s *tunneltest.SSH) { s.FreezeHeartbeats(false) }},
		{"in a black hole, and kept by the server", 5 * time.Second, func(s *tunneltest.SSH) { s.BlackHole(true) }, func(s *tunneltest.SSH) { s.BlackHole(false) }},
		{"one forward refused", patience, func(s *tunneltest.SSH) {
			s.FailForward(2)
			s.Drop()
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := tunneltest.NewSSH(t, tunneltest.SSHOptions{Stale: 500 * time.Millisecond})
			o := open(t, server.Client(), lasting(newUser(t).config(server.Addr()), test.silence, patience), echo)
			o.Wait(tunnel.Online)
			o.flows()
			before := o.URL()
			test.broken(server)
			if s := o.Wait(tunnel.Reconnecting); s.URL != before || s.Err == nil {
				t.Errorf("state: %v", s)
			}
			if test.noticed != nil {
				test.noticed(server)
			}
			if s := o.Wait(tunnel.Online); s.URL != before || o.URL() != before {
				t.Errorf("URL %s before, %v after; states:\n%s", before, s, o.Seen)
			}
			o.flows()
		})
	}
}

// TestOtherName has a name that the server gives to nobody any more: it is asked for, and then another one is taken.
func TestOtherName(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	o := open(t, server.Client(), lasting(newUser(t).config(server.Addr()), patience, time.Second), echo)
	o.Wait(tunnel.Online)
	server.AssignName("another")
	server.Drop()
	s := o.Wait(tunnel.URLChanged)
	if s.URL != "https://another.sish.test" || o.URL() != s.URL {
		t.Errorf("state: %v", s)
	}
	if !strings.Contains(o.Seen.String(), "gives https://another.sish.test and not https://name-1.sish.test") {
		t.Errorf("the old name was not asked for; states:\n%s", o.Seen)
	}
	o.flows()
}

// TestNameThatMoves has a service that moves the session to another name and says so, and one that ends it and says why.
func TestNameThatMoves(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{Kind: tunneltest.LocalhostRun})
	o := open(t, server.Client(), hurried(atServer(newUser(t), server, "localhost.run")), echo)
	o.Wait(tunnel.Online)
	if err := server.Move("name-1.lhr.test", "moved"); err != nil {
		t.Fatal(err)
	}
	if s := o.Wait(tunnel.URLChanged); s.URL != "https://moved.lhr.test" {
		t.Errorf("state: %v", s)
	}
	o.flows()
	if err := server.Expire("moved.lhr.test", "Your tunnel has expired.\r\nSee https://there.example/?token=abc"); err != nil {
		t.Fatal(err)
	}
	if s := o.Wait(tunnel.Reconnecting); !strings.Contains(s.String(), "Your tunnel has expired.") || strings.Contains(s.String(), "abc") {
		t.Errorf("state: %v", s)
	}
	if s := o.Wait(tunnel.URLChanged); s.URL != "https://name-2.lhr.test" {
		t.Errorf("state: %v", s)
	}
	o.flows()
}

// TestExpiresAndComesBack has pinggy's hour: no name can be asked for, so the next one is taken at once.
func TestExpiresAndComesBack(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{Kind: tunneltest.Pinggy})
	o := open(t, server.Client(), hurried(atServer(newUser(t), server, "pinggy")), echo)
	o.Wait(tunnel.Online)
	if err := server.Expire("name-1.run.pinggy-free.test", "Tunnel timeout"); err != nil {
		t.Fatal(err)
	}
	if s := o.Wait(tunnel.URLChanged); s.URL != "https://name-2.run.pinggy-free.test" {
		t.Errorf("state: %v", s)
	}
	if _, total := server.Sessions(); total != 2 {
		t.Errorf("%d sessions", total)
	}
	o.flows()
}

// TestRetire takes the name back and keeps what is in flight.
func TestRetire(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	arrived, finish := make(chan bool), make(chan bool)
	o := open(t, server.Client(), hurried(newUser(t).config(server.Addr())), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-finish
		echo(w, r)
	}))
	url := o.URL()
	answer := make(chan error, 1)
	go func() {
		resp, err := o.Client.Post(url, "text/plain", strings.NewReader("last"))
		if err == nil {
			var body []byte
			if body, err = io.ReadAll(resp.Body); err == nil && string(body) != "last" {
				err = errors.New(resp.Status + " " + string(body))
			}
			resp.Body.Close()
		}
		answer <- err
	}()
	<-arrived
	o.Retire(within(t, patience))
	if urls := server.URLs(); len(urls) != 0 {
		t.Errorf("online after Retire: %q", urls)
	}
	resp, err := o.Client.Post(url, "text/plain", strings.NewReader("late"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a request after Retire: %s", resp.Status)
	}
	close(finish)
	if err := <-answer; err != nil {
		t.Errorf("what was in flight: %v", err)
	}
	if err := o.Server.Shutdown(within(t, patience)); err != nil {
		t.Error(err)
	}
	if s := o.Wait(tunnel.Stopped); s.Err != nil {
		t.Errorf("state: %v", s)
	}
	if err := server.WaitFor(within(t, patience), func(_ []string, sessions int) bool { return sessions == 0 }); err != nil {
		t.Error(err)
	}
}

// TestDeadlines has a client that sends nothing: the deadlines of net/http count over SSH too.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	tun, err := hurried(newUser(t).config(server.Addr())).Open(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		tun.Close()
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
	}()
	go server.Client().Post(tun.URL(), "text/plain", strings.NewReader("half")) // it ends with the server
	c, err := tun.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadAtLeast(c, make([]byte, 4), 4); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("write: %v", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
		t.Errorf("write without a deadline: %v", err)
	}
}

// TestWantedName has a name that somebody else has, then not any more.
func TestWantedName(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	config := newUser(t).config(server.Addr())
	config.URL = "mine"
	first := open(t, server.Client(), hurried(config), echo)
	if first.URL() != "https://mine.sish.test" {
		t.Fatalf("URL %s", first.URL())
	}
	second := open(t, server.Client(), hurried(config), echo)
	if s := second.Wait(tunnel.Connecting); !strings.Contains(s.String(), "and not https://mine") {
		t.Errorf("state: %v", s)
	}
	first.Close()
	first.Close()
	if s := second.Wait(tunnel.Online); s.URL != "https://mine.sish.test" {
		t.Errorf("state: %v", s)
	}
	second.flows()
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	server.Hang(true)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := hurried(newUser(t).config(server.Addr())).Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
