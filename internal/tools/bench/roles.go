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
	"github.com/hubhook/hubhook/tunnel/ngrok"
)

// A role is what this program does instead of measuring when its first argument is roleArgument: it serves on an address until its
// standard input ends, and meanwhile obeys the orders that it reads there, one a line:
//
//	profile FILE   begin to write a CPU profile
//	stop           end the profile
//
// Each is answered with doneReply once it is done.
type role func(ctx context.Context, addr string, args []string) error

const (
	roleArgument = "serve-as"
	doneReply    = "done"
)

// roles by the names that figures and errors give them.
var roles = map[string]role{
	"hubhook":        serveHubhook,
	"hubhook tunnel": serveTunnel,
	"SDK alone":      serveSDK,
}

// play runs the role that args name, with the address and the arguments of its own after that.
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

// obey follows orders until they end, nil for an ordinary end.
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

// answerEmpty is the handler that is served through both tunnels. It does next to nothing, so that what the ways cost is seen.
func answerEmpty(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, "{}") // where the client is gone, it is the one that tells
}

// serveTunnel serves through hubhook's tunnel. The arguments are ngrok.yml and the public URL.
func serveTunnel(ctx context.Context, addr string, args []string) error {
	t, err := ngrok.New(ngrok.Config{
		ConfigFile: args[0], URL: args[1],
		Getenv: func(string) string { return "" },
	}).Open(ctx)
	if err != nil {
		return err
	}
	return serveBoth(ctx, addr, t)
}

// serveSDK serves through ngrok's SDK with nothing of ours. The arguments are the service's address, the file of its authority, the
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

// serveBoth serves answerEmpty on public, and /healthz on addr so that the start can be seen, until ctx ends.
func serveBoth(ctx context.Context, addr string, public net.Listener) error {
	local, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("POST /webhooks/inbox", answerEmpty)
	srv := &http.Server{Handler: routes}
	ended := make(chan error, 2)
	for _, l := range []net.Listener{local, public} {
		go func() { ended <- srv.Serve(l) }()
	}
	select {
	case <-ctx.Done():
		// Nothing is in flight any more, and the process ends: what the SDK would still do is not waited for.
		return nil
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	}
}
