//go:build unix

package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArgument { // a process under test, started by process.run
		os.Args = slices.Delete(os.Args, 1, 2)
		work()
		return
	}
	os.Exit(m.Run())
}

// A short soak on SQLite. HUBHOOK_SOAK_SEED repeats the random choices of an earlier one; `make soak` takes longer.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes a while")
	}
	cfg := config{lasts: 10 * time.Second, round: 10 * time.Second, senders: 8, out: writer{t}}
	if err := cfg.complete(func(name string) string {
		if name == databaseVariable {
			return ""
		}
		return os.Getenv(name)
	}); err != nil {
		t.Fatal(err)
	}
	if err := soakAll(t.Context(), cfg); err != nil {
		t.Error(err)
	}
}

// writer logs to a test.
type writer struct{ t *testing.T }

func (w writer) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
