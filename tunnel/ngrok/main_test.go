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
	// Most tests wait for time limits of the SDK or of the tunnel, which costs no CPU.
	flag.Parse()
	if err := flag.Set("test.parallel", "24"); err != nil {
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
		if err := goleak.Find(goleak.IgnoreTopFunction(heartbeatCheck)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
}

// heartbeatCheck is the SDK's, for each session. Where a heartbeat is answered in the same moment in which it is found overdue, it
// waits for a timer that has been read already, for ever. Nothing outside of it can end that; all else of such a session is gone.
const heartbeatCheck = "golang.ngrok.com/muxado/v2.(*Heartbeat).check"
