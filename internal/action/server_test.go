package action

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/tail"
	"github.com/hubhook/hubhook/server"
)

const (
	testSecret = "s3cret-of-the-tests"
	testToken  = "token-of-the-tests"
)

// push is a push to the branch main of a model.
const push = `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"model","name":"me/model"},"updatedRefs":[{"ref":"refs/heads/main","oldSha":null,"newSha":"0123456789012345678901234567890123456789"}]}`

// running is a server under Run, as `hubhook serve` runs it.
type running struct {
	t       *testing.T
	local   string // base URL
	private string // the inspector's
	stop    func() error
}

// run starts a server whose endpoints register adds, and ends it with the test.
func run(t *testing.T, register func(*server.Server)) *running {
	t.Helper()
	read, write := io.Pipe()
	problems := &tail.Tail{}
	s, err := server.New(server.Config{
		Addr: "127.0.0.1:0", Inspector: "127.0.0.1:0", InspectorToken: testToken, Data: t.TempDir(), NoTunnel: true,
		Secrets: []string{testSecret}, ReplyWithin: time.Minute, JSON: true, Output: write, Errors: problems,
		Getenv: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		t.Fatal(err)
	}
	register(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx); write.Close() }()
	r := &running{t: t}
	stopped := false
	r.stop = func() (err error) {
		if !stopped {
			stopped = true
			cancel()
			err = <-ended
		}
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, problems)
		}
	})
	lines := bufio.NewScanner(read)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var ready struct {
			Type      string `json:"type"`
			LocalURL  string `json:"local_url"`
			Inspector string `json:"inspector_url"`
		}
		if err := json.Unmarshal(lines.Bytes(), &ready); err != nil {
			t.Fatal(err)
		}
		if ready.Type == "ready" {
			r.local, r.private = ready.LocalURL, ready.Inspector
			if at := strings.IndexByte(r.private, '?'); at >= 0 {
				r.private = r.private[:at]
			}
			r.private = strings.TrimSuffix(r.private, "/")
			break
		}
	}
	if r.local == "" {
		t.Fatalf("the server is not ready: %v\n%s", lines.Err(), problems)
	}
	go io.Copy(io.Discard, read)
	return r
}

// answer is what a delivery is answered.
type answer struct {
	status int
	id     string
	body   string
	state  string // "" where the handler is done
	reason string // why it is skipped, or failed
}

// deliver posts a body as the Hub does, and waits for its handler. The name may have a query after it; a header with the value "" is left out.
func (r *running) deliver(name, body string, header ...string) answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.local+"/webhooks/"+name, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Webhook-Secret", testSecret)
	for i := 0; i < len(header); i += 2 {
		if req.Header[header[i]] = []string{header[i+1]}; header[i+1] == "" {
			delete(req.Header, header[i])
		}
	}
	text, response := r.do(req)
	a := answer{status: response.StatusCode, id: response.Header.Get("Hubhook-Delivery"), body: text}
	var what struct {
		Delivery, State, Error, Reason string
	}
	if json.Unmarshal([]byte(text), &what) == nil && what.Delivery != "" && what.Delivery == a.id {
		a.state, a.reason = what.State, what.Error+what.Reason
	}
	return a
}

// attempt is one of the attempts of a delivery, as the inspector has it.
type attempt struct {
	Error  string
	Output string
	Result json.RawMessage
}

// attempts returns those of a delivery.
func (r *running) attempts(id string) []attempt {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.private+"/api/deliveries/"+id, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	text, response := r.do(req)
	var d struct {
		List []attempt `json:"attempt_list"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil || response.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s: %v", response.Status, text, err)
	}
	return d.List
}

func (r *running) do(req *http.Request) (string, *http.Response) {
	r.t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		r.t.Fatal(err)
	}
	return text.String(), response
}
