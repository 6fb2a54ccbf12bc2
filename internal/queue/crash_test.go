//go:build unix

package queue

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

func init() { child = runToBeKilled }

// runToBeKilled uses the queue in the working directory.
func runToBeKilled(mode string) {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	q, err := Open(ctx, Config{Dir: "."})
	must(err)
	log, err := os.OpenFile("handled", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(err)
	must(q.Start([]Endpoint{{Name: "inbox", Concurrency: 4, Handle: func(ctx context.Context, c *Claim) Outcome {
		if string(c.Body) == "poison" {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		time.Sleep(5 * time.Millisecond)
		fmt.Fprintln(log, c.ID)
		return Outcome{}
	}}}))
	accept := func(body string) *Receipt {
		r, err := q.Accept(ctx, Arrival{Endpoint: "inbox", Body: []byte(body)})
		must(err)
		fmt.Printf("%s\n", r.ID)
		return r
	}
	switch mode {
	case "load":
		for range 8 {
			go func() {
				for {
					<-accept("fine").Done()
				}
			}()
		}
		select {}
	case "marks":
		m := Mark{Key: "follow/a"}
		old, err := q.Marks(ctx, m.Key)
		must(err)
		if len(old) > 0 {
			m = old[0]
		}
		for n, _ := strconv.Atoi(string(m.Value)); ; n++ {
			m.Value = strconv.AppendInt(nil, int64(n+1), 10)
			r, err := q.Accept(ctx, Arrival{Endpoint: "inbox", Body: m.Value, Mark: &m})
			must(err)
			m.Version++
			fmt.Printf("%s\n", r.ID)
		}
	case "poison":
		for range 3 {
			accept("fine")
		}
		accept("poison")
		select {}
	case "rest":
		for unfinishedCount(ctx, q) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		must(q.Drain(ctx))
		must(q.Close())
	}
}

// runChild runs the test binary in dir until it ends or, after kill lines of output, is killed.
func runChild(t *testing.T, dir, mode string, kill int) (lines []string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "QUEUE_TEST_CHILD="+mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var killed sync.Once
	for s := bufio.NewScanner(out); s.Scan(); {
		lines = append(lines, s.Text())
		if kill > 0 && len(lines) >= kill {
			killed.Do(func() {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return lines, cmd.Wait()
}

func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for range 5 {
		lines, _ := runChild(t, dir, "load", 60)
		if len(lines) < 60 {
			t.Fatalf("the process died by itself after %d deliveries", len(lines))
		}
		acked = append(acked, lines...)
	}
	if _, err := runChild(t, dir, "rest", 0); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "handled"))
	if err != nil {
		t.Fatal(err)
	}
	handled := map[string]int{}
	for _, id := range strings.Fields(string(b)) {
		handled[id]++
	}
	q, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := integrity(t, q); err != nil {
		t.Error(err)
	}
	for _, id := range acked {
		r, err := q.Get(t.Context(), id)
		if err != nil {
			t.Errorf("%s was acknowledged: %v", id, err)
			continue
		}
		interrupted := slices.ContainsFunc(r.AttemptList, func(a Attempt) bool { return a.Error == store.InterruptedText })
		switch n := handled[id]; {
		case r.State != Done || n == 0:
			t.Errorf("%s is %s and was handled %d times", id, r.State, n)
		case n > 1 && !interrupted:
			t.Errorf("%s was handled %d times and never interrupted", id, n)
		}
	}
	if got, want := countStored(t, q), recount(t, q); got != want {
		t.Errorf("the counts kept are %s, the rows say %s", got, want)
	}
}

func TestPoisonEndsUpDead(t *testing.T) {
	dir := t.TempDir()
	lines, err := runChild(t, dir, "poison", 0)
	if err == nil || len(lines) != 4 && len(lines) != 3 {
		t.Fatalf("the first run gave %v, %v", lines, err)
	}
	deaths := 1
	for ; ; deaths++ {
		if _, err := runChild(t, dir, "rest", 0); err == nil {
			break
		}
		if deaths > store.DeadAfter {
			t.Fatalf("the process has died %d times", deaths)
		}
	}
	if deaths != store.DeadAfter {
		t.Errorf("the process died %d times, want %d", deaths, store.DeadAfter)
	}
	q, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	ds, _, err := q.List(t.Context(), Filter{})
	if err != nil || len(ds) != 4 {
		t.Fatalf("%d deliveries are left, %v; want 4", len(ds), err)
	}
	for i, d := range ds {
		if i == 0 { // the newest one
			r, err := q.Get(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			if d.State != Dead || d.Reason != store.DiedReason || len(r.AttemptList) != store.DeadAfter {
				t.Errorf("the one that kills is %+v with %d attempts", d, len(r.AttemptList))
			}
		} else if d.State != Done {
			t.Errorf("one beside it is %+v, want done", d)
		} else if r, err := q.Get(t.Context(), d.ID); err != nil || len(r.AttemptList) > store.AloneAfter+1 {
			t.Errorf("one beside it was interrupted after the killer was to be alone: %+v, %v", r.AttemptList, err)
		}
	}
}

// A killed process leaves as many deliveries as its mark says, neither more nor fewer.
func TestKilledBetweenMarks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 4 {
		if lines, _ := runChild(t, dir, "marks", 25); len(lines) < 25 {
			t.Fatalf("the process died by itself after %d deliveries", len(lines))
		}
	}
	f := open(t, dir, Config{})
	defer f.close()
	marks := marksOf(t, f.Queue)
	counts, err := f.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, n := range counts["inbox"] {
		total += n
	}
	if len(marks) != 1 || total < 100 || marks[0].Version != total {
		t.Errorf("there are %d deliveries, and the marks are %+v", total, marks)
	}
}
