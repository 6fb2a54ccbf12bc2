package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

const (
	// containedVariable has the test binary become the program of a container. Its value is a container in JSON.
	containedVariable = "HUBHOOK_TEST_CONTAINED"
	// notContained is the exit status where the kernel forbids the mounts.
	notContained = 125
	// patience bounds what takes long only where something is broken.
	patience = 60 * time.Second
)

// container is what an engine makes of an image.
type container struct {
	Root string // directory with the image's files
	Data string // directory that stands for the volume
	User int
	Dir  string // working directory
	Argv []string
	Env  []string
}

// contained does what an engine does between the start of a process and that of the image's program: the root becomes read-only, the volume is
// mounted, the rights go. The process has namespaces of its own for mounts and processes already.
func contained() {
	var c container
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(notContained)
	}
	if err := json.Unmarshal([]byte(os.Getenv(containedVariable)), &c); err != nil {
		fail(err)
	}
	for _, m := range []struct {
		from, to string
		flags    uintptr
	}{
		{"", "/", syscall.MS_REC | syscall.MS_PRIVATE}, // nothing of this reaches the machine's mounts
		{c.Root, c.Root, syscall.MS_BIND},
		{c.Data, filepath.Join(c.Root, dataDir), syscall.MS_BIND},
		{"", c.Root, syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_RDONLY},
	} {
		if err := syscall.Mount(m.from, m.to, "", m.flags, ""); err != nil {
			fail(fmt.Errorf("mount %s: %w", m.to, err))
		}
	}
	for _, step := range []func() error{
		func() error { return syscall.Chroot(c.Root) },
		func() error { return os.Chdir(c.Dir) },
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(c.User) },
		func() error { return syscall.Setuid(c.User) },
		func() error { return syscall.Exec(c.Argv[0], c.Argv, c.Env) },
	} {
		if err := step(); err != nil {
			fail(err)
		}
	}
}

// prepare unpacks the image for this machine, and makes a volume as an engine does: with the owner and mode of the image's directory.
func prepare(t *testing.T) (container, v1.Config) {
	t.Helper()
	image := imageFor(t, imagesIn(t, archived.path), runtime.GOARCH)
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config
	user, err := strconv.Atoi(config.User[:strings.Index(config.User, ":")])
	if err != nil || user == 0 {
		t.Fatalf("the image runs as %q", config.User)
	}
	dir := t.TempDir()
	for path := dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil { // testing makes them for this user alone
			t.Fatal(err)
		}
	}
	c := container{Root: filepath.Join(dir, "root"), Data: filepath.Join(dir, "data"), User: user, Dir: config.WorkingDir, Env: config.Env}
	for _, path := range []string{c.Root, c.Data} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := mutate.Extract(image)
	defer files.Close()
	unpack(t, files, c.Root)
	volume, err := os.Stat(filepath.Join(c.Root, dataDir))
	if err != nil {
		t.Fatal(err)
	}
	owner := volume.Sys().(*syscall.Stat_t)
	if err := errors.Join(os.Chown(c.Data, int(owner.Uid), int(owner.Gid)), os.Chmod(c.Data, volume.Mode())); err != nil {
		t.Fatal(err)
	}
	return c, config
}

// command is a program that runs in the container.
func (c container) command(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	c.Argv = argv
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Env = []string{containedVariable + "=" + string(spec)}
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return command
}

// The image is unpacked and run as an engine would run it: no root, a root directory that is read-only, one volume, and hubhook as process 1.
func TestContainer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		needs.Missing(t, "container", "only root can change the root directory; run this test as root")
	}
	c, config := prepare(t)
	// Any free ports, since other tests run beside this one.
	c.Env = append(c.Env, "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "HUBHOOK_JSON=true", "WEBHOOK_SECRET=s3cret")
	serve := c.command(t, append(config.Entrypoint, config.Cmd...)...)
	var errs bytes.Buffer
	serve.Stderr = &errs
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); errors.Is(err, syscall.EPERM) {
		needs.Missing(t, "container", fmt.Sprintf("can't give a process namespaces of its own: %v", err))
	} else if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { serve.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(out)
	var ready struct {
		Type string `json:"type"`
		URL  string `json:"local_url"`
	}
	for ready.Type != "ready" && lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &ready); err != nil {
			t.Errorf("%s: %v", lines.Bytes(), err)
		}
	}
	if ready.Type != "ready" {
		_ = serve.Wait() // the status is below
		if serve.ProcessState.ExitCode() == notContained {
			needs.Missing(t, "container", "this machine forbids what a container needs: "+errs.String())
		}
		t.Fatalf("it did not start: %v\n%s", serve.ProcessState, &errs)
	}
	process := fmt.Sprintf("/proc/%d/", serve.Process.Pid)
	if status := readFile(t, process+"status"); !strings.Contains(status, "\nUid:\t65532\t65532\t65532\t65532\n") || !strings.Contains(status, "\nCapEff:\t0000000000000000\n") ||
		!strings.Contains(status, "\t1\n") {
		t.Errorf("it is not user 65532, has capabilities, or is not process 1:\n%s", status)
	}
	if mounts := readFile(t, process+"mountinfo"); !strings.Contains(mounts, " / ro") {
		t.Errorf("its root can be written to:\n%s", mounts)
	}

	sample, err := payload.Sample(payload.ScopeRepoContent, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ready.URL+"/webhooks/inbox", bytes.NewReader(sample.Raw()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Webhook-Secret", "s3cret")
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	id := answer.Header.Get("Hubhook-Delivery")
	if answer.StatusCode != 200 || string(body) != "{}" || id == "" {
		t.Errorf("answered %s %s, delivery %q", answer.Status, body, id)
	}

	// As `docker exec CONTAINER hubhook deliveries show ID`, by the variables of the image alone.
	shown, err := c.command(t, program, "deliveries", "show", id).CombinedOutput()
	if err != nil || !strings.Contains(string(shown), id) {
		t.Errorf("deliveries show %s: %v\n%s", id, err, shown)
	}

	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmp.Or(serve.Wait(), lines.Err()); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, &errs)
	}
	stored, err := os.Stat(filepath.Join(c.Data, "hubhook.db"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := stored.Sys().(*syscall.Stat_t); int(owner.Uid) != c.User || stored.Mode().Perm()&0o077 != 0 {
		t.Errorf("hubhook.db belongs to %d and has mode %v", owner.Uid, stored.Mode())
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
