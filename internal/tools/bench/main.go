// Command bench measures hubhook against other servers and prints ratios: `make bench`. Most of the other servers do less than hubhook.
// Both sides of a ratio take turns in the same run, so the ratio holds on other machines too. The numbers beside it don't.
//
// Servers are processes of their own: the hubhook binary, the programs in bare and webhooksserver, and this program in one of its roles.
// The exit status is 1 if a measurement failed, for example because a delivery was refused or its outcome was not recorded. Otherwise it
// is 0, whether figures meet their targets or not. Measurements that need programs that this machine lacks are skipped, and named at the end.
// docs/benchmarks.md says what each figure means.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

func main() {
	if status, ran := tunneltest.RunCloudflared(os.Args[1:]); ran {
		os.Exit(status)
	}
	if len(os.Args) > 1 && os.Args[1] == roleArgument {
		if err := play(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var s settings
	flag.BoolVar(&s.short, "short", false, "fewer and shorter rounds, and fewer deliveries stored: a wider spread")
	flag.StringVar(&s.only, "only", "", "measure one thing: "+strings.Join(measurementNames(), ", "))
	flag.StringVar(&s.earlier, "earlier", "", "a build of this `program` from another commit, whose hubhook is measured beside this one")
	flag.StringVar(&s.profiles, "profile", "", "write CPU profiles of hubhook into this `directory`, in rounds that are not counted")
	flag.StringVar(&s.dir, "dir", os.TempDir(), "a `directory` on the disk to measure with; the databases are made, and removed, below it")
	flag.IntVar(&s.stored, "stored", 0, "how many deliveries to store for the measurements of stored deliveries; default 1000000, with -short 100000")
	flag.StringVar(&s.venv, "venv", "", "a `directory` for the Python virtual environment that WebhooksServer runs in; default hubhook-bench in your cache directory")
	flag.DurationVar(&s.load, "load", 0, "how long each hubhook is under full load in the measurement of retention; default 20s, with -short 10s")
	flag.Parse()
	if flag.NArg() > 0 || s.only != "" && !slices.Contains(measurementNames(), s.only) {
		fmt.Fprintf(os.Stderr, "bench: there is no measurement %q\n", cmp.Or(s.only, flag.Arg(0)))
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, s, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	short    bool
	only     string
	earlier  string
	profiles string
	dir      string
	stored   int
	venv     string
	load     time.Duration
}

// lengths say how long and how often to measure.
type lengths struct {
	starts   int           // starts of each program
	slow     int           // starts of a program that takes seconds to start
	stored   int           // deliveries, for the measurements of stored deliveries
	rounds   int           // of each pair, for each number of connections
	round    time.Duration // of one server
	warmUp   time.Duration // before the rounds of one number of connections
	openLoop time.Duration // at a fixed rate
	rest     time.Duration // before memory is read
	profile  time.Duration

	retentionTurns int           // of each hubhook, under full load
	retentionTurn  time.Duration // at least as long as the pause between two sweeps, 10 s, unless -load says otherwise
}

func (s settings) lengths() lengths {
	l := lengths{starts: 15, slow: 5, stored: 1_000_000, rounds: 15, round: 700 * time.Millisecond, warmUp: time.Second,
		openLoop: 10 * time.Second, rest: 5 * time.Second, profile: 5 * time.Second, retentionTurns: 2, retentionTurn: 10 * time.Second}
	if s.short {
		l = lengths{starts: 5, slow: 2, stored: 100_000, rounds: 3, round: 400 * time.Millisecond, warmUp: 200 * time.Millisecond,
			openLoop: 2 * time.Second, rest: time.Second, profile: 2 * time.Second, retentionTurns: 1, retentionTurn: 10 * time.Second}
	}
	if s.load > 0 {
		l.retentionTurn = s.load / time.Duration(l.retentionTurns)
	}
	if s.stored > 0 {
		l.stored = s.stored
	}
	return l
}

// A measurement produces the figures of one or several lines.
type measurement struct {
	names   []string // for -only; a measurement with several names runs whole, and reports the lines asked for
	measure func(*workshop, context.Context) ([]figure, error)
}

var measurements = []measurement{
	{[]string{"start"}, (*workshop).measureStart},
	{[]string{"memory"}, (*workshop).measureMemory},
	{[]string{"deliveries", "latency"}, (*workshop).measureDeliveries},
	{[]string{"forwarded"}, (*workshop).measureForwarded},
	{[]string{"restart"}, (*workshop).measureRestarts},
	{[]string{"watching"}, (*workshop).measureWatching},
	{[]string{"following"}, (*workshop).measureFollowing},
	{[]string{"pushes"}, (*workshop).measurePushes},
	{[]string{"files"}, (*workshop).measureFiles},
	{[]string{"stored"}, (*workshop).measureStored},
	{[]string{"postgresql"}, (*workshop).measurePostgreSQL},
	{[]string{"rivals"}, (*workshop).measureRivals},
	{[]string{"retention"}, (*workshop).measureRetention},
	{[]string{"tunnel"}, (*workshop).measureTunnel},
	{[]string{"providers"}, (*workshop).measureProviders},
	{[]string{"inspector"}, (*workshop).measureInspector},
	{[]string{"earlier"}, (*workshop).measureEarlier},
}

func measurementNames() []string {
	var names []string
	for _, m := range measurements {
		names = append(names, m.names...)
	}
	return names
}

// A workshop holds the state of one run.
type workshop struct {
	settings
	lengths
	dir         string // of this run, removed at its end
	root        string // of the module
	payload     []byte // the body of every delivery
	interpreter *python
	skipped     []string // the measurements that were skipped, with the reasons
	reporter
}

// bench measures what was asked for and prints the table.
func bench(ctx context.Context, s settings, out io.Writer) (err error) {
	w := &workshop{settings: s, lengths: s.lengths(), reporter: newReporter(os.Stderr)}
	if w.dir, err = os.MkdirTemp(s.dir, "hubhook-bench-"); err != nil {
		return fmt.Errorf("make a directory to measure in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()
	if s.profiles != "" {
		if w.profiles, err = filepath.Abs(s.profiles); err != nil {
			return err
		}
		if err := os.MkdirAll(w.profiles, 0o755); err != nil {
			return err
		}
	}
	busy := otherWork()
	sync, err := syncTime(w.dir)
	if err != nil {
		return err
	}
	if err := w.readPayload(ctx); err != nil {
		return err
	}
	var figures []figure
	for _, m := range measurements {
		if s.only != "" && !slices.Contains(m.names, s.only) {
			continue
		}
		w.say("%s...", strings.Join(m.names, ", "))
		made, err := m.measure(w, ctx)
		w.wipe()
		if err != nil {
			return fmt.Errorf("measure %s: %w", strings.Join(m.names, ", "), err)
		}
		figures = append(figures, made...)
	}
	fmt.Fprintf(out, "%s %s/%s, %d cores%s, one write and sync takes %s\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), busy, sync.Round(time.Microsecond))
	if err := writeTable(out, figures); err != nil {
		return err
	}
	for _, what := range w.skipped {
		fmt.Fprintf(out, "\n%s\n", what)
	}
	if w.profiles != "" {
		fmt.Fprintf(out, "\nProfiles are in %s; see go tool pprof -top FILE.\n", w.profiles)
	} else if slices.ContainsFunc(figures, func(f figure) bool { return f.short }) {
		fmt.Fprintln(out, "\nWhere a figure falls short, -profile DIR shows what hubhook spends its time on.")
	}
	return nil
}

const module = "github.com/hubhook/hubhook"

// readPayload reads the body of every delivery.
func (w *workshop) readPayload(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the source of %s, in which bench has to be run: %w", module, err)
	}
	w.root = strings.TrimSpace(string(root))
	w.payload, err = os.ReadFile(filepath.Join(w.root, "payload", "testdata", "synthetic_repo_content_update_main_model.json"))
	if err != nil {
		return fmt.Errorf("read the payload to deliver: %w", err)
	}
	return nil
}

// build makes the binary of a package of the module, as `make build` does, and returns its path.
func (w *workshop) build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(w.dir, path.Base(dir)+".exe") // Windows wants the suffix, others don't mind
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, path.Join(module, dir))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", path.Join(module, dir), err, out)
	}
	return binary, nil
}

// data makes a directory below the run's.
func (w *workshop) data(name string) (string, error) {
	return os.MkdirTemp(w.dir, name+"-")
}

// skip notes that something can't be measured here, and prints it at once.
func (w *workshop) skip(what string) {
	w.say("%s", what)
	w.skipped = append(w.skipped, what)
}

// otherWork says how busy the machine was in the last minute, because figures taken beside other work say little. It is "" if the system does not tell.
func otherWork() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "" // not Linux
	}
	lastMinute, _, _ := strings.Cut(string(load), " ")
	return ", load average " + lastMinute + " before"
}

// syncTime returns the median time of one write with its sync in dir. Durable deliveries depend on it.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, fmt.Errorf("time the disk: %w", err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var times []time.Duration
	for range 101 {
		begin := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, fmt.Errorf("time the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("time the disk: %w", err)
		}
		times = append(times, time.Since(begin))
	}
	return percentile(times, 0.5), nil
}
