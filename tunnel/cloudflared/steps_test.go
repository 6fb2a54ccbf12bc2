//go:build unix

package cloudflared

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// walk takes the steps until one fails, and returns what each has found.
func walk(p *Provider) (found map[string]string, failed *tunnel.Error) {
	found = map[string]string{}
	for _, step := range p.steps() {
		text, err := step.Run(context.Background())
		if err != nil {
			errors.As(err, &failed)
			found[step.Name] = "fail"
			break
		}
		found[step.Name] = text
	}
	return found, failed
}

func TestSteps(t *testing.T) {
	t.Parallel()
	far := tunneltest.NewCloudflared(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := provider(far, Config{})
	p.service = ln.Addr().String()
	found, failed := walk(p)
	for step, want := range map[string]string{"program": "2025.1.0 (stand-in), " + far.Program(), "settings": "a quick tunnel", "look-up": "127.0.0.1 is 127.0.0.1", "tcp": "is reached in"} {
		if !strings.Contains(found[step], want) {
			t.Errorf("%s: %q; want %q", step, found[step], want)
		}
	}
	if failed != nil || len(far.PIDs()) != 0 {
		t.Errorf("failed: %v; tunnels opened: %d", failed, len(far.PIDs()))
	}

	ln.Close()
	if found, failed := walk(p); found["tcp"] != "fail" || failed == nil || !strings.Contains(failed.Fix, "firewall") {
		t.Errorf("nobody listens: %v, %+v", found, failed)
	}
	p.config.URL = "hooks.example.com"
	if found, failed := walk(p); found["settings"] != "fail" || failed == nil || !strings.Contains(failed.Fix, "--cloudflared-config") {
		t.Errorf("a wrong setting: %v, %+v", found, failed)
	}
	p.config.Program = filepath.Join(t.TempDir(), "broken")
	syscall.ForkLock.RLock() // a program that is started meanwhile would hold the file open for writing
	err = os.WriteFile(p.config.Program, []byte("#!/bin/sh\nexit 3\n"), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	if found, failed := walk(p); found["program"] != "fail" || failed == nil || !strings.Contains(failed.Cause, "exit status 3") {
		t.Errorf("a broken program: %v, %+v", found, failed)
	}
	p.config.Program = "no-such-cloudflared"
	if found, failed := walk(p); found["program"] != "fail" || failed == nil || !strings.Contains(failed.Cause, "not installed") {
		t.Errorf("no program: %v, %+v", found, failed)
	}
}
