//go:build unix

package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
)

// pushTo returns the payload of a push to a repo.
func pushTo(t *testing.T, repo string) string {
	t.Helper()
	body := push(t)
	var sent struct{ Repo struct{ Name string } }
	if err := json.Unmarshal([]byte(body), &sent); err != nil || sent.Repo.Name == "" {
		t.Fatalf("the payload names no repo: %v", err)
	}
	return strings.ReplaceAll(body, sent.Repo.Name, repo)
}

// Deliveries with one key run one at a time, also after the process has died, and delay none with another key.
func TestOneAtATimeForEachKey(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--reply-within", "0")
	var mine []string
	for range 3 {
		mine = append(mine, p.post("series", pushTo(t, "me/data")).delivery())
	}
	other := p.post("series", pushTo(t, "me/other")).delivery()
	p.settled(mine[0], queue.Running)
	p.settled(other, queue.Running)
	for _, id := range mine[1:] {
		if r := p.record(id); r.State != string(queue.Waiting) {
			t.Errorf("delivery %s is %s while another one with its key runs; want waiting", id, r.State)
		}
	}

	p.kill()
	p = h.serve(t, bot, "--port", "0", "--no-tunnel", "--reply-within", "20s")
	p.settled(other, queue.Running)
	p.poll("one with the key runs", func() (bool, string) {
		running := 0
		for _, id := range mine {
			if p.record(id).State == string(queue.Running) {
				running++
			}
		}
		return running == 1, fmt.Sprint(running)
	})
	begun := time.Now()
	held := p.post("series", pushTo(t, "me/data"))
	if held.status != 202 || !held.says(t, map[string]string{"delivery": held.delivery(), "state": "waiting"}) {
		t.Errorf("one whose key runs is answered %d %s; want 202 waiting", held.status, held.body)
	}
	if waited := time.Since(begun); waited > 10*time.Second {
		t.Errorf("it was answered after %v; want at once, whatever --reply-within says", waited)
	}
	mine = append(mine, held.delivery())
	h.open(t)
	for _, id := range append(mine, other) {
		p.settled(id, queue.Done)
	}
	running := ""
	for _, line := range h.logged(t) {
		switch {
		case !slices.Contains(mine, line[1]):
		case line[0] == "end" && line[1] == running:
			running = ""
		case line[0] == "start" && (running == "" || running == line[1]): // the first one was interrupted
			running = line[1]
		default:
			t.Errorf("%s %s while %q runs: %v", line[0], line[1], running, h.logged(t))
		}
	}
	p.stop()
}

// Of a burst the last delivery runs once, and its handler is told of the others. That holds also if the process dies while the burst waits.
func TestABurstRunsOnce(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	flags := []string{"--port", "0", "--no-tunnel", "--reply-within", "20s"}
	p := h.serve(t, bot, flags...)
	var burst []string
	send := func(repo string) string {
		t.Helper()
		a := p.post("burst", pushTo(t, repo))
		if a.status != 202 || !a.says(t, map[string]string{"delivery": a.delivery(), "state": "waiting"}) {
			t.Errorf("answer %d %s; want 202 waiting", a.status, a.body)
		}
		return a.delivery()
	}
	for range 4 {
		burst = append(burst, send("me/data"))
	}
	p.kill()
	p = h.serve(t, bot, flags...)
	burst = append(burst, send("me/data"))
	other := send("me/other")

	wantMergedUpTo(p, burst)
	wantMergedUpTo(p, []string{other})
	p.stop()
}

// If pushes never pause for long enough, the endpoint's longest wait ends each burst.
func TestABurstWithoutAnEndRuns(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel")
	var sent []string
	p.poll("one runs", func() (bool, string) {
		sent = append(sent, p.post("steady", push(t)).delivery())
		starts, _ := h.handled(t)
		return len(starts) > 0, fmt.Sprintf("none of %d", len(sent))
	})
	p.finished(patience)
	wantMergedUpTo(p, sent)
	p.stop()
}

// wantMergedUpTo checks that each delivery of one burst has run, or was merged into the next one that ran. A stalled machine may split the
// burst, so of several deliveries only one need be merged.
func wantMergedUpTo(p *program, ids []string) {
	p.t.Helper()
	var merged []string
	ran := 0
	for _, id := range ids {
		r := p.settled(id, queue.Done, queue.Merged)
		if r.State == string(queue.Merged) {
			merged = append(merged, id)
			continue
		}
		ran++
		var told []string
		if list := r.AttemptList; len(list) != 1 {
			p.t.Fatalf("delivery %s has %d attempts", id, len(list))
		} else if result := list[0].Result; len(result) > 0 {
			if err := json.Unmarshal(result, &told); err != nil {
				p.t.Fatalf("delivery %s: result %s: %v", id, result, err)
			}
		}
		if !slices.Equal(told, merged) {
			p.t.Errorf("the handler of %s was told that %v were merged into it; want %v", id, told, merged)
		}
		for _, m := range merged {
			if into := p.record(m).MergedInto; into != id {
				p.t.Errorf("delivery %s is merged into %q; want %s", m, into, id)
			}
		}
		merged = nil
	}
	if len(merged) > 0 {
		p.t.Errorf("%v were merged, and the last one did not run", merged)
	}
	if len(ids) > 1 && ran == len(ids) {
		p.t.Errorf("all %d ran; want most of them merged", ran)
	}
}

// A backlog at one endpoint delays no other endpoint, neither while deliveries arrive nor after a restart.
func TestABacklogHoldsUpNoOtherEndpoint(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	flags := []string{"--port", "0", "--no-tunnel", "--reply-within", "0"}
	p := h.serve(t, bot, flags...)
	body := push(t)
	const backlog = 500
	for range backlog {
		if a := p.post("single", body); a.status != 202 {
			t.Fatalf("answer %d %s; want 202", a.status, a.body)
		}
	}
	others := func() {
		t.Helper()
		for _, endpoint := range []string{"nothing", "recovering", "slow"} {
			p.settled(p.post(endpoint, body).delivery(), queue.Done)
		}
		if unfinished := p.counts()[queue.Waiting]; unfinished != backlog-1 {
			t.Errorf("%d wait for the endpoint that does not move; want %d", unfinished, backlog-1)
		}
	}
	others()
	p.kill()
	p = h.serve(t, bot, flags...)
	others()
	h.open(t)
	if counts := p.finished(patience); counts[queue.Done] != backlog+6 {
		t.Errorf("at the end %v; want all done", counts)
	}
	p.stop()
}

func TestConcurrencyAndTimeoutOfAnEndpoint(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.serve(t, bot, "--port", "0", "--no-tunnel", "--reply-within", "0")
	body := push(t)
	for i, state := range []string{"running", "running", "waiting"} {
		if a := p.post("pair", body); !a.says(t, map[string]string{"delivery": a.delivery(), "state": state}) {
			t.Errorf("delivery %d of an endpoint with two handlers: %s; want %s", i+1, a.body, state)
		}
	}
	r := p.settled(p.post("overdue", body).delivery(), queue.Dead)
	if !strings.Contains(r.Reason, "timed out after 50ms") {
		t.Errorf("the reason of one that took too long is %q", r.Reason)
	}
	h.open(t)
	p.finished(patience)
	p.stop()
}

// Waiting deliveries count towards the limit after a restart too, and make room when they end.
func TestAFullQueueAfterARestart(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	flags := []string{"--port", "0", "--no-tunnel", "--max-waiting", "2", "--reply-within", "0"}
	p := h.serve(t, bot, flags...)
	body := push(t)
	var ids []string
	for range 3 {
		ids = append(ids, p.post("single", body).delivery())
	}
	p.wantUnavailable(p.post("single", body), "wait")
	p.kill()
	p = h.serve(t, bot, flags...)
	p.settled(ids[0], queue.Running)
	p.wantUnavailable(p.post("single", body), "wait")
	h.open(t)
	for _, id := range ids {
		p.settled(id, queue.Done)
	}
	if a := p.post("single", body); !a.ok() {
		t.Errorf("answer %d %s once there is room; want it accepted", a.status, a.body)
	}
	p.stop()
}
