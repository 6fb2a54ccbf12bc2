package ngrok_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	sdk "golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// BenchmarkRequests compares requests through a Tunnel with those through the SDK alone, with the same handler and edge. The figure
// to look at is the ratio of the two.
func BenchmarkRequests(b *testing.B) {
	b.Run("sdk", func(b *testing.B) {
		benchmarkListener(b, func(edge *tunneltest.Edge) net.Listener {
			agent, err := sdk.NewAgent(
				sdk.WithAuthtoken(tunneltest.DefaultToken),
				sdk.WithAgentConnectURL(edge.Addr()),
				sdk.WithAgentConnectCAs(edge.CAs()),
				sdk.WithLogger(slog.New(slog.DiscardHandler)),
			)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			b.Cleanup(cancel)
			l, err := agent.Listen(ctx)
			if err != nil {
				b.Fatal(err)
			}
			return l
		})
	})
	b.Run("tunnel", func(b *testing.B) {
		benchmarkListener(b, func(edge *tunneltest.Edge) net.Listener {
			tun, err := ngrok.New(ngrok.Config{
				Authtoken:  tunneltest.DefaultToken,
				ConnectURL: edge.Addr(),
				ConnectCAs: edge.CAs(),
				Getenv:     environment(),
			}).Open(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { tun.Close() })
			return tun
		})
	})
}

func benchmarkListener(b *testing.B, listen func(*tunneltest.Edge) net.Listener) {
	edge := tunneltest.NewEdge(b, tunneltest.Options{})
	server := &http.Server{Handler: echo}
	l := listen(edge)
	go server.Serve(l)
	b.Cleanup(func() { server.Close() })
	client := edge.Client()
	b.Cleanup(client.CloseIdleConnections)
	body := strings.Repeat("x", 1000)
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := client.Post("https://"+tunneltest.DefaultDomain, "text/plain", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Error(err)
			}
			resp.Body.Close()
		}
	})
}
