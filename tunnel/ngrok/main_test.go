package ngrok_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Most tests wait for time limits of the SDK or of the tunnel, which costs no CPU. More at once would be late on a busy machine.
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if status == 0 {
		status = leaked()
	}
	os.Exit(status)
}

// leaked is the exit status for goroutines that outlive the tests. Those of an SDK session that was cut may take until its next
// heartbeat is overdue.
func leaked() int {
	for began := time.Now(); ; {
		err := goleak.Find()
		if err == nil {
			return 0
		}
		if time.Since(began) < 12*time.Second {
			continue
		}
		if err := goleak.Find(goleak.IgnoreTopFunction(heartbeatCheck), goleak.IgnoreTopFunction(heartbeatRequester)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
}

// The SDK runs these two for each session. Nothing outside of them can end them once they wait for ever.
const (
	// It waits for a timer that it has read already, if a heartbeat is answered at the moment when it becomes overdue.
	heartbeatCheck = "golang.ngrok.com/muxado/v2.(*Heartbeat).check"
	// It waits for heartbeatCheck to take an answer, if the session ends at the moment when that answer comes.
	heartbeatRequester = "golang.ngrok.com/muxado/v2.(*Heartbeat).requester"
)
