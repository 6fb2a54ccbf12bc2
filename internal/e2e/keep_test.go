//go:build unix

package e2e_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// kept is a Hub whose webhooks post through an edge, and a home whose programs have a token of that Hub.
type kept struct {
	*hubtest.Server
	home *home
	edge *tunneltest.Edge
}

func newKept(t *testing.T, options hubtest.Options) *kept {
	t.Helper()
	k := &kept{home: newHome(t), edge: tunneltest.NewEdge(t, tunneltest.Options{Domains: []string{}})}
	options.Client = publicClient(t, k.edge)
	k.Server = hubtest.NewServer(options)
	t.Cleanup(k.Close)
	token := k.Accounts.AddToken(hubtest.Token{})
	k.home.env = append(k.home.env, "HF_ENDPOINT="+k.URL, "HF_TOKEN="+token)
	if err := k.edge.WriteConfig(k.home.ngrokConfig(), tunneltest.DefaultToken); err != nil {
		t.Fatal(err)
	}
	return k
}

// only waits until the Hub has exactly one webhook, which posts to url and delivers, or does not.
func (k *kept) only(t *testing.T, url string, delivers bool) hubtest.Webhook {
	t.Helper()
	var w hubtest.Webhook
	pollFor(t, patience, "the Hub has one webhook, at "+url+fmt.Sprintf(", delivering: %v", delivers), func() (bool, string) {
		all := k.Webhooks()
		if len(all) != 1 {
			return false, fmt.Sprintf("it has %d webhooks", len(all))
		}
		w = all[0]
		disabled, err := k.Disabled(w.ID)
		if err != nil {
			return false, err.Error()
		}
		return w.URL == url && disabled != delivers, fmt.Sprintf("%s, disabled: %v", w.URL, disabled)
	})
	return w
}

// kills is how often a test kills a program. HUBHOOK_KILLS sets another number; CI takes 50.
func kills(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("HUBHOOK_KILLS"), "4"))
	if err != nil || n < 1 {
		t.Fatalf("HUBHOOK_KILLS is %q; want a number from 1 on", os.Getenv("HUBHOOK_KILLS"))
	}
	return n
}

// The edge returns under other URLs, the Hub suspends, hubhook is killed at random moments and started again: every event of the Hub is
// handled, one webhook exists, and it is disabled at the end.
func TestTheWebhookIsKeptRight(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	k := newKept(t, hubtest.Options{Retry: hubtest.Backoff(20*time.Millisecond, 200*time.Millisecond, 20), SuspendAfter: 200})
	flags := []string{"--port", "0", "--watch", "nothing=dataset:me/data", "--watch", "nothing=user:me"}
	domain := func(n int) string { return fmt.Sprintf("url-%d.example.com", n) }
	k.edge.AssignDomain(domain(0))
	now := 0

	var sent []*hubtest.Delivery
	send := func() {
		for _, w := range k.Webhooks() {
			event, err := payload.Sample(payload.ScopeRepoContent, payload.Update, map[string]any{"webhook.id": w.ID})
			if err != nil {
				t.Fatal(err)
			}
			d, err := k.Send(w.ID, event.Raw())
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, d)
		}
	}
	for n := range kills(t) {
		p := k.home.start(t, bot, flags...)
		if n == 0 || moments.IntN(3) > 0 { // otherwise it dies while it starts; of a few, all might
			p.awaitReady()
			k.only(t, "https://"+domain(now)+"/webhooks/nothing", true)
			send()
			switch n % 2 {
			case 0:
				now++
				k.edge.AssignDomain(domain(now))
			case 1:
				if err := k.Suspend(k.Webhooks()[0].ID); err != nil {
					t.Fatal(err)
				}
			}
			k.edge.Drop()
			send()
		}
		time.Sleep(time.Duration(moments.Int64N(int64(400 * time.Millisecond))))
		p.kill()
	}

	p := k.home.serve(t, bot, flags...)
	w := k.only(t, "https://"+domain(now)+"/webhooks/nothing", true)
	if len(w.Watched) != 2 || len(w.Domains) != 2 || w.Secret == "" {
		t.Errorf("the webhook is %+v", w)
	}
	send()
	// It is suspended in front of a running hubhook, and the way is open: the next look ends that.
	if err := k.Suspend(w.ID); err != nil {
		t.Fatal(err)
	}
	k.edge.Drop()
	k.only(t, w.URL, true)
	send()
	if len(sent) < 3 {
		t.Fatalf("%d events were sent; the test has shown nothing", len(sent))
	}
	for _, d := range sent { // what the Hub has given up it sends again where somebody presses Replay
		if _, err := d.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		pollFor(t, patience, "the Hub has delivered "+d.ID, func() (bool, string) {
			if d.State() == hubtest.Delivered {
				return true, ""
			}
			a, err := k.Replay(t.Context(), d)
			return err == nil && a.Succeeded(), fmt.Sprint(a, err)
		})
	}
	p.finished(patience)
	done := map[string]bool{}
	for _, d := range p.list("nothing") {
		done[d.WebhookID] = done[d.WebhookID] || d.State == string(queue.Done)
	}
	for _, d := range sent {
		if !done[d.ID] {
			t.Errorf("the event %s was not handled", d.ID)
		}
	}
	shown := p.status().Webhooks
	if len(shown) != 1 || shown[0].ID != w.ID || shown[0].State != "active" || shown[0].URL != w.URL || shown[0].Deliveries < int64(len(sent)) || len(shown[0].Changes) == 0 {
		t.Errorf("the status has %+v", shown)
	}
	p.stop()
	k.only(t, w.URL, false)
	for _, text := range []string{p.out.String(), p.errs.String()} {
		if strings.Contains(text, w.Secret) {
			t.Errorf("the webhook's secret is printed:\n%s", text)
		}
	}
	t.Logf("%d events, %d requests to the Hub's API", len(sent), k.Requests.Count("", ""))
}

// A borrowed webhook has its own URL, state and secret back: after the end, after a crash and another start, and after a crash and a clean-up.
func TestABorrowedWebhookGoesBack(t *testing.T) {
	t.Parallel()
	k := newKept(t, hubtest.Options{})
	own := hubtest.Webhook{URL: "https://production.example.com/hook", Secret: secret, Watched: []hubtest.Watched{{Type: "org", Name: "them"}}, Domains: []string{hubtest.DomainDiscussion}}
	id, err := k.Create(own)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Disable(id); err != nil {
		t.Fatal(err)
	}
	back := func(after string) {
		t.Helper()
		w := k.only(t, own.URL, false)
		if w.Secret != own.Secret || len(w.Watched) != 1 || w.Watched[0] != own.Watched[0] || len(w.Domains) != 1 {
			t.Errorf("after %s it is %+v", after, w)
		}
	}
	here := "https://" + k.edge.Domain() + "/webhooks/inbox"
	flags := []string{"--port", "0", "--webhook", id}

	p := k.home.serve(t, hubhook, flags...)
	refused := p.await("it is refused", patience, func(e event) bool { return e.Type == "webhook" && e.Error != "" })
	if !strings.Contains(refused.Hint, "--secret") {
		t.Errorf("without a secret it says %q, and %q", refused.Error, refused.Hint)
	}
	p.stop()
	back("a refusal")

	k.home.env = append(k.home.env, "WEBHOOK_SECRET="+secret)
	p = k.home.serve(t, hubhook, flags...)
	w := k.only(t, here, true)
	if d, err := k.Send(w.ID, []byte(push(t))); err != nil {
		t.Fatal(err)
	} else if state, err := d.Wait(t.Context()); err != nil || state != hubtest.Delivered {
		t.Errorf("an event is %s (%v)", state, err)
	}
	p.stop()
	back("the end")

	p = k.home.serve(t, hubhook, flags...)
	k.only(t, here, true)
	p.kill()
	p = k.home.serve(t, hubhook, "--port", "0", "--no-tunnel") // it borrows nothing
	back("a crash and another start")
	p.stop()

	p = k.home.serve(t, hubhook, flags...)
	k.only(t, here, true)
	p.kill()
	clean := k.home.run(t, hubhook, "hub", "cleanup")
	if status := clean.exit(); status != 0 {
		t.Errorf("exit status %d of hub cleanup", status)
	}
	if out := clean.out.String(); !strings.Contains(out, id) || !strings.Contains(out, own.URL) {
		t.Errorf("hub cleanup prints %q", out)
	}
	back("a crash and a clean-up")
}

// A borrowed webhook may have a secret in its URL that hubhook does not know. It is in no file and in no row of the database, not after a kill
// either, and the URL has it again afterwards.
func TestASecretInAURLIsNotStored(t *testing.T) {
	t.Parallel()
	const inURL = "th3irs-in-the-url"
	for name, useDatabase := range map[string]bool{"data directory": false, "database": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKept(t, hubtest.Options{})
			database := ""
			if useDatabase {
				database = pgserver.Database(t)
				k.home.useDatabase(t, database)
			}
			look := func() {
				t.Helper()
				stored := ""
				k.home.eachFile(t, func(_, text string) { stored += text })
				if database != "" {
					dump, err := pgserver.Dump(t.Context(), database)
					if err != nil {
						t.Fatal(err)
					}
					stored += dump
				}
				if !strings.Contains(stored, "production.example.com") && !strings.Contains(stored, hex.EncodeToString([]byte("production.example.com"))) {
					t.Error("there is no record of the borrowed webhook to look at")
				}
				if containsAny(stored, []string{inURL, hex.EncodeToString([]byte(inURL))}) {
					t.Errorf("the secret is stored:\n%s", stored)
				}
			}
			own := "https://production.example.com/hook?team=a&secret=" + inURL
			id, err := k.Create(hubtest.Webhook{URL: own, Watched: []hubtest.Watched{{Type: "org", Name: "them"}}})
			if err != nil {
				t.Fatal(err)
			}
			here := "https://" + k.edge.Domain() + "/webhooks/inbox?secret=" + inURL
			for range 2 { // the second one goes on after a kill
				p := k.home.serve(t, hubhook, "--port", "0", "--webhook", id)
				w := k.only(t, here, true)
				if d, err := k.Send(w.ID, []byte(push(t))); err != nil {
					t.Fatal(err)
				} else if state, err := d.Wait(t.Context()); err != nil || state != hubtest.Delivered {
					t.Errorf("an event is %s (%v)", state, err)
				}
				look()
				p.kill()
				look()
				if database != "" {
					return // the next start would wait for the lease of the dead process to end
				}
			}
			clean := k.home.run(t, hubhook, "hub", "cleanup")
			if status := clean.exit(); status != 0 {
				t.Errorf("exit status %d of hub cleanup", status)
			}
			k.only(t, own, true)
			for _, p := range k.home.programs {
				if containsAny(p.out.String()+p.errs.String(), []string{inURL}) {
					t.Errorf("the secret is printed:\n%s%s", p.out, p.errs)
				}
			}
		})
	}
}

// A Hub that fails in any way is told with its cause and a fix. It delays neither the start nor deliveries nor the end.
func TestServingGoesOnWithoutTheHub(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault http.HandlerFunc
		token hubtest.Token // has another value than the one that is sent, where it is set
		says  string
	}{
		"hangs":       {fault: hubtest.Hang},
		"500":         {fault: hubtest.Status(500), says: "500"},
		"429":         {fault: hubtest.TooManyRequests(time.Minute), says: "429"},
		"HTML":        {fault: hubtest.HTML(200), says: "HTML"},
		"wrong token": {fault: nil, says: "401"},
		"no right":    {token: hubtest.Token{Permissions: []string{hubtest.ReadWebhooks}}, says: "user.webhooks.write"},
		"no token":    {fault: nil, says: "HF_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			hub := hubtest.NewServer(hubtest.Options{})
			t.Cleanup(hub.Close)
			h.env = append(h.env, "HF_ENDPOINT="+hub.URL)
			switch {
			case test.fault != nil:
				hub.Faults.Inject(hubtest.Fault{Answer: test.fault})
				h.env = append(h.env, "HF_TOKEN="+hub.Accounts.AddToken(hubtest.Token{}))
			case name == "wrong token":
				h.env = append(h.env, "HF_TOKEN=hf_wrong")
			case name == "no right":
				h.env = append(h.env, "HF_TOKEN="+hub.Accounts.AddToken(test.token))
			}
			p := h.serve(t, hubhook, "--port", "0", "--public-url", "https://public.example.invalid", "--watch", "dataset:me/data")
			if a := p.post("inbox", push(t)); a.status != http.StatusOK {
				t.Errorf("a delivery is answered %d", a.status)
			}
			if test.says != "" {
				e := p.await("what is wrong", patience, func(e event) bool { return e.Type == "webhook" && e.Error != "" })
				if !strings.Contains(e.Error+e.Hint, test.says) || e.Hint == "" {
					t.Errorf("it says %q, and %q; want %q", e.Error, e.Hint, test.says)
				}
			}
			p.stop()
			if len(hub.Webhooks()) != 0 {
				t.Error("it has made a webhook")
			}
		})
	}
}

// With a wrong HF_ENDPOINT no webhook can be kept. The ready line and the status say so, and why; serving goes on.
func TestNoWebhookIsKept(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = append(h.env, "HF_ENDPOINT=hub.example.com", "HF_TOKEN=hf_any")
	p := h.serve(t, hubhook, "--port", "0", "--no-tunnel", "--watch", "dataset:me/data", "--webhook", "654bbbc16f2ec14d77f109cc", "--catch-up")
	for from, all := range map[string][]api.Webhook{"the ready line": p.ready.Webhooks, "the status": p.status().Webhooks} {
		if len(all) != 2 {
			t.Fatalf("%s has %+v", from, all)
		}
		for _, w := range all {
			if w.State != "failed" || !strings.Contains(w.Error, "HF_ENDPOINT") || w.Hint == "" {
				t.Errorf("%s has %+v", from, w)
			}
		}
	}
	if a := p.post("inbox", push(t)); a.status != http.StatusOK {
		t.Errorf("a delivery is answered %d", a.status)
	}
	p.stop()
	if n := strings.Count(p.errs.String(), "HF_ENDPOINT"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, p.errs)
	}
}

// Of two processes on one database one keeps the webhook. When it ends, the other one goes on, and the webhook is not disabled in between; the
// last one disables it.
func TestOneOfTwoKeepsTheWebhook(t *testing.T) {
	t.Parallel()
	k := newKept(t, hubtest.Options{})
	k.home.useDatabase(t, pgserver.Database(t))
	const public = "https://hooks.example.com"
	start := func() *program {
		return k.home.serve(t, hubhook, "--port", "0", "--public-url", public, "--watch", "dataset:me/data")
	}
	keeps := func(p *program, state string) {
		t.Helper()
		p.poll("its webhook is "+state, func() (bool, string) {
			w := p.status().Webhooks
			return len(w) == 1 && w[0].State == state, fmt.Sprintf("%+v", w)
		})
	}
	first := start()
	keeps(first, "active")
	w := k.only(t, public+"/webhooks/inbox", true)
	second := start()
	keeps(second, "elsewhere")
	disabled := k.Requests.Count("POST", "/api/settings/webhooks/"+w.ID+"/disable")
	first.stop()
	keeps(second, "active")
	if n := k.Requests.Count("POST", "/api/settings/webhooks/"+w.ID+"/disable"); n != disabled {
		t.Error("the webhook was disabled while another process served")
	}
	if now := k.only(t, public+"/webhooks/inbox", true); now.ID != w.ID {
		t.Errorf("the webhook was %s, now it is %s", w.ID, now.ID)
	}
	second.stop()
	k.only(t, public+"/webhooks/inbox", false)
	found, _ := k.home.diagnose(t)
	wantFound(t, found, map[string]string{"webhook " + w.ID: "ok the processes that share the database keep it"})
	clean := k.home.run(t, hubhook, "hub", "cleanup")
	if status := clean.exit(); status != 0 || !strings.Contains(clean.out.String(), w.ID) || len(k.Webhooks()) != 0 {
		t.Errorf("hub cleanup: status %d, %q; the Hub has %+v", status, clean.out.String(), k.Webhooks())
	}
}
