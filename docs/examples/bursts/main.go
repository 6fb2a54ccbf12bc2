// Command bursts keeps an index of each repo that is pushed to. A burst of pushes is indexed once, when it is over, and no repo is indexed
// twice at a time.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	server.Add(updateIndex, server.Debounce(2*time.Second, time.Minute, nil), server.SerialBy(repo))
	server.Main()
}

// repo is the key by which updates keep apart: those of one repo write the same index.
func repo(p *payload.Payload) string { return string(p.Repo.Type) + " " + p.Repo.Name }

// updateIndex is where an index would be brought up to date, with what the last push of a burst has left.
func updateIndex(ctx context.Context, p *payload.Payload) (any, error) {
	d, _ := server.DeliveryFrom(ctx)
	logger := log.New(io.MultiWriter(os.Stderr, server.Output(ctx)), "", log.LstdFlags)
	logger.Printf("indexing %s at %s, after %d pushes", p.Repo.Name, p.Repo.HeadSHA, 1+len(d.Merged))
	return nil, nil
}
