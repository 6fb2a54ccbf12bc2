//go:build unix

package page_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/testing/browser"
	"github.com/hubhook/hubhook/internal/testing/tail"
	"github.com/hubhook/hubhook/server"
)

// These variables make the test binary run as a server and nothing else.
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

// start starts a server in a process of its own. Addresses and data may be those of an earlier server. It returns a function that kills
// the server, as a crash would.
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
	// The stream does not bring this delivery to the page: it comes before or while the page reconnects.
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
	b.finish() // before the second server is killed
}

// A page in the background or on a sleeping laptop does not read the stream for a while. Handlers don't wait for it. So the page loses
// events, is told so, and fetches its data again.
func TestMissedEventsAreCaughtUpWith(t *testing.T) {
	s := serve(t)
	target, err := url.Parse(s.private)
	if err != nil {
		t.Fatal(err)
	}
	var pace pace
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host },
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // the page's own end cuts its stream
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path == "/api/stream" {
				r.Body = &pacedBody{r.Body, &pace}
			}
			return nil
		},
	}
	between := httptest.NewServer(proxy)
	t.Cleanup(between.Close)
	direct := s.private
	s.private = between.URL
	b := s.open("/", func(c *browser.PageConfig) {
		c.Script = `window.EventSource = class extends EventSource {
			constructor(...args) {
				super(...args);
				this.addEventListener("missed", (e) => { window.told = JSON.parse(e.data).events; });
			}
		};`
	})
	b.waitText("header", "live")
	b.waitText("main h2", "Nothing has come yet")

	pace.stop()
	// More events than the buffers for one reader hold, in the server and on the way.
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = s.send("rambles", event("me/data"))
	}
	last := ids[len(ids)-1]
	s.private = direct
	s.until(last, "dead")
	pace.goOn()
	b.waitState(last, "dead")
	b.wait("to be told that events were missed", `window.told > 0`)
	b.wait("no delivery left in a state of before", `!document.querySelector(".row:not([data-state=dead])[data-id]") && document.querySelector(".row[data-id]").dataset.id === `+browser.Literal(last))
	b.waitText("header", "live")
	var list api.List
	s.get("/api/deliveries?limit=1000", &list)
	b.wait("a row for each", fmt.Sprintf(`document.querySelector("[aria-rowcount]").ariaRowCount === "%d"`, len(list.Deliveries)+1))
	b.finish()
}

// pace lets reads through, or blocks them.
type pace struct{ sync.RWMutex }

func (p *pace) stop() { p.Lock() }
func (p *pace) goOn() { p.Unlock() }

// pacedBody is read at a pace.
type pacedBody struct {
	io.ReadCloser
	*pace
}

func (b *pacedBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	b.RLock() // only after the read: a blocked read must not block stop
	defer b.RUnlock()
	return n, err
}
