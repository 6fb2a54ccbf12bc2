package cloudflared

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// How long each step may take.
const (
	versionLimit = 5 * time.Second
	lookUpLimit  = 3 * time.Second
	connectLimit = 4 * time.Second
)

// edge is one of the names that cloudflared connects to (developers.cloudflare.com, tunnel with firewall).
const edge = "region1.v2.argotunnel.com:7844"

func (p *Provider) steps() []tunnel.Step {
	var s settings
	addr := p.service // of the service that the tunnel needs first
	if p.config.ConfigFile != "" {
		addr = edge
	}
	host, _, _ := net.SplitHostPort(addr)
	return []tunnel.Step{
		{Name: "program", Doing: "asking cloudflared for its version", Run: terms.Bound(versionLimit, func(ctx context.Context) (string, error) {
			path, err := p.config.lookUp()
			if err != nil {
				return "", err
			}
			return version(ctx, path)
		})},
		{Name: "settings", Run: func(context.Context) (found string, err error) {
			switch s, err = p.config.settings(); {
			case err != nil:
				return "", err
			case s.quick():
				return "a quick tunnel: no account, and a name that Cloudflare chooses at each start", nil
			case s.ingress:
				return fmt.Sprintf("%s leads %s to %s", s.file, s.url, s.listen), nil
			}
			return fmt.Sprintf("the tunnel of %s, at %s", s.file, s.url), nil
		}},
		{Name: "look-up", Doing: "looking up " + host, Run: terms.Bound(lookUpLimit, func(ctx context.Context) (string, error) {
			addrs, err := net.DefaultResolver.LookupHost(ctx, host)
			if err != nil {
				return "", &tunnel.Error{Op: openOp, Cause: "the name " + host + " cannot be looked up: " + err.Error(), Fix: "check the network and its name servers", Temporary: true, Err: err}
			}
			return host + " is " + addrs[0], nil
		})},
		{Name: "tcp", Doing: "connecting to " + addr, Run: terms.Bound(connectLimit, func(ctx context.Context) (string, error) {
			began := time.Now()
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return "", &tunnel.Error{Op: openOp, Cause: addr + " cannot be reached: " + err.Error(), Fix: "check the network; a firewall has to let ports 443 and 7844 out, and cloudflared uses no proxy", Temporary: true, Err: err}
			}
			_ = c.Close() // it has served its purpose
			return fmt.Sprintf("%s is reached in %.1f ms", addr, float64(time.Since(began))/float64(time.Millisecond)), nil
		})},
	}
}

// version runs the program for a moment.
func version(ctx context.Context, path string) (string, error) {
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = settings{}.environment(os.Environ())
	cmd.WaitDelay = pipeGrace
	out := &lastLines{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if said := out.all(); err == nil && len(said) > 0 {
		return fmt.Sprintf("%s, %s", newRedactor().line(said[0]), path), nil
	}
	if err == nil {
		return path + " is there, and does not say its version", nil
	}
	return "", &tunnel.Error{Op: "start cloudflared", Cause: path + " --version does not work: " + strings.TrimSpace(err.Error()),
		Fix: "install it again, see https://developers.cloudflare.com/tunnel/downloads", Final: true, Err: err}
}
