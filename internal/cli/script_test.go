package cli_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui/inspector"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"http":        request,
		"browse":      browse,
		"userprogram": userProgram,
		"damage":      damage,
	})
}

// scriptTime bounds all scripts; what hangs is then shown with its stacks.
const scriptTime = 2 * time.Minute

// TestScripts runs testdata/script/*.txtar with the binary that users get.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts found: %v", err)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "github.com/hubhook/hubhook")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make build` does
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build hubhook: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Files:               scripts,
		Deadline:            time.Now().Add(scriptTime),
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("HOME", home)
			e.Setenv("USERPROFILE", home)
			e.Setenv("LocalAppData", filepath.Join(home, "AppData"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("TZ", "UTC")
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			// Under -race each program waits at its end for races of goroutines that still run: a second, if nothing else is said.
			e.Setenv("GORACE", e.Getenv("GORACE")+" atexit_sleep_ms=50")
			// So that scripts run side by side.
			e.Setenv("HUBHOOK_PORT", "0")
			e.Setenv("HUBHOOK_INSPECTOR", "127.0.0.1:0")
			return os.MkdirAll(home, 0o700)
		},
		Condition: func(name string) (bool, error) {
			if name == "unix" {
				return runtime.GOOS != "windows", nil
			}
			return false, fmt.Errorf("unknown condition %s", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"ready": ready,
			"keep":  keep,
			"hub":   standIn,
			"hold":  hold,
		},
	})
}

// exits is "exits STATUS PROGRAM ARGS...": the program ends with exactly that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("%s ended with status %d, want %s\n%s", strings.Join(args[1:], " "), status, args[0], ts.ReadFile("stderr"))
	}
}

// readyTime bounds the start of a program; nothing waits that long unless it is broken.
const readyTime = 20 * time.Second

// ready is "ready DIR": wait until the program with the data directory DIR answers, and set LOCAL (its URL), LOCALPORT, INSPECTOR (its
// inspector's URL), TOKEN and PID. Several directories may match DIR's wildcards; one of them has to be a running program's.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready DIR")
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		dirs, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		for _, dir := range dirs {
			address, err := inspector.ReadAddress(dir)
			if err != nil {
				continue
			}
			status, err := inspector.NewClient(address.URL, address.Token).Status(ctx)
			if err != nil {
				continue
			}
			local, err := url.Parse(status.Addresses.Local)
			ts.Check(err)
			ts.Setenv("LOCAL", status.Addresses.Local)
			ts.Setenv("LOCALPORT", local.Port())
			ts.Setenv("INSPECTOR", address.URL)
			ts.Setenv("TOKEN", address.Token)
			ts.Setenv("PID", strconv.Itoa(address.PID))
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			ts.Fatalf("nothing with the data directory %s was ready within %v", args[0], readyTime)
		}
	}
}

var deliveryID = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`)

// keep is "keep NAME": set NAME to the first delivery ID that the last program printed.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	id := deliveryID.FindString(ts.ReadFile("stdout"))
	if id == "" {
		ts.Fatalf("keep %s: no delivery ID was printed", args[0])
	}
	ts.Setenv(args[0], id)
}

// request is the program "http [-H 'NAME: VALUE'] [-d FILE] METHOD URL": it prints the status and the body of the answer.
func request() {
	header := flag.String("H", "", "")
	file := flag.String("d", "", "")
	flag.Parse()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "http:", err)
			os.Exit(1)
		}
	}
	var body io.Reader
	if *file != "" {
		f, err := os.Open(*file)
		fail(err)
		body = f
	}
	r, err := http.NewRequest(flag.Arg(0), flag.Arg(1), body)
	fail(err)
	if name, value, ok := strings.Cut(*header, ": "); ok {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	fail(err)
	text, err := io.ReadAll(response.Body)
	fail(err)
	fmt.Printf("%s\n%s\n", response.Status, text)
}

// browse is the program "browse FILE": it goes where a fresh browser goes that is sent to the URL in FILE, and prints the status of the
// page that it ends on, and that page's path and query.
func browse() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "browse:", err)
			os.Exit(1)
		}
	}
	address, err := os.ReadFile(os.Args[1])
	fail(err)
	cookies, err := cookiejar.New(nil)
	fail(err)
	browser := http.Client{Jar: cookies}
	response, err := browser.Get(strings.TrimSpace(string(address)))
	fail(err)
	fmt.Printf("%d %s\n", response.StatusCode, response.Request.URL.RequestURI())
}

// damage is the program "damage DATABASE": it overwrites the first page, as a disk that forgets or a copy that went wrong does.
func damage() {
	f, err := os.OpenFile(os.Args[1], os.O_RDWR, 0)
	if err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "damage:", err)
		os.Exit(1)
	}
}

// userProgram is a program of a user: some handlers, and the server's own flags.
func userProgram() {
	server.Handle("patient", func(ctx context.Context, _ *payload.Payload) (any, error) {
		<-ctx.Done() // until the delivery is discarded or the program stops
		return nil, ctx.Err()
	})
	fail := func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("no GPU is free") }
	server.Handle("failing", fail, server.Retry(1, time.Second))
	server.Handle("retrying", fail, server.Retry(2, time.Hour))
	server.Handle("choosy", nil, server.WhenBecause(func(p *payload.Payload) (bool, string) {
		return p.Repo.Type == payload.Model, fmt.Sprintf("a %s, want a model", p.Repo.Type)
	}))
	server.Handle("panicking", func(context.Context, *payload.Payload) (any, error) { panic("index out of reach") }, server.Retry(1, time.Second))
	server.Main()
}
