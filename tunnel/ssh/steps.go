package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// How long each step may take. All of them together stay below what opening a tunnel may.
const (
	lookUpLimit  = 3 * time.Second
	connectLimit = 4 * time.Second
	loginLimit   = 8 * time.Second
)

// way is the way to the SSH server, step by step. Each step makes connections of its own, and none of them trusts a key for the first time.
type way struct {
	provider *Provider
	dialer   *dialer // from the first step on
}

func (p *Provider) steps() []tunnel.Step {
	w := &way{provider: p}
	const to = "the SSH server"
	return []tunnel.Step{
		{Name: "server", Run: w.settings},
		{Name: "look-up", Doing: "looking up " + to, Run: terms.Bound(lookUpLimit, w.lookUp)},
		{Name: "tcp", Doing: "connecting to " + to, Run: terms.Bound(connectLimit, w.tcp)},
		{Name: "host key", Doing: "asking for the key of " + to, Run: terms.Bound(connectLimit, w.hostKey)},
		{Name: "login", Doing: "logging in at " + to, Session: true, Run: terms.Bound(loginLimit, w.login)},
	}
}

// settings reads all settings.
func (w *way) settings(context.Context) (string, error) {
	d, err := w.provider.dialer()
	if err != nil {
		return "", err
	}
	w.dialer = d
	found := d.service.user + "@" + d.service.address()
	if d.service.preset {
		found += ", the service " + d.service.title
	}
	return found, nil
}

func (w *way) lookUp(ctx context.Context) (string, error) {
	host := w.dialer.service.host
	if _, err := netip.ParseAddr(host); err == nil {
		return host + " is an address, so there is no name to look up", nil
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		e := w.dialer.explain(err)
		e.Cause = fmt.Sprintf("the name %s cannot be looked up: %s", host, clean(err.Error()))
		e.Fix = "check the name, the network and its name servers; names of ~/.ssh/config do not count here"
		return "", e
	}
	more := ""
	if len(addrs) > 1 {
		more = fmt.Sprintf(" and %d more", len(addrs)-1)
	}
	return host + " is " + addrs[0] + more, nil
}

func (w *way) tcp(ctx context.Context) (string, error) {
	began := time.Now()
	addr := w.dialer.service.address()
	conn, err := w.dialer.config.dial(ctx, "tcp", addr)
	if err != nil {
		return "", w.dialer.explain(&unreachableError{err})
	}
	_ = conn.Close() // it has served its purpose
	return fmt.Sprintf("%s is reached in %.1f ms", addr, float64(time.Since(began))/float64(time.Millisecond)), nil
}

// errSeen ends a handshake once the host key is known.
var errSeen = errors.New("the host key has been seen")

// hostKey looks at the server's key without logging in.
func (w *way) hostKey(ctx context.Context) (string, error) {
	d := w.dialer
	addr := d.service.address()
	conn, err := d.config.dial(ctx, "tcp", addr)
	if err != nil {
		return "", d.explain(&unreachableError{err})
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	found := ""
	_, _, _, err = xssh.NewClientConn(conn, addr, &xssh.ClientConfig{
		User:              d.service.user,
		HostKeyAlgorithms: d.hosts.algorithms(),
		ClientVersion:     clientVersion,
		HostKeyCallback: func(addr string, remote net.Addr, key xssh.PublicKey) error {
			if err := d.hosts.check(nil)(addr, remote, key); err != nil {
				return err
			}
			found = "it is known: "
			if len(d.hosts.wanted()) == 0 {
				found = "it is not known yet, and will be trusted at the first start: "
			}
			found += key.Type() + " " + xssh.FingerprintSHA256(key)
			return errSeen
		},
	})
	if found != "" {
		return found, nil
	}
	return "", d.explain(&loginError{err, &login{keys: d.keys}})
}

// login logs in, asks for nothing, and goes away again.
func (w *way) login(ctx context.Context) (string, error) {
	d := w.dialer
	s, err := d.connect(ctx)
	if err != nil {
		return "", d.explain(err)
	}
	defer s.Close()
	return fmt.Sprintf("%s lets %s in (%s)", d.service.title, d.service.user, clean(string(s.client.ServerVersion()))), nil
}
