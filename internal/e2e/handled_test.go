//go:build unix

package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/queue"
)

// inSpace makes a home's programs believe that they run in a Docker Space.
func inSpace(h *home, variables ...string) *home {
	h.env = append(h.env, append([]string{"SPACE_ID=me/hooks", "SPACE_HOST=me-hooks.hf.space"}, variables...)...)
	return h
}

// statuses returns the answers' statuses of a delivery's attempts.
func statuses(d *hubtest.Delivery) []int {
	var list []int
	for _, a := range d.Attempts() {
		list = append(list, a.Status)
	}
	return list
}

// A Space loses its disk when it restarts. With --answer handled the Hub has seen no 2xx for unfinished deliveries, so it sends them again.
func TestADiskThatDoesNotLast(t *testing.T) {
	t.Parallel()
	s := newSiteIn(t, inSpace(newHome(t), "HUBHOOK_ANSWER=handled"), "--secret", secret)
	d := s.event("held")
	first := ""
	s.poll("the handler starts", func() (bool, string) {
		for _, stored := range s.list("held") {
			first = stored.ID
		}
		return first != "" && s.runs(first) == 1, first
	})
	s.kill()
	if err := os.RemoveAll(s.ready.Data); err != nil {
		t.Fatal(err)
	}
	s.program = s.serve(t, bot, s.flags...)
	s.poll("the Hub sends it again", func() (bool, string) {
		list := s.list("held")
		return len(list) == 1 && s.runs(list[0].ID) == 1, fmt.Sprint(list)
	})
	if d.State() != hubtest.Pending {
		t.Errorf("the delivery is %s before a handler came to its end: %v", d.State(), d.Attempts())
	}
	s.open(t)
	s.delivered(d)
	list := statuses(d)
	for _, status := range list[:len(list)-1] {
		if status == 200 {
			t.Errorf("the attempts were answered %v; want one 200, at the end", list)
		}
	}
	if _, ends := s.handled(t); ends[accepted(d)] != 1 || accepted(d) == first {
		t.Errorf("the end was answered for %s; want the second one, whose handler came to its end: %v", accepted(d), ends)
	}
	if text := s.errs.String(); strings.Contains(text, "does not outlive a restart") {
		t.Errorf("it warns of what --answer handled is for:\n%s", text)
	}
	s.stop()
}

func TestASpaceWarnsOfItsDisk(t *testing.T) {
	t.Parallel()
	p := inSpace(newHome(t)).serve(t, hubhook, "--port", "0", "--secret", secret)
	p.poll("the warning", func() (bool, string) {
		text := p.errs.String()
		return strings.Contains(text, "does not outlive a restart") && strings.Contains(text, "  hint: --answer handled"), text
	})
	p.stop()
}

// With --answer handled the Hub sees a 2xx only for deliveries that it need not send again.
func TestAnswersWhenHandled(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--no-tunnel", "--secret", secret, "--answer", "handled", "--reply-within", "0")
	for _, endpoint := range []string{"nothing", "slow", "recovering", "picky", "kept", "burst"} {
		d := s.send(endpoint)
		if list := statuses(d); !slices.Equal(list, []int{200}) {
			t.Errorf("%s: answered %v; want 200 at once", endpoint, list)
		}
		if r := s.record(accepted(d)); !queue.State(r.State).Finished() {
			t.Errorf("%s: it is %s when it is answered", endpoint, r.State)
		}
		end := s.await("attempt", patience, func(e event) bool { return e.Delivery == accepted(d) && queue.State(e.State).Finished() })
		if end.Status != 200 {
			t.Errorf("%s: its line says status %d; want the 200 that it is answered with", endpoint, end.Status)
		}
	}
	old := s.post("nothing", payloads(t)["real_v2_repo_content_update_dataset.json"], "X-Webhook-Secret", secret)
	if old.status != 200 || !strings.Contains(old.body, `"state":"dead"`) {
		t.Errorf("one that is not readable is answered %d %s; want 200 dead", old.status, old.body)
	}

	// A delivery that fails is sent again until it is handled.
	d := s.event("barred")
	s.poll("the Hub tries it again", func() (bool, string) { return len(statuses(d)) >= 2, fmt.Sprint(statuses(d)) })
	s.open(t)
	s.delivered(d)
	list := statuses(d)
	for _, status := range list[:len(list)-1] {
		if status != 503 {
			t.Errorf("answered %v; want 503 until the end", list)
		}
	}
	s.settled(accepted(d), queue.Done)
	s.wantUnavailable(s.post("hopeless", push(t), "X-Webhook-Secret", secret), "boom")
	s.stop()
}

// A stop answers all waiting senders: with the outcome if the handler still finishes, else with 503.
func TestAStopWhileAnswersWait(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--no-tunnel", "--answer", "handled")
	type got struct {
		answer
		err error
	}
	send := func() <-chan got {
		answers := make(chan got, 1)
		go func() {
			a, err := tryPost(t, s.client, s.base+"/webhooks/single", push(t))
			answers <- got{a, err}
		}()
		return answers
	}
	running := send()
	s.poll("the first one runs", func() (bool, string) { return s.counts()[queue.Running] == 1, "" })
	waiting := send()
	s.poll("the second one waits", func() (bool, string) { return s.counts()[queue.Waiting] == 1, "" })
	s.signal(syscall.SIGTERM)
	s.waitUnready()
	s.open(t)
	if a := <-running; a.err != nil || a.status != 200 {
		t.Errorf("the one whose handler came to its end: %d %s, %v", a.status, a.body, a.err)
	}
	if a := <-waiting; a.err != nil {
		t.Errorf("the one that was not started: %v", a.err)
	} else {
		s.wantUnavailable(a.answer, "shutting down")
	}
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
}

// The Hub waits for 30 s. A delivery that takes longer than 25 s gets 503 before that, and its repeat waits for the outcome.
func TestWhatTakesLongerThanTheHubWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--no-tunnel", "--secret", secret, "--answer", "handled")
	d := s.event("held")
	pollFor(t, 2*patience, "the Hub is answered", func() (bool, string) { return len(d.Attempts()) == 1, "" })
	if a := d.Attempts()[0]; a.Status != 503 || a.Header.Get("Retry-After") == "" || a.Ended.Sub(a.Started) < 24*time.Second {
		t.Fatalf("%v; want 503 after 25 s", a)
	}
	id := s.list("held")[0].ID
	s.poll("the repeat is a duplicate", func() (bool, string) {
		return s.record(id).Duplicates == 1, ""
	})
	s.open(t)
	s.delivered(d)
	if accepted(d) != id || s.runs(id) != 1 {
		t.Errorf("answered for %s, after %d runs of %s", accepted(d), s.runs(id), id)
	}
	e := s.await("rejected", patience, func(e event) bool { return e.Type == "rejected" })
	if e.Status != 503 || !strings.Contains(e.Error, id) || e.Fix == "" {
		t.Errorf("the screen says %+v; want 503 for %s and what to do", e, id)
	}
	s.stop()
}
