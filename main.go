// Command hubhook receives Hugging Face Hub webhooks; see `hubhook --help`.
package main

import (
	"context"
	"os"

	"github.com/hubhook/hubhook/internal/cli"
	"github.com/hubhook/hubhook/server"
)

func main() {
	ctx, stop := server.UntilSignal(context.Background())
	status := cli.Main(ctx, cli.Process{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv})
	stop()
	os.Exit(status)
}
