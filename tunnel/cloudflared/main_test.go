package cloudflared

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
	goleak.VerifyTestMain(m)
}
