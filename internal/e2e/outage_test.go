//go:build unix

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// The promises for a database that fails, and for a process that dies.
const (
	elsewhereWithin = 15 * time.Second // until another process runs the deliveries of a dead one
	refusedWithin   = 5 * time.Second  // until a delivery in flight when the database stops gets 503
	atOnce          = time.Second      // until a later delivery gets 503
	endsWithin      = 5 * time.Second  // until an idle process ends after SIGTERM while the database is stalled
	lease           = 10 * time.Second
	lookEvery       = 2 * time.Second // how often a process looks for deliveries that are left over
)

// tally counts the outcomes of an endpoint's deliveries.
type tally struct {
	accepted   int // answered 2xx
	retried    int // requests that were refused, or not answered at all
	stored     int
	done       int
	lost       int // accepted, and not stored or not done
	twice      int // handled more than once
	interrupts int // attempts that ended with their process, or with its claim
}

func (c tally) String() string {
	return fmt.Sprintf("accepted %d, stored %d, done %d, lost %d, handled more than once %d, attempts interrupted %d, requests sent again %d",
		c.accepted, c.stored, c.done, c.lost, c.twice, c.interrupts, c.retried)
}

// account stops a sender and waits until every delivery is finished. Then it compares the sender's answers with the store and with the
// bots' log. It fails the test if an accepted delivery was lost or not handled.
func (p *program) account(h *home, endpoint string, hub *sender) tally {
	p.t.Helper()
	answered := hub.stop()
	p.finished(2 * patience)
	_, ends := h.handled(p.t)
	c := tally{accepted: len(answered), retried: hub.retried}
	webhooks := map[string]int{}
	states := map[string]queue.State{}
	for _, d := range p.list(endpoint) {
		c.stored++
		states[d.ID] = queue.State(d.State)
		webhooks[d.WebhookID]++
		if d.State == string(queue.Done) {
			c.done++
		} else {
			p.t.Errorf("delivery %s is %s (%s); want done", d.ID, d.State, d.Reason)
		}
		if ends[d.ID] > 1 {
			c.twice++
		}
		c.interrupts += d.Attempts - 1
	}
	for webhookID, id := range answered {
		if states[id] != queue.Done || ends[id] == 0 {
			c.lost++
			p.t.Errorf("delivery %s (Webhook-Id %s) was answered 2xx; it is %q now, and was handled %d times", id, webhookID, states[id], ends[id])
		}
	}
	for webhookID, n := range webhooks {
		if n > 1 {
			p.t.Errorf("Webhook-Id %s is stored %d times", webhookID, n)
		}
	}
	if c.accepted == 0 {
		p.t.Error("nothing was accepted; the test has shown nothing")
	}
	p.t.Log(c)
	return c
}

// underLoad waits until so many more deliveries are accepted.
func (s *sender) underLoad(t *testing.T, more int) {
	t.Helper()
	before := s.accepted()
	pollFor(t, 2*patience, fmt.Sprintf("%d more deliveries are accepted", more), func() (bool, string) {
		return s.accepted() >= before+more, fmt.Sprint(s.accepted() - before)
	})
}

// A killed process loses no delivery: the others take over those that it ran or that waited there.
func TestKilledWhileOthersGoOn(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW=60ms")
	h.useDatabase(t, pgserver.Database(t))
	var programs []*program
	var urls []string
	for range 3 {
		p := h.serve(t, bot, sharing("--reply-within", "20ms", "--secret", secret)...)
		programs, urls = append(programs, p), append(urls, p.base+"/webhooks/slow")
	}
	hub := newSender(t, 12, urls...)
	hub.underLoad(t, 100)
	long := programs[0].post("held", push(t), "X-Webhook-Secret", secret).delivery()
	programs[0].poll("it starts", func() (bool, string) {
		starts, _ := h.handled(t)
		return starts[long] == 1, ""
	})
	programs[0].kill()
	killed := time.Now()
	hub.underLoad(t, 100) // the others go on meanwhile
	pollFor(t, 2*elsewhereWithin, "it runs elsewhere", func() (bool, string) {
		starts, _ := h.handled(t)
		return starts[long] == 2, ""
	})
	t.Logf("it ran elsewhere %v after its process was killed", time.Since(killed))
	h.open(t)
	programs[1].account(h, "slow", hub)
	if r := programs[1].settled(long, queue.Done); r.Attempts != 2 || len(r.AttemptList) != 2 || r.AttemptList[1].Error != "" {
		t.Errorf("after %d attempts, %+v; want one that was interrupted and one that succeeded", r.Attempts, r.AttemptList)
	}
	for _, p := range programs[1:] {
		p.stop()
	}
}

// Database connections are cut under load, again and again. That costs at most a retry of the Hub's, and cancels no handler.
func TestConnectionsAreCut(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	server := pgserver.Shared(t)
	database := pgserver.Database(t)
	h := newHome(t)
	h.env = append(h.env, "BOT_SLOW=30ms")
	h.useDatabase(t, database)
	a := h.serve(t, bot, sharing("--secret", secret)...)
	b := h.serve(t, bot, sharing("--secret", secret)...)
	held := a.post("held", push(t), "X-Webhook-Secret", secret).delivery()
	hub := newSender(t, 8, a.base+"/webhooks/slow", b.base+"/webhooks/slow")
	for range 8 {
		hub.underLoad(t, 20)
		time.Sleep(time.Duration(moments.Int64N(int64(100 * time.Millisecond))))
		must(t, cut(t.Context(), server, database))
	}
	hub.underLoad(t, 20)
	h.open(t)
	b.account(h, "slow", hub)
	if r := a.settled(held, queue.Done); r.Attempts != 1 {
		t.Errorf("the handler that ran through it all took %d attempts; want one", r.Attempts)
	}
	for _, p := range []*program{a, b} {
		p.stop()
	}
}

// outageTime is how long the database is out of reach: longer than a lease. HUBHOOK_OUTAGE sets another time; CI takes 30 s.
func outageTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("HUBHOOK_OUTAGE")
	if text == "" {
		return lease + 2*time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < lease {
		t.Fatalf("HUBHOOK_OUTAGE is %q; want a duration longer than a lease, %v", text, lease)
	}
	return d
}

// refusal is an answer and how long it took.
type refusal struct {
	answer
	took    time.Duration
	machine time.Duration // the longest machineTime of as many requests that were sent at the same time
	err     error
}

func (p *program) postAll(t *testing.T, n int, webhookID string) []refusal {
	t.Helper()
	body := push(t)
	all := make([]refusal, n)
	machine := make([]time.Duration, n)
	var posts sync.WaitGroup
	for i := range all {
		posts.Go(func() {
			began := time.Now()
			all[i].answer, all[i].err = tryPost(t, p.client, p.base+"/webhooks/nothing", body, "Webhook-Id", webhookID+"-"+strconv.Itoa(i))
			all[i].took = time.Since(began)
		})
		posts.Go(func() { machine[i] = machineTime(t) })
	}
	posts.Wait()
	for i := range all {
		all[i].machine = slices.Max(machine)
	}
	return all
}

// wantRefused checks that all answers are 503, come within that time, and say when to try again. A busy machine may take as long again as it
// takes for five requests.
func wantRefused(t *testing.T, what string, all []refusal, within time.Duration) {
	t.Helper()
	var longest, late time.Duration
	for _, r := range all {
		if r.err != nil || r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: answer %d %s, %v; want 503 with Retry-After", what, r.status, r.body, r.err)
			return
		}
		longest = max(longest, r.took)
		late = max(late, r.took-within-5*r.machine)
	}
	t.Logf("%s: %d answers, the last after %v", what, len(all), longest)
	if late > 0 {
		t.Errorf("%s: answered after up to %v, %v later than in %v and what the busy machine may add", what, longest, late, within)
	}
}

// The database stalls, as behind a network that drops everything, and comes back. Meanwhile the Hub is told to try again, soon enough and
// without a pile-up. A handler that runs during the whole outage keeps its delivery.
func TestTheDatabaseStopsAndContinues(t *testing.T) {
	t.Parallel()
	outage := outageTime(t)
	server := startPostgres(t)
	must(t, server.CreateDatabase(t.Context(), "hooks"))
	h := newHome(t)
	h.useDatabase(t, server.URL("hooks"))
	a, b := h.serve(t, bot, sharing()...), h.serve(t, bot, sharing()...)
	long := a.post("held", push(t)).delivery()
	for _, p := range []*program{a, b} {
		if c := p.postAll(t, 1, "before"+p.ready.Data); !c[0].ok() {
			t.Fatalf("answer %d %s", c[0].status, c[0].body)
		}
	}

	const stuck = 30
	must(t, server.Pause())
	stopped := time.Now()
	for _, p := range []*program{a, b} {
		// The promise is for an idle machine, and other tests run beside this one.
		wantRefused(t, "under way when it stops", p.postAll(t, stuck, "stuck"), 2*refusedWithin)
		wantRefused(t, "while it stands still", p.postAll(t, 200, "later"), 2*atOnce)
		if health := p.get("/healthz"); health.status != http.StatusOK {
			t.Errorf("/healthz: %d %s; want 200", health.status, health.body)
		}
	}
	// No request waits for the programs' tries to reach the database.
	var meanwhile []refusal
	for time.Since(stopped) < outage {
		meanwhile = append(meanwhile, a.postAll(t, 1, "meanwhile")...)
		meanwhile = append(meanwhile, b.postAll(t, 1, "meanwhile")...)
		time.Sleep(20 * time.Millisecond)
	}
	wantRefused(t, "meanwhile", meanwhile, 2*atOnce)
	wantRefused(t, "at the end of the outage", a.postAll(t, 200, "last"), 2*atOnce)
	// The lease of the long delivery expired long ago. The other process is back first, and has time to take the delivery over.
	a.signal(syscall.SIGSTOP)
	must(t, server.Continue())
	back := time.Now()
	accepted := 2
	for _, p := range []*program{b, a} {
		if p == a {
			time.Sleep(time.Until(back.Add(2 * lookEvery)))
			a.signal(syscall.SIGCONT)
			back = time.Now()
		}
		p.poll("it accepts deliveries again", func() (bool, string) {
			r := p.postAll(t, 1, "after "+p.base)[0]
			return r.ok(), r.body
		})
		accepted++
		t.Logf("deliveries are accepted again after %v", time.Since(back))
	}
	h.open(t)
	if r := a.settled(long, queue.Done); r.Attempts != 1 {
		t.Errorf("the handler that ran through it took %d attempts; want one", r.Attempts)
	}
	if starts, ends := h.handled(t); starts[long] != 1 || ends[long] != 1 {
		t.Errorf("it started %d times and came to its end %d times; want once", starts[long], ends[long])
	}
	// The Hub sends refused deliveries again. A delivery in flight when the server stalled is not revoked if another process has started it
	// since.
	if counts := b.finished(patience); counts[queue.Done] < int64(accepted)+1 || counts[queue.Done] > int64(accepted)+1+2*stuck {
		t.Errorf("%v are stored; want the %d that were accepted", counts, accepted+1)
	}

	// An idle process that is stopped while the database is stalled does not wait for the database.
	must(t, server.Pause())
	wantRefused(t, "before it is to end", b.postAll(t, 1, "stuck"), 2*refusedWithin)
	asked := time.Now()
	b.signal(syscall.SIGTERM)
	if status := b.exit(); status != 0 {
		t.Errorf("exit status %d while the database stands still; want 0", status)
	}
	took := time.Since(asked)
	t.Logf("it ended after %v while the database stood still", took)
	if took > 2*endsWithin {
		t.Errorf("it ended after %v while the database stood still; want at most %v", took, endsWithin)
	}
	must(t, server.Continue())
	a.poll("the other one goes on", func() (bool, string) {
		r := a.postAll(t, 1, "at last")[0]
		return r.ok(), r.body
	})
	a.stop()
}
