//go:build unix

package e2e_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the same engine as the queue's

	"github.com/hubhook/hubhook/internal/queue"
)

// interrupted begins the error of an attempt whose process died.
const interrupted = "interrupted"

// The process is killed under load ten times in a row, at random moments. Every delivery that was answered 2xx is handled all the same:
// once, or again if it was interrupted. The database stays sound.
func TestKilledTenTimesUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))

	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW=60ms")
	port := freePort(t)
	flags := []string{"--port", port, "--no-tunnel", "--reply-within", "20ms", "--secret", secret}
	start := func() *program { return h.serve(t, bot, flags...) }
	p := start()
	hub := newSender(t, 8, p.base+"/webhooks/slow")

	const kills = 10
	for n := range kills {
		before := hub.accepted()
		// Wait for the first deliveries of each process before the random moment, so that each kill has handlers to interrupt.
		pollFor(t, patience, "deliveries are accepted", func() (bool, string) { return hub.accepted() >= before+5, fmt.Sprint(hub.accepted()) })
		time.Sleep(150*time.Millisecond + time.Duration(moments.Int64N(int64(500*time.Millisecond))))
		p.kill()
		if n == kills/2 {
			wantSound(t, p.ready.Data)
		}
		p = start()
	}
	answered := hub.stop()
	counts := p.finished(60 * time.Second)
	starts, ends := h.handled(t)

	records := p.list("slow")
	stored := map[string]bool{}
	interruptions := 0
	for _, d := range records {
		stored[d.ID] = true
		r := p.record(d.ID)
		cut := 0
		for _, a := range r.AttemptList {
			if strings.HasPrefix(a.Error, interrupted) {
				cut++
			}
		}
		interruptions += cut
		switch {
		case d.State != string(queue.Done):
			t.Errorf("delivery %s is %s (%s); want done", d.ID, d.State, d.Reason)
		case len(r.AttemptList) != r.Attempts || r.Attempts != cut+1:
			t.Errorf("delivery %s had %d attempts, %d interrupted, with %d in its list; want one that was not", d.ID, r.Attempts, cut, len(r.AttemptList))
		case ends[d.ID] < 1 || ends[d.ID] > starts[d.ID] || starts[d.ID] > r.Attempts:
			t.Errorf("delivery %s started %d times and ended %d times in %d attempts, %d of them interrupted", d.ID, starts[d.ID], ends[d.ID], r.Attempts, cut)
		}
	}
	for webhookID, id := range answered {
		if !stored[id] {
			t.Errorf("delivery %s (Webhook-Id %s) was answered 2xx and is lost", id, webhookID)
		}
	}
	if len(answered) == 0 || interruptions == 0 {
		t.Errorf("%d deliveries were answered and %d attempts interrupted; the test has shown nothing", len(answered), interruptions)
	}
	// Deliveries that were stored without an answer were sent again until they had one. None is stored twice.
	if len(records) != len(answered) || counts[queue.Done] != int64(len(answered)) {
		t.Errorf("%d deliveries are stored, %d of them done; %d were sent", len(records), counts[queue.Done], len(answered))
	}
	p.stop()
	wantSound(t, p.ready.Data)
	t.Logf("%d deliveries, %d interruptions, %d answers lost with a process", len(answered), interruptions, hub.retried)
}

// A delivery whose handler kills the process takes no other with it: it ends up dead, and the deliveries beside and behind it are done.
func TestAHandlerThatKillsTheProcess(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW=300ms")
	flags := []string{"--port", "0", "--no-tunnel", "--reply-within", "0"}
	p := h.serve(t, bot, flags...)
	body := push(t)
	var others []string
	for range 3 {
		others = append(others, p.post("slow", body).delivery()) // beside it
	}
	for range 3 {
		others = append(others, p.post("single", body).delivery()) // beside it, and behind that
	}
	if a, err := tryPost(t, p.client, p.base+"/webhooks/killing", body); err == nil && !a.ok() {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	h.open(t)
	deaths := 0
	for ; ; deaths++ {
		if deaths > 12 {
			t.Fatalf("the process died %d times; want no more once the delivery is dead", deaths)
		}
		if deaths > 0 {
			p = h.start(t, bot, flags...) // it may die before it is ready
			if !p.readyOrDead() {
				continue
			}
		}
		if p.deadOr(func() bool {
			list, err := p.inspector().List(t.Context(), queue.Filter{})
			if err != nil {
				return false
			}
			for _, d := range list.Deliveries {
				if !queue.State(d.State).Finished() {
					return false
				}
			}
			return true
		}) {
			continue
		}
		break
	}
	killing := p.list("killing")
	if len(killing) != 1 || killing[0].State != string(queue.Dead) || killing[0].Reason != "the process died while it ran" || killing[0].Attempts != deaths {
		t.Fatalf("after %d deaths the one that kills is %+v; want it dead, with that reason and as many attempts", deaths, killing)
	}
	for _, id := range others {
		if r := p.record(id); r.State != string(queue.Done) {
			t.Errorf("%s of %s is %s (%s); want done", id, r.Endpoint, r.State, r.Reason)
		}
	}
	if a := p.post("nothing", body); !a.ok() {
		t.Errorf("the next delivery is answered %d %s", a.status, a.body)
	}
	p.stop()
}

// readyOrDead waits until the program is ready, and reports false if it died before.
func (p *program) readyOrDead() bool {
	p.t.Helper()
	alive := true
	p.poll("ready or dead", func() (bool, string) {
		lines, _ := p.out.since(0)
		for _, line := range lines {
			if strings.Contains(line, `"type":"ready"`) {
				return true, ""
			}
		}
		select {
		case <-p.exited:
			alive = false
			return true, ""
		default:
			return false, tail(p.errs)
		}
	})
	if alive {
		p.awaitReady()
	}
	return alive
}

// deadOr waits until the program has died or ok returns true. It reports whether the program has died.
func (p *program) deadOr(ok func() bool) bool {
	p.t.Helper()
	died := false
	p.poll("it is done, or dead", func() (bool, string) {
		select {
		case <-p.exited:
			died = true
			return true, ""
		default:
			return ok(), tail(p.out)
		}
	})
	return died
}

// wantSound runs SQLite's integrity check on the database of an ended process.
func wantSound(t *testing.T, data string) {
	t.Helper()
	file := url.URL{Scheme: "file", Path: filepath.Join(data, "hubhook.db")}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "PRAGMA integrity_check")
	if err != nil {
		t.Fatalf("check %s: %v", file.Path, err)
	}
	defer rows.Close()
	var said []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		said = append(said, line)
	}
	if err := rows.Err(); err != nil || len(said) != 1 || said[0] != "ok" {
		t.Errorf("the integrity check of %s says %q, %v; want ok", file.Path, said, err)
	}
	var tables int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema WHERE type = 'table'").Scan(&tables); err != nil || tables == 0 {
		t.Errorf("%s has %d tables, %v; it was no database to check", file.Path, tables, err)
	}
}

// sender posts deliveries as the Hub does: it repeats each with its Webhook-Id until the answer is 2xx, whatever happens to the receiver.
type sender struct {
	client *http.Client
	quit   chan struct{}
	posts  sync.WaitGroup

	mu      sync.Mutex
	ids     map[string]string // delivery IDs by Webhook-Id
	retried int               // requests that were not answered, or not 2xx
}

// newSender starts to post, so many deliveries at once, to the URLs of an endpoint. If one URL does not accept a delivery, the next one
// gets it, as behind a load balancer.
func newSender(t *testing.T, atOnce int, endpoints ...string) *sender {
	s := &sender{client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}, quit: make(chan struct{}), ids: map[string]string{}}
	body := []byte(push(t))
	for lane := range atOnce {
		s.posts.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-s.quit:
					return
				default:
					s.deliver(t, endpoints, lane+n, fmt.Sprintf("%d-%d", lane, n), body)
				}
			}
		})
	}
	t.Cleanup(func() { s.stop() })
	return s
}

// deliver posts one delivery until it is accepted, first to the URL with this number.
func (s *sender) deliver(t *testing.T, endpoints []string, n int, webhookID string, body []byte) {
	deadline := time.Now().Add(patience)
	for ; t.Context().Err() == nil; n++ {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoints[n%len(endpoints)], bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("X-Webhook-Secret", secret)
		r.Header.Set("Webhook-Id", webhookID)
		a, err := do(s.client, r)
		if err == nil && a.ok() {
			s.mu.Lock()
			s.ids[webhookID] = a.delivery()
			s.mu.Unlock()
			return
		}
		s.mu.Lock()
		s.retried++
		s.mu.Unlock()
		if time.Now().After(deadline) {
			t.Errorf("Webhook-Id %s was not taken within %v: %d %s, %v", webhookID, patience, a.status, a.body, err)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *sender) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// stop ends the posting once the deliveries in flight are accepted, and returns the IDs of the deliveries that were answered 2xx.
func (s *sender) stop() map[string]string {
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.posts.Wait()
	s.client.CloseIdleConnections()
	return s.ids
}
