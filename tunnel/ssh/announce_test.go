package ssh

import (
	"crypto/ed25519"
	"net"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
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

// TestLastWordsAreAwaited has a server that says why it ends the connection, and a reader that takes its time.
func TestLastWordsAreAwaited(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- sayAndClose(l, signer, "Your tunnel has expired.\n") }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Conn: c}
	client, chans, reqs, err := xssh.NewClientConn(w, l.Addr().String(), &xssh.ClientConfig{HostKeyCallback: xssh.FixedHostKey(signer.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(w, client, chans, reqs, pace{})
	if err := s.run("", func(line string) {
		time.Sleep(50 * time.Millisecond) // long enough for Accept to see the end
		s.words.add(line)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Accept(); err == nil || !strings.Contains(err.Error(), "Your tunnel has expired.") {
		t.Errorf("Accept: %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	s.Close()
}

// sayAndClose is a server that writes words into its client's session, and closes the connection.
func sayAndClose(l net.Listener, signer xssh.Signer, words string) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	config := &xssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	conn, chans, reqs, err := xssh.NewServerConn(c, config)
	if err != nil {
		return err
	}
	go xssh.DiscardRequests(reqs)
	ch, reqs, err := (<-chans).Accept()
	if err != nil {
		return err
	}
	<-reqs // the shell
	if _, err := ch.Write([]byte(words)); err != nil {
		return err
	}
	return conn.Close()
}
