//go:build unix

package server

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// timeout(1) signals its child, and then the child's process group: that is one signal, not a second one, which would end this process.
func TestTwoSignalsOfOneKindAreOne(t *testing.T) {
	for _, kind := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		ctx, stop := untilSignal(t.Context(), time.Hour)
		for range 2 {
			if err := syscall.Kill(os.Getpid(), kind); err != nil {
				t.Fatal(err)
			}
			<-ctx.Done()
		}
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("%v: the context ended with %v", kind, ctx.Err())
		}
		stop() // must not wait for the hour
	}
}
