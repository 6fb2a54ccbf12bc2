//go:build unix

package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// timeout(1) signals its child, and then the child's process group: that is one signal, not a second one, which would end the process.
func TestTwoSignalsOfOneKindAreOne(t *testing.T) {
	if os.Getenv("SERVER_TEST_SIGNALLED") != "" {
		ctx, _ := untilSignal(context.Background(), time.Hour)
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("asked")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the other signal has been sent
		os.Exit(0)
	}
	for _, kind := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTwoSignalsOfOneKindAreOne$")
		child.Env = append(os.Environ(), "SERVER_TEST_SIGNALLED=1")
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for _, want := range []string{"ready", "asked"} {
			if !said.Scan() || said.Text() != want {
				t.Fatalf("%v: the process says %q, want %s", kind, said.Text(), want)
			}
			if err := child.Process.Signal(kind); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err != nil {
			t.Errorf("after a second %v: %v", kind, err)
		}
	}
}

// Who has ended by then does not wait for a signal that may be the first one again.
func TestGivingSignalsBackDoesNotWait(t *testing.T) {
	ctx, stop := untilSignal(t.Context(), time.Hour)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	stop()
}
