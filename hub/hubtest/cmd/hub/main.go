// Hub serves a stand-in for the Hugging Face Hub, to try webhooks by hand: its API, and a page that shows its repos, webhooks and deliveries
// and lets one push, comment and upload.
//
//	go run github.com/hubhook/hubhook/hub/hubtest/cmd/hub
//	export HF_ENDPOINT=http://127.0.0.1:7870 HF_TOKEN=hf_local
//	hf webhooks create --watch user:me --url http://127.0.0.1:7860/webhooks/inbox
//	hubhook --no-tunnel
//
// What it holds is lost when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "hub:", err)
		os.Exit(1)
	}
}

// errUsage is a command line that was wrong. The flag package has said why.
var errUsage = errors.New("wrong usage")

// items is a flag that may be repeated.
type items []string

func (i *items) String() string { return strings.Join(*i, ",") }

func (i *items) Set(value string) error {
	*i = append(*i, value)
	return nil
}

// token is the one that the Hub knows. It is no secret, and can't be set, so that nobody has it print a real one.
const token = "hf_local"

// seed is what the Hub holds at first if no flag says otherwise.
var seed = items{"dataset:me/data", "model:me/model", "space:me/app", "bucket:me/files"}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("hub", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "A stand-in for the Hugging Face Hub, to try webhooks by hand. What it holds is lost when it ends.\n\nusage: hub [flags]\n\n")
		flags.PrintDefaults()
	}
	var repos items
	addr := flags.String("addr", "127.0.0.1:7870", "`address` to listen on; whoever reaches it may change all that the Hub holds")
	flags.Var(&repos, "repo", "a repo or bucket to begin with, as `TYPE:NAME`; may be repeated (default "+seed.String()+")")
	user := flags.String("user", "me", "`name` of the user to whom the token hf_local belongs")
	suspendAfter := flags.Int("suspend-after", 10, "failed attempts in a row that suspend a webhook; 0: never")
	echo := flags.Bool("echo-secret", false, "answer a webhook's secret, as the Hub did in 2025")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "hub: unexpected argument %q\n", flags.Arg(0))
		flags.Usage()
		return errUsage
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with -addr, such as 127.0.0.1:0 for any free port", err)
	}
	url := "http://" + l.Addr().String()
	hub := hubtest.New(hubtest.Options{
		URL: url, User: *user, SuspendAfter: *suspendAfter, API: hubtest.API{EchoSecret: *echo},
		Retry: hubtest.Backoff(time.Second, time.Minute, 20),
	})
	defer hub.Close()
	hub.Accounts.AddToken(hubtest.Token{Value: token, User: *user})
	if repos == nil {
		for _, item := range seed {
			repos = append(repos, strings.Replace(item, ":me/", ":"+*user+"/", 1))
		}
	}
	for _, item := range repos {
		if err := create(hub, item); err != nil {
			l.Close()
			return err
		}
	}

	server := &http.Server{Handler: newPage(hub, *user, url), ReadHeaderTimeout: 30 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	host, _, _ := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		fmt.Fprintf(stderr, "hub: warning: %s is not a loopback address: whoever reaches it may change all that the Hub holds\n", l.Addr())
	}
	fmt.Fprintf(stdout, "A stand-in Hub with %s\n\n  page:  %s\n  use:   export HF_ENDPOINT=%s HF_TOKEN=%s\n\nCtrl-C ends it; what it holds is lost then.\n",
		strings.Join(repos, ", "), url, url, token)
	select {
	case err = <-ended:
	case <-ctx.Done():
		hub.Close()
		server.Close()
		err = <-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", *addr, err)
	}
	return nil
}

// create makes a repo or bucket with a few files.
func create(hub *hubtest.Hub, item string) error {
	kind, name, _ := strings.Cut(item, ":")
	readme := hubtest.File{Path: "README.md", Content: []byte("# " + name + "\n")}
	if kind == string(payload.Bucket) {
		b, err := hub.CreateBucket(name, hubtest.RepoOptions{})
		if err != nil {
			return err
		}
		return b.Upload(readme)
	}
	r, err := hub.CreateRepo(payload.RepoType(kind), name, hubtest.RepoOptions{})
	if err != nil {
		return fmt.Errorf("%w; -repo takes TYPE:NAME, such as dataset:me/data", err)
	}
	_, err = r.Push(hubtest.Commit{Title: "Add a README", Files: []hubtest.File{readme}})
	return err
}
