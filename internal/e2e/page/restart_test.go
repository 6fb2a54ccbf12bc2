//go:build unix

package page_test

import (
	"context"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/tail"
	"github.com/hubhook/hubhook/server"
)

// The variables of a test binary that is to be a server and nothing else.
const (
	childData      = "PAGE_TEST_DATA"
	childAddr      = "PAGE_TEST_ADDR"
	childInspector = "PAGE_TEST_INSPECTOR"
)

// child serves until it is killed.
func child() {
	s, err := server.New(server.Config{
		Addr:           os.Getenv(childAddr),
		Inspector:      os.Getenv(childInspector),
		InspectorToken: token,
		Data:           os.Getenv(childData),
		Secrets:        []string{secret},
		ReplyWithin:    -1,
		JSON:           true,
		Errors:         os.Stderr,
	})
	if err != nil {
		log.Fatal(err)
	}
	handlers(s, make(chan struct{}), make(chan string))
	log.Fatal(s.Run(context.Background()))
}

// start starts a server in a process of its own, on addresses and data that may be those of one before it. It returns what kills it,
// without a word, as a crash would.
func start(t *testing.T, data, public, private string) (s *site, kill func()) {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childData+"="+data, childAddr+"="+public, childInspector+"="+private)
	var errors tail.Tail
	command.Stderr = &errors
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ready, read := make(chan [2]string, 1), make(chan struct{})
	go func() {
		defer close(read)
		readOutput(out, ready)
	}()
	kill = sync.OnceFunc(func() {
		if err := command.Process.Kill(); err != nil {
			t.Errorf("kill the server: %v", err)
		}
		<-read
		_ = command.Wait() // it says that it was killed
	})
	t.Cleanup(kill)
	select {
	case urls := <-ready:
		return &site{t: t, public: urls[0], private: urls[1]}, kill
	case <-read:
		t.Fatalf("the server ended: %s", &errors)
	case <-time.After(patience):
		t.Fatalf("the server is not ready after %v: %s", patience, &errors)
	}
	return nil, nil
}

func TestARestartIsSaidAndCaughtUpWith(t *testing.T) {
	data := t.TempDir()
	s, kill := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	first := s.send("slow", event("me/data"))
	b := s.open("/?delivery=" + first)
	b.waitState(first, "running")
	b.waitText("header", "live")

	kill()
	b.waitText("header", "hubhook is away")
	public, private := strings.TrimPrefix(s.public, "http://"), strings.TrimPrefix(s.private, "http://")
	again, _ := start(t, data, public, private)
	// Nobody tells the page of this one: it comes before the page is back, or while it is coming back.
	second := again.send("evaluate", event("me/data"))
	b.waitState(second, "dead")
	b.waitState(first, "running")
	b.waitText("header", "live")
	third := again.send("train", event("me/data"))
	b.waitState(third, "done")
	b.waitRows(first, second, third)
	if b.Forgive("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE") == 0 {
		t.Error("the browser saw nothing of the kill")
	}
	b.finish() // before the other one is killed, too
}
