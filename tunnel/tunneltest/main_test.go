package tunneltest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

func TestMain(m *testing.M) {
	if status, ran := tunneltest.RunCloudflared(os.Args[1:]); ran {
		os.Exit(status)
	}
	goleak.VerifyTestMain(m,
		// The SDK's goroutines for a cut session live until its next heartbeat is overdue (25 s by default), and until its next try.
		goleak.IgnoreAnyFunction("golang.ngrok.com/muxado/v2.(*Heartbeat).check"),
		goleak.IgnoreAnyFunction("golang.ngrok.com/muxado/v2.(*Heartbeat).requester"),
		goleak.IgnoreAnyFunction("golang.ngrok.com/ngrok/v2/internal/tunnel/client.(*reconnectingSession).connect"),
	)
}
