//go:build unix

// Package e2e_test runs the programs that users run: the hubhook binary, and a Go program with the library. It tests them from outside:
// over HTTP, over an ngrok edge with the real SDK, by signals, by their output and by their files.
package e2e_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
	"github.com/hubhook/hubhook/ui/inspector"
)

// patience bounds every wait that no requirement bounds.
const patience = 2 * time.Minute

const secret = "s3cret-of-the-webhook"

// The programs under test, built by TestMain.
var hubhook, bot, mounted string

func TestMain(m *testing.M) {
	if status, ran := tunneltest.RunCloudflared(os.Args[1:]); ran {
		os.Exit(status)
	}
	flag.Parse()
	// Most tests wait, for leases, backoffs or the end of an outage. So run more at once than one for each core, the default.
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0)))); err != nil {
			log.Fatal(err)
		}
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hubhook-e2e-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	hubhook, bot, mounted = filepath.Join(dir, "hubhook"), filepath.Join(dir, "bot"), filepath.Join(dir, "mounted")
	build := exec.Command("go", "build", "-o", dir, "../..", "./bot", "./mounted", "../../docs/examples/retrain", "../../docs/examples/discussion-bot")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		log.Printf("go build: %v\n%s", err, out)
		return 1
	}
	status := m.Run()
	if err := pgserver.CloseShared(); err != nil {
		log.Print(err)
		return 1
	}
	return status
}

// home holds the home directory, configuration and state of one test's programs. It outlives each of them.
type home struct {
	dir      string
	env      []string
	programs []*program
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"work", "bot", "config", "state", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &home{dir: dir, env: []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + dir,
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		"XDG_STATE_HOME=" + filepath.Join(dir, "state"),
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"BOT_DIR=" + filepath.Join(dir, "bot"),
	}}
}

// ngrokConfig is where ngrok's own program, and so hubhook, looks for its configuration.
func (h *home) ngrokConfig() string { return filepath.Join(h.dir, "config", "ngrok", "ngrok.yml") }

// open lets the handlers that wait for the gate go on.
func (h *home) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "bot", "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// logged returns the lines of the bot's log: "start" or "end", and a delivery's ID.
func (h *home) logged(t *testing.T) [][2]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "bot", "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var lines [][2]string
	for line := range strings.Lines(string(text)) {
		what, id, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || what != "start" && what != "end" {
			t.Fatalf("the bot's log has the line %q", line)
		}
		lines = append(lines, [2]string{what, id})
	}
	return lines
}

// handled counts in the bot's log how often each delivery's handler started, and how often it succeeded.
func (h *home) handled(t *testing.T) (starts, ends map[string]int) {
	t.Helper()
	starts, ends = map[string]int{}, map[string]int{}
	for _, line := range h.logged(t) {
		if line[0] == "start" {
			starts[line[1]]++
		} else {
			ends[line[1]]++
		}
	}
	return starts, ends
}

// event is one line of --json, with the fields that tests look at.
type event struct {
	Type         string        `json:"type"`
	Time         time.Time     `json:"time"`
	LocalURL     string        `json:"local_url"`
	PublicURL    string        `json:"public_url"`
	InspectorURL string        `json:"inspector_url"`
	Data         string        `json:"data"`
	Endpoints    []endpointURL `json:"endpoints"`
	ID           string        `json:"id"`
	Delivery     string        `json:"delivery"`
	Endpoint     string        `json:"endpoint"`
	State        string        `json:"state"`
	Phase        string        `json:"phase"`
	Text         string        `json:"text"`
	Output       string        `json:"output"`
	URL          string        `json:"url"`
	Status       int           `json:"status"`
	Error        string        `json:"error"`
	Hint         string        `json:"hint"`
	Fix          string        `json:"fix"`
	N            int           `json:"n"`
	Attempts     int           `json:"attempts"`
	Unfinished   *int          `json:"unfinished"`

	Followed []api.Followed `json:"followed"`
	Webhooks []api.Webhook  `json:"webhooks"`
}

type endpointURL struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// program is a process under test. It ends with the test at the latest.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     *output
	errs    *output
	exited  chan struct{} // closed once it has ended and its whole output is read
	started time.Time
	base    string // its local URL, from awaitReady on
	ready   event
	client  *http.Client
}

// start runs a program with --json and the given flags.
func (h *home) start(t *testing.T, binary string, flags ...string) *program {
	t.Helper()
	return h.run(t, binary, append([]string{"--json"}, flags...)...)
}

// run starts a program with just these arguments.
func (h *home) run(t *testing.T, binary string, args ...string) *program {
	t.Helper()
	p := &program{t: t, out: newOutput(), errs: newOutput(), exited: make(chan struct{}), started: time.Now()}
	p.client = &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Env = filepath.Join(h.dir, "work"), h.env
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.programs = append(h.programs, p)
	go func() {
		p.cmd.Wait() // the status is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		select {
		case <-p.exited:
		default:
			p.cmd.Process.Kill()
			<-p.exited
		}
		if t.Failed() {
			t.Logf("%s %s: %v\nstandard output:\n%s\nstandard error:\n%s", filepath.Base(binary), strings.Join(args, " "), p.cmd.ProcessState, tail(p.out), tail(p.errs))
		}
	})
	return p
}

// serve starts a program and waits until it is ready.
func (h *home) serve(t *testing.T, binary string, flags ...string) *program {
	t.Helper()
	p := h.start(t, binary, flags...)
	p.awaitReady()
	return p
}

func (p *program) awaitReady() {
	p.t.Helper()
	p.ready = p.await("ready", patience, func(e event) bool { return e.Type == "ready" })
	p.base = p.ready.LocalURL
}

// await waits until the program has printed the wanted event.
func (p *program) await(what string, limit time.Duration, is func(event) bool) event {
	p.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	seen := 0
	for {
		lines, more := p.out.since(seen)
		seen += len(lines)
		for _, line := range lines {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type == "" || e.Time.IsZero() {
				p.t.Fatalf("--json printed %q, which is no event (%v)", line, err)
			}
			if is(e) {
				return e
			}
		}
		if len(lines) > 0 {
			continue
		}
		select {
		case <-more:
		case <-p.exited:
			if lines, _ := p.out.since(seen); len(lines) == 0 {
				p.t.Fatalf("the program ended (%v) before the event %q", p.cmd.ProcessState, what)
			}
		case <-timeout.C:
			p.t.Fatalf("no event %q within %v", what, limit)
		}
	}
}

// exit waits for the program's end and returns its exit status, -1 after a signal.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience + 15*time.Second): // handlers may take 30 s
		p.t.Fatal("the program does not end")
		return -1
	}
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the program as a service manager does, and checks its exit status.
func (p *program) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if status := p.exit(); status != 0 {
		p.t.Errorf("exit status %d after SIGTERM; want 0", status)
	}
}

// kill ends the program with SIGKILL. Unlike a power cut it spares the disk.
func (p *program) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.exit()
	p.client.CloseIdleConnections()
}

// inspector returns a client of the program's inspector, as hubhook's own commands use it.
func (p *program) inspector() *inspector.Client { return inspector.NewClient(p.ready.InspectorURL, "") }

// record returns the inspector's record of a delivery.
func (p *program) record(id string) api.Record {
	p.t.Helper()
	r, err := p.inspector().Get(p.t.Context(), id)
	if err != nil {
		p.t.Fatalf("delivery %s: %v", id, err)
	}
	return r
}

// settled waits until a delivery is in one of these states.
func (p *program) settled(id string, states ...queue.State) api.Record {
	p.t.Helper()
	var r api.Record
	p.poll(fmt.Sprintf("delivery %s becomes %v", id, states), func() (bool, string) {
		r = p.record(id)
		for _, s := range states {
			if r.State == string(s) {
				return true, ""
			}
		}
		return false, fmt.Sprintf("it is %s (%s)", r.State, r.Reason)
	})
	return r
}

// status is the inspector's answer to how the program stands.
func (p *program) status() api.Status {
	p.t.Helper()
	s, err := p.inspector().Status(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// counts are the numbers of all stored deliveries by state.
func (p *program) counts() map[queue.State]int64 {
	p.t.Helper()
	counts := map[queue.State]int64{}
	for state, n := range p.status().Counts {
		counts[queue.State(state)] = n
	}
	return counts
}

// finished waits until no delivery is unfinished, and returns the counts.
func (p *program) finished(limit time.Duration) map[queue.State]int64 {
	p.t.Helper()
	var counts map[queue.State]int64
	pollFor(p.t, limit, "every delivery is finished", func() (bool, string) {
		counts = p.counts()
		for state, n := range counts {
			if n > 0 && !state.Finished() {
				return false, fmt.Sprint(counts)
			}
		}
		return true, ""
	})
	return counts
}

// list returns all deliveries of an endpoint, "" for every one's, newest first.
func (p *program) list(endpoint string) []api.Delivery {
	p.t.Helper()
	var all []api.Delivery
	filter := queue.Filter{Endpoint: endpoint, Limit: 1000}
	for {
		page, err := p.inspector().List(p.t.Context(), filter)
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, page.Deliveries...)
		if page.Next == nil {
			return all
		}
		filter.Before = *page.Next
	}
}

func (p *program) poll(what string, ok func() (bool, string)) {
	p.t.Helper()
	pollFor(p.t, patience, what, ok)
}

// pollFor calls ok until it returns true. ok's text describes the state for the error.
func pollFor(t *testing.T, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		yes, stand := ok()
		if yes {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s", what, limit, stand)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// answer is the answer to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// post sends a body to an endpoint over the local address. Headers are name and value in turn.
func (p *program) post(endpoint, body string, headers ...string) answer {
	p.t.Helper()
	return post(p.t, p.client, p.base+"/webhooks/"+endpoint, body, headers...)
}

func post(t *testing.T, client *http.Client, url, body string, headers ...string) answer {
	t.Helper()
	a, err := tryPost(t, client, url, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryPost(t *testing.T, client *http.Client, url, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return do(client, r)
}

func do(client *http.Client, r *http.Request) (answer, error) {
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// fields returns the fields of the answer's body, which has to be a JSON object.
func (a answer) fields(t *testing.T) map[string]any {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("the answer %d %s has Content-Type %q; want application/json", a.status, a.body, ct)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil || fields == nil {
		t.Fatalf("the answer %d %q is no JSON object", a.status, a.body)
	}
	return fields
}

// says reports whether the answer's body has exactly these fields. "*" stands for any non-empty text.
func (a answer) says(t *testing.T, want map[string]string) bool {
	t.Helper()
	got := a.fields(t)
	for name, value := range want {
		text, ok := got[name].(string)
		if !ok || text != value && (value != "*" || text == "") {
			return false
		}
	}
	return len(got) == len(want)
}

func (a answer) delivery() string { return a.header.Get("Hubhook-Delivery") }

func (a answer) ok() bool { return a.status/100 == 2 }

// viaEdge configures a home's programs to use an edge in ngrok's place, and starts one of them behind it.
func viaEdge(t *testing.T, h *home, edge *tunneltest.Edge, binary string, flags ...string) (p *program, public string) {
	t.Helper()
	if err := edge.WriteConfig(h.ngrokConfig(), tunneltest.DefaultToken); err != nil {
		t.Fatal(err)
	}
	p = h.serve(t, binary, flags...)
	if want := "https://" + edge.Domain(); p.ready.PublicURL != want {
		t.Fatalf("public URL %q; want %q", p.ready.PublicURL, want)
	}
	return p, p.ready.PublicURL
}

// farSide is the stand-in for the service of a tunnel.
type farSide interface {
	Client() *http.Client
	Sessions() (now, total int)
}

// publicClient reaches the public side under every host name, and follows no redirect, as the Hub may not.
func publicClient(t *testing.T, far farSide) *http.Client {
	client := far.Client()
	client.Timeout = patience
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// payloads returns the known bodies of the Hub, by file name.
func payloads(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../payload/testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("payload/testdata has %d payloads; want them all", len(files))
	}
	bodies := map[string]string{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bodies[filepath.Base(file)] = string(body)
	}
	return bodies
}

// push is a payload of the most common event.
func push(t *testing.T) string {
	t.Helper()
	return payloads(t)["synthetic_repo_content_update_main_model.json"]
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// output keeps a program's output.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	ends []int         // where lines end
	more chan struct{} // closed and replaced with each write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	begin := o.text.Len()
	o.text.Write(b)
	for i, c := range b {
		if c == '\n' {
			o.ends = append(o.ends, begin+i+1)
		}
	}
	close(o.more)
	o.more = make(chan struct{})
	return len(b), nil
}

// since returns the whole lines after the first n, and a channel that closes when there is more.
func (o *output) since(n int) ([]string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var lines []string
	begin := 0
	if n > 0 {
		begin = o.ends[n-1]
	}
	for _, end := range o.ends[n:] {
		lines = append(lines, string(o.text.Bytes()[begin:end-1]))
		begin = end
	}
	return lines, o.more
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail returns the end of a long output.
func tail(o *output) string {
	const most = 4 << 10
	text := o.String()
	if len(text) > most {
		return "...\n" + text[len(text)-most:]
	}
	return text
}
