package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"

	sdk "golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/cloudflared"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/ssh"
)

// If the first argument is roleArgument, this program plays a role instead of measuring: it serves on an address until its standard
// input ends. Meanwhile it obeys the orders on its standard input, one a line:
//
//	profile FILE   begin to write a CPU profile
//	stop           end the profile
//
// It answers each order with doneReply once the order is done.
type role func(ctx context.Context, addr string, args []string) error

const (
	roleArgument = "serve-as"
	doneReply    = "done"
)

// roles holds the roles by the names in figures and errors.
var roles = map[string]role{
	"hubhook":        serveHubhook,
	"hubhook tunnel": serveTunnel,
	"SDK alone":      serveSDK,
	"upstream":       serveUpstream,
	"reverse proxy":  serveProxy,
}

// play runs a role. args are the role's name, the address to serve on, and the role's own arguments.
func play(args []string) error {
	if len(args) < 2 || roles[args[0]] == nil {
		return fmt.Errorf("play a role: %q names none", args)
	}
	ctx, end := context.WithCancelCause(context.Background())
	go func() { end(obey(os.Stdin, os.Stdout)) }()
	err := roles[args[0]](ctx, args[1], args[2:])
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return err
}

// obey follows orders until they end. It returns nil if standard input has ended.
func obey(orders io.Reader, replies io.Writer) error {
	var profile *os.File
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		order, file, _ := strings.Cut(lines.Text(), " ")
		var err error
		switch {
		case order == "profile" && profile == nil:
			if profile, err = os.Create(file); err == nil {
				err = pprof.StartCPUProfile(profile)
			}
		case order == "stop" && profile != nil:
			pprof.StopCPUProfile()
			err, profile = profile.Close(), nil
		default:
			err = errors.New("not now, or unknown")
		}
		if err != nil {
			return fmt.Errorf("obey %q: %w", lines.Text(), err)
		}
		if _, err := fmt.Fprintln(replies, doneReply); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
	}
	return lines.Err()
}

// serveHubhook is a program of hubhook's library as its users write it, with one handler that looks at the payload. The arguments are the
// data directory, the inspector's address, the secret, how many finished deliveries are kept, 0 for the default, and the URL of a PostgreSQL database, "" for none. Event lines are made and written as in production, to the null device.
func serveHubhook(ctx context.Context, addr string, args []string) error {
	keepCount, err := strconv.Atoi(args[3])
	if err != nil {
		return fmt.Errorf("read how many deliveries are kept: %w", err)
	}
	screen, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer screen.Close()
	s, err := server.New(server.Config{
		Addr: addr, Data: args[0], Inspector: args[1], Secrets: []string{args[2]}, KeepCount: keepCount, Database: args[4], NoTunnel: true,
		Output: screen,
		Getenv: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		return err
	}
	s.Handle("inbox", func(_ context.Context, p *payload.Payload) (any, error) {
		if !p.Is(payload.ScopeRepoContent, payload.Update) || len(p.UpdatedRefs) == 0 {
			return nil, errors.New("not a push")
		}
		return nil, nil
	})
	return s.Run(ctx)
}

// answerEmpty is the handler behind both tunnels. It does next to nothing, so that the figures show the cost of the tunnels.
func answerEmpty(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, "{}") // if this fails, the client has gone and reports it
}

// tunnelBy returns a provider of hubhook's: ngrok with ngrok.yml and the public URL, "" for any; ssh with the server and a home directory;
// cloudflared with the program.
func tunnelBy(args []string) (tunnel.Provider, error) {
	none := func(string) string { return "" }
	switch {
	case len(args) == 3 && args[0] == "ngrok":
		return ngrok.New(ngrok.Config{ConfigFile: args[1], URL: args[2], Getenv: none}), nil
	case len(args) == 3 && args[0] == "ssh":
		home := map[string]string{"HOME": args[2], "USER": "bench"}
		return ssh.New(ssh.Config{Server: args[1], Getenv: func(name string) string { return home[name] }}), nil
	case len(args) == 2 && args[0] == "cloudflared":
		return cloudflared.New(cloudflared.Config{Program: args[1], Getenv: none}), nil
	}
	return nil, fmt.Errorf("open a tunnel: %q names none", args)
}

// serveTunnel serves through hubhook's tunnel. The arguments are those of tunnelBy.
func serveTunnel(ctx context.Context, addr string, args []string) error {
	p, err := tunnelBy(args)
	if err != nil {
		return err
	}
	t, err := p.Open(ctx)
	if err != nil {
		return err
	}
	// The role ends with this process, and cloudflared would not: it is a process of its own.
	defer func() {
		t.Close()
		t.Close()
	}()
	return serveBoth(ctx, addr, t)
}

// serveSDK serves through ngrok's SDK alone, without hubhook. The arguments are the service's address, the file of its authority, the
// authtoken and the public URL.
func serveSDK(ctx context.Context, addr string, args []string) error {
	authority, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return fmt.Errorf("read %s: no certificate in it", args[1])
	}
	agent, err := sdk.NewAgent(sdk.WithAgentConnectURL(args[0]), sdk.WithAgentConnectCAs(pool), sdk.WithAuthtoken(args[2]),
		sdk.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	l, err := agent.Listen(ctx, sdk.WithURL(args[3]))
	if err != nil {
		return err
	}
	return serveBoth(ctx, addr, l)
}

// serveBoth serves answerEmpty on public until ctx ends. It serves /healthz on addr, so that bench sees when it is ready.
func serveBoth(ctx context.Context, addr string, public net.Listener) error {
	local, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	srv := &http.Server{Handler: routes(http.HandlerFunc(answerEmpty))}
	ended := make(chan error, 2)
	for _, l := range []net.Listener{local, public} {
		go func() { ended <- srv.Serve(l) }()
	}
	select {
	case <-ctx.Done():
		// Nothing is in flight and the process ends, so don't wait for the SDK's own shutdown.
		return nil
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	}
}
